//! Replicas of jobs: their container runs to its end, once.

use longshore_model::ReplicaState;
use longshore_model::plan::AssignedReplica;
use longshore_model::spec::JobRun;

use super::tests::{Rig, portless, rig};
use super::*;
use crate::runtime::Inspection;
use crate::runtime::fake::FakeRuntime;

fn ended(id: u64) -> AssignedReplica {
    AssignedReplica {
        ended: true,
        ..portless(id)
    }
}

fn assign(rig: &mut Rig, replica: &AssignedReplica) {
    rig.assign_spec(std::slice::from_ref(replica), |spec| {
        spec.job = Some(JobRun::default());
    });
}

/// r1 is a job and runs.
async fn running() -> Rig {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    assign(&mut rig, &portless(1));
    rig.until_healthy(&[1]).await;
    rig
}

async fn ends_with(rig: &mut Rig, code: i64, state: ReplicaState) -> Snapshot {
    let how = Inspection {
        exit_code: code,
        last_line: "bye".into(),
        ..Inspection::default()
    };
    rig.runtime.crash(1, &how);
    rig.runtime.announce();
    let is = |s: &Snapshot| s.replicas.iter().any(|r| r.state == state);
    rig.until("its end", is).await
}

/// Nothing is made or started for longer than any wait between two starts, and the container is
/// kept.
async fn nothing_more_is_started(rig: &Rig) {
    let made = rig.runtime.state().next;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(rig.runtime.state().next, made, "made again");
    assert_eq!(rig.runtime.running(), [0_u64; 0], "started again");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ends_with_0_has_completed_and_is_kept() {
    let mut rig = running().await;
    let seen = ends_with(&mut rig, 0, ReplicaState::Completed).await;
    assert!(seen.replicas[0].container.is_some(), "its log is gone");
    assert_eq!(seen.replicas[0].reason, None);
    nothing_more_is_started(&rig).await;
    // Also with the controller's word, and once somebody has removed what was left of it.
    assign(&mut rig, &ended(1));
    rig.runtime.remove_by_hand(1);
    nothing_more_is_started(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_ends_otherwise_has_failed_at_once() {
    let mut rig = running().await;
    let seen = ends_with(&mut rig, 3, ReplicaState::Failed).await;
    let why = FailReason::Exited {
        code: 3,
        oom: false,
        last_line: "bye".into(),
    };
    assert_eq!(seen.replicas[0].reason, Some(why));
    nothing_more_is_started(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_elsewhere_in_time_is_not_started_by_an_agent_that_knows_nothing() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    assign(&mut rig, &ended(1));
    nothing_more_is_started(&rig).await;
    assert_eq!(rig.runtime.state().next, 0);
}
