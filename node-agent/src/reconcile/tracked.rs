//! One replica on this node: what is wanted, what is there, what was reported.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use longshore_model::plan::AssignedReplica;
use longshore_model::reason::FailReason;
use longshore_model::receipt::{Exit, Killed};
use longshore_model::spec::ExecCheck;
use longshore_model::{ContainerSpec, ReplicaState};

use super::AgentMs;
use crate::mesh::Local;
use crate::probe::Target;
use crate::runtime::{Condition, Container, ContainerId, ExecHealth, Inspection};

mod waits;

pub(crate) use self::waits::Writer;

/// A starting replica is asked this often: healthy must be known soon after it is.
const STARTING_PROBE_MS: i64 = 50;
/// A replica that takes longer to start is asked less often.
const SLOW_START_PROBE_MS: i64 = 250;
const SLOW_START_AFTER_MS: i64 = 5_000;
/// Between two runs of a health command after a pause: each costs the engine a process.
const RECHECK_MS: i64 = 500;
/// One question without a check in the file.
const DEFAULT_PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Without a check in the file, a published port must be open after this time.
const DEFAULT_START_MS_MAX: i64 = 60_000;
/// A run shorter than this is a fast failure.
const FAST_FAILURE_MS: u64 = 10_000;
/// So many of them in a row and it has failed for good.
const FAST_FAILURES_MAX: u32 = 3;
/// A run longer than this makes up for all crashes before it.
const CRASHES_FORGIVEN_AFTER_MS: u64 = 600_000;
const RESTART_WAIT_FIRST_MS: i64 = 1_000;
const RESTART_WAIT_CAP_MS: i64 = 60_000;
/// Removed by hand so often within the window: somebody means it.
const REMOVALS_MAX: usize = 3;
const REMOVALS_WINDOW_MS: i64 = 600_000;
/// The engine refused so often: it will not.
const REFUSALS_MAX: u32 = 3;

/// Exit code of what SIGKILL ended.
const KILLED_CODE: i64 = 137;

/// What is wanted of a replica.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) assigned: AssignedReplica,
    pub(crate) spec: Arc<ContainerSpec>,
}

/// The step in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Launch,
    Stop,
    Inspect,
    Pause,
    Unpause,
}

/// How the agent itself asks for health.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Question {
    /// Over the network, as edges do.
    Ask(Target),
    /// With the health command.
    Run(ExecCheck),
}

/// What probes said of the present incarnation.
#[derive(Debug, Clone, Default)]
pub(crate) struct Probing {
    pub(crate) in_flight: bool,
    pub(crate) next_ms: AgentMs,
    /// The last verdict, if there is one.
    passed: Option<bool>,
    /// In a row.
    failures: u32,
    detail: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Tracked {
    /// None: in no assignment.
    pub(crate) wanted: Option<Wanted>,
    pub(crate) container: Option<ContainerId>,
    pub(crate) condition: Condition,
    pub(crate) health: Option<ExecHealth>,
    /// Where its container is reached from this host, once that was listed.
    pub(crate) address: Option<IpAddr>,
    /// Ports that its container says it listens on.
    pub(crate) exposed: BTreeSet<u16>,
    pub(crate) state: ReplicaState,
    pub(crate) reason: Option<FailReason>,
    pub(crate) op: Option<Op>,
    pub(crate) probing: Probing,
    /// Start of the present incarnation; none: not known yet.
    pub(crate) started_ms: Option<AgentMs>,
    pub(crate) healthy_ms: Option<AgentMs>,
    pub(crate) restarts: u32,
    /// No new attempt before this time.
    pub(crate) retry_at_ms: AgentMs,
    /// When it was first known that it shall stop: from then on it takes nothing new by name.
    pub(crate) shut_ms: Option<AgentMs>,
    /// Connections by name that it has.
    pub(crate) connections: u32,
    /// When it was first told to stop.
    pub(crate) told_ms: Option<AgentMs>,
    /// How it ended, once it is gone.
    pub(crate) exit: Option<Exit>,
    /// The last stop failed; `retry_at_ms` is about the next.
    pub(crate) stop_failed: bool,
    /// The container has ended and how is known.
    pub(crate) exit_known: bool,
    /// A pull of its image must come first.
    pub(crate) needs_image: bool,
    /// Found on the engine, never seen in an assignment: since when.
    pub(crate) unknown_since_ms: Option<AgentMs>,
    /// Kept for a person to decide: it is neither stopped nor started.
    pub(crate) unclaimed: bool,
    /// Listings that began before this number are too old to speak about it.
    pub(crate) touched: u64,
    /// Counts proofs of health that began: each incarnation's, and one after each pause.
    pub(crate) proof: u64,
    /// All its checks pass now.
    proven: bool,
    /// The present proof began after a pause: the engine's verdict is from before.
    thawed: bool,
    /// When the agent first saw the present incarnation, or its last pause ended.
    seen_ms: AgentMs,
    fast_failures: u32,
    crashes: u32,
    refusals: u32,
    removals: VecDeque<AgentMs>,
}

impl Tracked {
    pub(crate) fn new() -> Self {
        Self {
            wanted: None,
            container: None,
            condition: Condition::Created,
            health: None,
            address: None,
            exposed: BTreeSet::new(),
            state: ReplicaState::Assigned,
            reason: None,
            op: None,
            probing: Probing::default(),
            started_ms: None,
            healthy_ms: None,
            restarts: 0,
            retry_at_ms: AgentMs::MIN,
            shut_ms: None,
            connections: 0,
            told_ms: None,
            exit: None,
            stop_failed: false,
            exit_known: false,
            needs_image: false,
            unknown_since_ms: None,
            unclaimed: false,
            touched: 0,
            proof: 0,
            proven: false,
            thawed: false,
            seen_ms: 0,
            fast_failures: 0,
            crashes: 0,
            refusals: 0,
            removals: VecDeque::new(),
        }
    }

