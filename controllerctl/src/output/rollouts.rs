//! Rollouts and revisions as rows and as the JSON contract.

use longshore_proto::control::v1 as pb;
use longshore_wire::struct_to_json;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::views::time;
use super::{Row, Shown, Tone, age};

/// `rollout status`
#[derive(Debug, Serialize)]
pub struct Rollout {
    /// app/service
    pub service: String,
    /// none, running, waiting (for a place), `rolling_back`, held, paused, done, `rolled_back`
    pub state: String,
    /// App revision that it goes to; on the way back, the one that failed.
    pub revision: u64,
    /// App revision that it came from.
    pub from_revision: u64,
    /// App revision that last served in full.
    pub good_revision: u64,
    /// It is the way back, from `revision` to `good_revision`.
    pub back: bool,
    /// Image.
    pub image: String,
    /// Replicas wanted.
    pub wanted: u32,
    /// New replicas.
    pub new_total: u32,
    /// New replicas that take traffic.
    pub new_serving: u32,
    /// Old replicas.
    pub old_total: u32,
    /// Batches begun.
    pub batches: u32,
    /// New replicas that failed.
    pub failed: u32,
    /// How many may.
    pub tolerated: u32,
    /// What happens if more do: pause, continue, rollback.
    pub failure_action: String,
    /// Which replica goes first (start-first, stop-first), and why where the file does not say so.
    pub order: Option<String>,
    /// When it began.
    pub started: Option<String>,
    /// Since when it is in this state.
    pub since: Option<String>,
    /// Who holds it.
    pub held_by: Option<String>,
    /// Why it failed.
    pub why: Option<String>,
    /// The same as data.
    pub trouble: Value,
    /// What it waits for.
    pub waits: Vec<String>,
}

fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl From<&pb::Rollout> for Rollout {
    fn from(r: &pb::Rollout) -> Self {
        Self {
            service: r.service.clone(),
            state: r.state.clone(),
            revision: r.revision,
            from_revision: r.from_revision,
            good_revision: r.good_revision,
            back: r.back,
            image: r.image.clone(),
            wanted: r.wanted,
            new_total: r.new_total,
            new_serving: r.new_serving,
            old_total: r.old_total,
            batches: r.batches,
            failed: r.failed,
            tolerated: r.tolerated,
            failure_action: r.failure_action.clone(),
            order: filled(&r.order),
            started: time(r.started_ms),
            since: time(r.since_ms),
            held_by: filled(&r.held_by),
            why: filled(&r.why),
            trouble: r.trouble.as_ref().map_or(Value::Null, struct_to_json),
            waits: r.waits.clone(),
        }
    }
}

/// A rollout as a row.
#[derive(Debug)]
pub struct RolloutRow<'a>(pub &'a pb::Rollout);

impl Serialize for RolloutRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Rollout::from(self.0).serialize(serializer)
    }
}

impl Row for RolloutRow<'_> {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec!["SERVICE", "STATE", "REVISION", "NEW", "OLD", "SINCE", "WHY"];
        if wide {
            titles.extend(["GOOD", "FAILED", "ON FAILURE", "ORDER", "IMAGE"]);
        }
        titles
    }

    fn cells(&self, wide: bool, now_ms: u64) -> Vec<Shown> {
        let r = self.0;
        let tone = match r.state.as_str() {
            "done" => Tone::Good,
            "paused" | "rolled_back" | "rolling_back" => Tone::Bad,
            "none" => Tone::Plain,
            _ => Tone::Busy,
        };
        let back = matches!(r.state.as_str(), "rolled_back" | "rolling_back");
        let revision = match r.from_revision {
            _ if back || r.back => format!("{} -> {}", r.revision, r.good_revision),
            0 => r.revision.to_string(),
            from => format!("{from} -> {}", r.revision),
        };
        let why = match (r.why.is_empty(), r.held_by.is_empty()) {
            (false, _) => r.why.clone(),
            (true, false) => format!("held by {}", r.held_by),
            (true, true) => r.waits.first().cloned().unwrap_or_default(),
        };
        let mut cells = vec![
            Shown::from(&r.service),
            Shown::new(&r.state, tone),
            revision.into(),
            format!("{}/{}", r.new_serving, r.wanted).into(),
            r.old_total.into(),
            age(r.since_ms, now_ms).into(),
            why.into(),
        ];
        if wide {
            cells.extend([
                r.good_revision.into(),
                format!("{} of {}", r.failed, r.tolerated).into(),
                Shown::from(&r.failure_action),
                Shown::from(&r.order),
                Shown::from(&r.image),
            ]);
        }
        cells
    }

    fn name(&self) -> String {
        self.0.service.clone()
    }
}

/// `rollout history`
#[derive(Debug, Serialize)]
pub struct Revision {
    /// Its number.
    pub revision: u64,
    /// When it was applied.
    pub applied: Option<String>,
    /// By whom.
    pub by: String,
    /// applied, undone, restarted
    pub origin: String,
    /// Of an undone one: the revision that it took back to.
    pub of_revision: Option<u64>,
    /// Image.
    pub image: String,
    /// finished, unproved, superseded, paused, `rolling_back`, `rolled_back`; none: nothing is known.
    pub outcome: Option<String>,
    /// Why it failed.
    pub why: Option<String>,
    /// What the file asks for now.
    pub current: bool,
    /// The last that served in full.
    pub good: bool,
    /// Against the one before it.
    pub changes: Vec<String>,
}

impl From<&pb::Revision> for Revision {
    fn from(r: &pb::Revision) -> Self {
        Self {
            revision: r.revision,
            applied: time(r.applied_ms),
            by: r.applied_by.clone(),
            origin: r.origin.clone(),
            of_revision: (r.of_revision > 0).then_some(r.of_revision),
            image: r.image.clone(),
            outcome: filled(&r.outcome),
            why: filled(&r.why),
            current: r.current,
            good: r.good,
            changes: r.changes.clone(),
        }
    }
}

/// A revision as a row.
#[derive(Debug)]
pub struct RevisionRow<'a>(pub &'a pb::Revision);

impl Serialize for RevisionRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Revision::from(self.0).serialize(serializer)
    }
}

impl Row for RevisionRow<'_> {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec![
            "REVISION", "APPLIED", "BY", "HOW", "IMAGE", "OUTCOME", "WHY",
        ];
        if wide {
            titles.push("CHANGES");
        }
        titles
    }

    fn cells(&self, wide: bool, now_ms: u64) -> Vec<Shown> {
        let r = self.0;
        let mark = match (r.current, r.good) {
            (true, true) => " current, good",
            (true, false) => " current",
            (false, true) => " good",
            (false, false) => "",
        };
        let how = match r.of_revision {
            0 => r.origin.clone(),
            of => format!("{} to {of}", r.origin),
        };
        let tone = match r.outcome.as_str() {
            "finished" => Tone::Good,
            "" | "unproved" | "superseded" => Tone::Plain,
            _ => Tone::Bad,
        };
        let mut cells = vec![
            format!("{}{mark}", r.revision).into(),
            age(r.applied_ms, now_ms).into(),
            Shown::from(&r.applied_by),
            how.into(),
            Shown::from(&r.image),
            Shown::new(&r.outcome, tone),
            Shown::from(&r.why),
        ];
        if wide {
            cells.push(r.changes.join("; ").into());
        }
        cells
    }

    fn name(&self) -> String {
        self.0.revision.to_string()
    }
}
