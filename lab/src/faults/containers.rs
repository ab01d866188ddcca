//! The ledger of containers: none ends or starts anew but for a reason that the controller has
//! written down, none is left over, none is there twice.

use std::collections::{BTreeMap, BTreeSet};

use super::app;
use crate::{Replica, ctl_ok, try_on, until, workers};

/// What may happen to containers in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    /// Nothing.
    Nothing,
    /// Those of hosts that lost their power may end. Once such a host is back, replicas may move to
    /// it, and those that stood in may leave.
    Hosts,
    /// They are replaced: the controller's events say of each that ended what became of it.
    Replaced,
}

/// A container that runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Running {
    /// Its host.
    pub(super) host: String,
    /// As the engine says it.
    pub(super) started: String,
}

/// Those of the app that ran before a case.
#[derive(Debug)]
pub(super) struct Containers {
    running: BTreeMap<String, Running>,
    replicas: Vec<Replica>,
}

impl Containers {
    /// As it is now, once the hosts run what is listed.
    pub(super) fn look() -> Self {
        let (running, replicas) = settled();
        Self { running, replicas }
    }

    /// What is wrong by now; `touched` are hosts that lost their power.
    pub(super) fn compare(&self, allowed: Allowed, touched: &[String]) -> Vec<String> {
        let (now, _) = settled();
        let changed = self
            .running
            .iter()
            .filter(|(id, before)| now.get(*id).map(|now| &now.started) != Some(&before.started));
        let mut complaints = Vec::new();
        for (id, before) in changed {
            let replica = self.replicas.iter().find(|r| r.container == *id);
            let name = replica.map_or("a container of nobody", |r| &r.name);
            let host = &before.host;
            let is_right = match allowed {
                Allowed::Nothing => false,
                Allowed::Hosts => {
                    let after = ["rebalanced", "scale_in"];
                    let has_gone = |r| after.iter().any(|reason| has_gone(r, reason));
                    touched.contains(host) || replica.is_some_and(has_gone)
                }
                Allowed::Replaced => replica.is_some_and(|r| has_gone(r, "")),
            };
            if !is_right {
                let why = match allowed {
                    Allowed::Nothing => "",
                    Allowed::Hosts | Allowed::Replaced => ", and no event says why",
                };
                complaints.push(format!("{name} on {host} ended or began anew{why}"));
            }
        }
        complaints
    }
}

/// What runs and what is listed, once these agree: what has left is removed from its host a moment
/// later.
fn settled() -> (BTreeMap<String, Running>, Vec<Replica>) {
    let (found, _) = until("the hosts run what is listed", app::LIMIT, || {
        let (now, all) = (running(), app::all());
        let found: BTreeSet<String> = now.keys().cloned().collect();
        match found == listed(&all) {
            true => Ok((now, all)),
            false => Err((now, all)),
        }
    });
    found
}

/// Does an event say that the replica is gone, for a reason with `word` in it?
fn has_gone(replica: &Replica, word: &str) -> bool {
    let events = ctl_ok(&["events", "--about", app::APP, "-o", "jsonl"]);
    let of_it = format!("\"replica\":\"{}\"", replica.id);
    let mut lines = events.lines();
    lines.any(|line| {
        line.contains(&of_it) && line.contains("\"type\":\"gone\"") && line.contains(word)
    })
}

fn listed(replicas: &[Replica]) -> BTreeSet<String> {
    replicas.iter().map(|r| r.container.clone()).collect()
}

/// The app's containers that run, over all workers. One may end between the two commands; on a host
/// without power none runs.
fn running() -> BTreeMap<String, Running> {
    let script = format!(
        "docker ps -q --no-trunc --filter label=longshore.app={0} --filter label=longshore.service={0} \
         | xargs -r docker inspect -f '{{{{.Id}}}} {{{{.State.StartedAt}}}}' || true",
        app::APP
    );
    let mut all = BTreeMap::new();
    for host in workers() {
        let said = try_on(&host, &["sh", "-c", &script]);
        all.extend(said.stdout.lines().filter_map(|line| {
            let (id, started) = line.split_once(' ')?;
            let running = Running {
                host: host.clone(),
                started: started.to_owned(),
            };
            Some((id.to_owned(), running))
        }));
    }
    all
}