    /// Shall it run?
    pub(crate) fn runs(&self) -> Option<&Wanted> {
        self.wanted.as_ref().filter(|wanted| !wanted.assigned.stop)
    }

    /// A crash's wait for the next start must not delay a stop.
    pub(crate) fn retry_at_ms_of_stop(&self) -> AgentMs {
        if self.stop_failed {
            self.retry_at_ms
        } else {
            AgentMs::MIN
        }
    }

    /// Has it ended, and is how still to be asked? Until then it is said to be as it was before.
    pub(crate) fn end_is_unknown(&self) -> bool {
        let asked = self.runs().is_some() && !self.is_over();
        let ended = self.container.is_some() && self.condition == Condition::Exited;
        asked && ended && !self.exit_known
    }

    /// How its door stands: `host` is this node's own address, for what shares its network.
    pub(crate) fn local(&self, host: IpAddr) -> Option<Local> {
        self.container.as_ref()?;
        let shares = |wanted: &&Wanted| wanted.spec.privileges.host_network;
        let shares = self.wanted.as_ref().filter(shares).is_some();
        Some(Local {
            service: self.wanted.as_ref().map(|w| w.assigned.service.clone()),
            address: if shares { Some(host) } else { self.address },
            accepts: self.is_running() && self.runs().is_some_and(|w| !w.assigned.paused),
        })
    }

    pub(crate) fn is_running(&self) -> bool {
        self.container.is_some() && self.condition == Condition::Running
    }

    /// State only moves as the model allows; anything else is ignored.
    pub(crate) fn become_state(&mut self, next: ReplicaState, reason: Option<FailReason>) {
        if self.state.may_become(next) {
            self.state = next;
            self.reason = reason;
        }
    }

    pub(crate) fn fail(&mut self, reason: FailReason) {
        self.become_state(ReplicaState::Failed, Some(reason));
    }

    /// Takes in what the engine lists about its container.
    pub(crate) fn see(&mut self, container: &Container, now_ms: AgentMs) {
        let same = self.container.as_deref() == Some(container.id.as_str());
        let was = same.then_some(self.condition);
        let was_up = matches!(was, Some(Condition::Running | Condition::Paused));
        self.container = Some(container.id.clone());
        self.condition = container.condition;
        self.health = container.health;
        match container.condition {
            // Somebody else let it go on, or the engine forgot the pause.
            Condition::Running if was == Some(Condition::Paused) => self.thawed(now_ms),
            Condition::Running if !was_up => self.begin_incarnation(None, now_ms),
            Condition::Paused => {
                if !was_up {
                    self.begin_incarnation(None, now_ms);
                }
                self.condition = Condition::Paused;
                self.proven = false;
            }
            Condition::Exited if was_up || !same => self.exit_known = false,
            _ => {}
        }
        self.address = container.address;
        // The engine lists them only of what runs; they are its image's and its file's for good.
        if !container.exposed.is_empty() {
            self.exposed.clone_from(&container.exposed);
        }
    }

