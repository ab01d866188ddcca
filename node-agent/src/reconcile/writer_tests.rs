//! Volumes whose data is on this node, and what still writes to them.

use std::time::Duration;

use longshore_model::reason::FailReason;
use longshore_model::spec::Mount;
use longshore_model::{ContainerSpec, ReplicaState};

use super::tests::{Rig, portless, reason, rig, state};
use crate::runtime::Condition;
use crate::runtime::disk::VolumeUse;
use crate::runtime::fake::FakeRuntime;

fn assign(rig: &mut Rig, replicas: &[u64], stops: &[u64]) {
    let assigned = replicas.iter().map(|id| {
        let mut replica = portless(*id);
        replica.stop = stops.contains(id);
        replica
    });
    let assigned: Vec<_> = assigned.collect();
    rig.assign_spec(&assigned, |spec| {
        spec.mounts = vec![Mount {
            source: "shop_data".into(),
            target: "/data".into(),
            ..Mount::default()
        }];
    });
}

/// Until the first one runs alone; never beside the other.
async fn takes_over(rig: &mut Rig, other: u64) {
    for _ in 0..600 {
        let running = rig.runtime.running();
        assert_ne!(running, [1, other], "two write to one volume");
        if running == [1] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?} run", rig.runtime.running());
}

#[tokio::test(start_paused = true)]
async fn nobody_starts_beside_a_container_that_no_assignment_names() {
    let runtime = FakeRuntime::with_images(&["hello:1"]);
    runtime.put(9, Condition::Running);
    let mut rig = rig(runtime, None);
    rig.until("listed", |s| s.settled).await;
    assign(&mut rig, &[1], &[]);
    rig.until("waits", |s| {
        reason(s, 1).contains("r9 still runs here and may write to volume shop_data")
    })
    .await;
    takes_over(&mut rig, 9).await;
    let healthy = rig.until_healthy(&[1]).await;
    assert_eq!(healthy.replicas[0].reason, None);
}

#[tokio::test(start_paused = true)]
async fn nobody_starts_beside_one_that_is_told_to_stop() {
    let runtime = FakeRuntime::with_images(&["hello:1"]);
    let mut rig = rig(runtime, None);
    assign(&mut rig, &[2], &[]);
    rig.until_healthy(&[2]).await;
    assign(&mut rig, &[1, 2], &[2]);
    takes_over(&mut rig, 2).await;
}

#[tokio::test(start_paused = true)]
async fn an_external_volume_is_never_made() {
    let runtime = FakeRuntime::with_images(&["hello:1"]);
    let mut rig = rig(runtime, None);
    let external = |spec: &mut ContainerSpec| {
        let mut mount = Mount {
            source: "shop_data".into(),
            target: "/data".into(),
            ..Mount::default()
        };
        mount.options.external = true;
        spec.mounts = vec![mount];
    };
    rig.assign_spec(&[portless(1)], external);
    let failed = rig
        .until("failed", |s| state(s, 1) == Some(ReplicaState::Failed))
        .await;
    let missing = FailReason::VolumeMissing {
        volume: "shop_data".into(),
        node: "a".parse().unwrap(),
    };
    assert_eq!(failed.replicas[0].reason, Some(missing));
    assert!(rig.runtime.state().containers.is_empty());
    rig.runtime.state().volumes.push(VolumeUse {
        name: "shop_data".into(),
        ..VolumeUse::default()
    });
    rig.assign_spec(&[portless(2)], external);
    rig.until_healthy(&[2]).await;
}
