//! The steps that follow from the state, within the limits of this host.

use std::sync::Arc;

use longshore_model::observe::EngineState;
use longshore_model::spec::{ContentMap, FileContents, FileSpec, PullPolicy};
use longshore_model::{ContainerSpec, Names, ReplicaId, ReplicaState};

use super::super::AgentMs;
use super::super::action::Action;
use super::super::tracked::{Op, Question, Tracked, Wanted, Writer};
use super::{Core, Place};
use crate::runtime::{Condition, Launch};

/// Two give the engine's full rate at a sixth of the latency of eight.
const STARTS_MAX: usize = 2;
const STOPS_MAX: usize = 4;
/// Pauses and their ends in flight: each takes the engine some ten milliseconds.
const FREEZES_MAX: usize = 4;
const PULLS_MAX: usize = 2;
/// A container that no assignment ever named is left alone for so long.
const ORPHAN_GRACE_MS: i64 = 10_000;

/// The files that its container does not have yet, or the first one whose contents are not here.
/// One that has run has them all.
fn missing_files<'s>(
    tracked: &Tracked,
    spec: &'s ContainerSpec,
    contents: &ContentMap,
) -> Result<Vec<(FileSpec, FileContents)>, &'s FileSpec> {
    if tracked.container.is_some() && tracked.condition != Condition::Created {
        return Ok(Vec::new());
    }
    let with = |file: &'s FileSpec| {
        let contents = contents.get(&file.digest).ok_or(file)?;
        Ok((file.clone(), contents.clone()))
    };
    spec.files.iter().map(with).collect()
}

fn launch(
    (place, names): (&Place, &Names),
    wanted: Wanted,
    files: Vec<(FileSpec, FileContents)>,
) -> Box<Launch> {
    let named = names.services.get(&wanted.assigned.service);
    Box::new(Launch {
        cluster: Arc::clone(&place.cluster),
        hosts: named.map(|named| named.hosts.clone()).unwrap_or_default(),
        replica: wanted.assigned,
        spec: wanted.spec,
        files,
        ipv6: place.address.is_ipv6(),
    })
}

impl Core {
    /// The steps to take now. They are marked as in flight: each must be answered by
    /// [`Self::done`].
    pub fn plan(&mut self, now_ms: AgentMs) -> Vec<Action> {
        self.settle(now_ms);
        self.shut_doors(now_ms);
        let mut actions = Vec::new();
        if self.engine == EngineState::Ok && self.first_listed_ms.is_some() {
            self.plan_freezes(now_ms, &mut actions);
            self.plan_stops(now_ms, &mut actions);
            let writers = self.last_writers();
            // Those that shall serve come first.
            self.plan_starts(now_ms, (false, &writers), &mut actions);
            self.plan_starts(now_ms, (true, &writers), &mut actions);
        }
        self.plan_probes(now_ms, &mut actions);
        actions
    }

    /// From now on counts the time that connections by name get to end.
    fn shut_doors(&mut self, now_ms: AgentMs) {
        for tracked in self.replicas.values_mut() {
            match tracked.runs() {
                Some(_) => tracked.shut_ms = None,
                None => drop(tracked.shut_ms.get_or_insert(now_ms)),
            }
        }
    }

    fn in_flight(&self, op: Op) -> usize {
        self.replicas
            .values()
            .filter(|tracked| tracked.op == Some(op))
            .count()
    }

    fn stop_due_ms(&self, tracked: &Tracked) -> Option<AgentMs> {
        if tracked.runs().is_some() || tracked.op.is_some() || tracked.container.is_none() {
            return None;
        }
        if tracked.unclaimed {
            return None;
        }
        #[cfg(feature = "mutants")]
        if longshore_model::mutant::is(longshore_model::Mutant::WipesUnknown) {
            return Some(tracked.retry_at_ms_of_stop());
        }
        let orphaned = tracked
            .unknown_since_ms
            .map(|since| since + ORPHAN_GRACE_MS);
        // Nobody ever said what shall run here: nothing may be swept.
        (self.told || orphaned.is_none()).then(|| {
            let drained = self.drained_ms(tracked).unwrap_or(AgentMs::MIN);
            orphaned
                .unwrap_or(AgentMs::MIN)
                .max(tracked.retry_at_ms_of_stop())
                .max(drained)
        })
    }

    /// Not before this time is it told to stop as long as it has connections by name.
    fn drained_ms(&self, tracked: &Tracked) -> Option<AgentMs> {
        let wanted = tracked.wanted.as_ref()?;
        let named = self.names.services.get(&wanted.assigned.service)?;
        let since_ms = tracked.shut_ms.unwrap_or(AgentMs::MAX);
        let drain_ms = i64::try_from(named.drain_ms).unwrap_or(AgentMs::MAX);
        (tracked.connections > 0).then(|| since_ms.saturating_add(drain_ms))
    }

