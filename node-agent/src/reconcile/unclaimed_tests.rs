//! What nobody knows since the cluster was restored.

use std::collections::{BTreeMap, BTreeSet};

use longshore_model::ReplicaId;

use super::action::Action;
use super::tests::portless;
use super::{Core, Place};
use crate::ledger::{Kept, Unclaimed};
use crate::policy::Policy;
use crate::runtime::{Condition, Container};
use crate::testing::{assignment, spec};

/// Past any time for which what is unknown is left alone.
const LATER_MS: i64 = 60_000;

fn core() -> Core {
    let place = Place {
        cluster: "test".into(),
        node: "a".parse().unwrap(),
        address: "127.0.0.1".parse().unwrap(),
        policy: Policy::default(),
    };
    Core::new(place, BTreeMap::new())
}

fn kept(id: u64) -> Unclaimed {
    let mut spec = spec("hello:1");
    spec.resources.memory_reserved_bytes = 1 << 20;
    let kept = Kept {
        assigned: portless(id),
        spec: spec.into(),
    };
    [(ReplicaId(id), kept)].into()
}

fn list(core: &mut Core, running: &[u64], now_ms: i64) {
    let container = |id: &u64| Container {
        id: format!("c{id}"),
        replica: ReplicaId(*id),
        condition: Condition::Running,
        health: None,
        address: None,
        exposed: BTreeSet::new(),
    };
    let began = core.begin_listing();
    core.listed(began, Ok(running.iter().map(container).collect()), now_ms);
}

fn stopped(core: &mut Core, now_ms: i64) -> Vec<u64> {
    let actions = core.plan(now_ms).into_iter();
    let stopped = actions.filter_map(|action| match action {
        Action::Stop { replica, .. } => Some(replica.0),
        _ => None,
    });
    stopped.collect()
}

#[test]
fn what_the_ledger_keeps_is_not_stopped_and_is_said_until_somebody_removes_it() {
    let mut core = core();
    core.assign(&assignment(1, &[portless(1), portless(2), portless(3)]));
    list(&mut core, &[1, 2, 3], 0);
    core.keep(kept(2));
    core.assign(&assignment(2, &[portless(1)]));
    assert_eq!(stopped(&mut core, LATER_MS), [3], "nobody keeps that one");
    list(&mut core, &[1, 2], 2 * LATER_MS);
    assert_eq!(stopped(&mut core, 2 * LATER_MS), [0_u64; 0]);
    let said = core.snapshot();
    assert!(said.replicas.iter().all(|replica| replica.id.0 != 2));
    assert!(
        said.unclaimed[0].contains("r2") && said.unclaimed[0].contains("docker rm -f c2"),
        "{:?}",
        said.unclaimed
    );
    assert_eq!(said.unclaimed_reserved, (0, 1 << 20));
    assert_eq!(core.take_forgotten(), []);
    list(&mut core, &[1], 3 * LATER_MS);
    assert_eq!(core.take_forgotten(), [ReplicaId(2)]);
    assert_eq!(core.snapshot().unclaimed, Vec::<String>::new());
}

#[test]
fn it_is_kept_over_a_restart_of_the_agent_and_claimed_by_an_assignment_that_names_it() {
    let mut core = core();
    core.keep(kept(2));
    core.assign(&assignment(2, &[portless(1)]));
    list(&mut core, &[1, 2], 0);
    assert_eq!(stopped(&mut core, LATER_MS), [0_u64; 0]);
    core.assign(&assignment(3, &[portless(1), portless(2)]));
    let said = core.snapshot();
    assert!(said.unclaimed.is_empty());
    assert!(said.replicas.iter().any(|replica| replica.id.0 == 2));
    core.assign(&assignment(4, &[portless(1)]));
    assert_eq!(stopped(&mut core, LATER_MS), [2], "an order like any other");
}
