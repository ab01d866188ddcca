//! The controller, its store, HAProxy and its agent.

use std::collections::BTreeSet;

use super::super::app::{self, APP, LIMIT, PORT, REPLICAS, SERVICE, STATS_PORT};
use super::super::lists;
use super::super::strike::Strike;
use crate::handover::statistics;
use crate::{SmallStore, ctl, ctl_ok, edge, edges, join_again, on, until};

/// Replicas after a scale-out.
const MORE: usize = 9;

pub(super) fn killed_in_rollout(strike: &mut Strike) {
    let before: BTreeSet<String> = app::all().into_iter().map(|r| r.id).collect();
    ctl_ok(&["restart", SERVICE, "-d", "-y"]);
    until("the first new replica is there", LIMIT, || {
        let all = app::all();
        match all.iter().any(|r| !before.contains(&r.id)) {
            true => Ok(()),
            false => Err(all),
        }
    });
    strike.fault(&["kill9", "edge", "controller"], &[]);
    app::controller_answers();
    app::full(REPLICAS, |r| !before.contains(&r.id));
    strike.is_well();
}

/// The store on a disk that can be filled; it stays there until the case is over.
pub(super) fn small_disk() {
    std::mem::forget(SmallStore::mount());
    app::controller_answers();
    app::mend();
}

pub(super) fn full_disk(strike: &mut Strike) {
    let store = SmallStore::mounted();
    strike.begin();
    store.fill();
    let said = ctl(&["scale", "bench=7", "-d", "-y"]);
    assert!(
        said.code != Some(0) && said.stderr.contains("disk full"),
        "a change was taken without room for it: {said:?}"
    );
    assert_eq!(app::serving().len(), REPLICAS);
    store.free();
    strike.is_over();
    until("a change is taken", LIMIT, || {
        let said = ctl(&["scale", &format!("{APP}={REPLICAS}"), "-d", "-y"]);
        match said.code {
            Some(0) => Ok(()),
            _ => Err(said),
        }
    });
    strike.is_well();
    // Back on its own disk, and the controller with it.
    drop(store);
    app::controller_answers();
}

pub(super) fn proxy_dies(strike: &mut Strike) {
    strike.begin();
    let kill = "kill -9 $(pgrep -P $(pgrep -o -x haproxy))";
    on("edge", &["sh", "-c", kill]);
    app::answers("edge", &edge());
    strike.is_well();
}

/// The edge keeps its last list, and has the new one once it is back.
pub(super) fn edge_is_cut(strike: &mut Strike) {
    let name = edges().pop().map_or("edge", |(name, _)| name);
    strike.fault(&["part", name], &["rejoin", name]);
    app::node_is(name, false);
    ctl_ok(&["scale", &format!("{APP}={MORE}"), "-d", "-y"]);
    until("nine are healthy", LIMIT, || {
        let all = app::all();
        let healthy = all.iter().filter(|r| r.state == "healthy").count();
        if healthy == MORE { Ok(()) } else { Err(all) }
    });
    strike.undo();
    strike.is_over();
    until("all nine are in its list", LIMIT, || {
        let lists = edges().into_iter().map(|(_, host)| {
            let csv = statistics(&host, STATS_PORT);
            lists::up(&csv, &PORT.to_string())
        });
        let lists: Vec<BTreeSet<String>> = lists.collect();
        match lists.iter().all(|list| list.len() == MORE) {
            true => Ok(()),
            false => Err(lists),
        }
    });
    strike.is_well();
}

/// Out of the cluster at once, with its replicas; what runs there is drained, not cut.
pub(super) fn revoked(strike: &mut Strike) {
    strike.begin();
    ctl_ok(&["node", "rm", "worker3", "--force", "-y"]);
    app::serve(REPLICAS, |r| r.node != "worker3");
    strike.is_well();
    join_again("worker3");
    app::node_is("worker3", true);
}
