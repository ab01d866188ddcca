//! How a count came about.

use std::fmt::Write as _;

use longshore_model::autoscale::RateAmount;
use longshore_model::report::{
    Clamp, ClampRule, Direction, DropReason, Dropped, RateLook, ScaleReport, SignalReport,
    SignalRule, Trust, measured,
};
use longshore_model::{Reason, ServiceKey};

use super::words::{Clock, counted, reason, span};

/// The decision in one line: what came out, and what it was mostly due to.
#[must_use]
pub(super) fn summary(report: &ScaleReport) -> String {
    let (from, to) = (report.current, report.result);
    let answer = if from == to {
        format!("stays {to}")
    } else {
        format!("{from} -> {to}")
    };
    let because = cause(report).map_or_else(String::new, |cause| format!(": {cause}"));
    let agreed = approval(report).filter(|agreed| !because.ends_with(agreed.as_str()));
    let agreed = agreed.map_or_else(String::new, |agreed| format!("; {agreed}"));
    format!("{answer}{because}{agreed}")
}

/// Who agreed to the count.
fn approval(report: &ScaleReport) -> Option<String> {
    let agreed = report.clamps.iter().find(|clamp| is_agreed(&clamp.rule));
    agreed.map(|clamp| rule(&clamp.rule))
}

/// An operator's yes changes nothing of the count: it lets it through.
fn is_agreed(rule: &ClampRule) -> bool {
    let ClampRule::Approve { approved_by } = rule else {
        return false;
    };
    approved_by.is_some()
}

/// What the count is mostly due to: the last thing that bent it, else the signal that asked for
/// most, else the first reason.
#[must_use]
pub(super) fn cause(report: &ScaleReport) -> Option<String> {
    if let Some(off) = report.clamps.iter().find(|c| is_hands_off(&c.rule)) {
        return Some(rule(&off.rule));
    }
    let bent = report.clamps.iter().rev().find(|c| c.before != c.after);
    let asked = report
        .signals
        .iter()
        .filter(|s| s.recommendation.is_some() && s.recommendation == report.recommendation)
        .max_by_key(|s| s.raw);
    match (bent, asked) {
        (Some(clamp), Some(signal)) if report.current != report.result => {
            Some(format!("{}; {}", wish(signal), rule(&clamp.rule)))
        }
        (Some(clamp), _) => Some(rule(&clamp.rule)),
        (None, Some(signal)) => {
            let waits = |reason: &&Reason| matches!(reason, Reason::Unseasoned { .. });
            let waits = report.reasons.iter().find(waits);
            let waits = waits.map_or_else(String::new, |reason| format!("; {reason}"));
            Some(format!("{}{waits}", wish(signal)))
        }
        (None, None) => report.reasons.first().map(ToString::to_string),
    }
}

/// A person keeps the autoscaler's hands off, whatever the signals ask for.
fn is_hands_off(rule: &ClampRule) -> bool {
    matches!(rule, ClampRule::Held { .. } | ClampRule::Paused { .. })
}

fn wish(signal: &SignalReport) -> String {
    let asks = signal
        .recommendation
        .map_or_else(String::new, |count| format!(" asks for {count}"));
    match signal.value {
        Some(value) => {
            let value = measured(&signal.signal, value);
            format!("{} {value} {}{asks}", signal.signal, signal.against())
        }
        None => format!("{} has no value{asks}", signal.signal),
    }
}

/// Inputs, recommendation, what bent it, bounds.
#[must_use]
pub(super) fn lines(
    key: &ServiceKey,
    report: &ScaleReport,
    decided_ms: u64,
    clock: Clock,
) -> Vec<String> {
    let mut lines = Vec::new();
    for signal in &report.signals {
        lines.push(input(signal, decided_ms));
        // What went wrong outside is said already; silence would be another thing.
        let known = |drop: &&Dropped| drop.why == DropReason::Silent && signal.problem.is_some();
        let drops = signal.dropped.iter().filter(|drop| !known(drop));
        lines.extend(drops.map(dropped));
    }
    if let Some(count) = report.recommendation {
        let highest = match report.signals.len() {
            0 | 1 => "",
            _ => ", the highest",
        };
        lines.push(format!("  recommendation {count}{highest}"));
    }
    let bent = |clamp: &&Clamp| {
        let says = matches!(clamp.rule, ClampRule::Tolerance { .. })
            || is_hands_off(&clamp.rule)
            || is_agreed(&clamp.rule);
        clamp.before != clamp.after || says
    };
    lines.extend(report.clamps.iter().filter(bent).map(|c| clamp(c, clock)));
    for bound in &report.bounds {
        use longshore_model::report::BoundSource;
        if bound.source != BoundSource::File {
            let said = Reason::BoundsFrom {
                bound: bound.clone(),
            };
            lines.push(format!("  {}", reason(&said, clock)));
        }
    }
    if let Some(proposal) = &report.proposal {
        lines.push(format!(
            "  asks for {} since {}: {}; to agree: controllerctl approve {key}",
            proposal.count,
            clock.at(proposal.since_ms),
            proposal.why
        ));
    }
    lines
}

