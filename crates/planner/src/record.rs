//! Decisions of this run, for the history.

use std::sync::Arc;

use longshore_model::{Decision, DecisionRecord};

use crate::draft::Draft;

/// Notes what was decided about a service's count, also that it stays.
pub(crate) fn scale(draft: &mut Draft<'_>, service: usize) {
    let decision = Decision::Scale(Arc::new(draft.services[service].report.scale.clone()));
    note(draft, service, decision);
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
