//! How far a rollout goes, in words.

use longshore_model::record::{GateLook, RolloutAnswer, RolloutRecord};
use longshore_model::rollout::Direction;
use longshore_model::ways::refused_in_words;

use super::words::{counted, span};

/// The look in one line: what follows, and from what.
#[must_use]
pub(super) fn summary(record: &RolloutRecord) -> String {
    let what = match record.direction {
        Direction::Forward => "revision",
        Direction::Back => "the way back from revision",
    };
    format!("{what} {}: {}", record.revision, answer(record))
}

fn answer(record: &RolloutRecord) -> String {
    let RolloutRecord {
        new, serving, old, ..
    } = record;
    let left = |until_ms: u64| span(until_ms.saturating_sub(record.at_ms));
    let forward = record.direction == Direction::Forward;
    let kind = if forward { "new" } else { "returned" };
    match &record.answer {
        RolloutAnswer::Fails { why } => format!("fails: {why}"),
        RolloutAnswer::GoesOn { why } => format!("goes on in spite of this: {why}"),
        RolloutAnswer::Reopens => format!("{} came back", counted(*old, "old replica")),
        RolloutAnswer::Watches => {
            let monitor = span(record.terms.monitor_ms);
            let replicas = counted(*new, &format!("{kind} replica"));
            format!("{replicas} serve, watched for {monitor}")
        }
        RolloutAnswer::Interrupted => {
            format!("{serving} of {new} {kind} replicas serve: watched anew")
        }
        RolloutAnswer::WaitsForReplicas => {
            let most = record.expected();
            format!("waits: {serving} of {most} {kind} replicas serve")
        }
        RolloutAnswer::WaitsForJob { service } => format!("waits until {service} has completed"),
        RolloutAnswer::Monitors { until_ms } => {
            let gate = record.gate.as_ref().map_or_else(String::new, numbers);
            format!("watches for another {}{gate}", left(*until_ms))
        }
        RolloutAnswer::Passes => {
            let gate = record.gate.as_ref().map_or_else(String::new, numbers);
            format!("batch {} passed{gate}", record.batches)
        }
        RolloutAnswer::Delays { until_ms } => {
            format!("pauses between batches for another {}", left(*until_ms))
        }
        RolloutAnswer::Holds => "an operator holds it".to_owned(),
        RolloutAnswer::Opens {
            batch,
            allowed,
            stop_first,
        } => {
            let order = match stop_first {
                true if record.no_room => ", the old ones stop first for want of room",
                true => ", the old ones stop first",
                false => "",
            };
            let most = (*allowed).min(record.target);
            let new = if forward { "new" } else { "return" };
            format!(
                "batch {batch} begins: {most} of {} {new}{order}",
                record.target
            )
        }
        RolloutAnswer::Finishes if record.target == 0 => {
            "over: no replica is wanted, so nothing is proved".to_owned()
        }
        RolloutAnswer::Finishes => {
            let (all, have) = match (record.target, forward) {
                (1, true) => ("the only replica".to_owned(), "is new and was"),
                (1, false) => ("the only replica".to_owned(), "has returned and was"),
                (all, true) => (format!("all {all} replicas"), "are new and were"),
                (all, false) => (format!("all {all} replicas"), "have returned and were"),
            };
            let refused = refused_in_words(&record.refused_by);
            let refused = refused.map_or_else(String::new, |said| format!("; {said}"));
            format!("{all} {have} watched{refused}")
        }
    }
}

/// What HAProxy counted on both sides.
fn numbers(gate: &GateLook) -> String {
    let GateLook { spec, new, old, .. } = gate;
    format!(
        "; HAProxy counts {} of {} requests failed by new replicas, {} of {} by old ones (it takes \
         {} of each to judge)",
        new.errors, new.requests, old.errors, old.requests, spec.requests_min
    )
}

#[cfg(test)]
mod tests {
    use longshore_model::record::{GateSide, RolloutStage};
    use longshore_model::rollout::Trouble;
    use longshore_model::spec::{GateSpec, UpdateSpec};
    use longshore_model::ways::RefusedBy;

    use super::*;

    fn look(answer: RolloutAnswer) -> RolloutRecord {
        RolloutRecord {
            at_ms: 100_000,
            revision: 4,
            direction: Direction::Forward,
            stage: RolloutStage::Running,
            is_first: false,
            terms: UpdateSpec::default(),
            target: 5,
            new: 2,
            serving: 1,
            old: 4,
            batches: 1,
            open: true,
            allowed: 2,
            serving_since_ms: None,
            passed_ms: None,
            no_room: true,
            failed: 0,
            trouble: None,
            setback: None,
            gate: None,
            job: None,
            refused_by: RefusedBy::new(),
            answer,
        }
    }

    #[test]
    fn each_answer_says_what_it_goes_by() {
        let until_ms = 103_000;
        let mut gated = look(RolloutAnswer::Monitors { until_ms });
        let side = |requests, errors| GateSide {
            requests,
            errors,
            least_ms: 0,
            most_ms: 0,
        };
        gated.gate = Some(GateLook {
            spec: GateSpec {
                requests_min: 50,
                error_increase_permille_max: Some(10),
                latency_permille_max: None,
                latency_ms_min: 0,
            },
            since_ms: Some(98_000),
            new: side(40, 1),
            old: side(400, 0),
        });
        let mut back = look(RolloutAnswer::Finishes);
        back.direction = Direction::Back;
        let opens = RolloutAnswer::Opens {
            batch: 2,
            allowed: 3,
            stop_first: true,
        };
        let mut opens_back = look(opens.clone());
        opens_back.direction = Direction::Back;
        let mut nobody = look(RolloutAnswer::Finishes);
        nobody.target = 0;
        let mut refused = look(RolloutAnswer::Finishes);
        let why = "port 443: HAProxy refuses certificate cert: unable to load it";
        refused.refused_by = [("edge1".parse().unwrap(), why.to_owned())].into();
        let why = Trouble::Errors {
            new_permille: 31,
            old_permille: 4,
            increase_permille_max: 10,
            requests: 400,
        };
        let plain = [
            opens,
            RolloutAnswer::GoesOn { why },
            RolloutAnswer::WaitsForReplicas,
            RolloutAnswer::Interrupted,
            RolloutAnswer::Watches,
            RolloutAnswer::Passes,
            RolloutAnswer::Delays { until_ms },
            RolloutAnswer::Holds,
            RolloutAnswer::Reopens,
        ];
        let looks = plain.into_iter().map(look);
        let looks = looks.chain([gated, back, opens_back, nobody, refused]);
        let lines: Vec<String> = looks.map(|look| summary(&look)).collect();
        insta::assert_snapshot!("rollout", lines.join("\n"));
    }
}
