//! The whole reconciler against an engine in memory, on a paused clock.

use std::collections::BTreeSet;
use std::time::Duration;

use longshore_model::names::Named;
use longshore_model::plan::AssignedReplica;
use longshore_model::{ContainerSpec, ReplicaState};
use proptest::prelude::*;

use super::*;
use crate::policy::Policy;
use crate::runtime::fake::FakeRuntime;
use crate::runtime::{Condition, ErrorKind, Inspection};
use crate::testing::{assignment, replica};

pub(super) struct Rig {
    pub(super) runtime: Arc<FakeRuntime>,
    assignments: watch::Sender<Option<Arc<Assignment>>>,
    snapshots: watch::Receiver<Snapshot>,
    generation: u64,
    pub(super) doors: Arc<Doors>,
    names: watch::Sender<Arc<Names>>,
    pub(super) contents: watch::Sender<Arc<ContentMap>>,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Replicas without ports: healthy as soon as they run.
pub(super) fn portless(id: u64) -> AssignedReplica {
    AssignedReplica {
        ports: Vec::new(),
        ..replica(id)
    }
}

pub(super) fn rig(runtime: FakeRuntime, first: Option<Assignment>) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = Ledger::open(&dir.path().join("ledger.json")).unwrap();
    let runtime = Arc::new(runtime);
    let generation = first.as_ref().map_or(0, |first| first.generation);
    let (assignments, receiver) = watch::channel(first.map(Arc::new));
    let (snapshots_out, snapshots) = watch::channel(Snapshot::default());
    let place = Place {
        cluster: "test".into(),
        node: "a".parse().unwrap(),
        address: "127.0.0.1".parse().unwrap(),
        policy: Policy::default(),
    };
    let stop = CancellationToken::new();
    let doors = Arc::new(Doors::default());
    let (names, names_out) = watch::channel(Arc::default());
    let (contents, held) = watch::channel(Arc::default());
    let reconciler = Reconciler {
        runtime: Arc::clone(&runtime),
        core: Core::new(place, BTreeMap::new()),
        clock: AgentClock::start(),
        ledger: Arc::new(ledger),
        assignments: receiver,
        snapshots: snapshots_out,
        doors: Arc::clone(&doors),
        names: names_out,
        contents: held,
    };
    tokio::spawn(reconciler.run(stop.clone()));
    Rig {
        runtime,
        assignments,
        snapshots,
        generation,
        doors,
        names,
        contents,
        stop,
        _dir: dir,
    }
}

impl Rig {
    /// What is known of the replicas' service by name.
    pub(super) fn name(&self, named: Named) {
        let services = [(replica(1).service, named)].into();
        self.names.send_replace(Arc::new(Names {
            services,
            ..Names::default()
        }));
    }

    pub(super) fn assign(&mut self, replicas: &[AssignedReplica]) {
        self.generation += 1;
        self.assignments
            .send_replace(Some(Arc::new(assignment(self.generation, replicas))));
    }

    pub(super) fn assign_spec(
        &mut self,
        replicas: &[AssignedReplica],
        change: impl Fn(&mut ContainerSpec),
    ) {
        self.generation += 1;
        let mut next = assignment(self.generation, replicas);
        for spec in next.templates.values_mut() {
            change(Arc::make_mut(spec));
        }
        self.assignments.send_replace(Some(Arc::new(next)));
    }

    /// Waits on the paused clock until the report says so.
    pub(super) async fn until(&mut self, what: &str, says: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let wait = self.snapshots.wait_for(|snapshot| says(snapshot));
        let seen = timeout_120(wait).await.map(|seen| seen.clone());
        seen.unwrap_or_else(|| panic!("never {what}; last: {:#?}", *self.snapshots.borrow()))
    }

    pub(super) async fn until_healthy(&mut self, ids: &[u64]) -> Snapshot {
        self.until("healthy", |snapshot| {
            let healthy = snapshot
                .replicas
                .iter()
                .filter(|r| r.state == ReplicaState::Healthy);
            healthy.map(|r| r.id.0).collect::<Vec<_>>() == ids
        })
        .await
    }
}

async fn timeout_120<T, E>(work: impl Future<Output = Result<T, E>>) -> Option<T> {
    tokio::time::timeout(Duration::from_secs(120), work)
        .await
        .ok()?
        .ok()
}

