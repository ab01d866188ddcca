//! Warm standby: the whole reconciler against an engine in memory, and its decisions alone where
//! the order of answers matters.

use std::time::Duration;

use longshore_model::plan::AssignedReplica;
use longshore_model::spec::{ExecCheck, Probe};
use longshore_model::{ContainerSpec, ReplicaState};
use proptest::prelude::*;

use super::action::Action;
use super::tests::{Rig, exit, portless, reason, rig, state};
use super::*;
use crate::policy::Policy;
use crate::runtime::fake::FakeRuntime;
use crate::runtime::{Condition, ErrorKind, ExecHealth};
use crate::testing::{assignment, replica};

fn standby(id: u64) -> AssignedReplica {
    AssignedReplica {
        paused: true,
        ..portless(id)
    }
}

fn with_image() -> FakeRuntime {
    FakeRuntime::with_images(&["hello:1"])
}

async fn until_state(rig: &mut Rig, wanted: ReplicaState) -> Snapshot {
    let what = format!("{wanted:?}");
    rig.until(&what, |s| state(s, 1) == Some(wanted)).await
}

/// The decisions alone: steps come out, answers go in.
struct Desk {
    core: Core,
    now_ms: AgentMs,
}

impl Desk {
    fn new(replicas: &[AssignedReplica], change: impl Fn(&mut ContainerSpec)) -> Self {
        let place = Place {
            cluster: "test".into(),
            node: "a".parse().unwrap(),
            address: "127.0.0.1".parse().unwrap(),
            policy: Policy::default(),
        };
        let mut desk = Self {
            core: Core::new(place, BTreeMap::new()),
            now_ms: 0,
        };
        desk.assign(1, replicas, change);
        let began = desk.core.begin_listing();
        desk.core.listed(began, Ok(Vec::new()), 0);
        desk
    }

    fn assign(
        &mut self,
        generation: u64,
        replicas: &[AssignedReplica],
        change: impl Fn(&mut ContainerSpec),
    ) {
        let mut next = assignment(generation, replicas);
        next.templates
            .values_mut()
            .for_each(|spec| change(Arc::make_mut(spec)));
        self.core.assign(&next);
    }

    /// The one step that is due after `ms` more.
    fn step(&mut self, ms: AgentMs) -> Action {
        self.now_ms += ms;
        let mut due = self.core.plan(self.now_ms);
        assert_eq!(due.len(), 1, "{due:?}");
        due.remove(0)
    }

    fn done(&mut self, done: Done) -> Option<ReplicaState> {
        self.core.done(done, self.now_ms);
        state(&self.core.snapshot(), 1)
    }

    fn probed(&mut self, asked: &Action, result: Result<(), String>) -> Option<ReplicaState> {
        let Action::Probe {
            replica,
            container,
            proof,
            ..
        } = asked
        else {
            panic!("{asked:?} is no probe");
        };
        self.done(Done::Probed {
            replica: *replica,
            container: container.clone(),
            proof: *proof,
            result,
        })
    }
}

fn said_no() -> Result<(), RuntimeError> {
    Err(RuntimeError {
        kind: ErrorKind::Refused,
        attempted: "pausing the container".into(),
        detail: "no freezer here".into(),
    })
}

fn probed_spec(spec: &mut ContainerSpec) {
    spec.probe = Some(Probe {
        port: 8080,
        path: None,
        edge_path: None,
        interval_ms: 1_000,
        timeout_ms: 1_000,
        retries: 3,
        start_ms_max: 60_000,
    });
}