    /// A container has started: everything known of the one before it is void.
    pub(crate) fn begin_incarnation(&mut self, started_ms: Option<AgentMs>, now_ms: AgentMs) {
        self.condition = Condition::Running;
        self.started_ms = started_ms;
        self.exit_known = false;
        self.address = None;
        self.told_ms = None;
        self.begin_proof(false, now_ms);
    }

    fn begin_proof(&mut self, thawed: bool, now_ms: AgentMs) {
        self.seen_ms = now_ms;
        self.healthy_ms = None;
        self.proof += 1;
        self.proven = false;
        self.thawed = thawed;
        self.probing = Probing {
            next_ms: now_ms,
            ..Probing::default()
        };
    }

    /// It was paused as it should be.
    pub(crate) fn frozen(&mut self) {
        self.condition = Condition::Paused;
        self.proven = false;
        self.refusals = 0;
    }

    /// Its pause is over: what was known of its health is void.
    pub(crate) fn thawed(&mut self, now_ms: AgentMs) {
        self.condition = Condition::Running;
        self.refusals = 0;
        self.begin_proof(true, now_ms);
        self.become_state(ReplicaState::Starting, None);
    }

    /// The step that brings a pause about or ends it, if one is missing: only what has proven its
    /// health is paused, only what shall run goes on. A wait for another try may come first.
    pub(crate) fn freeze_due(&self) -> Option<Op> {
        let wanted = self.runs()?;
        if self.op.is_some() || self.container.is_none() || self.state == ReplicaState::Failed {
            return None;
        }
        match self.condition {
            Condition::Running if wanted.assigned.paused && self.proven => Some(Op::Pause),
            Condition::Paused if !wanted.assigned.paused => Some(Op::Unpause),
            _ => None,
        }
    }

    /// Its container is not on the engine any more and nobody here removed it.
    pub(crate) fn vanished(&mut self, now_ms: AgentMs) {
        self.container = None;
        self.condition = Condition::Created;
        if self.runs().is_none() || self.is_over() {
            return;
        }
        self.removals.push_back(now_ms);
        self.removals.retain(|at| now_ms - at <= REMOVALS_WINDOW_MS);
        if self.removals.len() >= REMOVALS_MAX {
            self.fail(FailReason::Removed);
        } else {
            self.show_down(FailReason::Removed);
        }
    }

    /// It is down and will be started again: not serving, but not failed either.
    fn show_down(&mut self, reason: FailReason) {
        use ReplicaState::{Healthy, Paused, Starting, Unhealthy};
        match self.state {
            Healthy | Unhealthy => self.become_state(Unhealthy, Some(reason)),
            // It is no standby any more until it has proven itself again.
            Paused => self.become_state(Starting, Some(reason)),
            _ => self.reason = Some(reason),
        }
        self.healthy_ms = None;
        self.proven = false;
    }

    /// Its container was stopped and removed. `ended`: how, if that could be seen.
    pub(crate) fn stopped(&mut self, ended: Option<&Inspection>, now_ms: AgentMs) {
        self.container = None;
        let told = self.wanted.as_ref().filter(|wanted| wanted.assigned.stop);
        let Some(grace_ms) = told.map(|wanted| wanted.spec.stop_grace_ms) else {
            return;
        };
        let told_ms = self.told_ms.unwrap_or(now_ms);
        self.exit = ended.map(|how| exit(how, now_ms - told_ms, grace_ms));
        // Why it failed stays in sight.
        let reason = self.reason.take();
        self.become_state(ReplicaState::Gone, reason);
    }

    /// Its container has ended by itself.
    pub(crate) fn crashed(&mut self, how: &Inspection, now_ms: AgentMs) {
        self.exit_known = true;
        self.condition = Condition::Exited;
        if self.is_job() {
            return self.job_ended(how);
        }
        if how.ran_ms >= CRASHES_FORGIVEN_AFTER_MS {
            self.crashes = 0;
        }
        self.fast_failures = if how.ran_ms < FAST_FAILURE_MS {
            self.fast_failures + 1
        } else {
            0
        };
        let reason = FailReason::Exited {
            code: how.exit_code,
            oom: how.oom,
            last_line: how.last_line.clone(),
        };
        #[cfg(feature = "mutants")]
        if longshore_model::mutant::is(longshore_model::Mutant::RestartsWithoutWaits) {
            return self.show_down(reason);
        }
        if self.fast_failures >= FAST_FAILURES_MAX {
            self.fail(reason);
            return;
        }
        let wait_ms = RESTART_WAIT_FIRST_MS.saturating_mul(1 << self.crashes.min(6));
        self.retry_at_ms = now_ms + wait_ms.min(RESTART_WAIT_CAP_MS);
        self.crashes += 1;
        self.show_down(reason);
    }

