//! `x-autoscale`: how the count of replicas follows the load.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::report::Direction;

pub use check::{AutoscaleError, AutoscaleFault, AutoscalePart};
pub use control::{Approval, AutoscaleControl, BoundsOverride, Pause};
pub use schedule::{Calendar, InForce, SCHEDULE_MS_MAX, ScheduleError, time_zones};

mod check;
mod control;
mod schedule;

/// Policy of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AutoscaleSpec {
    /// Never fewer. 0 only with a signal that shows that somebody waits: see [`Signal::wakes`].
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// Signals and their targets; the highest recommendation wins.
    pub metrics: Vec<Metric>,
    /// Thresholds on a signal, instead of or beside targets.
    #[serde(default)]
    pub steps: Vec<StepRule>,
    /// Samples are averaged over this time.
    pub window_ms: u64,
    /// A new replica's own CPU and memory do not count until then.
    pub warmup_ms: u64,
    /// Behaviour upwards.
    pub scale_up: Behavior,
    /// Behaviour downwards.
    pub scale_down: Behavior,
    /// What happens without samples.
    #[serde(default)]
    pub on_missing: OnMissing,
    /// Act, only say what it would do, or ask first.
    #[serde(default)]
    pub mode: AutoscaleMode,
    /// Other bounds at certain times.
    #[serde(default)]
    pub schedules: Vec<Schedule>,
    /// Replicas kept paused and proven healthy beside those that run.
    #[serde(default)]
    pub warm: u32,
}

/// A signal and the value that it should have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// What is measured.
    pub signal: Signal,
    /// Target, above 0: a ratio (0.6 = 60 %) for `node_cpu`, `cpu`, `memory` and `errors`;
    /// milliseconds for `latency`; requests a second for `requests`; else a plain number.
    pub target: f64,
    /// What the target is compared with.
    #[serde(default)]
    pub kind: TargetKind,
}

/// What a target is compared with (the kinds of HPA v2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// With the mean use of a resource, as a share of what there is.
    #[default]
    Utilization,
    /// With the sum divided by the replicas: `ceil(sum / target)` replicas are wanted.
    AverageValue,
    /// With the value as it is: it is taken to fall as replicas are added.
    Value,
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Mean CPU use of the nodes that may run the service, ratio of their capacity.
    NodeCpu,
    /// Mean CPU use of ready replicas, ratio of their limit, else of their reservation.
    Cpu,
    /// Mean memory use of ready replicas, ratio of their limit, else of their reservation.
    Memory,
    /// Requests a second over all edges, from HAProxy's counters.
    Requests,
    /// Requests that wait in HAProxy's queues, over all edges, mean over the window.
    Queue,
    /// Requests at work at a time, over all edges: HAProxy's sessions without its queues, or rate
    /// times response time where that is more.
    Concurrency,
    /// Mean response time in milliseconds, weighted by requests.
    Latency,
    /// Answers of 500 and above as a ratio of all requests of the window.
    Errors,
    /// A number from a Prometheus server.
    Prometheus(ExternalQuery),
}

/// Where a number from outside comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExternalQuery {
    /// Base URL of the Prometheus server; none: the one in the controller's settings.
    #[serde(default)]
    pub url: Option<String>,
    /// `PromQL` that gives one number.
    pub query: String,
}

impl Signal {
    /// The word used in Compose files.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NodeCpu => "node_cpu",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Requests => "requests",
            Self::Queue => "queue",
            Self::Concurrency => "concurrency",
            Self::Latency => "latency",
            Self::Errors => "errors",
            Self::Prometheus(_) => "prometheus",
        }
    }

    /// What its target is compared with where a file does not say.
    #[must_use]
    pub fn default_kind(&self) -> TargetKind {
        match self {
            Self::NodeCpu | Self::Cpu | Self::Memory => TargetKind::Utilization,
            Self::Requests | Self::Queue | Self::Concurrency | Self::Prometheus(_) => {
                TargetKind::AverageValue
            }
            Self::Latency | Self::Errors => TargetKind::Value,
        }
    }

    /// Can it rise while nothing of the service runs? Only such a signal can bring it back from 0.
    #[must_use]
    pub fn wakes(&self) -> bool {
        self.default_kind() == TargetKind::AverageValue
    }

    /// Is it read from HAProxy, so that the service must be reached through it?
    #[must_use]
    pub fn of_edges(&self) -> bool {
        matches!(
            self,
            Self::Requests | Self::Queue | Self::Concurrency | Self::Latency | Self::Errors
        )
    }
}

/// The word of the signal; for an external one with its query.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prometheus(external) => write!(f, "prometheus({})", external.query),
            other => f.write_str(other.as_str()),
        }
    }
}

