//! The app of the cases: six replicas over three workers, the demo of `make bench-handover`.

use std::time::Duration;

use serde_json::Value;

use crate::{
    Replica, ctl, ctl_json, ctl_ok, edges, fault, get_with, hosts, try_replicas_of, until,
    wait_for_nodes, workers,
};

/// Its port at the edges.
pub(super) const PORT: u16 = 8090;
/// Port of HAProxy's statistics.
pub(super) const STATS_PORT: u16 = 8404;
/// Its replicas.
pub(super) const REPLICAS: usize = 6;
/// Its file.
pub(super) const FILE: &str = "examples/bench/compose.yaml";
/// The app.
pub(super) const APP: &str = "bench";
/// Its service.
pub(super) const SERVICE: &str = "bench/bench";
/// Longest wait for anything.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// Runs it.
pub(super) fn deploy() {
    ctl(&["down", APP, "-y"]);
    ctl_ok(&["up", "-f", FILE, "-d", "-y"]);
    mend();
    // Edges open new ports with a reload, a moment after replicas are to serve there.
    for (name, host) in edges() {
        answers(name, &host);
    }
}

/// Waits until the app answers at an edge.
pub(super) fn answers(name: &str, host: &str) {
    let address = format!("{host}:{PORT}");
    until(
        &format!("the app answers at {name}"),
        LIMIT,
        || match get_with(&address, "/healthz", LIMIT) {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(other),
        },
    );
}

/// Ends it.
pub(super) fn down() {
    ctl_ok(&["down", APP, "-y"]);
}

/// Brings hosts, programs and the app back to what every case begins with.
pub(super) fn mend() {
    for host in hosts() {
        // Harmless for a host that runs.
        fault(&["start", &host]);
    }
    wait_for_nodes();
    until("the controller has watched long enough", LIMIT, || {
        let status = ctl_json(&["status"]);
        match status["observing_until"].is_null() {
            true => Ok(()),
            false => Err(status),
        }
    });
    ctl_ok(&["scale", &format!("{APP}={REPLICAS}"), "queue=1", "-d", "-y"]);
    full(REPLICAS, |_| true);
}

/// Its replicas, once the controller answers: in some cases it has just been killed.
pub(super) fn all() -> Vec<Replica> {
    until("its replicas are listed", LIMIT, || {
        try_replicas_of(SERVICE)
    })
    .0
}

/// Waits until every worker has as many replicas as the others, so that no case ends with a move
/// that the one before it led to. Nodes that came back are filled for some minutes; what is still
/// uneven then is placed anew, again and again while a node that was lost twice takes nothing new.
pub(super) fn spread() {
    let each = REPLICAS / workers().len();
    let is_even = |all: &[Replica]| {
        let on = |host: &String| all.iter().filter(|r| r.node == *host).count();
        workers().iter().all(|host| on(host) == each)
    };
    until("replicas are spread evenly", LIMIT, || {
        let all = all();
        if is_even(&all) {
            return Ok(());
        }
        for count in [1, REPLICAS] {
            ctl_ok(&["scale", &format!("{APP}={count}"), "-d", "-y"]);
            full(count, |_| true);
        }
        Err(all)
    });
}

/// Those that take traffic.
pub(super) fn serving() -> Vec<Replica> {
    let serves = |r: &Replica| r.state == "healthy" && r.traffic == "serve";
    all().into_iter().filter(serves).collect()
}

/// Waits until exactly `count` exist, all serve, and all are as they should be.
pub(super) fn full(count: usize, good: impl Fn(&Replica) -> bool) {
    until(&format!("{count} replicas serve"), LIMIT, || {
        let (all, serving) = (all(), serving());
        let is_full = serving.len() == count && all.len() == count;
        match is_full && all.iter().all(&good) {
            true => Ok(()),
            false => Err(all),
        }
    });
}

/// Waits until `count` serve that are as they should be, whatever else there is.
pub(super) fn serve(count: usize, good: impl Fn(&Replica) -> bool) {
    until(&format!("{count} replicas serve"), LIMIT, || {
        let serving = serving();
        match serving.iter().filter(|r| good(r)).count() >= count {
            true => Ok(()),
            false => Err(serving),
        }
    });
}

/// Waits until the node is no longer called ready, or is again.
pub(super) fn node_is(node: &str, ready: bool) {
    let what = if ready { "ready" } else { "not ready" };
    node_state(node, what, |state| (state == "ready") == ready);
}

/// Waits until the node is called so.
pub(super) fn node_says(node: &str, wanted: &str) {
    node_state(node, wanted, |state| state == wanted);
}

fn node_state(node: &str, what: &str, is_right: impl Fn(&str) -> bool) {
    until(&format!("{node} is {what}"), LIMIT, || {
        let said = ctl(&["node", "ls", "-o", "json"]);
        let nodes: Value = serde_json::from_str(&said.stdout).unwrap_or(Value::Null);
        let list = nodes.as_array().cloned().unwrap_or_default();
        let found = list.iter().find(|n| n["name"] == node);
        match found
            .and_then(|n| n["state"].as_str())
            .is_some_and(&is_right)
        {
            true => Ok(()),
            false => Err(said),
        }
    });
}

/// Waits until the controller answers.
pub(super) fn controller_answers() {
    until("the controller answers", LIMIT, || {
        let said = ctl(&["ls"]);
        match said.code {
            Some(0) => Ok(()),
            _ => Err(said),
        }
    });
}