#[test]
fn only_a_fresh_proof_of_health_counts_after_a_pause() {
    use ReplicaState::{Healthy, Paused, Starting};
    let with_port = |paused| AssignedReplica {
        paused,
        ..replica(1)
    };
    let mut desk = Desk::new(&[with_port(true)], probed_spec);
    assert!(matches!(desk.step(0), Action::Launch { .. }));
    let (replica, container) = (ReplicaId(1), "c1".to_owned());
    desk.done(Done::Launched { replica, container });
    let first = desk.step(0);
    assert_eq!(desk.probed(&first, Ok(())), Some(Starting), "never healthy");
    assert!(matches!(desk.step(0), Action::Pause { .. }));
    let result = said_no();
    assert_eq!(desk.done(Done::Paused { replica, result }), Some(Starting));
    // It is asked on while it waits for another try, and one answer is very late.
    let late = desk.step(100);
    assert!(matches!(desk.step(900), Action::Pause { .. }));
    let result = Ok(());
    assert_eq!(desk.done(Done::Paused { replica, result }), Some(Paused));
    desk.now_ms += 60_000;
    assert!(
        desk.core.plan(desk.now_ms).is_empty(),
        "a paused one is asked nothing"
    );
    desk.assign(2, &[with_port(false)], probed_spec);
    assert!(matches!(desk.step(0), Action::Unpause { .. }));
    let result = Ok(());
    assert_eq!(
        desk.done(Done::Unpaused { replica, result }),
        Some(Starting)
    );
    assert_eq!(desk.probed(&late, Ok(())), Some(Starting), "from before");
    let asked = desk.step(0);
    assert_eq!(desk.probed(&asked, Err("closed".into())), Some(Starting));
    let asked = desk.step(50);
    assert_eq!(desk.probed(&asked, Ok(())), Some(Healthy));
    let view = &desk.core.snapshot().replicas[0];
    assert_eq!(
        view.healthy_ms,
        Some(desk.now_ms),
        "healthy since the pause ended"
    );
}

#[test]
fn one_that_never_answers_after_its_pause_fails_and_is_not_called_healthy() {
    let with_port = |paused| AssignedReplica {
        paused,
        ..replica(1)
    };
    let mut desk = Desk::new(&[with_port(true)], probed_spec);
    desk.step(0);
    let (replica, container) = (ReplicaId(1), "c1".to_owned());
    desk.done(Done::Launched { replica, container });
    let first = desk.step(0);
    desk.probed(&first, Ok(()));
    desk.step(0);
    let result = Ok(());
    desk.done(Done::Paused { replica, result });
    desk.assign(2, &[with_port(false)], probed_spec);
    desk.step(0);
    let result = Ok(());
    desk.done(Done::Unpaused { replica, result });
    for _ in 0..300 {
        desk.now_ms += 250;
        let due = desk.core.plan(desk.now_ms);
        let now = match due.first() {
            Some(asked) => desk.probed(asked, Err("refused".into())),
            None => state(&desk.core.snapshot(), 1),
        };
        assert_ne!(now, Some(ReplicaState::Healthy));
        if now == Some(ReplicaState::Failed) {
            assert!(desk.now_ms >= 60_000);
            return;
        }
    }
    panic!("never failed");
}

#[tokio::test(start_paused = true)]
async fn a_standby_is_paused_and_serves_again_without_a_start() {
    let mut rig = rig(with_image(), None);
    rig.assign(&[standby(1)]);
    let paused = until_state(&mut rig, ReplicaState::Paused).await;
    assert_eq!(rig.runtime.condition(1), Some(Condition::Paused));
    assert!(paused.replicas[0].healthy_ms.is_some(), "proven once");
    rig.assign(&[portless(1)]);
    let began = Instant::now();
    let healthy = rig.until_healthy(&[1]).await;
    assert!(began.elapsed() < Duration::from_millis(100));
    assert_eq!(rig.runtime.condition(1), Some(Condition::Running));
    assert_eq!(healthy.replicas[0].restarts, 0);
    assert!(healthy.replicas[0].healthy_ms > paused.replicas[0].healthy_ms);
    let starts: u32 = rig
        .runtime
        .state()
        .containers
        .values()
        .map(|c| c.starts)
        .sum();
    assert_eq!(starts, 1);
    // And back into the pool.
    rig.assign(&[standby(1)]);
    until_state(&mut rig, ReplicaState::Paused).await;
}

