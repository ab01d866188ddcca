use super::*;

fn web(id: u64, slot: u32, state: &str, traffic: &str, leaving: &str) -> pb::Replica {
    pb::Replica {
        id,
        slot,
        name: format!("web.{slot}"),
        service: "shop/web".into(),
        node: "node1".into(),
        state: state.into(),
        traffic: traffic.into(),
        leaving: leaving.into(),
        ..pb::Replica::default()
    }
}

fn holds(all: &[pb::Replica], slot: Option<u32>, id: u64, state: WaitState) -> Look {
    replica(all, "shop/web", slot, &[format!("r{id}")], state)
}

#[test]
fn a_slot_is_whoever_has_it_now_and_one_that_goes_is_itself() {
    use WaitState::{Deleted, Drained, Healthy, Running};
    let old = web(3, 1, "healthy", "serve", "");
    assert!(holds(std::slice::from_ref(&old), Some(1), 3, Healthy).is_ok());
    assert!(holds(std::slice::from_ref(&old), Some(1), 3, Drained).is_err());
    // Its successor starts.
    let mut both = [
        web(3, 1, "healthy", "out", "replaced"),
        web(7, 1, "starting", "out", ""),
    ];
    assert!(holds(&both, Some(1), 3, Running).is_ok());
    let why = holds(&both, Some(1), 3, Healthy).unwrap_err();
    assert_eq!(why, "web.1 (r7) on node1 is starting");
    assert!(holds(&both, None, 3, Healthy).is_ok(), "by its number");
    assert!(holds(&both, Some(1), 3, Drained).is_ok());
    let why = holds(&both, Some(1), 3, Deleted).unwrap_err();
    assert!(why.contains("it leaves (replaced), traffic out"), "{why}");
    both[0].sessions = 2;
    let why = holds(&both, Some(1), 3, Drained).unwrap_err();
    assert!(why.ends_with("2 sessions"), "{why}");
    // Gone: another one has its name.
    assert!(holds(&both[1..], Some(1), 3, Deleted).is_ok());
    assert!(holds(&both[1..], Some(1), 3, Drained).is_ok());
    let why = holds(&both[1..], Some(2), 9, Healthy).unwrap_err();
    assert_eq!(why, "there is no such replica now");
}

#[test]
fn a_node_is_drained_once_it_is_empty_and_takes_nothing() {
    use WaitState::{Deleted, Drained, Healthy, Running};
    let mut of = pb::Node {
        id: "node1".into(),
        state: "ready".into(),
        availability: "active".into(),
        ..pb::Node::default()
    };
    let look = |of: &pb::Node, state| node(std::slice::from_ref(of), "node1", state);
    assert!(look(&of, Running).is_ok() && look(&of, Healthy).is_ok());
    let why = look(&of, Drained).unwrap_err();
    assert!(why.contains("controllerctl node drain node1"), "{why}");
    (of.availability, of.replicas) = ("draining".into(), 1);
    let why = look(&of, Drained).unwrap_err();
    assert_eq!(why, "node1 drains, 1 replica left");
    of.replicas = 0;
    assert!(look(&of, Drained).is_ok());
    of.problems.push("the store is full".into());
    assert!(look(&of, Running).is_ok());
    let why = look(&of, Healthy).unwrap_err();
    assert_eq!(why, "node1 is ready; the store is full");
    assert!(look(&of, Deleted).is_err());
    assert!(node(&[], "node1", Deleted).is_ok());
    assert!(node(&[], "node1", Running).is_err());
}

#[test]
fn containers_that_run_need_not_be_healthy() {
    let service = pb::Service {
        key: "shop/web".into(),
        wanted: 2,
        waits: vec!["0 of 1 nodes fit".into()],
        ..pb::Service::default()
    };
    let services = [service];
    let mut all = vec![
        web(1, 1, "unhealthy", "out", ""),
        web(2, 2, "pulling", "out", ""),
    ];
    let why = run(&services, &all).unwrap_err();
    assert_eq!(why, "shop/web  1/2 run; 0 of 1 nodes fit");
    all[1].state = "starting".into();
    assert!(run(&services, &all).is_ok());
    all[1].leaving = "replaced".into();
    assert!(run(&services, &all).is_err());
    assert!(run(&[], &[]).is_err());
}
