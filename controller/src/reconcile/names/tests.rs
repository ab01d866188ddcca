//! The directory alone: what follows from a plan and from what was heard.

use longshore_model::plan::{Leaving, Replica};
use longshore_model::reason::LeaveReason;
use longshore_model::{App, ReplicaState, ServiceName};

use super::*;

/// A cluster of two workers, with `redis` on `b` and `web` on both.
struct Rig {
    plan: Plan,
    desired: Desired,
    observed: Observed,
    revoked: Arc<HashSet<String>>,
    guests: GuestApps,
    directory: Directory,
}

fn key(service: &str) -> ServiceKey {
    format!("shop/{service}").parse().unwrap()
}

fn replica(id: u64, service: &str, node: &str) -> Arc<Replica> {
    let replica = serde_json::json!({
        "id": ReplicaId(id), "service": key(service), "slot": id, "node": node, "address": "10.0.0.4",
        "template": "0".repeat(32), "revision": 1, "ports": [], "created_ms": 1,
        "traffic": "serve",
    });
    Arc::new(serde_json::from_value(replica).unwrap())
}

fn app(services: &[(&str, u16)]) -> App {
    let spec = serde_json::json!({
        "container": {"image": "a", "stop_grace_ms": 1}, "replicas": 1, "drain_ms": 1,
    });
    let spec = Arc::new(serde_json::from_value(spec).unwrap());
    let name = |name: &str| -> ServiceName { name.parse().unwrap() };
    let numbers = services.iter().map(|(of, number)| (name(of), *number));
    let services = services.iter().map(|(of, _)| (name(of), Arc::clone(&spec)));
    App {
        name: "shop".parse().unwrap(),
        revision: 1,
        services: services.collect(),
        applied_ms: 1,
        applied_by: "ana".into(),
        numbers: numbers.collect(),
    }
}

impl Rig {
    fn new() -> Self {
        let mut rig = Self {
            plan: Plan::default(),
            desired: Desired::default(),
            observed: Observed::default(),
            revoked: Arc::default(),
            guests: GuestApps::default(),
            directory: Directory::default(),
        };
        for (id, service, node) in [(1, "redis", "b"), (2, "web", "a"), (3, "web", "b")] {
            rig.put(replica(id, service, node));
        }
        let app = app(&[("redis", 1), ("web", 2)]);
        rig.desired.apps.insert(app.name.clone(), app);
        for node in ["a", "b"] {
            let node = serde_json::json!({
                "id": node, "address": "10.0.0.4", "labels": {},
                "roles": {"worker": true, "edge": false}, "availability": "active", "joined_ms": 1,
            });
            let node: longshore_model::Node = serde_json::from_value(node).unwrap();
            rig.desired.nodes.insert(node.id.clone(), node);
        }
        rig.hear("a", &[2]);
        rig.hear("b", &[1, 3]);
        rig
    }

    fn put(&mut self, replica: Arc<Replica>) {
        let mut service = match self.plan.services.get(&replica.service) {
            Some(service) => ServicePlan::clone(service),
            None => ServicePlan {
                drain_ms: 7,
                ..ServicePlan::default()
            },
        };
        service.replicas.insert(replica.id, Arc::clone(&replica));
        let services = &mut self.plan.services;
        services.insert(replica.service.clone(), Arc::new(service));
    }

    /// The node reports; all there is healthy, and listens on the port of its number.
    fn hear(&mut self, node: &str, replicas: &[u64]) {
        let status = |id: &u64| {
            let exposed = Arc::new([u16::try_from(*id).unwrap()].into());
            let status = ReplicaStatus {
                id: ReplicaId(*id),
                state: ReplicaState::Healthy,
                reason: None,
                container_id: None,
                started_ms: None,
                healthy_ms: None,
                restarts: 0,
                exit: None,
                exposed: Some(exposed),
            };
            (status.id, status)
        };
        let seen = longshore_model::observe::NodeObserved {
            reported_ms: 1,
            peer_port: 7_447,
            replicas: Arc::new(replicas.iter().map(status).collect()),
            ..Default::default()
        };
        let nodes = &mut self.observed.nodes;
        nodes.insert(node.parse().unwrap(), Arc::new(seen));
    }

    fn look(&mut self) -> BTreeMap<NodeId, Arc<Names>> {
        let scene = Scene {
            plan: &Arc::new(self.plan.clone()),
            desired: &Arc::new(self.desired.clone()),
            observed: &self.observed,
            revoked: &self.revoked,
            guests: &self.guests,
        };
        self.directory.look(&scene).clone()
    }

    fn told(&mut self, node: &str) -> Option<Arc<Names>> {
        self.look().get(&node.parse::<NodeId>().unwrap()).cloned()
    }
}

fn listed(names: &Names, service: &str) -> Vec<u64> {
    let replicas = names.services[&key(service)].replicas.iter();
    replicas.map(|replica| replica.replica.0).collect()
}

#[test]
fn each_node_is_told_of_the_apps_that_it_runs() {
    let mut rig = Rig::new();
    let a = rig.told("a").unwrap();
    let redis = &a.services[&key("redis")];
    assert_eq!(redis.address, Ipv4Addr::new(10, 213, 0, 1));
    assert_eq!((&redis.ports, redis.drain_ms), (&[1].into(), 7));
    assert_eq!(listed(&a, "web"), [2, 3]);
    assert_eq!(a.services[&key("web")].ports, [2, 3].into());
    assert_eq!(a.services[&key("web")].hosts.len(), 2);
    assert!(redis.hosts.is_empty(), "it runs elsewhere");
    let b = rig.told("b").unwrap();
    assert_eq!(b.services[&key("redis")].hosts.len(), 2);
    // An edge, and a node that nothing runs on.
    let mut other = rig.desired.nodes.values().next().unwrap().clone();
    (other.id, other.roles.worker) = ("edge".parse().unwrap(), false);
    rig.desired.nodes.insert(other.id.clone(), other.clone());
    (other.id, other.roles.worker) = ("c".parse().unwrap(), true);
    rig.desired.nodes.insert(other.id.clone(), other);
    assert_eq!(rig.told("edge"), None);
    assert_eq!(rig.told("c").unwrap().services, Services::new());
}

