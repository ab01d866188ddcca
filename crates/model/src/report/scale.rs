//! The decision record of a count: what was measured, what it asked for, what bent that, in order.
//!
//! It holds everything that the decision was made of, as numbers: `longshore_planner::recompute`
//! gives the same result from the record alone. Times are absolute, so that a record that is looked
//! at later still means the same; ages follow from the time at which it was stored.

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::autoscale::{RateAmount, Step, TargetKind};
use crate::reason::{Reason, ScaleCause};

/// Decision record of one service's count.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScaleReport {
    /// Count in force when the autoscaler looked.
    pub current: u32,
    /// Replicas that had carried the measured load for a whole window.
    pub seasoned: u32,
    /// Each signal: inputs, value, what it asks for.
    pub signals: Vec<SignalReport>,
    /// Highest recommendation, before anything bent it; none without a signal that has one.
    pub recommendation: Option<u32>,
    /// What bent or confirmed it, in the order of application.
    pub clamps: Vec<Clamp>,
    /// Count that was decided.
    pub result: u32,
    /// Lower bound in force.
    pub min: u32,
    /// Upper bound in force.
    pub max: u32,
    /// Where the bounds come from.
    pub bounds: Vec<BoundReport>,
    /// What waits for consent.
    pub proposal: Option<Proposal>,
    /// Why the count is what it is.
    pub reasons: Vec<Reason>,
}

impl ScaleReport {
    /// Is this the same answer as `before`, for the same kinds of reasons, and the answer that
    /// nothing changes?
    #[must_use]
    pub fn repeats(&self, before: &Self) -> bool {
        let kinds = |report: &Self| -> Vec<_> {
            report.reasons.iter().map(std::mem::discriminant).collect()
        };
        let answer = |report: &Self| {
            let proposed = report.proposal.as_ref().map(|proposal| proposal.count);
            (
                report.recommendation,
                report.min,
                report.max,
                report.result,
                proposed,
            )
        };
        self.current == self.result
            && before.current == before.result
            && answer(self) == answer(before)
            && kinds(self) == kinds(before)
    }
}

/// One signal of a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalReport {
    /// Its name; an external one with its query.
    pub signal: String,
    /// Its value over the window; none without good samples.
    pub value: Option<f64>,
    /// Target or matched threshold.
    pub target: f64,
    /// What it asks for, inside the tolerance the count in force.
    pub recommendation: Option<u32>,
    /// Sources with good samples.
    pub good: u32,
    /// Sources in all.
    pub all: u32,
    /// What it would ask for without tolerance.
    #[serde(default)]
    pub raw: Option<u32>,
    /// How it is judged.
    #[serde(default)]
    pub rule: SignalRule,
    /// How far it can be trusted.
    #[serde(default)]
    pub trust: Trust,
    /// Replicas over which the value is the mean: those that carried the load.
    #[serde(default)]
    pub carriers: u32,
    /// Oldest good sample.
    #[serde(default)]
    pub oldest_ms: Option<TimeMs>,
    /// Newest good sample.
    #[serde(default)]
    pub newest_ms: Option<TimeMs>,
    /// What was not counted, and why.
    #[serde(default)]
    pub dropped: Vec<Dropped>,
    /// A rollout runs: slow or bad answers ask for no more than the count in force.
    #[serde(default)]
    pub capped: bool,
    /// Why the source of an external signal gave no value at the last try, in its words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// When the source of an external signal was asked last; none: never, or not external.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_ms: Option<TimeMs>,
    /// When it last gave a value, counted or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_ms: Option<TimeMs>,
}

impl SignalReport {
    /// What its value is compared with, in words: `of target 60 %`, `at step 50 %`,
    /// `below the lowest step, 20 %`.
    #[must_use]
    pub fn against(&self) -> String {
        let of = |value: f64| measured(&self.signal, value);
        let SignalRule::Steps { steps } = &self.rule else {
            return format!("of target {}", of(self.target));
        };
        let lowest = steps.iter().map(|step| step.at).reduce(f64::min);
        match (lowest, self.value) {
            (Some(lowest), Some(value)) if value < lowest && self.target < lowest => {
                format!("below the lowest step, {}", of(lowest))
            }
            (Some(lowest), None) => format!("for steps from {}", of(lowest)),
            _ => format!("at step {}", of(self.target)),
        }
    }
}

/// How a signal's value becomes a count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
pub enum SignalRule {
    /// Target tracking.
    Target {
        /// What the target is compared with.
        kind: TargetKind,
        /// Relative distance above the target inside which nothing changes.
        tolerance_up: f64,
        /// Relative distance below it.
        tolerance_down: f64,
    },
    /// Thresholds.
    Steps {
        /// The thresholds.
        steps: Vec<Step>,
    },
}

impl Default for SignalRule {
    fn default() -> Self {
        Self::Steps { steps: Vec::new() }
    }
}

/// How far a signal's value can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Enough sources have good samples.
    Good,
    /// Too few sources have good samples: it may add, never take away.
    Partial,
    /// No source has good samples.
    #[default]
    Missing,
    /// All sources have good samples, and nobody asked often enough for a value.
    Idle,
    /// The service cannot have it: a share of a limit that it does not have, requests without a
    /// route.
    Undefined,
}

/// Samples or sources that were not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Why.
    pub why: DropReason,
    /// How many samples; for [`DropReason::Silent`], [`DropReason::Stale`] and
    /// [`DropReason::Warming`] how many sources.
    pub count: u32,
    /// Some of the sources (nodes, replicas, edges), at most [`Dropped::SOURCES_MAX`].
    pub sources: Vec<String>,
}