/// Other bounds from a time on, for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Its name in reports.
    pub name: String,
    /// When it begins: five cron fields (minute, hour, day of month, month, day of week).
    pub start: String,
    /// When it ends.
    pub end: ScheduleEnd,
    /// IANA name of the time zone in which its fields are read.
    pub time_zone: String,
    /// Lower bound while it is in force; none: the policy's.
    #[serde(default)]
    pub min: Option<u32>,
    /// Upper bound while it is in force; none: the policy's.
    #[serde(default)]
    pub max: Option<u32>,
}

/// When a schedule ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleEnd {
    /// So long after each start, in milliseconds of real time.
    After(u64),
    /// At the next time that these cron fields name.
    At(String),
}

/// Threshold rules on one signal, highest matching threshold wins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRule {
    /// What is measured.
    pub signal: Signal,
    /// Thresholds, ascending.
    pub steps: Vec<Step>,
}

/// At or above `at`, do `to`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Value of the signal, same unit as a target.
    pub at: f64,
    /// What to do.
    pub to: StepTo,
}

/// What a step asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepTo {
    /// This many replicas.
    Count(u32),
    /// This many more (or fewer) than now.
    Change(i32),
}

/// Behaviour in one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Behavior {
    /// A recommendation must have held this long (the most careful one of the window is taken).
    pub stabilization_ms: u64,
    /// Relative distance from the target inside which nothing changes.
    pub tolerance: f64,
    /// Rate limits; empty means: none. The most permissive one applies, unless `select_min`.
    #[serde(default)]
    pub policies: Vec<RatePolicy>,
    /// Take the strictest policy instead of the most permissive.
    #[serde(default)]
    pub select_min: bool,
}

/// At most `amount` per `period_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatePolicy {
    /// How much.
    pub amount: RateAmount,
    /// Within which time.
    pub period_ms: u64,
}

/// Replicas or per cent of the count at the start of the period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateAmount {
    /// Replicas.
    Replicas(u32),
    /// Per cent.
    Percent(u32),
}

/// What happens without samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// Keep the count.
    #[default]
    Hold,
    /// Go to `min`, but never below what serves now.
    ScaleToMin,
}

/// Act, only say, or ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoscaleMode {
    /// Decide and act.
    #[default]
    On,
    /// Decide and record, do not act.
    DryRun,
    /// Decide, and act once an operator has approved.
    Approve,
}

impl AutoscaleMode {
    /// The word used in Compose files and lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::DryRun => "dry-run",
            Self::Approve => "approve",
        }
    }
}

/// Defaults where a file is silent: HPA v2's, with sources in `docs/decisions/`.
impl AutoscaleSpec {
    /// Most replicas of one service.
    pub const REPLICAS_MAX: u32 = 10_000;
    /// Most metrics, step rules, schedules, or rate policies of one direction.
    pub const LIST_MAX: usize = 16;
    /// Most thresholds of one rule.
    pub const STEPS_MAX: usize = 64;
    /// Shortest averaging window.
    pub const WINDOW_MS_MIN: u64 = 1_000;
    /// Longest averaging window: the controller keeps 128 samples, about one a second.
    pub const WINDOW_MS_MAX: u64 = 120_000;
    /// Longest warm-up, stabilisation window or period: a day.
    pub const TIME_MS_MAX: u64 = 86_400_000;
    /// Longest query, in bytes.
    pub const QUERY_MAX: usize = 2_048;
    /// Fewer requests than this in a window say nothing of `errors` and `latency`.
    pub const REQUESTS_MIN: u64 = 20;
    /// Default averaging window.
    pub const WINDOW_MS: u64 = 30_000;
    /// Default warm-up.
    pub const WARMUP_MS: u64 = 30_000;
    /// Default tolerance in both directions (HPA: 0.1).
    pub const TOLERANCE: f64 = 0.1;
    /// Default downward stabilisation (HPA: 300 s).
    pub const DOWN_STABILIZATION_MS: u64 = 300_000;

    /// HPA's upward default: +4 or +100 % per 15 s, whichever is more, at once.
    #[must_use]
    pub fn default_up() -> Behavior {
        Behavior {
            stabilization_ms: 0,
            tolerance: Self::TOLERANCE,
            policies: vec![
                RatePolicy {
                    amount: RateAmount::Replicas(4),
                    period_ms: 15_000,
                },
                RatePolicy {
                    amount: RateAmount::Percent(100),
                    period_ms: 15_000,
                },
            ],
            select_min: false,
        }
    }

    /// HPA's downward default: everything that the window allows.
    #[must_use]
    pub fn default_down() -> Behavior {
        Behavior {
            stabilization_ms: Self::DOWN_STABILIZATION_MS,
            tolerance: Self::TOLERANCE,
            policies: vec![RatePolicy {
                amount: RateAmount::Percent(100),
                period_ms: 15_000,
            }],
            select_min: false,
        }
    }
}
