//! Decisions and autoscalers: what `-o json` promises, and the tables.

use longshore_proto::control::v1 as pb;
use longshore_wire::struct_to_json;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::rows::Of;
use super::views::{Signal, time};
use super::{Row, Shown, Tone, age};

/// `autoscale history`, and the decisions of `why`.
#[derive(Debug, Serialize)]
pub struct Decision {
    /// app/service
    pub service: String,
    /// scale, placement, drain, victims
    pub kind: String,
    /// When it was made first.
    pub first: Option<String>,
    /// When it was made last, for the same reasons.
    pub last: Option<String>,
    /// How often in a row.
    pub count: u64,
    /// Version of the plan that it led to.
    pub plan_version: u64,
    /// In one line.
    pub summary: String,
    /// All that it was made of; it can be made again from this alone.
    pub record: Value,
}

impl From<&pb::Decision> for Decision {
    fn from(d: &pb::Decision) -> Self {
        Self {
            service: d.service.clone(),
            kind: d.kind.clone(),
            first: time(d.first_ms),
            last: time(d.last_ms),
            count: d.count,
            plan_version: d.plan_version,
            summary: d.summary.clone(),
            record: d.record.as_ref().map_or(Value::Null, struct_to_json),
        }
    }
}

/// `autoscale ls`, `autoscale show`
#[derive(Debug, Serialize)]
pub struct Autoscale {
    /// app/service
    pub service: String,
    /// on, `dry_run`, approve
    pub mode: String,
    /// Replicas wanted.
    pub wanted: u32,
    /// Lower bound in force.
    pub min: u32,
    /// Upper bound in force.
    pub max: u32,
    /// Lower bound of the file.
    pub file_min: u32,
    /// Upper bound of the file.
    pub file_max: u32,
    /// Signals and their targets.
    pub signals: Vec<Signal>,
    /// What they ask for together.
    pub recommendation: Option<u32>,
    /// The one thing that the count is mostly due to.
    pub cause: Option<String>,
    /// Why the count is what it is.
    pub reasons: Vec<String>,
    /// Who paused it.
    pub paused: Option<Paused>,
    /// Who set other bounds.
    pub bounds: Option<Bounds>,
    /// Who agreed to what last.
    pub approved: Option<Approved>,
    /// Count that waits for an approval.
    pub awaits_approval: Option<u32>,
    /// Last change of the count, in words.
    pub last_change: Option<String>,
    /// When that was.
    pub last_changed: Option<String>,
}

/// A pause.
#[derive(Debug, Serialize)]
pub struct Paused {
    /// Since when.
    pub since: Option<String>,
    /// Until when; none: until it is resumed.
    pub until: Option<String>,
    /// By whom.
    pub by: String,
}

/// Bounds set by hand.
#[derive(Debug, Serialize)]
pub struct Bounds {
    /// Lower; none: as the file says.
    pub min: Option<u32>,
    /// Upper; none: as the file says.
    pub max: Option<u32>,
    /// When they were set.
    pub at: Option<String>,
    /// By whom.
    pub by: String,
}

/// An approval.
#[derive(Debug, Serialize)]
pub struct Approved {
    /// Of which count.
    pub count: u32,
    /// When.
    pub at: Option<String>,
    /// By whom.
    pub by: String,
}

impl From<&pb::AutoscaleState> for Autoscale {
    fn from(s: &pb::AutoscaleState) -> Self {
        Self {
            service: s.service.clone(),
            mode: s.mode.clone(),
            wanted: s.wanted,
            min: s.min,
            max: s.max,
            file_min: s.file_min,
            file_max: s.file_max,
            signals: s.signals.iter().map(Signal::from).collect(),
            recommendation: s.recommendation,
            cause: (!s.cause.is_empty()).then(|| s.cause.clone()),
            reasons: s.reasons.clone(),
            paused: s.paused.as_ref().map(|pause| Paused {
                since: time(pause.since_ms),
                until: time(pause.until_ms),
                by: pause.by.clone(),
            }),
            bounds: s.bounds.as_ref().map(|bounds| Bounds {
                min: bounds.min,
                max: bounds.max,
                at: time(bounds.at_ms),
                by: bounds.by.clone(),
            }),
            approved: s.approved.as_ref().map(|approved| Approved {
                count: approved.count,
                at: time(approved.at_ms),
                by: approved.by.clone(),
            }),
            awaits_approval: s.awaits_approval,
            last_change: (!s.last_change.is_empty()).then(|| s.last_change.clone()),
            last_changed: time(s.last_change_ms),
        }
    }
}

impl Serialize for Of<'_, pb::AutoscaleState> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Autoscale::from(self.0).serialize(serializer)
    }
}

impl Serialize for Of<'_, pb::Decision> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Decision::from(self.0).serialize(serializer)
    }
}

impl Row for Of<'_, pb::AutoscaleState> {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec!["SERVICE", "MODE", "COUNT", "BOUNDS", "ASKS FOR", "STATE"];
        if wide {
            titles.extend(["FILE", "CHANGED", "LAST CHANGE"]);
        }
        titles
    }

    fn cells(&self, wide: bool, now_ms: u64) -> Vec<Shown> {
        let s = self.0;
        let state = match (&s.paused, s.awaits_approval) {
            (Some(pause), _) => Shown::new(format!("paused by {}", pause.by), Tone::Busy),
            (None, Some(count)) => Shown::new(format!("waits for approval of {count}"), Tone::Busy),
            (None, None) if !s.cause.is_empty() => Shown::from(&s.cause),
            (None, None) => s.reasons.first().cloned().unwrap_or_default().into(),
        };
        let asks = s
            .recommendation
            .map_or_else(String::new, |count| count.to_string());
        let mut cells = vec![
            Shown::from(&s.service),
            Shown::from(&s.mode),
            s.wanted.into(),
            format!("{}..{}", s.min, s.max).into(),
            asks.into(),
            state,
        ];
        if wide {
            cells.extend([
                format!("{}..{}", s.file_min, s.file_max).into(),
                Shown::from(age(s.last_change_ms, now_ms)),
                Shown::from(&s.last_change),
            ]);
        }
        cells
    }

    fn name(&self) -> String {
        self.0.service.clone()
    }
}

impl Row for Of<'_, pb::Decision> {
    fn titles(wide: bool) -> Vec<&'static str> {
        match wide {
            true => vec!["LAST", "SERVICE", "DECISION", "TIMES", "FIRST", "PLAN"],
            false => vec!["LAST", "SERVICE", "DECISION", "TIMES"],
        }
    }

    fn cells(&self, wide: bool, _: u64) -> Vec<Shown> {
        let d = self.0;
        let mut cells = vec![
            Shown::from(time(d.last_ms).unwrap_or_default()),
            Shown::from(&d.service),
            Shown::from(&d.summary),
            d.count.into(),
        ];
        if wide {
            cells.push(Shown::from(time(d.first_ms).unwrap_or_default()));
            cells.push(d.plan_version.into());
        }
        cells
    }

    fn name(&self) -> String {
        self.0.summary.clone()
    }
}
