//! Edges that are cut off, as `up`, `why` and `status` tell them.

use longshore_model::certificate::{CertificateObserved, CertificateRefused};
use longshore_model::observe::SessionObserved;
use longshore_model::spec::RouteSpec;
use longshore_model::{App, Node, Roles};

use super::*;
use crate::testing::service_spec;

const DAY_MS: u64 = 86_400_000;
const NOW_MS: u64 = 20_000 * DAY_MS;

fn secret() -> SecretKey {
    SecretKey::new("shop".parse().unwrap(), "cert".parse().unwrap())
}

fn web() -> ServiceKey {
    "shop/web".parse().unwrap()
}

fn node(id: &str) -> (NodeId, Node) {
    let id: NodeId = id.parse().unwrap();
    let node = Node {
        id: id.clone(),
        roles: Roles {
            worker: false,
            edge: true,
        },
        labels: BTreeMap::new(),
        availability: longshore_model::Availability::Active,
        address: [10, 0, 0, 1].into(),
        joined_ms: 1,
        note: None,
        drain: None,
        uncordoned_ms: 0,
        removed_volumes: std::collections::BTreeMap::new(),
    };
    (id, node)
}

/// A scene in which two edges shall serve a certificate that was renewed.
fn scene() -> Scene {
    let mut spec = service_spec();
    spec.routes = vec![RouteSpec::new(443, 80)];
    spec.routes[0].tls = vec!["cert".to_owned()];
    let app = App {
        name: "shop".parse().unwrap(),
        revision: 1,
        services: [("web".parse().unwrap(), Arc::new(spec))].into(),
        applied_ms: 1,
        applied_by: "ann".into(),
        numbers: Default::default(),
    };
    let wanted = CertificateWanted {
        mark: "new".into(),
        names: vec!["a.test".into()],
        until_ms: NOW_MS + 90 * DAY_MS,
        by: "ann".into(),
    };
    let desired = Desired {
        apps: [(app.name.clone(), app)].into(),
        nodes: [node("edge1"), node("edge2")].into(),
        certificates: Arc::new([(secret(), wanted)].into()),
        ..Desired::default()
    };
    let mut scene = Scene {
        desired: Arc::new(desired),
        observed: Observed::default(),
        now_ms: NOW_MS,
        listens_since_ms: 1,
        planner: PlannerConfig::default(),
    };
    heard(&mut scene, "edge1", 100, "new");
    scene
}

/// An edge whose session is open was heard so long ago, and served this one then.
fn heard(scene: &mut Scene, edge: &str, ago_ms: u64, served: &str) {
    let served = CertificateServed {
        mark: served.into(),
        until_ms: NOW_MS + 9 * DAY_MS,
    };
    let seen = CertificateObserved {
        served: Some(served).filter(|served| !served.mark.is_empty()),
        refused: None::<CertificateRefused>,
    };
    let session = SessionObserved {
        connected: true,
        last_echo_ms: NOW_MS - ago_ms,
        since_ms: 1,
    };
    let edge_seen = EdgeObserved {
        session,
        reported_ms: NOW_MS - ago_ms,
        certificates: Some(Arc::new([(secret(), seen)].into())),
        ..EdgeObserved::default()
    };
    let id = edge.parse().unwrap();
    scene.observed.edges.insert(id, Arc::new(edge_seen));
}

/// State and reason of the second edge.
fn state(scene: &Scene) -> (String, String) {
    let (_, spec) = scene.desired.service(&web()).unwrap();
    let mut stands = scene.of_service(&web(), spec);
    assert_eq!(stands.len(), 2, "{stands:?}");
    let second = stands.remove(1);
    (second.state, second.why)
}

#[test]
fn an_edge_whose_open_session_fell_silent_is_awaited_until_its_lease_is_over() {
    let mut scene = scene();
    let lease_ms = scene.planner.edge_lease_ms;
    heard(&mut scene, "edge2", 500, "old");
    assert_eq!(state(&scene), ("waits".into(), String::new()));
    let cut_off = || "it is not connected".to_owned();
    heard(&mut scene, "edge2", lease_ms, "old");
    assert_eq!(state(&scene), ("waits".into(), cut_off()));
    heard(&mut scene, "edge2", lease_ms + 1, "old");
    assert_eq!(state(&scene), ("away".into(), cut_off()));
    // Nothing was heard while this process was stopped.
    scene.listens_since_ms = NOW_MS - 10;
    assert_eq!(state(&scene), ("waits".into(), cut_off()));
}

