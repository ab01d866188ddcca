//! Events in words.

use std::collections::BTreeSet;
use std::fmt;

use super::{CallOutcome, EventKind, OperatorAct};
use crate::certificate::list;
use crate::job::times_word;
use crate::receipt::end_in_words;
use crate::{TimeMs, span};

/// A day in UTC.
#[must_use]
pub fn day(ms: TimeMs) -> String {
    let at = i64::try_from(ms).ok();
    let at = at.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "?".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

/// Ports that are named; more are counted.
const PORTS_NAMED: usize = 8;

/// `port 80, 443`, of many the first ones.
#[must_use]
pub fn ports_in_words(ports: &BTreeSet<u16>) -> String {
    let named = ports.iter().take(PORTS_NAMED).map(ToString::to_string);
    let named = named.collect::<Vec<_>>().join(", ");
    match ports.len().saturating_sub(PORTS_NAMED) {
        0 => format!("port {named}"),
        more => format!("port {named} and {more} more"),
    }
}

impl fmt::Display for EventKind {
    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each kind: a table, not logic"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppApplied { app, revision, by } => {
                write!(f, "{app}: revision {revision} applied by {by}")
            }
            Self::AppDown { app, by } => write!(f, "{app}: taken down by {by}"),
            Self::SecretKept { name, act, by } => {
                write!(f, "secret {name} {} by {by}", act.as_str())
            }
            Self::OperatorKept {
                name,
                role,
                act,
                by,
            } => match act {
                OperatorAct::Added => write!(f, "operator {name} let in as {role} by {by}"),
                OperatorAct::Joined => write!(f, "operator {name} ({role}) took a certificate"),
                OperatorAct::Role => write!(f, "operator {name} made {role} by {by}"),
                OperatorAct::Rotated => {
                    write!(f, "operator {name} ({role}) gets new credentials by {by}")
                }
                OperatorAct::Removed => write!(f, "operator {name} ({role}) removed by {by}"),
            },
            Self::OperatorCalled {
                by,
                role,
                by_token,
                from,
                call,
                target,
                outcome,
            } => {
                let with = if *by_token { ", by token" } else { "" };
                write!(f, "{by} ({role}{with}) from {from}: {call}")?;
                if !target.is_empty() {
                    write!(f, " {target}")?;
                }
                match outcome {
                    CallOutcome::Done => Ok(()),
                    CallOutcome::Refused { why } => write!(f, ": refused: {why}"),
                    CallOutcome::Left => f.write_str(": left before the answer"),
                }
            }
            Self::RegistryLogin { server, user, by } => {
                write!(
                    f,
                    "images of {server} are pulled as {user}: credentials given by {by}"
                )
            }
            Self::RegistryLogout { server, by } => {
                write!(f, "credentials for {server} removed by {by}")
            }
            Self::CertificateBrought {
                app,
                secret,
                names,
                services,
                until_ms,
                by,
            } => write!(
                f,
                "{app}: certificate {secret} ({}) brought by {by}, good until {}; edges are sent it \
                 ({})",
                names.join(", "),
                day(*until_ms),
                list(services)
            ),
            Self::CertificateRenewed {
                app,
                secret,
                names,
                services,
                until_ms,
                by,
                edges,
                without,
            } => {
                let (names, until) = (names.join(", "), day(*until_ms));
                write!(f, "{app}: certificate {secret} ({names}) renewed")?;
                match by.as_str() {
                    "" => write!(f, ", good until {until}; ")?,
                    by => write!(f, " by {by}, good until {until}; ")?,
                }
                match list(edges).as_str() {
                    "" => f.write_str("edges")?,
                    edges => f.write_str(edges)?,
                }
                let serve = if edges.len() == 1 { "serves" } else { "serve" };
                write!(f, " {serve} it without a reload ({})", list(services))?;
                match list(without).as_str() {
                    "" => Ok(()),
                    away => write!(f, "; {away} will when back"),
                }
            }
            Self::CertificateRefused {
                app,
                secret,
                services,
                node,
                why,
                served,
            } => {
                let instead = match served {
                    true => "and serves the one before",
                    false => "and has none in its place",
                };
                write!(
                    f,
                    "{app}: {node} refuses the new certificate {secret} {instead} ({}): {why}",
                    list(services)
                )
            }
            Self::CertificateServed {
                app,
                secret,
                names,
                services,
                until_ms,
                node,
            } => write!(
                f,
                "{app}: {node} serves the new certificate {secret} ({}) by now, good until {} ({})",
                names.join(", "),
                day(*until_ms),
                list(services)
            ),
            Self::Scaled {
                service,
                from,
                to,
                cause,
            } => {
                write!(f, "{service}: {from} -> {to} ({cause})")
            }
            Self::Placed {
                service,
                slot,
                replica,
                node,
            } => {
                write!(f, "{service}.{slot} ({replica}) placed on {node}")
            }
            Self::Serving {
                service,
                slot,
                replica,
                node,
                after_ms,
                again,
                ..
            } => {
                write!(f, "{service}.{slot} ({replica}) on {node} is in the routes")?;
                match again {
                    true => f.write_str(" again"),
                    false => write!(f, ", {} after it was planned", span(*after_ms)),
                }
            }
            Self::Unhealthy {
                service,
                replica,
                node,
                why,
            } => {
                write!(f, "{service} {replica} on {node} left the routes")?;
                why.as_ref().map_or(Ok(()), |why| write!(f, ": {why}"))
            }
            Self::Leaving {
                service,
                slot,
                replica,
                node,
                why,
            } => {
                write!(f, "{service}.{slot} ({replica}) leaves {node}: {why}")
            }
            Self::Drained {
                service,
                replica,
                node,
                after_ms,
                receipts,
            } => {
                write!(
                    f,
                    "{service} {replica} on {node} drained in {}",
                    span(*after_ms)
                )?;
                let mut receipts = receipts.iter();
                receipts.try_for_each(|(edge, receipt)| write!(f, "; {edge}: {receipt}"))
            }
            Self::Gone {
                service,
                slot,
                replica,
                node,
                why,
                exit,
                lost,
                ..
            } => {
                let end = end_in_words(*exit, *lost);
                write!(
                    f,
                    "{service}.{slot} ({replica}) gone from {node}: {why}; {end}"
                )
            }
            Self::Failed {
                service,
                replica,
                node,
                why,
            } => {
                write!(f, "{service} {replica} on {node} failed: {why}")
            }
            Self::Rollout {
                service,
                revision,
                news,
            } => write!(f, "{service} revision {revision}: {news}"),
            Self::Waits { service, why } => write!(f, "{service} waits: {why}"),
            Self::RoutedAgain { service, ports } => {
                write!(f, "{service}: no edge refuses to serve it any more")?;
                let ports = ports.iter().map(ToString::to_string);
                let ports = ports.collect::<Vec<_>>().join(", ");
                match ports.as_str() {
                    "" => Ok(()),
                    ports => write!(f, " (port {ports})"),
                }
            }
            Self::NodeJoined { node } => write!(f, "{node} joined"),
            Self::NodeConnected { node } => write!(f, "{node} connected"),
            Self::NodeAway { node } => write!(f, "{node} is not connected"),
            Self::NodeLost { node, witnesses } => write!(f, "{node} lost: {witnesses}"),
            Self::NodeBack { node } => write!(f, "{node} is back"),
            Self::NodeFlaps {
                node,
                losses,
                for_ms,
            } => write!(
                f,
                "{node} is flapping: lost {losses} times lately, it takes no new replicas for {} s",
                for_ms.div_ceil(1_000)
            ),
            Self::EdgeSilent { node, problem } => {
                write!(f, "{node}: HAProxy does not answer: {problem}")
            }
            Self::EdgeAnswers { node } => write!(f, "{node}: HAProxy answers again"),
            Self::PortsShared {
                node,
                program,
                ports,
            } => write!(
                f,
                "{node}: {program} listens on {}, too, and gets a part of what is meant for \
                 HAProxy: stop that program",
                ports_in_words(ports)
            ),
            Self::PortsOwn {
                node,
                program,
                ports,
            } => write!(
                f,
                "{node}: {program} does not listen on {} any more: HAProxy has it alone",
                ports_in_words(ports)
            ),
            Self::EdgeRepaired { node, repair } => write!(f, "{node}: {repair}"),
            Self::NodeAvailability {
                node,
                availability,
                by,
                message,
            } => {
                write!(f, "{node}: {availability} by {by}")?;
                if message.is_empty() {
                    Ok(())
                } else {
                    write!(f, " ({message})")
                }
            }
            Self::AutoscalePaused { service, by, .. } => {
                write!(f, "{service}: autoscaler paused by {by}")
            }
            Self::AutoscaleResumed { service, by } => {
                write!(f, "{service}: autoscaler resumed by {by}")
            }
            Self::AutoscaleBounds {
                service,
                min,
                max,
                by,
            } => {
                let word = |name: &str, value: &Option<u32>| match value {
                    Some(value) => format!(" {name} {value}"),
                    None => String::new(),
                };
                let said = word("min", min) + &word("max", max);
                if said.is_empty() {
                    write!(f, "{service}: the file's bounds hold again, by {by}")
                } else {
                    write!(f, "{service}: bounds set to{said} by {by}")
                }
            }
            Self::AutoscaleApproved { service, count, by } => {
                write!(f, "{service}: {count} approved by {by}")
            }
            Self::NodeDrained { node, after_ms } => {
                write!(f, "{node} is drained, after {}", span(*after_ms))
            }
            Self::NodeDrainLate { node, left, force } => {
                let then = if *force { "stopped now" } else { "it goes on" };
                write!(f, "{node}: drain past its deadline, {left} left; {then}")
            }
            Self::Moving {
                service,
                replica,
                node,
                successor,
                to,
            } => write!(
                f,
                "{service} {replica} moves from {node} to {to} as {successor}"
            ),
            Self::JobCompleted {
                service,
                slot,
                node,
                after_ms,
                ..
            } => {
                let after = span(*after_ms);
                write!(f, "{service}.{slot} on {node} has completed after {after}")
            }
            Self::JobFailed {
                service,
                tries,
                last,
            } => {
                let times = times_word(*tries);
                write!(f, "{service} failed (started {times}), last: {last}")
            }
            Self::Woken {
                service,
                slot,
                replica,
                node,
            } => write!(
                f,
                "{service}.{slot} ({replica}) on {node} woken from standby"
            ),
            Self::SetAside {
                service,
                slot,
                replica,
                node,
                by,
                why,
            } => {
                let name = format!("{service}.{slot} ({replica}) on {node}");
                write!(f, "{name} gets nothing new from the edges, by {by}")?;
                match why.as_str() {
                    "" => Ok(()),
                    why => write!(f, ": {why}"),
                }
            }
            Self::LetBack {
                service,
                slot,
                replica,
                node,
                by,
            } => write!(
                f,
                "{service}.{slot} ({replica}) on {node} may get requests again, by {by}"
            ),
            Self::ControllerStarted { term } => write!(f, "controller started, term {term}"),
        }
    }
}
