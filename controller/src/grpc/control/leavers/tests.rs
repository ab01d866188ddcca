//! What keeps a replica that leaves, in words.

use std::sync::Arc;

use longshore_model::observe::{CheckState, NodeObserved, ServerObserved, ServersByService};
use longshore_model::plan::ServicePlan;
use longshore_model::reason::LeaveReason;
use longshore_model::{ReplicaId, TemplateId, TimeMs};

use super::*;

const CLOCK: Clock = Clock { now_ms: 1_000 };

fn key() -> ServiceKey {
    "shop/web".parse().unwrap()
}

/// A replica that leaves; with a deadline it drains, without one it is out of the routes.
fn leaves(id: u64, deadline_ms: Option<TimeMs>) -> Replica {
    Replica {
        id: ReplicaId(id),
        service: key(),
        slot: u32::try_from(id).unwrap(),
        node: "node1".parse().unwrap(),
        address: [10, 0, 0, 1].into(),
        template: TemplateId::new("0123456789abcdef").unwrap(),
        revision: 1,
        ports: Vec::new(),
        created_ms: 1,
        traffic: deadline_ms.map_or(Traffic::Out, |_| Traffic::Drain),
        leaving: Some(Box::new(Leaving {
            reason: LeaveReason::Replaced,
            since_ms: 1,
            deadline_ms: deadline_ms.unwrap_or_default(),
            drain_generation: 1,
            park_generation: 0,
            receipts: Default::default(),
            stop_generation: 0,
            stop_ms: 0,
        })),
        stop: false,
        paused: false,
        woken: None,
        ended: None,
    }
}

fn plan(replicas: impl IntoIterator<Item = Replica>) -> Plan {
    let mut plan = Plan::default();
    let replicas = replicas.into_iter();
    let service = ServicePlan {
        replicas: replicas.map(|r| (r.id, Arc::new(r))).collect(),
        ..ServicePlan::default()
    };
    let services = [(key(), Arc::new(service))];
    plan.services = services.into_iter().collect();
    plan
}

/// What an edge and the replicas' node say.
fn seen(admin: ServerAdmin, sessions: u32, queued: u32) -> Observed {
    let server = ServerObserved {
        check: CheckState::Up,
        admin,
        sessions,
        queued,
        answers: Default::default(),
    };
    let servers: ServersByService = [(key(), [(ReplicaId(1), server)].into())].into();
    let mut edge = EdgeObserved::default();
    edge.take_servers(&servers);
    let mut node = NodeObserved::default();
    node.session.connected = true;
    let mut observed = Observed::default();
    observed
        .edges
        .insert("edge1".parse().unwrap(), Arc::new(edge));
    observed
        .nodes
        .insert("node1".parse().unwrap(), Arc::new(node));
    observed
}

#[test]
fn a_leaver_says_until_when_it_may_finish_and_which_edge_keeps_it() {
    let drains = plan([leaves(1, Some(65_000))]);
    let says = |observed: &Observed| leavers(&drains, observed, &key(), CLOCK).join("\n");
    let until = "web.1 (r1) on node1 finishes what it has and what waits for it, until 00:01:05 \
                 UTC at most";
    let (ready, drain) = (ServerAdmin::Ready, ServerAdmin::Drain);
    let held = format!("{until} (edge1: let in until nothing waits or another serves)");
    assert_eq!(says(&seen(ready, 0, 3)), held);
    assert_eq!(
        says(&seen(drain, 2, 0)),
        format!("{until} (edge1: has sessions on it)")
    );
    assert_eq!(says(&seen(drain, 0, 0)), until);
    let out = plan([leaves(1, None)]);
    let says = |observed: &Observed| leavers(&out, observed, &key(), CLOCK).join("\n");
    let mut observed = seen(drain, 0, 0);
    assert_eq!(
        says(&observed),
        "web.1 (r1) on node1 is out of the routes and stops"
    );
    observed.nodes.clear();
    let away = "web.1 (r1) on node1 is out of the routes; its node, which is to stop it, is away";
    assert_eq!(says(&observed), away);
}

#[test]
fn leavers_come_first_while_a_place_waits_for_them_and_are_few() {
    let many = plan((1..=5).map(|id| leaves(id, Some(60_000 + id))));
    let observed = Observed::default();
    let mut report = ServiceReport {
        wanted: 1,
        waits: vec![
            Reason::RolloutRuns,
            Reason::WaitsForReplacement {
                replica: ReplicaId(9),
            },
        ],
        ..ServiceReport::default()
    };
    let says = |report: &ServiceReport| waits(Some(report), &many, &observed, &key(), CLOCK);
    let order = |said: &[String]| {
        let word = |line: &String| line.split(' ').next().unwrap().to_owned();
        said.iter().map(word).collect::<Vec<_>>().join(" ")
    };
    let said = says(&report);
    assert_eq!(order(&said), "a web.1 web.2 web.3 and r9");
    assert_eq!(said[4], "and 2 more that leave");
    // Every place is taken: they are not what it waits for first.
    report.planned = 1;
    assert_eq!(order(&says(&report)), "a r9 web.1 web.2 web.3 and");
}