#[test]
fn why_says_what_an_edge_that_is_away_serves_until_it_is_back() {
    let mut scene = scene();
    let newest = "TLS: certificate cert (a.test) ends in 90 d, on 2025-01-02".to_owned();
    let lines = |scene: &Scene| {
        let mut lines = scene.lines(&web());
        assert_eq!(lines.remove(0), newest);
        lines
    };
    let unknown = "TLS: edge2 is away; which certificate cert it serves is not known";
    assert_eq!(lines(&scene), [unknown]);
    heard(&mut scene, "edge2", 60_000, "old");
    let before = "certificate cert, the one before at edge2, which is away, ends in 9 d, on \
                  2024-10-13";
    let line = format!("TLS: {before}; edge2 serves it until it is back");
    assert_eq!(lines(&scene), [line]);
    // It soon ends: a problem of its own.
    let problems: Vec<_> = scene
        .problems()
        .into_iter()
        .map(|(_, text, _)| text)
        .collect();
    let way_out = format!("{before}; edge2 gets the new one when it is back");
    assert_eq!(problems, [way_out]);
    // The newest one is no news.
    heard(&mut scene, "edge2", 60_000, "new");
    assert_eq!(lines(&scene), [""; 0]);
    assert!(scene.problems().is_empty());
}

/// An edge that is there refuses the wanted certificate, and serves none in its place.
fn refuses(scene: &mut Scene, edge: &str) {
    heard(scene, edge, 100, "");
    let id: NodeId = edge.parse().unwrap();
    let seen = CertificateObserved {
        served: None,
        refused: Some(CertificateRefused {
            mark: "new".into(),
            why: "unable to load it".into(),
        }),
    };
    let edge = Arc::make_mut(scene.observed.edges.get_mut(&id).unwrap());
    edge.certificates = Some(Arc::new([(secret(), seen)].into()));
    edge.refused = Arc::new([(web(), "port 443: it is refused".to_owned())].into());
}

#[test]
fn why_says_of_a_refused_certificate_that_no_edge_serves_it() {
    let mut scene = scene();
    let says = |edge: &str| {
        format!("TLS: {edge} refuses certificate cert and has none before it: unable to load it")
    };
    let ends = "certificate cert (a.test)";
    // One edge has it.
    refuses(&mut scene, "edge2");
    let served = format!("TLS: {ends} ends in 90 d, on 2025-01-02");
    assert_eq!(scene.lines(&web()), [served, says("edge2")]);
    // None has it.
    refuses(&mut scene, "edge1");
    let nobody =
        format!("TLS: no edge is known to serve {ends}, which ends in 90 d, on 2025-01-02");
    let lines = [nobody, says("edge1"), says("edge2")];
    assert_eq!(scene.lines(&web()), lines);
    // An agent that does not say may serve it.
    heard(&mut scene, "edge1", 100, "");
    let id: NodeId = "edge1".parse().unwrap();
    Arc::make_mut(scene.observed.edges.get_mut(&id).unwrap()).certificates = None;
    let may = format!("TLS: {ends} ends in 90 d, on 2025-01-02");
    assert_eq!(scene.lines(&web()), [may, says("edge2")]);
}

#[test]
fn status_says_of_a_refused_certificate_that_soon_ends_that_no_edge_serves_it() {
    let mut scene = scene();
    let desired = Arc::make_mut(&mut scene.desired);
    let certificates = Arc::make_mut(&mut desired.certificates);
    certificates.get_mut(&secret()).unwrap().until_ms = NOW_MS + 9 * DAY_MS;
    let says = |scene: &Scene| {
        let problems = scene.problems().into_iter();
        problems.map(|(_, text, _)| text).collect::<Vec<_>>()
    };
    let said = |then: &str| {
        format!(
            "certificate cert (a.test) ends in 9 d, on 2024-10-13: {then}; renew it and run \
             controllerctl up -f FILE"
        )
    };
    refuses(&mut scene, "edge2");
    assert_eq!(says(&scene), [said("clients will refuse it then")]);
    refuses(&mut scene, "edge1");
    assert_eq!(says(&scene), [said("no edge is known to serve it")]);
    // One that is served in its place is what clients see.
    heard(&mut scene, "edge1", 100, "old");
    let before = "certificate cert, the one before at edge1, ends in 9 d, on 2024-10-13: clients \
                  will refuse it then; renew it and run controllerctl up -f FILE";
    assert_eq!(says(&scene), [before]);
}