    /// The engine did not do it; it may the next time.
    pub(crate) fn refused(&mut self, attempted: &str, detail: &str, now_ms: AgentMs) {
        self.refusals += 1;
        let (attempted, detail) = (attempted.to_owned(), detail.to_owned());
        let reason = FailReason::Engine { attempted, detail };
        if self.refusals >= REFUSALS_MAX {
            self.fail(reason);
        } else {
            self.retry_at_ms = now_ms + RESTART_WAIT_FIRST_MS * i64::from(self.refusals);
            self.reason = Some(reason);
        }
    }

    /// It runs: what the engine refused before is forgotten.
    pub(crate) fn launched(&mut self) {
        self.refusals = 0;
        self.needs_image = false;
        self.become_state(ReplicaState::Starting, None);
    }

    /// How the agent itself asks for health, if it does.
    pub(crate) fn question(&self, address: IpAddr) -> Option<Question> {
        if let Some(target) = self.target(address) {
            return Some(Question::Ask(target));
        }
        let check = self.runs()?.spec.healthcheck.as_ref();
        let check = check.filter(|check| self.thawed && !check.is_of_image());
        check.cloned().map(Question::Run)
    }

    /// What the agent asks over the network, if anything.
    fn target(&self, address: IpAddr) -> Option<Target> {
        let wanted = self.runs()?;
        let host_port = |port: u16| {
            if wanted.spec.privileges.host_network {
                return Some(port);
            }
            let ports = &wanted.assigned.ports;
            ports
                .iter()
                .find(|p| p.container_port == port)
                .map(|p| p.host_port)
        };
        if let Some(probe) = &wanted.spec.probe {
            return Some(Target {
                address: SocketAddr::new(address, host_port(probe.port)?),
                path: probe.path.clone(),
                timeout: Duration::from_millis(probe.timeout_ms.max(1)),
            });
        }
        if wanted.spec.has_check_command() {
            return None;
        }
        let first = wanted.assigned.ports.first()?;
        Some(Target {
            address: SocketAddr::new(address, host_port(first.container_port)?),
            path: None,
            timeout: DEFAULT_PROBE_TIMEOUT,
        })
    }

    /// Is it time to ask? Without a check in the file, nobody asks again once it is open.
    pub(crate) fn probe_due_ms(&self, address: IpAddr) -> Option<AgentMs> {
        let changes = matches!(self.op, Some(Op::Stop | Op::Pause | Op::Unpause));
        if !self.is_running() || self.probing.in_flight || changes {
            return None;
        }
        let settled = self.probing.passed == Some(true);
        let wanted = self.runs()?;
        if self.state == ReplicaState::Failed || (settled && wanted.spec.probe.is_none()) {
            return None;
        }
        self.question(address).map(|_| self.probing.next_ms)
    }

    /// Takes in the answer to a question.
    pub(crate) fn probed(&mut self, result: Result<(), String>, now_ms: AgentMs) {
        self.probing.in_flight = false;
        let spec = self.runs().map(|wanted| Arc::clone(&wanted.spec));
        let probe = spec.as_ref().and_then(|spec| spec.probe.as_ref());
        let command = spec.as_ref().and_then(|spec| spec.healthcheck.as_ref());
        let runs_command = probe.is_none() && command.is_some();
        self.probing.passed = Some(result.is_ok());
        match result {
            Ok(()) => self.probing.failures = 0,
            Err(detail) => {
                self.probing.failures = self.probing.failures.saturating_add(1);
                self.probing.detail = detail;
            }
        }
        let interval_ms = probe.map_or(1_000, |probe| signed(probe.interval_ms).max(100));
        let wait_ms = if self.state >= ReplicaState::Healthy {
            interval_ms
        } else if runs_command {
            RECHECK_MS
        } else if now_ms - self.seen_ms < SLOW_START_AFTER_MS {
            STARTING_PROBE_MS
        } else {
            SLOW_START_PROBE_MS.min(interval_ms)
        };
        self.probing.next_ms = now_ms + wait_ms;
    }