pub(super) fn state(snapshot: &Snapshot, id: u64) -> Option<ReplicaState> {
    snapshot
        .replicas
        .iter()
        .find(|r| r.id.0 == id)
        .map(|r| r.state)
}

pub(super) fn reason(snapshot: &Snapshot, id: u64) -> String {
    let view = snapshot.replicas.iter().find(|r| r.id.0 == id);
    view.and_then(|r| r.reason.as_ref())
        .map_or_else(String::new, ToString::to_string)
}

pub(super) fn exit(code: i64, ran_ms: u64) -> Inspection {
    Inspection {
        exit_code: code,
        ran_ms,
        last_line: "boom".into(),
        ..Inspection::default()
    }
}

#[tokio::test(start_paused = true)]
async fn ten_replicas_start_two_at_a_time_in_a_second() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    let replicas: Vec<_> = (1..=10).map(portless).collect();
    let began = Instant::now();
    rig.assign(&replicas);
    rig.until_healthy(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).await;
    assert_eq!(rig.runtime.state().starting_peak, 2);
    let took = began.elapsed();
    assert!(
        took <= Duration::from_millis(1_100),
        "five rounds of 200 ms took {took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_adopted_and_not_restarted() {
    let runtime = FakeRuntime::with_images(&["hello:1"]);
    let id = runtime.put(1, Condition::Running);
    let mut rig = rig(runtime, Some(assignment(5, &[portless(1)])));
    let snapshot = rig.until_healthy(&[1]).await;
    assert_eq!(snapshot.replicas[0].container.as_deref(), Some(id.as_str()));
    assert_eq!((snapshot.generation, snapshot.replicas[0].restarts), (5, 0));
    assert_eq!(rig.runtime.state().containers[&id].starts, 0);
    let known = rig
        .until("its start known", |s| s.replicas[0].started_ms.is_some())
        .await;
    assert!(known.replicas[0].started_ms.unwrap() < -3_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_crash_is_restarted_in_place_after_a_second() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    rig.assign(&[portless(1)]);
    let before = rig.until_healthy(&[1]).await;
    rig.runtime.crash(1, &exit(3, 60_000));
    rig.runtime.announce();
    let down = rig
        .until("down", |s| state(s, 1) == Some(ReplicaState::Unhealthy))
        .await;
    assert_eq!(reason(&down, 1), "exited with code 3; last line: boom");
    let crashed = Instant::now();
    let after = rig.until_healthy(&[1]).await;
    assert_eq!(after.replicas[0].container, before.replicas[0].container);
    assert_eq!(after.replicas[0].restarts, 1);
    let waited = crashed.elapsed().as_millis();
    assert!((1_000..1_500).contains(&waited), "{waited} ms");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_the_engine_announces_too_early_is_found_within_a_second() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    rig.assign(&[portless(1)]);
    rig.until_healthy(&[1]).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let announced = Instant::now();
    rig.runtime.announce();
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.runtime.crash(1, &exit(137, 60_000));
    rig.until("down", |s| state(s, 1) == Some(ReplicaState::Unhealthy))
        .await;
    assert!(announced.elapsed() < Duration::from_millis(400));
}

#[tokio::test(start_paused = true)]
async fn three_fast_failures_are_final_and_name_the_reason() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    rig.assign(&[portless(1)]);
    for restarts in 0..3 {
        rig.until("running", |s| {
            let view = s.replicas.first();
            view.is_some_and(|v| v.state == ReplicaState::Healthy && v.restarts == restarts)
        })
        .await;
        let oom = Inspection {
            oom: true,
            ..exit(137, 500)
        };
        rig.runtime.crash(1, &oom);
        rig.runtime.announce();
    }
    let failed = rig
        .until("failed", |s| state(s, 1) == Some(ReplicaState::Failed))
        .await;
    assert_eq!(reason(&failed, 1), "out of memory: killed at its limit");
    tokio::time::advance(Duration::from_secs(300)).await;
    assert_eq!(
        rig.runtime.running(),
        Vec::<u64>::new(),
        "failed is not tried again"
    );
}

