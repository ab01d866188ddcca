//! What is reported of the end of a replica that was told to stop.

use longshore_model::receipt::{Exit, Killed};

use super::tests::{Rig, portless, rig};
use super::*;
use crate::runtime::fake::FakeRuntime;
use crate::runtime::{ErrorKind, Inspection};
use longshore_model::ReplicaState;

fn ends_with(code: i64) -> Inspection {
    Inspection {
        exit_code: code,
        ..Inspection::default()
    }
}

/// r1 runs.
async fn running() -> Rig {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    rig.assign(&[portless(1)]);
    rig.until_healthy(&[1]).await;
    rig
}

fn stop(rig: &mut Rig) {
    let mut told = portless(1);
    told.stop = true;
    rig.assign(&[told]);
}

/// Tells r1 to stop and waits for what is said of its end.
async fn stopped(rig: &mut Rig) -> Option<Exit> {
    stop(rig);
    let gone = |s: &Snapshot| s.replicas.iter().any(|r| r.state == ReplicaState::Gone);
    let seen = rig.until("gone", gone).await;
    assert_eq!(seen.replicas[0].container, None);
    seen.replicas[0].exit
}

/// How r1 ends that takes so long after its signal; its grace is 2 s.
async fn ends_after(after_ms: u64, how: Inspection) -> Exit {
    let mut rig = running().await;
    rig.runtime.state().stops.push_back((after_ms, how));
    stopped(&mut rig).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stop_reports_the_code_and_the_time_since_its_signal() {
    let exit = ends_after(1_200, ends_with(0)).await;
    let expected = Exit {
        code: 0,
        after_ms: Some(1_200),
        killed: None,
    };
    assert_eq!(exit, expected);
    assert_eq!(ends_after(5, ends_with(143)).await.killed, None);
}

#[tokio::test(start_paused = true)]
async fn what_outlasts_its_grace_or_its_memory_was_killed() {
    let late = ends_after(2_010, ends_with(137)).await;
    assert_eq!(
        (late.code, late.killed, late.after_ms),
        (137, Some(Killed::Grace), Some(2_010))
    );
    // Somebody else's kill is no end of the grace.
    assert_eq!(ends_after(700, ends_with(137)).await.killed, None);
    let oom = |code| Inspection {
        oom: true,
        ..ends_with(code)
    };
    assert_eq!(ends_after(700, oom(137)).await.killed, Some(Killed::Memory));
    assert_eq!(ends_after(700, oom(0)).await.killed, None, "only a child");
}

#[tokio::test(start_paused = true)]
async fn what_had_ended_before_was_not_ended_by_the_stop() {
    let mut rig = running().await;
    rig.runtime.crash(1, &ends_with(3));
    rig.runtime.announce();
    rig.until("down", |s| s.replicas[0].state != ReplicaState::Healthy)
        .await;
    let exit = stopped(&mut rig).await.unwrap();
    assert_eq!((exit.code, exit.after_ms, exit.killed), (3, None, None));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_saw_is_not_made_up() {
    let mut rig = running().await;
    let refused = ErrorKind::Refused;
    rig.runtime.state().inspect_errors.push_back(refused);
    assert_eq!(stopped(&mut rig).await, None);
    // Somebody removes it while it is told to stop.
    let mut rig = running().await;
    rig.runtime.remove_by_hand(1);
    stop(&mut rig);
    let over = |s: &Snapshot| {
        let mut all = s.replicas.iter();
        s.generation == 2 && all.all(|r| r.state == ReplicaState::Gone)
    };
    let seen = rig.until("over", over).await;
    assert!(seen.replicas.iter().all(|r| r.exit.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_tried_again_counts_from_the_first_signal() {
    let mut rig = running().await;
    {
        let mut state = rig.runtime.state();
        state.stops.push_back((800, ends_with(0)));
        state.remove_errors.push_back(ErrorKind::Refused);
    }
    let exit = stopped(&mut rig).await.unwrap();
    assert_eq!((exit.code, exit.after_ms), (0, Some(800)));
}

#[tokio::test(start_paused = true)]
async fn its_end_is_said_until_the_assignment_forgets_it() {
    let mut rig = running().await;
    assert!(stopped(&mut rig).await.is_some());
    let mut told = portless(1);
    told.stop = true;
    rig.assign(&[told, portless(2)]);
    let both = |s: &Snapshot| s.generation == 3 && s.replicas.len() == 2;
    let seen = rig.until("both", both).await;
    assert!(seen.replicas[0].exit.is_some());
    rig.assign(&[portless(2)]);
    let one = |s: &Snapshot| s.generation == 4 && s.replicas.len() == 1;
    assert_eq!(rig.until("forgotten", one).await.replicas[0].id.0, 2);
    // A controller that was restored from before its end wants it still.
    rig.assign(&[portless(1), portless(2)]);
    rig.until_healthy(&[1, 2]).await;
}

#[tokio::test(start_paused = true)]
async fn one_that_is_wanted_again_after_its_end_begins_anew() {
    let mut rig = running().await;
    assert!(stopped(&mut rig).await.is_some());
    rig.assign(&[portless(1)]);
    let seen = rig.until_healthy(&[1]).await;
    assert_eq!(seen.replicas[0].exit, None);
}
