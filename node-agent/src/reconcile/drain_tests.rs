//! Connections by name hold up a stop, for as long as they may; on a paused clock.

use std::time::Duration;

use longshore_model::ReplicaState;
use longshore_model::plan::AssignedReplica;
use tokio::time::{Instant, sleep};

use super::tests::{Rig, portless, rig};
use super::*;
use crate::mesh::doors::{Guest, Shut};
use crate::runtime::fake::{FAKE_ADDRESS, FakeRuntime};
use longshore_model::names::Named;

const ONE: ReplicaId = ReplicaId(1);

fn stopping() -> AssignedReplica {
    AssignedReplica {
        stop: true,
        ..portless(1)
    }
}

/// Its service, as the directory has it.
fn named(drain_ms: u64) -> Named {
    let address = [10, 213, 0, 7].into();
    Named {
        address,
        ports: [6379].into(),
        replicas: Vec::new(),
        hosts: [("redis".to_owned(), address)].into(),
        drain_ms,
    }
}

/// Replica 1 serves and has one connection.
async fn serving(drain_ms: u64) -> (Rig, Guest) {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    rig.name(named(drain_ms));
    rig.assign(&[portless(1)]);
    let seen = rig
        .until("reached by name", |snapshot| {
            let mut all = snapshot.replicas.iter();
            all.any(|r| r.state == ReplicaState::Healthy && r.address.is_some())
        })
        .await;
    assert_eq!(seen.replicas[0].address, Some(FAKE_ADDRESS));
    assert_eq!(seen.replicas[0].exposed, [6379].into());
    let guest = rig.doors.enter(ONE).unwrap();
    assert_eq!(guest.address, FAKE_ADDRESS);
    (rig, guest)
}

async fn until_gone(rig: &mut Rig) -> Duration {
    let began = Instant::now();
    rig.until("gone", |snapshot| {
        snapshot
            .replicas
            .iter()
            .all(|r| r.state == ReplicaState::Gone)
    })
    .await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_connections_and_goes_on_with_the_last() {
    let (mut rig, guest) = serving(600_000).await;
    rig.assign(&[stopping()]);
    let seen = rig
        .until("stopping", |s| {
            s.replicas[0].state == ReplicaState::Stopping
        })
        .await;
    assert_eq!(rig.doors.enter(ONE).unwrap_err(), Shut::Closed);
    assert_eq!(seen.replicas.len(), 1);
    sleep(Duration::from_secs(300)).await;
    assert_eq!(rig.runtime.running(), [1], "it serves what it has");
    assert!(rig.runtime.state().stop_grace_ms.is_empty());
    drop(guest);
    let took = until_gone(&mut rig).await;
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_after_the_drain_time_is_cut_by_the_stop() {
    let (mut rig, guest) = serving(10_000).await;
    rig.assign(&[stopping()]);
    let took = until_gone(&mut rig).await;
    let late = Duration::from_millis(10_100);
    assert!(took >= Duration::from_secs(10) && took < late, "{took:?}");
    tokio::time::timeout(Duration::from_secs(1), guest.cut.cancelled())
        .await
        .expect("a connection to a container that is gone ends");
}

#[tokio::test(start_paused = true)]
async fn without_a_drain_time_or_connections_nothing_waits() {
    let (mut rig, guest) = serving(0).await;
    rig.assign(&[stopping()]);
    let took = until_gone(&mut rig).await;
    assert!(took < Duration::from_millis(100), "{took:?}");
    drop(guest);

    let (mut rig, guest) = serving(600_000).await;
    drop(guest);
    rig.assign(&[stopping()]);
    let took = until_gone(&mut rig).await;
    assert!(took < Duration::from_millis(100), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crashed_or_paused_replica_takes_nothing_by_name() {
    let (mut rig, guest) = serving(0).await;
    drop(guest);
    rig.assign(&[AssignedReplica {
        paused: true,
        ..portless(1)
    }]);
    rig.until("paused", |s| s.replicas[0].state == ReplicaState::Paused)
        .await;
    assert_eq!(rig.doors.enter(ONE).unwrap_err(), Shut::Closed);
    rig.assign(&[portless(1)]);
    rig.until("healthy", |s| s.replicas[0].state == ReplicaState::Healthy)
        .await;
    rig.until("reached", |s| s.replicas[0].address.is_some())
        .await;
    assert!(rig.doors.enter(ONE).is_ok());
    let how = super::tests::exit(1, 60_000);
    rig.runtime.crash(1, &how);
    rig.runtime.announce();
    rig.until("down", |s| s.replicas[0].state == ReplicaState::Unhealthy)
        .await;
    assert_eq!(rig.doors.enter(ONE).unwrap_err(), Shut::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_container_is_made_with_the_names_that_came_with_its_assignment() {
    // Which of two channels is looked at first is chance.
    for _ in 0..16 {
        let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
        rig.assign(&[]);
        rig.until("the first", |snapshot| snapshot.generation == 1)
            .await;
        rig.name(named(0));
        rig.assign(&[portless(1)]);
        rig.until_healthy(&[1]).await;
        assert_eq!(rig.runtime.state().hosts, [named(0).hosts]);
    }
}