    /// Has its health been asked for at least once in this incarnation?
    pub(crate) fn health_known(&self, address: IpAddr) -> bool {
        self.question(address).is_none() || self.probing.passed.is_some()
    }

    /// Judges a running container.
    pub(crate) fn judge(&mut self, address: IpAddr, now_ms: AgentMs) {
        let Some(wanted) = self.runs() else { return };
        if self.container.is_some() && self.condition == Condition::Paused {
            self.judge_paused(wanted.assigned.paused);
            return;
        }
        if !self.is_running() || self.op == Some(Op::Launch) {
            return;
        }
        let standby = wanted.assigned.paused;
        let probe = wanted.spec.probe.clone();
        let asks_engine = wanted.spec.healthcheck.is_some();
        let exec = wanted.spec.has_check_command() || asks_engine && self.health.is_some();
        let asked = self.question(address).is_some();
        let probe_ok = !asked || self.probing.passed == Some(true);
        #[cfg(feature = "mutants")]
        let probe_ok =
            probe_ok || longshore_model::mutant::is(longshore_model::Mutant::RunningIsHealthy);
        let exec_bad = exec && self.health == Some(ExecHealth::Unhealthy);
        // After a pause the agent has asked itself, and the engine may not have asked yet.
        let exec_ok = !exec
            || self.health == Some(ExecHealth::Healthy)
            || (self.thawed && asked && probe_ok && !exec_bad);
        self.proven = probe_ok && exec_ok;
        let retries = probe
            .as_ref()
            .map_or(u32::MAX, |probe| probe.retries.max(1));
        let probe_bad = asked && self.probing.failures >= retries;
        if self.state == ReplicaState::Healthy {
            if exec_bad || probe_bad {
                let detail = self.check_detail(exec_bad);
                self.become_state(
                    ReplicaState::Unhealthy,
                    Some(FailReason::CheckFails { detail }),
                );
            }
            return;
        }
        if self.proven {
            self.healthy_ms.get_or_insert(now_ms);
            // One that shall stand by is not called healthy before it is paused: it is not to serve.
            let next = if standby && self.state < ReplicaState::Healthy {
                ReplicaState::Starting
            } else {
                ReplicaState::Healthy
            };
            // The engine's refusal to pause it stays in sight.
            let reason = self.reason.take().filter(|_| standby);
            self.become_state(next, reason);
            return;
        }
        if self.state >= ReplicaState::Unhealthy {
            return;
        }
        self.become_state(ReplicaState::Starting, None);
        let start_ms_max = probe.map_or(DEFAULT_START_MS_MAX, |probe| signed(probe.start_ms_max));
        if exec_bad || (asked && !probe_ok && now_ms - self.seen_ms >= start_ms_max) {
            let after_ms = u64::try_from(now_ms - self.seen_ms).unwrap_or(0);
            let detail = self.check_detail(exec_bad);
            self.fail(FailReason::NeverHealthy { after_ms, detail });
        }
    }

    fn judge_paused(&mut self, wanted: bool) {
        if wanted {
            self.become_state(ReplicaState::Paused, None);
        } else if self.state == ReplicaState::Healthy {
            let detail = "its container is paused".into();
            self.show_down(FailReason::CheckFails { detail });
        }
    }

    fn check_detail(&self, exec_bad: bool) -> String {
        if exec_bad {
            "the health command fails in the container".into()
        } else {
            self.probing.detail.clone()
        }
    }
}

/// The end of a container that was told to stop `told_ago_ms` ago.
fn exit(how: &Inspection, told_ago_ms: AgentMs, grace_ms: u64) -> Exit {
    let told_ago_ms = u64::try_from(told_ago_ms).unwrap_or(0);
    let after_ms = how
        .ended_ago_ms
        .and_then(|ago| told_ago_ms.checked_sub(ago));
    let late = after_ms.is_some_and(|after_ms| after_ms >= grace_ms);
    // The engine also says `oom` where only a child was killed and the program went on.
    let killed = match how.exit_code {
        KILLED_CODE if how.oom => Some(Killed::Memory),
        KILLED_CODE if late => Some(Killed::Grace),
        _ => None,
    };
    Exit {
        code: how.exit_code,
        after_ms,
        killed,
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
