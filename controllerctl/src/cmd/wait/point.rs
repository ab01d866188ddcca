//! Waiting for one replica, one node, or for containers that run.

use std::collections::BTreeSet;

use longshore_proto::control::v1 as pb;

use super::super::Run;
use crate::cli::{WaitArgs, WaitState};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::output::views::Replica;
use crate::progress::{Reporter, Stage};
use crate::text::{printable, replicas as counted};

/// What is waited for.
pub(super) enum Point {
    Replica {
        /// Its service's key.
        service: String,
        /// Its place; none: it was named by its number.
        slot: Option<u32>,
        /// Those that were there by that name when waiting began.
        ids: Vec<String>,
    },
    Node(String),
    /// All of the app, or these.
    Services {
        app: Option<String>,
        keys: Vec<String>,
    },
}

impl Point {
    /// Replicas that one word stands for.
    pub(super) fn replica(found: &[&Replica], word: &str) -> Self {
        // One that comes after one that leaves has its name.
        let leaving = found.iter().filter(|r| r.leaving.is_some());
        let leaving: Vec<String> = leaving.map(|r| r.id.clone()).collect();
        let all = found.iter().map(|r| r.id.clone());
        let bare = word.strip_prefix("replica/").unwrap_or(word);
        let by_number = found.iter().any(|r| r.id == bare);
        let first = found.first();
        Self::Replica {
            service: first.map(|r| r.service.clone()).unwrap_or_default(),
            slot: first.filter(|_| !by_number).map(|r| r.slot),
            ids: match leaving.is_empty() {
                true => all.collect(),
                false => leaving,
            },
        }
    }
}

/// It holds, or why not yet.
type Look = Result<(), String>;

/// Follows until it holds.
///
/// # Errors
/// Exit 7 with what it waits for last; the failed connection.
pub(super) async fn follow(
    run: &Run,
    client: &mut Client,
    (title, again): (&str, &str),
    point: &Point,
    state: WaitState,
    args: &WaitArgs,
) -> Result<Exit, Failure> {
    let mut reporter = Reporter::new(run.out.progress, title);
    let mut last = "the controller did not answer".to_owned();
    let looked = look_on(client, &mut reporter, point, state, &args.target, &mut last);
    let end = tokio::select! {
        done = looked => done.map(|()| Exit::Done),
        _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        () = tokio::time::sleep(args.timeout) => Ok(Exit::TimedOut),
    };
    reporter.finish();
    match end? {
        Exit::TimedOut => {
            let waited = humantime::format_duration(args.timeout);
            Err(
                Failure::new(format!("{title}: not as wanted after {waited}; it goes on"))
                    .exit(Exit::TimedOut)
                    .details(vec![last])
                    .hint(again),
            )
        }
        Exit::Interrupted => {
            note(&format!("detached; it goes on. Look again: {again}"));
            Ok(Exit::Interrupted)
        }
        exit => Ok(exit),
    }
}

async fn look_on(
    client: &mut Client,
    reporter: &mut Reporter,
    point: &Point,
    state: WaitState,
    name: &str,
    last: &mut String,
) -> Result<(), Failure> {
    let mut changes = client.changes();
    loop {
        match look(client, point, state).await {
            Ok(Ok(())) => {
                reporter.say(name, None, Stage::Done, state.word());
                return Ok(());
            }
            Ok(Err(why)) => {
                reporter.say(name, None, Stage::Working, &printable(&why));
                *last = why;
            }
            Err(failure) => {
                last.clone_from(&failure.message);
                changes.pause(failure).await?;
            }
        }
        changes.next().await?;
    }
}

async fn look(client: &mut Client, point: &Point, state: WaitState) -> Result<Look, Failure> {
    if let Point::Node(name) = point {
        let nodes = client.nodes().await?;
        return Ok(node(&nodes, name, state));
    }
    // All of them: one that is gone is no error.
    let all = pb::ListReplicasRequest::default();
    let replicas = client.replicas(all).await?.replicas;
    Ok(match point {
        Point::Services { app, keys } => {
            let mut services = client.services().await?;
            services.retain(|s| app.as_ref() == Some(&s.app) || keys.contains(&s.key));
            run(&services, &replicas)
        }
        Point::Replica { service, slot, ids } => replica(&replicas, service, *slot, ids, state),
        Point::Node(_) => Ok(()),
    })
}