#[test]
fn a_node_is_told_of_apps_that_have_a_run_there_as_long_as_it_runs() {
    let mut rig = Rig::new();
    let mut other = rig.desired.nodes.values().next().unwrap().clone();
    other.id = "c".parse().unwrap();
    rig.desired.nodes.insert(other.id.clone(), other);
    let app = key("web").app;
    rig.guests = [("c".parse().unwrap(), [app].into())].into();
    assert_eq!(listed(&rig.told("c").unwrap(), "web"), [2, 3]);
    rig.guests.clear();
    assert_eq!(rig.told("c").unwrap().services, Services::new());
}

#[test]
fn generations_rise_with_content_and_with_nothing_else() {
    let mut rig = Rig::new();
    let (a, b) = (rig.told("a").unwrap(), rig.told("b").unwrap());
    rig.hear("a", &[2]);
    rig.plan.version += 1;
    assert_eq!(rig.told("a").unwrap().generation, a.generation);
    rig.revoked = Arc::new(["0a".to_owned()].into());
    let (next, other) = (rig.told("a").unwrap(), rig.told("b").unwrap());
    assert!(next.generation > a.generation && other.generation > b.generation);
    assert_eq!(next.revoked, ["0a".to_owned()].into());
}

#[test]
fn those_that_leave_or_do_not_serve_are_not_listed() {
    let mut rig = Rig::new();
    let mut leaves = Replica::clone(&replica(3, "web", "b"));
    leaves.leaving = Some(Box::new(Leaving {
        reason: LeaveReason::ScaleIn,
        since_ms: 1,
        deadline_ms: 2,
        drain_generation: 0,
        park_generation: 0,
        receipts: BTreeMap::new(),
        stop_generation: 0,
        stop_ms: 0,
    }));
    rig.put(Arc::new(leaves));
    assert_eq!(listed(&rig.told("a").unwrap(), "web"), [2]);
    let mut starts = Replica::clone(&replica(2, "web", "a"));
    starts.traffic = Traffic::Out;
    rig.put(Arc::new(starts));
    assert_eq!(listed(&rig.told("b").unwrap(), "web"), [0; 0]);
}

#[test]
fn a_controller_that_began_anew_takes_nothing_away_and_holds_nothing_back() {
    let mut rig = Rig::new();
    let b: NodeId = "b".parse().unwrap();
    let mut seen = rig.observed.nodes[&b].as_ref().clone();
    seen.peer_port = 9_000;
    rig.observed.nodes.insert(b.clone(), Arc::new(seen));
    let before = rig.told("a").unwrap();
    let (stored, said) = rig.directory.unsaved().unwrap();
    assert_eq!(stored, Said::default());
    rig.directory.saved(said.clone());
    assert!(rig.directory.unsaved().is_none());
    // It has not heard of b, and may never.
    rig.directory = Directory::new(said);
    rig.observed.nodes.remove(&b);
    rig.revoked = Arc::new(["0a".to_owned()].into());
    let after = rig.told("a").unwrap();
    assert_eq!(after.services, before.services);
    let redis = &after.services[&key("redis")];
    assert_eq!(redis.ports, [1].into(), "its image's");
    assert_eq!(redis.replicas[0].peer_port, 9_000);
    assert_eq!(after.revoked, ["0a".to_owned()].into(), "at once");
    // What starts there is told all names that it has a way to.
    rig.put(replica(4, "redis", "a"));
    assert_eq!(
        rig.told("a").unwrap().services[&key("redis")].hosts.len(),
        2
    );
    assert!(
        rig.directory.unsaved().is_none(),
        "nobody said anything else"
    );
    // A node that nobody ever heard of is taken to have the usual port.
    rig.directory = Directory::default();
    let redis = rig.told("a").unwrap().services[&key("redis")].clone();
    assert_eq!(redis.replicas[0].peer_port, PEER_PORT);
}

#[test]
fn what_was_said_is_forgotten_with_its_node_or_service() {
    let mut rig = Rig::new();
    rig.look();
    assert_eq!(rig.directory.said.exposed.len(), 2);
    rig.desired.nodes.remove(&"b".parse::<NodeId>().unwrap());
    rig.plan.services.remove(&key("redis"));
    rig.look();
    let (_, said) = rig.directory.unsaved().unwrap();
    assert_eq!(said.peer_ports.len(), 1);
    assert_eq!(said.exposed.len(), 1);
    // Another image: what all its replicas say replaces what was.
    rig.hear("a", &[2]);
    rig.plan.services = Default::default();
    rig.put(replica(2, "web", "a"));
    assert_eq!(
        rig.told("a").unwrap().services[&key("web")].ports,
        [2].into()
    );
}

#[test]
fn what_is_on_its_way_out_keeps_its_address_and_nobody_else_gets_it() {
    let mut rig = Rig::new();
    let before = rig.told("b").unwrap();
    rig.desired.apps = Default::default();
    let after = rig.told("b").unwrap();
    let address = |names: &Names| names.services[&key("redis")].address;
    assert_eq!(address(&after), address(&before));
    assert_eq!(rig.directory.numbers().collect::<Vec<_>>(), [1, 2]);
    rig.plan.services = Default::default();
    rig.look();
    assert_eq!(rig.directory.numbers().count(), 0);
}