#[tokio::test(start_paused = true)]
async fn stop_uses_the_grace_and_the_replica_is_gone() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    rig.assign(&[portless(1), portless(2)]);
    rig.until_healthy(&[1, 2]).await;
    rig.assign(&[
        AssignedReplica {
            stop: true,
            ..portless(1)
        },
        portless(2),
    ]);
    let gone = rig
        .until("gone", |s| state(s, 1) == Some(ReplicaState::Gone))
        .await;
    assert_eq!(state(&gone, 2), Some(ReplicaState::Healthy));
    assert_eq!(rig.runtime.state().stop_grace_ms, [Some(2_000)]);
    rig.assign(&[]);
    rig.until("all gone", |s| s.replicas.is_empty()).await;
    assert!(rig.runtime.state().containers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn removed_by_hand_is_made_again_and_after_three_times_given_up() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    rig.assign(&[portless(1)]);
    for times in 0..3 {
        rig.until("running", |s| {
            let view = s.replicas.first();
            view.is_some_and(|v| v.state == ReplicaState::Healthy && v.restarts == times)
        })
        .await;
        rig.runtime.remove_by_hand(1);
    }
    let failed = rig
        .until("failed", |s| state(s, 1) == Some(ReplicaState::Failed))
        .await;
    assert_eq!(reason(&failed, 1), "its container was removed by hand");
}