fn replica(
    all: &[pb::Replica],
    service: &str,
    slot: Option<u32>,
    ids: &[String],
    state: WaitState,
) -> Look {
    let is_meant = |r: &&pb::Replica| match (state, slot) {
        // Whoever comes after them is another one.
        (WaitState::Drained | WaitState::Deleted, _) | (_, None) => {
            ids.contains(&format!("r{}", r.id))
        }
        (_, Some(slot)) => r.service == service && r.slot == slot && r.leaving.is_empty(),
    };
    let meant: Vec<&pb::Replica> = all.iter().filter(is_meant).collect();
    let holds = |r: &pb::Replica| match state {
        WaitState::Running => is_running(r),
        WaitState::Healthy => r.state == "healthy",
        WaitState::Drained => !r.leaving.is_empty() && r.traffic == "out" && r.sessions == 0,
        WaitState::Deleted | WaitState::Stable => false,
    };
    let goes = matches!(state, WaitState::Drained | WaitState::Deleted);
    match meant.iter().find(|r| !holds(r)) {
        Some(open) => Err(said(open)),
        None if meant.is_empty() && !goes => Err("there is no such replica now".into()),
        None => Ok(()),
    }
}

fn is_running(replica: &pb::Replica) -> bool {
    matches!(
        replica.state.as_str(),
        "starting" | "healthy" | "unhealthy" | "completed"
    )
}

/// A replica as it is.
fn said(r: &pb::Replica) -> String {
    let mut text = format!("{} (r{}) on {} is {}", r.name, r.id, r.node, r.state);
    if !r.reason.is_empty() {
        text.push_str(&format!(": {}", r.reason));
    }
    match (r.leaving.as_str(), r.traffic.as_str()) {
        ("", "serve") => text.push_str("; it serves and nothing takes it away"),
        ("", _) => {}
        (why, traffic) => text.push_str(&format!("; it leaves ({why}), traffic {traffic}")),
    }
    if r.sessions > 0 {
        text.push_str(&format!("; {} sessions", r.sessions));
    }
    text
}

fn node(all: &[pb::Node], name: &str, state: WaitState) -> Look {
    let Some(node) = all.iter().find(|node| node.id == name) else {
        return match state {
            WaitState::Drained | WaitState::Deleted => Ok(()),
            _ => Err("there is no such node any more".into()),
        };
    };
    let is_ready = node.state == "ready";
    match state {
        WaitState::Running if is_ready => Ok(()),
        WaitState::Healthy if is_ready && node.problems.is_empty() => Ok(()),
        WaitState::Running | WaitState::Healthy => {
            let mut text = format!("{name} is {}", node.state);
            let reason = Some(&node.reason).filter(|reason| !reason.is_empty());
            for why in reason.into_iter().chain(&node.problems) {
                text.push_str(&format!("; {why}"));
            }
            Err(text)
        }
        WaitState::Drained if node.replicas == 0 && node.availability != "active" => Ok(()),
        WaitState::Drained if node.availability == "draining" => Err(draining(node)),
        WaitState::Drained => Err(format!(
            "{name} is {}, {} there: controllerctl node drain {name}",
            node.availability,
            counted(node.replicas)
        )),
        WaitState::Deleted | WaitState::Stable => {
            Err(format!("{name} is {} and not removed", node.state))
        }
    }
}

fn draining(node: &pb::Node) -> String {
    let waits = node.drain.iter().flat_map(|drain| drain.waits.first());
    let waits: String = waits.map(|wait| format!("; {wait}")).collect();
    format!("{} drains, {} left{waits}", node.id, counted(node.replicas))
}

/// Do as many containers run as are wanted?
fn run(services: &[pb::Service], replicas: &[pb::Replica]) -> Look {
    let open = services.iter().find_map(|service| {
        let of: BTreeSet<u64> = replicas
            .iter()
            .filter(|r| r.service == service.key && r.leaving.is_empty() && is_running(r))
            .map(|r| r.id)
            .collect();
        let (now, wanted) = (of.len(), service.wanted);
        let waits: String = service
            .waits
            .iter()
            .map(|wait| format!("; {wait}"))
            .collect();
        (now < wanted as usize).then(|| format!("{}  {now}/{wanted} run{waits}", service.key))
    });
    match open {
        Some(open) => Err(open),
        None if services.is_empty() => Err("it is gone".into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
