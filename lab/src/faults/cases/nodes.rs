//! Links, hosts and agents.

use std::time::Duration;

use super::super::app::{self, REPLICAS};
use super::super::strike::Strike;
use crate::{fault, hosts, on, wait_for_nodes};

/// How long a link stays cut.
const CUT: Duration = Duration::from_secs(30);

/// Worker 2 and the controller lose each other, and nobody else does.
pub(super) fn partition(strike: &mut Strike) {
    cut(strike, "part", "rejoin");
}

pub(super) fn mute(strike: &mut Strike) {
    cut(strike, "mute", "unmute");
}

pub(super) fn deaf(strike: &mut Strike) {
    cut(strike, "deaf", "undeaf");
}

/// It is noticed, changes nothing, and is over once the link is back.
fn cut(strike: &mut Strike, how: &str, undo: &str) {
    strike.fault(&[how, "worker2"], &[undo, "worker2"]);
    app::node_is("worker2", false);
    std::thread::sleep(CUT);
    strike.undo();
    strike.is_over();
    app::node_is("worker2", true);
    app::full(REPLICAS, |_| true);
    strike.is_well();
}

/// HAProxy loses a worker's replicas, which the controller still reaches.
pub(super) fn apart(strike: &mut Strike) {
    strike.fault(&["apart", "worker2"], &["together", "worker2"]);
    app::serve(REPLICAS, |r| r.node != "worker2");
    strike.is_well();
    strike.undo();
    app::full(REPLICAS, |_| true);
}

pub(super) fn power(strike: &mut Strike) {
    strike.touches("worker2");
    strike.fault(&["kill", "worker2"], &["start", "worker2"]);
    app::serve(REPLICAS, |r| r.node != "worker2");
    strike.is_well();
    strike.undo();
    app::node_is("worker2", true);
}

/// Its replicas run elsewhere.
pub(super) fn lose_one() {
    fault(&["kill", "worker2"]);
    app::full(REPLICAS, |r| r.node != "worker2");
}

pub(super) fn returns(strike: &mut Strike) {
    strike.fault(&["start", "worker2"], &[]);
    app::node_is("worker2", true);
    app::full(REPLICAS, |_| true);
    strike.is_well();
}

/// Too many at once to be believed: nothing is stopped, and what is left serves.
pub(super) fn lose_two(strike: &mut Strike) {
    let left = app::all().into_iter().filter(|r| r.node == "worker1");
    let left: Vec<String> = left.map(|r| r.id).collect();
    for worker in ["worker2", "worker3"] {
        strike.touches(worker);
        strike.fault(&["kill", worker], &["start", worker]);
    }
    for worker in ["worker2", "worker3"] {
        app::node_is(worker, false);
    }
    std::thread::sleep(CUT);
    let serving: Vec<String> = app::serving().into_iter().map(|r| r.id).collect();
    let stays = left.iter().all(|id| serving.contains(id));
    assert!(
        stays,
        "what was left no longer serves: {left:?}, {serving:?}"
    );
    strike.note(format!("{} served meanwhile", serving.len()));
    strike.undo();
    strike.is_over();
    wait_for_nodes();
    app::full(REPLICAS, |_| true);
    strike.is_well();
}

pub(super) fn agents_die(strike: &mut Strike) {
    for host in hosts() {
        strike.fault(&["kill9", &host, "node-agent"], &[]);
    }
    wait_for_nodes();
    app::full(REPLICAS, |_| true);
    strike.is_well();
}

/// As an upgrade does it: another file under the same name, then a restart.
pub(super) fn agents_upgraded(strike: &mut Strike) {
    let upgrade = "cd /usr/local/bin && cp -p node-agent node-agent.new && mv -f node-agent.new node-agent \
                   && sv -w 15 restart node-agent";
    strike.begin();
    for host in hosts() {
        on(&host, &["sh", "-c", upgrade]);
    }
    wait_for_nodes();
    app::full(REPLICAS, |_| true);
    strike.is_well();
}