    fn plan_stops(&mut self, now_ms: AgentMs, actions: &mut Vec<Action>) {
        let mut free = STOPS_MAX.saturating_sub(self.in_flight(Op::Stop));
        let due: Vec<ReplicaId> = self
            .replicas
            .iter()
            .filter(|(_, tracked)| self.stop_due_ms(tracked).is_some_and(|due| due <= now_ms))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(tracked) = self.replicas.get_mut(&id) else {
                continue;
            };
            let Some(container) = tracked.container.clone() else {
                continue;
            };
            if free == 0 {
                break;
            }
            free -= 1;
            tracked.op = Some(Op::Stop);
            tracked.told_ms.get_or_insert(now_ms);
            let frozen = tracked.condition == Condition::Paused;
            let grace_ms = tracked
                .wanted
                .as_ref()
                .map(|wanted| wanted.spec.stop_grace_ms);
            actions.push(Action::Stop {
                replica: id,
                container,
                grace_ms,
                frozen,
            });
        }
    }

    /// Those that shall serve go on first.
    fn plan_freezes(&mut self, now_ms: AgentMs, actions: &mut Vec<Action>) {
        let in_flight = self.in_flight(Op::Pause) + self.in_flight(Op::Unpause);
        let mut free = FREEZES_MAX.saturating_sub(in_flight);
        for op in [Op::Unpause, Op::Pause] {
            for (id, tracked) in &mut self.replicas {
                let due = tracked.freeze_due() == Some(op) && tracked.retry_at_ms <= now_ms;
                let Some(container) = tracked.container.clone().filter(|_| due && free > 0) else {
                    continue;
                };
                free -= 1;
                tracked.op = Some(op);
                let replica = *id;
                actions.push(if op == Op::Pause {
                    Action::Pause { replica, container }
                } else {
                    Action::Unpause { replica, container }
                });
            }
        }
    }

    /// Containers that run although nobody wants them to, and the volumes that they may write to; of
    /// what no assignment names nobody knows which. The plan starts nobody beside them, but one that
    /// knows nothing of them might: of a node that joined again, or of a restored controller.
    fn last_writers(&self) -> Vec<Writer> {
        let lasting = self.replicas.iter().filter(|(_, tracked)| {
            let is_up = matches!(tracked.condition, Condition::Running | Condition::Paused);
            tracked.container.is_some() && is_up && tracked.runs().is_none()
        });
        let written = |tracked: &Tracked| {
            let spec = &tracked.wanted.as_ref()?.spec;
            Some(spec.written_volumes().map(str::to_owned).collect())
        };
        let writers = lasting.map(|(id, tracked)| (*id, written(tracked)));
        writers.collect()
    }

    /// Warm standbys, or those that shall serve.
    fn plan_starts(
        &mut self,
        now_ms: AgentMs,
        (warm, writers): (bool, &[Writer]),
        actions: &mut Vec<Action>,
    ) {
        let mut free = STARTS_MAX.saturating_sub(self.in_flight(Op::Launch));
        for (id, tracked) in &mut self.replicas {
            let Some(wanted) = tracked.runs().cloned() else {
                continue;
            };
            if wanted.assigned.paused != warm {
                continue;
            }
            let waits = tracked.op.is_some() || tracked.retry_at_ms > now_ms;
            if waits || tracked.is_over() {
                continue;
            }
            if let Some(container) = &tracked.container {
                let is_up = matches!(tracked.condition, Condition::Running | Condition::Paused);
                let unknown_start = is_up && tracked.started_ms.is_none();
                let unknown_end = tracked.condition == Condition::Exited && !tracked.exit_known;
                if unknown_start || unknown_end {
                    let container = container.clone();
                    tracked.op = Some(Op::Inspect);
                    actions.push(Action::Inspect {
                        replica: *id,
                        container,
                    });
                    continue;
                }
                if is_up {
                    continue;
                }
            }
            if tracked.has_ended() || tracked.waits_for_a_writer(&wanted.spec, writers) {
                continue;
            }
            if tracked.container.is_none()
                && let Err(reason) = self.place.policy.check(&wanted.spec)
            {
                tracked.fail(reason);
                continue;
            }
            let image = wanted.spec.image_ref();
            let always = wanted.spec.pull_policy == PullPolicy::Always
                && tracked.container.is_none()
                && !self.images.contains(&image);
            if tracked.needs_image || always {
                tracked.needs_image = true;
                tracked.become_state(ReplicaState::Pulling, None);
                if self.pulls.len() < PULLS_MAX && self.pulls.insert(image.clone()) {
                    actions.push(Action::Pull { image });
                }
                continue;
            }
            let files = match missing_files(tracked, &wanted.spec, &self.contents) {
                Ok(files) => files,
                Err(file) => {
                    tracked.lacks(file);
                    continue;
                }
            };
            if free > 0 {
                free -= 1;
                tracked.op = Some(Op::Launch);
                let launch = launch((&self.place, &self.names), wanted, files);
                let existing = tracked.container.clone();
                actions.push(Action::Launch { launch, existing });
            }
        }
    }

    fn plan_probes(&mut self, now_ms: AgentMs, actions: &mut Vec<Action>) {
        let address = self.place.address;
        for (id, tracked) in &mut self.replicas {
            let due = tracked.probe_due_ms(address);
            let Some(container) = tracked.container.clone() else {
                continue;
            };
            if due.is_none_or(|due| due > now_ms) {
                continue;
            }
            let Some(question) = tracked.question(address) else {
                continue;
            };
            tracked.probing.in_flight = true;
            let (replica, proof) = (*id, tracked.proof);
            actions.push(match question {
                Question::Ask(target) => Action::Probe {
                    replica,
                    container,
                    proof,
                    target,
                },
                Question::Run(check) => Action::Recheck {
                    replica,
                    container,
                    proof,
                    check,
                },
            });
        }
    }

    /// When [`Self::plan`] may have something to do by the passing of time alone.
    #[must_use]
    pub fn next_wake_ms(&self, now_ms: AgentMs) -> Option<AgentMs> {
        let address = self.place.address;
        self.replicas
            .values()
            .flat_map(|tracked| {
                let retries = tracked.runs().is_some()
                    && (!tracked.is_running() || tracked.freeze_due().is_some());
                let retry = retries.then_some(tracked.retry_at_ms);
                [
                    retry,
                    tracked.probe_due_ms(address),
                    self.stop_due_ms(tracked),
                ]
            })
            .flatten()
            .filter(|at| *at > now_ms)
            .min()
    }
}
