//! What a list says of a replica that edges do not reach, or not by every way in.

use longshore_model::observe::{NodeObserved, ServerAdmin, ServerObserved, ServersByService};

use super::nodes::advice;
use super::*;

/// What an edge says of `shop/web`'s first replica: the state of its server, a refusal.
fn edge(check: Option<CheckState>, refused: bool) -> EdgeObserved {
    let key: ServiceKey = "shop/web".parse().expect("a key");
    let mut edge = EdgeObserved::default();
    let server = check.map(|check| ServerObserved {
        check,
        admin: ServerAdmin::Ready,
        sessions: 0,
        queued: 0,
        answers: Default::default(),
    });
    let servers = server.map(|server| (key.clone(), [(ReplicaId(1), server)].into()));
    edge.take_servers(&servers.into_iter().collect::<ServersByService>());
    if refused {
        edge.refused = Arc::new([(key, "port 80 is taken".to_owned())].into());
    }
    edge
}

#[test]
fn a_replica_serves_unless_every_edge_that_speaks_of_it_keeps_requests_away() {
    use CheckState::{Down, Unknown, Up};
    let silent = EdgeObserved {
        problem: Some("HAProxy is not running".into()),
        ..EdgeObserved::default()
    };
    let cases: [(&[EdgeObserved], bool); 10] = [
        (&[], false),
        (&[edge(None, false)], false),
        (&[edge(Some(Up), false)], false),
        (&[edge(Some(Unknown), false)], false),
        (&[edge(Some(Down), false)], true),
        (&[edge(None, true)], true),
        (&[edge(None, true), edge(Some(Up), false)], false),
        (std::slice::from_ref(&silent), true),
        (&[silent.clone(), edge(Some(Up), false)], false),
        // Refused for one port, served by another.
        (&[edge(Some(Up), true)], false),
    ];
    for (at, (edges, shut_out)) in cases.iter().enumerate() {
        let mut observed = Observed::default();
        for (number, edge) in edges.iter().enumerate() {
            let id = format!("edge{number}").parse().expect("an id");
            observed.edges.insert(id, Arc::new(edge.clone()));
        }
        let key: ServiceKey = "shop/web".parse().expect("a key");
        let said = is_shut_out(&key, ReplicaId(1), &observed);
        assert_eq!(said, *shut_out, "case {at}");
    }
}

fn replica() -> Replica {
    Replica {
        id: ReplicaId(1),
        service: "shop/web".parse().expect("a key"),
        slot: 1,
        node: "node1".parse().expect("an id"),
        address: [10, 0, 0, 1].into(),
        template: longshore_model::TemplateId::new("0123456789abcdef").expect("an id"),
        revision: 1,
        ports: Vec::new(),
        created_ms: 1,
        traffic: Traffic::Serve,
        leaving: None,
        stop: false,
        paused: false,
        woken: None,
        ended: None,
    }
}

#[test]
fn the_reason_of_a_replica_names_the_way_in_that_is_refused_beside_one_that_works() {
    let reason = |edges: &[EdgeObserved]| {
        let mut observed = Observed::default();
        for (number, edge) in edges.iter().enumerate() {
            let id = format!("edge{number}").parse().expect("an id");
            let mut edge = edge.clone();
            edge.session.connected = true;
            observed.edges.insert(id, Arc::new(edge));
        }
        let mut replica = replica();
        let said = |replica: &Replica| {
            let said = convert(replica, &Plan::default(), &observed, NodeState::Ready);
            (said.traffic, said.reason)
        };
        let serves = said(&replica);
        replica.traffic = Traffic::Drain;
        assert_eq!(said(&replica), ("drain".into(), String::new()));
        serves
    };
    let (up, one) = (Some(CheckState::Up), "through edge0: port 80 is taken");
    let said = |traffic: &str, reason: String| (traffic.to_owned(), reason);
    assert_eq!(reason(&[edge(up, false)]), said("serve", String::new()));
    let in_part = said("serve", format!("not reachable as wanted {one}"));
    assert_eq!(reason(&[edge(up, true)]), in_part);
    assert_eq!(reason(&[edge(None, true), edge(up, false)]), in_part);
    let down = said("down", format!("not reachable {one}"));
    assert_eq!(reason(&[edge(None, true)]), down);
}

#[test]
fn an_edge_that_checks_a_replica_and_refuses_a_way_in_says_both() {
    let key: ServiceKey = "shop/web".parse().expect("a key");
    let says = |check, refused, drains| {
        super::super::why::edge_says(&edge(check, refused), &key, ReplicaId(1), drains)
    };
    let said = |check, refused| says(check, refused, false);
    let up = "check up, 0 sessions, 0 queued";
    assert_eq!(said(Some(CheckState::Up), false).expect("words"), up);
    let both = format!("{up}; not served as wanted: port 80 is taken");
    assert_eq!(said(Some(CheckState::Up), true).expect("words"), both);
    let held = format!("{up}; let in until nothing waits or another serves");
    assert_eq!(says(Some(CheckState::Up), false, true), Some(held));
    assert_eq!(
        said(None, true).expect("words"),
        "not served: port 80 is taken"
    );
    assert_eq!(said(None, false), None);
}

#[test]
fn a_clock_that_is_far_off_is_said_after_what_the_agent_says() {
    let says = |ahead_ms: Option<i64>| {
        let mut seen = NodeObserved {
            advice: Arc::new(vec!["little disk".to_owned()]),
            ..NodeObserved::default()
        };
        Arc::make_mut(&mut seen.samples).clock_ahead_ms = ahead_ms;
        advice(&seen).join("\n")
    };
    for near in [None, Some(2_000), Some(-2_000)] {
        assert_eq!(says(near), "little disk");
    }
    let far = says(Some(-61_000));
    assert!(far.starts_with("little disk\nits clock is "), "{far}");
    assert!(far.contains("behind the controller's"), "{far}");
    assert!(says(Some(2_001)).contains("ahead of the controller's"));
}
