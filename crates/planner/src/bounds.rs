//! Bounds in force: the file's, its schedules' at this time, an operator's.

use longshore_model::report::{BoundReport, BoundSource};
use longshore_model::{AutoscaleSpec, ServiceSpec, TimeMs};

use crate::draft::Draft;

/// Bounds in force and where they come from.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub min: u32,
    pub max: u32,
    pub sources: Vec<BoundReport>,
}

impl Bounds {
    pub(crate) fn clamp(&self, count: u32) -> u32 {
        count.clamp(self.min, self.max)
    }

    /// Who set the bound that a count runs into.
    pub(crate) fn source(&self, upper: bool) -> &BoundSource {
        let found = self.sources.iter().find(|bound| bound.upper == upper);
        found.map_or(&BoundSource::File, |bound| &bound.source)
    }
}

/// Bounds of a service now. Of several schedules in force the one that asks for most holds; an
/// operator's bounds replace both. Crosswise bounds: the operator's holds, else the lower one.
pub(crate) fn in_force(draft: &mut Draft<'_>, service: usize, spec: &ServiceSpec) -> Bounds {
    let Some(policy) = &spec.autoscale else {
        return Bounds {
            min: 0,
            max: AutoscaleSpec::REPLICAS_MAX,
            sources: Vec::new(),
        };
    };
    let file = |upper: bool, count: u32| BoundReport {
        upper,
        count,
        source: BoundSource::File,
        until_ms: None,
    };
    let mut min = file(false, policy.min);
    let mut max = file(true, policy.max);
    scheduled(draft, service, policy, &mut min, &mut max);
    max.count = max.count.max(min.count);
    let control = draft
        .input
        .desired
        .autoscale
        .get(&draft.services[service].key);
    let said = control.and_then(|control| control.bounds.as_ref());
    #[cfg(feature = "mutants")]
    let said =
        said.filter(|_| !longshore_model::mutant::is(longshore_model::Mutant::OverrideIgnored));
    if let Some(said) = said {
        let by = |upper: bool, count: u32| BoundReport {
            upper,
            count,
            source: BoundSource::Override {
                by: said.by.clone(),
            },
            until_ms: None,
        };
        if let Some(count) = said.max {
            max = by(true, count);
            min.count = min.count.min(count);
        }
        if let Some(count) = said.min {
            min = by(false, count);
            max.count = max.count.max(count);
        }
    }
    Bounds {
        min: min.count.min(AutoscaleSpec::REPLICAS_MAX),
        max: max.count.min(AutoscaleSpec::REPLICAS_MAX),
        sources: vec![min, max],
    }
}

/// What the schedules in force make of the file's bounds.
fn scheduled(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    min: &mut BoundReport,
    max: &mut BoundReport,
) {
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::ScheduleIgnored) {
        return;
    }
    for schedule in &policy.schedules {
        // One that cannot be read was refused long ago; it changes nothing.
        let Ok(calendar) = schedule.calendar() else {
            continue;
        };
        let in_force = calendar.at(draft.input.now_ms);
        if let Some(until_ms) = in_force.until_ms {
            draft.look_again(service, until_ms);
        }
        if !in_force.now {
            continue;
        }
        let raise = |bound: &mut BoundReport, count: Option<u32>, until_ms: Option<TimeMs>| {
            let Some(count) = count else { return };
            if bound.source == BoundSource::File || count > bound.count {
                let name = schedule.name.clone();
                bound.count = count;
                bound.source = BoundSource::Schedule { name };
                bound.until_ms = until_ms;
            }
        };
        raise(min, schedule.min, in_force.until_ms);
        raise(max, schedule.max, in_force.until_ms);
    }
}