impl Dropped {
    /// Most sources named.
    pub const SOURCES_MAX: usize = 8;
}

/// Why something was not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// A source that should have samples and has none.
    Silent,
    /// A source whose newest sample is too old.
    Stale,
    /// A sample that is no number, infinite or negative.
    NotANumber,
    /// A sample from the future: a clock jumped.
    Future,
    /// A counter went back between two samples: its program started again.
    WentBack,
    /// A replica that is still warming up.
    Warming,
}

/// One thing that bent the recommendation, or looked at it and let it pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clamp {
    /// What it was.
    #[serde(flatten)]
    pub rule: ClampRule,
    /// Count that came in.
    pub before: u32,
    /// Count that went out.
    pub after: u32,
    /// When it ends or may say something else; none: when what it looks at changes.
    #[serde(default)]
    pub until_ms: Option<TimeMs>,
}

/// Upwards or downwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More replicas.
    Up,
    /// Fewer.
    Down,
}

/// What can bend a recommendation. Each says what it needs to be applied again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "clamp", rename_all = "snake_case")]
pub enum ClampRule {
    /// Signals without enough good samples: nothing is taken away.
    MissingData {
        /// Which.
        signals: Vec<String>,
    },
    /// No signal has a recommendation: the count stays, or falls to what serves.
    NoSignal {
        /// Replicas that serve, where the policy gives the others back (`scale-to-min`).
        serving: Option<u32>,
    },
    /// The deciding signal is inside the tolerance of its target. It is part of the
    /// recommendation already and changes nothing here.
    Tolerance {
        /// Signal.
        signal: String,
        /// Relative distance allowed.
        tolerance: f64,
        /// What it would ask for without it.
        raw: u32,
    },
    /// The most careful recommendation of the stabilisation window holds.
    Stabilization {
        /// Which way.
        direction: Direction,
        /// That recommendation.
        recommendation: u32,
        /// Length of the window.
        #[serde(default)]
        window_ms: u64,
        /// When that recommendation was made; none: it is the newest one.
        #[serde(default)]
        made_ms: Option<TimeMs>,
    },
    /// The count went the other way less than a stabilisation window ago.
    Turned {
        /// The way that it may not go now.
        direction: Direction,
    },
    /// Not enough was seen since the start or the last change: nothing is taken away.
    Observing,
    /// Too many nodes are away at once: nothing is taken away.
    Outage,
    /// A rollout runs: nothing is taken away.
    Rollout,
    /// A rate policy allows no more in its period.
    Rate {
        /// Which way.
        direction: Direction,
        /// Number of the policy in its list, from 0.
        policy: u32,
        /// Count that it allows.
        end: u32,
        /// The policy that allows least decides, not the one that allows most.
        #[serde(default)]
        select_min: bool,
        /// All of them, with what each looks at.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        policies: Vec<RateLook>,
    },
    /// Bounds in force.
    Bounds {
        /// Never fewer.
        min: u32,
        /// Never more.
        max: u32,
    },
    /// The autoscaler is paused.
    Paused {
        /// By whom.
        by: String,
    },
    /// A person holds the count.
    Held {
        /// Who.
        by: String,
    },
    /// The policy asks first.
    Approve {
        /// Who agreed to exactly this; none: nobody yet.
        approved_by: Option<String>,
    },
    /// The policy only says what it would do.
    DryRun,
}

/// A rate policy and what it looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLook {
    /// By how much the count may move.
    pub amount: RateAmount,
    /// Within which time.
    pub period_ms: u64,
    /// Count at the start of the period, without what others than signals moved.
    pub start: u32,
    /// So many changes lie in the period that its start is not known: nothing more is allowed.
    #[serde(default)]
    pub full: bool,
}

/// A bound and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundReport {
    /// `true` for the upper one.
    pub upper: bool,
    /// Its value.
    pub count: u32,
    /// Who says so.
    pub source: BoundSource,
    /// When that ends.
    #[serde(default)]
    pub until_ms: Option<TimeMs>,
}

/// Where a bound comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum BoundSource {
    /// The policy.
    File,
    /// A schedule that is in force.
    Schedule {
        /// Its name.
        name: String,
    },
    /// An operator.
    Override {
        /// Who.
        by: String,
    },
}

/// A change that waits for consent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// Count proposed.
    pub count: u32,
    /// Why.
    pub why: ScaleCause,
    /// Since when exactly this count is proposed.
    pub since_ms: TimeMs,
}

/// A value of a signal with its unit: `58 %`, `130/s`, `240 ms`.
#[must_use]
pub fn measured(signal: &str, value: f64) -> String {
    // Digits beyond those that a double has say nothing.
    const PLAIN_MAX: f64 = 1e15;
    match signal {
        _ if value.abs() >= PLAIN_MAX => format!("{value:e}"),
        "node_cpu" | "cpu" | "memory" | "errors" => format!("{:.0} %", value * 100.0),
        "requests" => format!("{value:.1}/s"),
        "latency" => format!("{value:.0} ms"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_huge_value_is_one_short_word() {
        assert_eq!(measured("prometheus(q)", 1e308), "1e308");
        assert_eq!(measured("prometheus(q)", 12.3), "12.30");
        assert_eq!(measured("cpu", 0.58), "58 %");
    }
}
