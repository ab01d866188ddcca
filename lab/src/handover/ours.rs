//! Planned changes and a worker's death, with Longshore.

use std::time::Duration;

use serde_json::Value;

use super::system::{Mends, PORT, QUEUE_PORT, QUEUE_REPLICAS, REPLICAS, STATS_PORT, System};
use crate::{Replica, ctl, ctl_command, ctl_json, ctl_ok, fault, replicas_of, until};

const APP: &str = "bench";
/// Its service of the same name.
const SERVICE: &str = "bench/bench";
/// Its service whose requests always queue.
const QUEUE: &str = "queue";
/// Longest wait for a change: two batches that drain for 45 s each, on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// The lab's own cluster.
pub(super) struct Longshore {
    /// Sequence number of the last event before the run.
    from: u64,
}

impl Longshore {
    /// The cluster as it is.
    #[must_use]
    pub(super) fn new() -> Self {
        Self { from: 0 }
    }

    fn await_count(&self, what: &str, count: usize, good: impl Fn(&[Replica]) -> bool) {
        for (service, count) in [(SERVICE, count), (QUEUE, queue_count(count))] {
            until(&format!("{service}: {what}"), LIMIT, || {
                let all = replicas_of(service);
                let serving = all
                    .iter()
                    .filter(|r| r.state == "healthy" && r.traffic == "serve")
                    .count();
                if serving == count && all.len() == count && good(&all) {
                    Ok(())
                } else {
                    Err(all)
                }
            });
        }
    }

    fn node_is(&self, node: &str, state: &str) {
        until(&format!("{node} is {state}"), LIMIT, || {
            let said = ctl(&["node", "ls", "-o", "json"]);
            let nodes: Value = serde_json::from_str(&said.stdout).unwrap_or(Value::Null);
            let list = nodes.as_array().cloned().unwrap_or_default();
            let found = list
                .iter()
                .any(|n| n["name"] == node && n["state"] == state);
            if found { Ok(()) } else { Err(said) }
        });
    }
}

/// Replicas of the queue's service while the other one has `count`.
fn queue_count(count: usize) -> usize {
    count.min(QUEUE_REPLICAS)
}

fn all_replicas() -> Vec<Replica> {
    [SERVICE, QUEUE].into_iter().flat_map(replicas_of).collect()
}

impl Default for Longshore {
    fn default() -> Self {
        Self::new()
    }
}

impl System for Longshore {
    fn name(&self) -> &'static str {
        "longshore"
    }

    fn entries(&self) -> Vec<(&'static str, String)> {
        crate::edges()
    }

    fn stats_port(&self) -> Option<u16> {
        Some(STATS_PORT)
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn queue_port(&self) -> Option<u16> {
        Some(QUEUE_PORT)
    }

    fn deploy(&mut self, ledger_to: &str) {
        let mut up = ctl_command();
        let said = up
            .args(["up", "-f", "examples/bench/compose.yaml", "-d", "-y"])
            .env("LEDGER_TO", ledger_to)
            .output()
            .expect("controllerctl can be run");
        assert!(said.status.success(), "{said:?}");
        self.scale(1);
        let events = ctl_json(&["events"]);
        let all = events.as_array().cloned().unwrap_or_default();
        let numbers = all.iter().filter_map(|event| event["sequence"].as_u64());
        self.from = numbers.max().unwrap_or(0);
    }

    fn scale(&mut self, count: usize) {
        let of_queue = format!("{QUEUE}={}", queue_count(count));
        ctl_ok(&["scale", &format!("{APP}={count}"), &of_queue, "-d", "-y"]);
        self.await_count(&format!("{count} replicas"), count, |_| true);
    }

    fn update(&mut self) {
        let before: Vec<String> = all_replicas().into_iter().map(|r| r.id).collect();
        for service in [SERVICE, QUEUE] {
            ctl_ok(&["restart", service, "-d", "-y"]);
        }
        self.await_count("all replicas are new", REPLICAS, |all| {
            all.iter().all(|replica| !before.contains(&replica.id))
        });
    }

    fn drain_node(&mut self, worker: &str) {
        ctl_ok(&["node", "drain", worker, "-d", "-y"]);
        self.await_count("the node is empty", REPLICAS, |all| {
            all.iter().all(|replica| replica.node != worker)
        });
        ctl_ok(&["node", "uncordon", worker, "-y"]);
    }

    fn replicas_on(&self, worker: &str) -> Vec<String> {
        let here = |r: &Replica| r.node == worker;
        let all = all_replicas().into_iter().filter(here);
        all.map(|replica| replica.name).collect()
    }

    fn forced(&self) -> Option<(u64, u64)> {
        let events = ctl_json(&["events", "--about", APP, "--filter", "type=drained"]);
        let all = events.as_array().cloned().unwrap_or_default();
        let receipts: Vec<Value> = all
            .iter()
            .filter(|event| event["sequence"].as_u64() > Some(self.from))
            .filter_map(|event| event["detail"]["receipts"].as_array().cloned())
            .flatten()
            .collect();
        let forced = receipts
            .iter()
            .filter(|receipt| receipt.to_string().contains("\"forced\":true"))
            .count();
        Some((receipts.len() as u64, forced as u64))
    }

    fn reloads(&self) -> Option<u64> {
        None
    }

    fn down(&mut self) {
        ctl_ok(&["down", APP, "-d", "-y"]);
        until("nothing of the app is left", LIMIT, || {
            let said = ctl(&["ps", APP, "-o", "json"]);
            let left: Value = serde_json::from_str(&said.stdout).unwrap_or(Value::Null);
            // Once the app is gone, its name is unknown.
            if said.code != Some(0) || left.as_array().is_some_and(Vec::is_empty) {
                Ok(())
            } else {
                Err(said)
            }
        });
    }
}

impl Mends for Longshore {
    fn kill_worker(&mut self, worker: &str) {
        fault(&["kill", worker]);
    }

    fn await_others(&mut self, worker: &str) {
        self.await_count("the others took over", REPLICAS, |all| {
            all.iter().all(|replica| replica.node != worker)
        });
    }

    fn revive_worker(&mut self, worker: &str) {
        fault(&["start", worker]);
        self.node_is(worker, "ready");
        self.await_count("all is as before", REPLICAS, |_| true);
    }
}
