//! Decisions of this run, for the history.

use std::sync::Arc;

use longshore_model::plan::Replica;
use longshore_model::record::{DrainRecord, EdgeAnswer, PlacementRecord, REFUSALS_MAX};
use longshore_model::{Decision, DecisionRecord, EventKind, Reason, TimeMs};

use crate::draft::Draft;

/// Notes what was decided about a service's count, also that it stays.
pub(crate) fn scale(draft: &mut Draft<'_>, service: usize) {
    let decision = Decision::Scale(Arc::new(draft.services[service].report.scale.clone()));
    note(draft, service, decision);
    places(draft, service);
}

/// Where places ran short, adds who refused to the look for places of this run.
pub(crate) fn places(draft: &mut Draft<'_>, service: usize) {
    let slot = &draft.services[service];
    let short = slot.waits.iter().find_map(|wait| match wait {
        Reason::Unplaceable {
            refusals, counts, ..
        } => Some((counts.clone(), refusals)),
        _ => None,
    });
    let Some((refused, refusals)) = short else {
        return;
    };
    let refusals = refusals.iter().take(REFUSALS_MAX).cloned().collect();
    let look = draft.services[service].short.take();
    let slot = &draft.services[service];
    let records = draft.report.records.iter_mut().rev();
    let mut of = records.filter(|record| record.service == slot.key);
    let placed = of.find_map(|record| match &mut record.decision {
        Decision::Placement(record) => Arc::get_mut(record),
        _ => None,
    });
    if let Some(record) = placed {
        (record.refused, record.refusals) = (refused, refusals);
        record.short = look.or(record.short.take());
        return;
    }
    let asked = look.as_ref().map(|look| look.asked.clone());
    let record = PlacementRecord {
        asked: asked.unwrap_or_default(),
        refused,
        refusals,
        short: look,
        ..PlacementRecord::default()
    };
    note(draft, service, Decision::Placement(Arc::new(record)));
}

/// Notes that a replica which left may be stopped, with what every edge had said by then.
pub(crate) fn drain(draft: &mut Draft<'_>, row: usize, late_ms: TimeMs) {
    let Some(replica) = draft.replica(row) else {
        return;
    };
    let Some(leaving) = &replica.leaving else {
        return;
    };
    let edges = draft.cluster.edges.iter().map(|edge| EdgeAnswer {
        edge: edge.id.clone(),
        runs_generation: edge.seen.map_or(0, |seen| seen.routes_generation),
        gone: edge.gone,
        receipt: leaving.receipts.get(edge.id).copied(),
    });
    let record = DrainRecord {
        replica: replica.id,
        slot: replica.slot,
        node: replica.node.clone(),
        why: leaving.reason.clone(),
        since_ms: leaving.since_ms,
        at_ms: draft.input.now_ms,
        late_ms,
        park_generation: leaving.park_generation,
        edges: edges.collect(),
    };
    let service = draft.rows[row].service;
    note(draft, service, Decision::Drain(Arc::new(record)));
}

/// What is said of a replica that the plan forgets, with how it ended, as far as its node said it.
pub(crate) fn gone(draft: &Draft<'_>, row: usize, replica: &Replica) -> Option<EventKind> {
    let leaving = replica.leaving.as_ref()?;
    let now_ms = draft.input.now_ms;
    let told = replica.stop && leaving.stop_ms > 0;
    let exit = draft.rows[row].status.and_then(|status| status.exit);
    Some(EventKind::Gone {
        service: replica.service.clone(),
        slot: replica.slot,
        replica: replica.id,
        node: replica.node.clone(),
        why: leaving.reason.clone(),
        after_ms: told.then(|| now_ms.saturating_sub(leaving.stop_ms)),
        exit,
        lost: exit.is_none() && draft.on_lost_node(row),
    })
}

/// Notes a decision about a service.
pub(crate) fn note(draft: &mut Draft<'_>, service: usize, decision: Decision) {
    draft.report.records.push(DecisionRecord {
        at_ms: draft.input.now_ms,
        service: draft.services[service].key.clone(),
        plan_version: 0,
        decision,
    });
}

/// Gives the records the version of the plan that they led to.
pub(crate) fn stamp(records: &mut [DecisionRecord], plan_version: u64) {
    for record in records {
        record.plan_version = plan_version;
    }
}