#[tokio::test(start_paused = true)]
async fn orphans_are_swept_after_their_grace_but_never_before_somebody_said_what_runs() {
    let runtime = FakeRuntime::with_images(&["hello:1"]);
    runtime.put(9, Condition::Running);
    let mut rig = rig(runtime, None);
    rig.until("listed", |s| s.settled).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        rig.runtime.running(),
        [9],
        "nobody said what shall run here"
    );
    rig.assign(&[portless(1)]);
    rig.until_healthy(&[1]).await;
    let mut waited = 0;
    while rig.runtime.running() != [1] {
        waited += 1;
        assert!(waited < 60, "the orphan is still there");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_orphan_that_appears_later_gets_ten_seconds() {
    let mut rig = rig(
        FakeRuntime::with_images(&["hello:1"]),
        Some(assignment(1, &[portless(1)])),
    );
    rig.until_healthy(&[1]).await;
    rig.runtime.put(9, Condition::Running);
    rig.runtime.changed.notify_one();
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(rig.runtime.running(), [1, 9]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.runtime.running(), [1]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_is_reported_and_nothing_is_touched() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    rig.assign(&[portless(1)]);
    rig.until_healthy(&[1]).await;
    for (kind, state_word) in [
        (ErrorKind::Stuck, EngineState::Stuck),
        (ErrorKind::Down, EngineState::Down),
    ] {
        rig.runtime.state().away = Some(kind);
        let away = rig.until("away", |s| s.engine == state_word).await;
        assert_eq!(
            state(&away, 1),
            Some(ReplicaState::Healthy),
            "unknown is not dead"
        );
        rig.runtime.state().away = None;
        let back = rig.until("back", |s| s.engine == EngineState::Ok).await;
        assert_eq!(back.replicas[0].restarts, 0);
    }
}

#[test]
fn what_ended_while_the_engine_was_away_is_not_called_healthy_once_it_is_back() {
    let place = Place {
        cluster: "test".into(),
        node: "a".parse().unwrap(),
        address: "127.0.0.1".parse().unwrap(),
        policy: Policy::default(),
    };
    let mut core = Core::new(place, BTreeMap::new());
    core.assign(&assignment(1, &[portless(1)]));
    let list = |core: &mut Core, condition: Option<Condition>, now_ms| {
        let container = |condition| Container {
            id: "c1".into(),
            replica: ReplicaId(1),
            condition,
            health: None,
            address: None,
            exposed: BTreeSet::new(),
        };
        let away = RuntimeError {
            kind: ErrorKind::Down,
            attempted: "list".into(),
            detail: String::new(),
        };
        let began = core.begin_listing();
        core.listed(
            began,
            condition.map(|c| vec![container(c)]).ok_or(away),
            now_ms,
        );
        core.plan(now_ms);
        core.snapshot()
    };
    let inspected = |running| Done::Inspected {
        replica: ReplicaId(1),
        result: Ok(Inspection {
            running,
            ..Inspection::default()
        }),
    };
    list(&mut core, Some(Condition::Running), 0);
    core.done(inspected(true), 1);
    assert_eq!(state(&core.snapshot(), 1), Some(ReplicaState::Healthy));
    let away = list(&mut core, None, 1_000);
    assert_eq!(away.engine, EngineState::Down);
    let unsure = list(&mut core, Some(Condition::Exited), 2_000);
    assert_eq!(
        unsure.engine,
        EngineState::Down,
        "how it ended is being asked"
    );
    core.done(inspected(false), 2_001);
    let known = core.snapshot();
    assert_eq!(known.engine, EngineState::Ok);
    assert_eq!(state(&known, 1), Some(ReplicaState::Unhealthy));
}

#[tokio::test(start_paused = true)]
async fn an_image_is_pulled_once_and_a_missing_one_is_named() {
    let mut rig = rig(FakeRuntime::default(), None);
    rig.assign(&[portless(1), portless(2), portless(3)]);
    let snapshot = rig.until_healthy(&[1, 2, 3]).await;
    assert_eq!(
        (rig.runtime.state().pulls, snapshot.images),
        (1, vec!["hello:1".to_owned()])
    );
    rig.assign_spec(&[portless(4)], |spec| spec.image = "nowhere:9".into());
    let failed = rig
        .until("failed", |s| state(s, 4) == Some(ReplicaState::Failed))
        .await;
    assert!(reason(&failed, 4).contains("image nowhere:9 is not on the node"));
}

#[tokio::test(start_paused = true)]
async fn a_taken_port_and_a_refused_option_fail_at_once_beside_good_ones() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    rig.runtime
        .state()
        .start_errors
        .push_back(ErrorKind::PortTaken(30_001));
    rig.assign(&[portless(1)]);
    let failed = rig
        .until("failed", |s| state(s, 1) == Some(ReplicaState::Failed))
        .await;
    assert_eq!(
        reason(&failed, 1),
        "host port 30001 is taken by another program"
    );
    rig.assign_spec(&[portless(2)], |spec| spec.privileges.privileged = true);
    let failed = rig
        .until("refused", |s| state(s, 2) == Some(ReplicaState::Failed))
        .await;
    assert!(
        reason(&failed, 2).contains("privileged: true"),
        "{}",
        reason(&failed, 2)
    );
    rig.until("first one gone", |s| state(s, 1).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_refuses_three_times_is_believed() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    rig.runtime
        .state()
        .create_errors
        .extend([ErrorKind::Refused, ErrorKind::Refused]);
    rig.assign(&[portless(1)]);
    rig.until_healthy(&[1]).await;
    rig.runtime
        .state()
        .create_errors
        .extend(vec![ErrorKind::Refused; 3]);
    rig.assign(&[portless(1), portless(2)]);
    let failed = rig
        .until("failed", |s| state(s, 2) == Some(ReplicaState::Failed))
        .await;
    assert_eq!(reason(&failed, 2), "doing as asked: the test said no");
}

/// What the engine may hold at the start, in any mix.
fn any_condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::Created),
        Just(Condition::Running),
        Just(Condition::Exited)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_converges_from_any_start(
        present in prop::collection::btree_map(1_u64..12, any_condition(), 0..8),
        wanted in prop::collection::btree_set(1_u64..12, 0..8),
        refusals in 0_usize..3,
    ) {
        let clock = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        clock.block_on(async {
            let runtime = FakeRuntime::with_images(&["hello:1"]);
            let mut ran = Vec::new();
            for (id, condition) in &present {
                let container = runtime.put(*id, *condition);
                if *condition == Condition::Running && wanted.contains(id) {
                    ran.push(container);
                }
            }
            runtime.state().start_errors.extend(vec![ErrorKind::Refused; refusals]);
            let replicas: Vec<_> = wanted.iter().map(|id| portless(*id)).collect();
            let mut rig = rig(runtime, Some(assignment(1, &replicas)));
            let ids: Vec<u64> = wanted.iter().copied().collect();
            rig.until_healthy(&ids).await;
            for _ in 0..60 {
                if rig.runtime.running() == ids && rig.runtime.state().containers.len() == ids.len()
                {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            prop_assert_eq!(rig.runtime.running(), ids);
            prop_assert_eq!(rig.runtime.state().containers.len(), wanted.len());
            for container in ran {
                let state = rig.runtime.state();
                prop_assert_eq!(state.containers[&container].starts, 0, "it ran already");
            }
            Ok(())
        })?;
    }
}