#[tokio::test(start_paused = true)]
async fn what_serves_starts_before_what_stands_by() {
    let mut rig = rig(with_image(), None);
    rig.assign(&[standby(1), standby(2), portless(3), portless(4)]);
    let first = rig
        .until("two healthy", |s| {
            [3, 4].map(|id| state(s, id)) == [Some(ReplicaState::Healthy); 2]
        })
        .await;
    assert_eq!(state(&first, 1), Some(ReplicaState::Assigned));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_refused_is_tried_again_and_then_fails_with_the_engines_words() {
    let mut rig = rig(with_image(), None);
    rig.runtime.state().pause_errors.extend([
        ErrorKind::Refused,
        ErrorKind::Stuck,
        ErrorKind::Refused,
    ]);
    rig.assign(&[standby(1)]);
    let waits = rig.until("a reason", |s| !reason(s, 1).is_empty()).await;
    assert_eq!(state(&waits, 1), Some(ReplicaState::Starting));
    until_state(&mut rig, ReplicaState::Paused).await;
    rig.runtime
        .state()
        .unpause_errors
        .extend(vec![ErrorKind::Refused; 3]);
    rig.assign(&[portless(1)]);
    let failed = until_state(&mut rig, ReplicaState::Failed).await;
    assert_eq!(reason(&failed, 1), "doing as asked: the test said no");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_over_an_unpause_is_asked_again_when_it_is_back() {
    let mut rig = rig(with_image(), None);
    rig.assign(&[standby(1)]);
    until_state(&mut rig, ReplicaState::Paused).await;
    rig.runtime.state().away = Some(ErrorKind::Stuck);
    rig.assign(&[portless(1)]);
    let away = rig.until("stuck", |s| s.engine == EngineState::Stuck).await;
    assert_eq!(state(&away, 1), Some(ReplicaState::Paused));
    rig.runtime.state().away = None;
    rig.until_healthy(&[1]).await;
}

#[tokio::test(start_paused = true)]
async fn a_paused_one_goes_on_to_see_its_signal_and_stops_even_if_it_cannot() {
    for (errors, frozen) in [(0, 0), (1, 1)] {
        let mut rig = rig(with_image(), None);
        rig.assign(&[standby(1)]);
        until_state(&mut rig, ReplicaState::Paused).await;
        rig.runtime
            .state()
            .unpause_errors
            .extend(vec![ErrorKind::Refused; errors]);
        rig.assign(&[AssignedReplica {
            stop: true,
            ..standby(1)
        }]);
        until_state(&mut rig, ReplicaState::Gone).await;
        let state = rig.runtime.state();
        assert!(state.containers.is_empty());
        assert_eq!(state.stop_grace_ms, [Some(2_000)]);
        assert_eq!(state.stopped_frozen, frozen);
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_one_is_adopted_as_it_is_or_goes_on_if_it_shall_serve() {
    let runtime = with_image();
    let container = runtime.put(1, Condition::Paused);
    let mut stays = rig(runtime, Some(assignment(5, &[standby(1)])));
    let adopted = until_state(&mut stays, ReplicaState::Paused).await;
    assert_eq!(adopted.replicas[0].container.as_deref(), Some(&*container));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(stays.runtime.state().containers[&container].starts, 0);
    assert_eq!(stays.runtime.condition(1), Some(Condition::Paused));

    let runtime = with_image();
    let container = runtime.put(1, Condition::Paused);
    let mut serves = rig(runtime, Some(assignment(5, &[portless(1)])));
    serves.until_healthy(&[1]).await;
    assert_eq!(serves.runtime.state().containers[&container].starts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_engine_leaves_a_standby_a_standby() {
    let mut rig = rig(with_image(), None);
    rig.assign(&[standby(1)]);
    until_state(&mut rig, ReplicaState::Paused).await;
    // It forgot the pause.
    rig.runtime.set_condition(1, Condition::Running);
    until_state(&mut rig, ReplicaState::Starting).await;
    until_state(&mut rig, ReplicaState::Paused).await;
    // It ended the container.
    rig.runtime.crash(1, &exit(137, 60_000));
    rig.runtime.announce();
    let down = rig.until("down", |s| !reason(s, 1).is_empty()).await;
    assert_eq!(state(&down, 1), Some(ReplicaState::Starting));
    assert!(reason(&down, 1).contains("code 137"), "{down:?}");
    let back = until_state(&mut rig, ReplicaState::Paused).await;
    assert_eq!(back.replicas[0].restarts, 1);
    assert_eq!(rig.runtime.condition(1), Some(Condition::Paused));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_paused_by_hand_is_out_and_goes_on() {
    let mut rig = rig(with_image(), None);
    rig.assign(&[portless(1)]);
    rig.until_healthy(&[1]).await;
    rig.runtime.set_condition(1, Condition::Paused);
    let out = until_state(&mut rig, ReplicaState::Unhealthy).await;
    assert!(reason(&out, 1).contains("paused"), "{out:?}");
    let back = rig.until_healthy(&[1]).await;
    assert_eq!(back.replicas[0].restarts, 0);
}

#[tokio::test(start_paused = true)]
async fn the_engines_verdict_from_before_a_pause_is_not_believed() {
    let mut rig = rig(with_image(), None);
    let command = vec!["/bin/healthy".to_owned()];
    let check = ExecCheck {
        command: command.clone(),
        interval_ms: 30_000,
        timeout_ms: 1_000,
        retries: 3,
        start_period_ms: 0,
        start_interval_ms: None,
    };
    let with_check = |spec: &mut ContainerSpec| spec.healthcheck = Some(check.clone());
    rig.assign_spec(&[standby(1)], with_check);
    until_state(&mut rig, ReplicaState::Starting).await;
    for container in rig.runtime.state().containers.values_mut() {
        container.health = Some(ExecHealth::Healthy);
    }
    rig.runtime.announce();
    until_state(&mut rig, ReplicaState::Paused).await;
    assert!(rig.runtime.state().execs.is_empty());
    rig.runtime.state().exec_codes.extend([1, 1, 0]);
    rig.assign_spec(&[portless(1)], with_check);
    until_state(&mut rig, ReplicaState::Starting).await;
    rig.until_healthy(&[1]).await;
    assert_eq!(rig.runtime.state().execs, vec![command; 3]);
}

/// A file may change how often the image's own check runs without saying what it is.
#[tokio::test(start_paused = true)]
async fn the_images_own_check_counts_if_there_is_one() {
    let check = ExecCheck {
        command: Vec::new(),
        interval_ms: 5_000,
        timeout_ms: 0,
        retries: 0,
        start_period_ms: 0,
        start_interval_ms: None,
    };
    let with_check = |spec: &mut ContainerSpec| spec.healthcheck = Some(check.clone());
    let mut rig = rig(with_image(), None);
    rig.assign_spec(&[portless(1)], with_check);
    rig.until_healthy(&[1]).await;
    for container in rig.runtime.state().containers.values_mut() {
        container.health = Some(ExecHealth::Unhealthy);
    }
    rig.runtime.announce();
    until_state(&mut rig, ReplicaState::Unhealthy).await;
    assert!(rig.runtime.state().execs.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn it_ends_as_the_last_assignment_says(
        orders in prop::collection::vec((prop::collection::vec(0_u8..4, 3), 0_u64..400), 1..8),
        refusals in prop::collection::vec(any::<bool>(), 0..2),
        found in prop::collection::vec(0_u8..4, 3),
    ) {
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        clock.block_on(async {
            let runtime = with_image();
            for (id, condition) in (1..).zip(&found) {
                match condition {
                    1 => runtime.put(id, Condition::Running),
                    2 => runtime.put(id, Condition::Paused),
                    3 => runtime.put(id, Condition::Created),
                    _ => continue,
                };
            }
            let errors = refusals.iter().map(|_| ErrorKind::Refused);
            runtime.state().pause_errors.extend(errors.clone());
            runtime.state().unpause_errors.extend(errors);
            let mut rig = rig(runtime, None);
            // Stopped once is stopped for ever; nobody runs it again under the same id.
            let mut stopped = [false; 3];
            let mut expected = Vec::new();
            for (modes, wait_ms) in &orders {
                expected = Vec::new();
                let mut replicas = Vec::new();
                for (index, mode) in modes.iter().enumerate() {
                    let id = index as u64 + 1;
                    stopped[index] |= *mode == 3 || *mode == 0;
                    let stop = stopped[index];
                    let paused = *mode == 2;
                    replicas.push(AssignedReplica { stop, paused, ..portless(id) });
                    if !stop {
                        let state = if paused { ReplicaState::Paused } else { ReplicaState::Healthy };
                        expected.push((id, state));
                    }
                }
                rig.assign(&replicas);
                tokio::time::sleep(Duration::from_millis(*wait_ms)).await;
            }
            let ends = |s: &Snapshot| {
                let left = s.replicas.iter().filter(|r| r.state != ReplicaState::Gone);
                left.map(|r| (r.id.0, r.state)).collect::<Vec<_>>()
            };
            rig.until("as assigned", |s| ends(s) == expected).await;
            for (id, state) in expected {
                let wanted = match state {
                    ReplicaState::Paused => Condition::Paused,
                    _ => Condition::Running,
                };
                prop_assert_eq!(rig.runtime.condition(id), Some(wanted));
            }
            Ok(())
        })?;
    }
}
