//! `x-autoscale`: how the count of replicas follows the load.

use serde::{Deserialize, Serialize};

/// Policy of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AutoscaleSpec {
    /// Never fewer.
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
    /// A new replica's own CPU does not count until then.
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
}

/// A signal and the value that it should have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// What is measured.
    pub signal: Signal,
    /// Target: a ratio (0.6 = 60 %) for CPU and memory.
    pub target: f64,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// Mean CPU use of the nodes that may run the service, ratio of their capacity.
    NodeCpu,
    /// Mean CPU use of ready replicas, ratio of their limit, else of their reservation.
    Cpu,
}

impl Signal {
    /// The word used in Compose files, reports and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodeCpu => "node_cpu",
            Self::Cpu => "cpu",
        }
    }
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
}

/// Defaults where a file is silent: HPA v2's, with sources in `docs/decisions/`.
impl AutoscaleSpec {
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