fn input(signal: &SignalReport, decided_ms: u64) -> String {
    let value = match signal.value {
        Some(value) => measured(&signal.signal, value),
        None => match signal.trust {
            Trust::Idle => "idle".into(),
            Trust::Undefined => "cannot be measured".into(),
            _ => "no good samples".into(),
        },
    };
    let mut line = format!("  {:<11} {value} {}", signal.signal, signal.against());
    if let Some(count) = signal.recommendation {
        let _infallible = write!(line, " -> {count}");
    }
    if let Some(raw) = signal.raw.filter(|raw| Some(*raw) != signal.recommendation) {
        let _infallible = write!(line, " ({raw} without tolerance)");
    }
    if signal.recommendation.is_some() && matches!(signal.rule, SignalRule::Target { .. }) {
        let _infallible = write!(line, ", carried by {}", signal.carriers);
    }
    let _infallible = write!(line, ", {} of {} sources", signal.good, signal.all);
    if let Some(newest_ms) = signal.newest_ms {
        let age = span(decided_ms.saturating_sub(newest_ms));
        let _infallible = write!(line, ", newest {age} old");
    }
    match (signal.trust, &signal.problem) {
        (Trust::Partial, None) => line.push_str(", too few to take away"),
        (Trust::Partial, Some(_)) => line.push_str(", takes nothing away meanwhile"),
        _ => {}
    }
    line.push_str(&asked(signal, decided_ms));
    line
}

/// What came of asking a source outside: when it was tried last, what it said, and when it last
/// gave a value.
fn asked(signal: &SignalReport, decided_ms: u64) -> String {
    let before = |ms: u64| format!("{} before", span(decided_ms.saturating_sub(ms)));
    let tried = signal.tried_ms.map(before);
    let Some(problem) = &signal.problem else {
        return tried.map_or_else(String::new, |tried| format!("; asked {tried}"));
    };
    let value = match (signal.answered_ms, &tried) {
        (Some(ms), _) => format!("; last value {}", before(ms)),
        (None, Some(_)) => "; no value yet".into(),
        (None, None) => String::new(),
    };
    match tried {
        Some(tried) => format!("; the last try, {tried}: {problem}{value}"),
        None => format!("; {problem}{value}"),
    }
}

fn dropped(dropped: &Dropped) -> String {
    let count = dropped.count;
    let what = match dropped.why {
        DropReason::Silent => counted(count, "source") + " silent",
        DropReason::Stale => counted(count, "source") + " stale",
        DropReason::NotANumber => counted(count, "sample") + " no numbers",
        DropReason::Future => counted(count, "sample") + " from the future",
        DropReason::WentBack => counted(count, "sample") + " after a counter went back",
        DropReason::Warming => counted(count, "replica") + " warming up",
    };
    match dropped.sources.is_empty() {
        true => format!("    not counted: {what}"),
        false => format!("    not counted: {what} ({})", dropped.sources.join(", ")),
    }
}

fn clamp(clamp: &Clamp, clock: Clock) -> String {
    let bent = match clamp.before == clamp.after {
        true => String::new(),
        false => format!("{} -> {}  ", clamp.before, clamp.after),
    };
    let until = clock.until(clamp.until_ms);
    format!("  {bent}{}{until}", rule(&clamp.rule))
}

fn way(direction: Direction) -> (&'static str, &'static str) {
    match direction {
        Direction::Up => ("scale up", "scale_up"),
        Direction::Down => ("scale down", "scale_down"),
    }
}

/// `2 more than 3 in 60 s`
fn rate(look: &RateLook, direction: Direction) -> String {
    let period = span(look.period_ms);
    if look.full {
        return format!("it changed too often within {period}");
    }
    let amount = match look.amount {
        RateAmount::Replicas(count) => count.to_string(),
        RateAmount::Percent(part) => format!("{part} %"),
    };
    let way = match direction {
        Direction::Up => "more",
        Direction::Down => "fewer",
    };
    format!("{amount} {way} than {} in {period}", look.start)
}

fn rule(rule: &ClampRule) -> String {
    match rule {
        ClampRule::MissingData { signals } => {
            format!("nothing is taken away: {} incomplete", signals.join(", "))
        }
        ClampRule::NoSignal { serving: None } => "no signal has a value: the count stays".into(),
        ClampRule::NoSignal {
            serving: Some(serving),
        } => format!("no signal has a value: only the {serving} that serve are kept"),
        ClampRule::Tolerance {
            signal,
            tolerance,
            raw,
        } => format!(
            "{signal} is inside its tolerance of {:.0} %, without it {raw}",
            tolerance * 100.0
        ),
        ClampRule::Stabilization {
            direction,
            recommendation,
            window_ms,
            ..
        } => {
            let window = match window_ms {
                0 => String::new(),
                window_ms => format!(" of {}", span(*window_ms)),
            };
            format!(
                "{} held: a recommendation of {recommendation} is inside the stabilization \
                 window{window}",
                way(*direction).0
            )
        }
        ClampRule::Turned { direction } => format!(
            "{} held: the count went the other way within the stabilization window",
            way(*direction).0
        ),
        ClampRule::Observing => "nothing is taken away before a full window was watched".into(),
        ClampRule::Outage => "nothing is taken away: too many nodes are away at once".into(),
        ClampRule::Rollout => "nothing is taken away while a rollout runs".into(),
        ClampRule::Rate {
            direction,
            policy,
            end,
            policies,
            ..
        } => {
            let look = policies.get(*policy as usize);
            let how = look.map_or_else(String::new, |look| format!(": {}", rate(look, *direction)));
            format!("{}.policies[{policy}] allows {end}{how}", way(*direction).1)
        }
        ClampRule::Bounds { min, max } => format!("bounds {min}..{max}"),
        ClampRule::Paused { by } => format!("paused by {by}"),
        ClampRule::Held { by } => format!("held by {by}"),
        ClampRule::Approve { approved_by: None } => "waits for approval".into(),
        ClampRule::Approve {
            approved_by: Some(by),
        } => format!("approved by {by}"),
        ClampRule::DryRun => "dry run: the count stays".into(),
    }
}
