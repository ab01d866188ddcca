//! A service: its count, its places, what it waits for.

use longshore_model::report::ServiceReport;
use longshore_model::{Decision, Reason, Recorded, ServiceKey, TimeMs};

use super::words::{Clock, counted, reason};
use super::{placement, placing, scale};

/// What is known of a service at one time.
#[derive(Debug)]
pub struct ServiceStory<'a> {
    /// Which.
    pub key: &'a ServiceKey,
    /// Its last report; none if it is asked about the past.
    pub report: Option<&'a ServiceReport>,
    /// The decision about its count that was in force.
    pub scale: Option<&'a Recorded>,
    /// The last one that changed it.
    pub change: Option<&'a Recorded>,
    /// The last look for places.
    pub placement: Option<&'a Recorded>,
    /// The last look at a rollout.
    pub rollout: Option<&'a Recorded>,
    /// When the first look at a rollout that is kept was, if the story is of the past.
    pub rollouts_from_ms: Option<TimeMs>,
    /// The last move to another node.
    pub moved: Option<&'a Recorded>,
    /// Failures in a row of its new replicas, in words.
    pub failures: Option<String>,
}

/// In words, the cause first.
#[must_use]
pub fn service(story: &ServiceStory<'_>, clock: Clock) -> Vec<String> {
    let mut lines = vec![head(story, clock)];
    let report = story.report;
    lines.extend(because(story, clock));
    let waits = report.iter().flat_map(|report| &report.waits);
    lines.extend(waits.flat_map(placing::refusal_lines));
    lines.extend(story.failures.iter().map(|said| format!("  {said}")));
    if let Some((recorded, report)) = scale_of(story.scale) {
        let inputs = scale::lines(story.key, report, recorded.last_ms, clock);
        if !inputs.is_empty() {
            lines.push("count".into());
            lines.extend(inputs);
        }
    }
    if let Some((recorded, record)) = story.placement.and_then(|recorded| {
        let Decision::Placement(record) = &recorded.record.decision else {
            return None;
        };
        // Who refuses now is said above.
        let said = record.placed == 0 && report.is_some_and(|report| !report.waits.is_empty());
        (!said).then_some((recorded, record))
    }) {
        lines.push(format!(
            "nodes ({} at {}{})",
            match record.placed {
                0 => "no place".into(),
                placed => counted(placed, "replica") + " placed",
            },
            clock.at(recorded.last_ms),
            times(recorded, clock)
        ));
        lines.extend(placement::lines(story.key, record));
    }
    lines.extend(report.map(state).into_iter().flatten());
    for (what, recorded) in [("rollout", story.rollout), ("last move", story.moved)] {
        lines.extend(line(what, recorded, clock));
    }
    if let (None, Some(from_ms)) = (story.rollout, story.rollouts_from_ms) {
        let from = clock.at(from_ms);
        lines.push(format!(
            "rollout: no record of that time is kept, the first is of {from}"
        ));
    }
    if let Some((recorded, report)) = scale_of(story.change) {
        lines.push(format!(
            "last change: {}  {}",
            clock.at(recorded.last_ms),
            scale::summary(report)
        ));
    }
    lines
}

/// One slot of the service that is wanted and that no replica has, in words.
#[must_use]
pub fn slot(story: &ServiceStory<'_>, slot: u32, clock: Clock) -> Vec<String> {
    let key = story.key;
    let counts = story.report.map_or_else(String::new, |report| {
        let (planned, wanted) = (report.planned, report.wanted);
        format!(": {} planned, {wanted} wanted", counted(planned, "replica"))
    });
    let name = &key.service;
    let mut lines = vec![format!("{name}.{slot} of {key} waits to be placed{counts}")];
    let waits = story.report.map_or(&[][..], |report| &report.waits);
    let said = waits.iter().map(|wait| reason(wait, clock));
    lines.extend(said.map(|said| format!("waits: {said}")));
    lines.extend(waits.iter().flat_map(placing::refusal_lines));
    lines.extend(story.failures.iter().map(|said| format!("  {said}")));
    if waits.is_empty() {
        lines.push("waits: nothing is known to be in its way; look again in a moment".into());
    }
    lines.extend(line("rollout", story.rollout, clock));
    lines
}

/// `rollout: 12:04:10  …`
fn line(what: &str, recorded: Option<&Recorded>, clock: Clock) -> Option<String> {
    let recorded = recorded?;
    let said = super::summary(&recorded.record);
    let (at, times) = (clock.at(recorded.last_ms), times(recorded, clock));
    Some(format!("{what}: {at}{times}  {said}"))
}

fn scale_of(
    recorded: Option<&Recorded>,
) -> Option<(&Recorded, &longshore_model::report::ScaleReport)> {
    let recorded = recorded?;
    match &recorded.record.decision {
        Decision::Scale(report) => Some((recorded, report)),
        _ => None,
    }
}

fn times(recorded: &Recorded, clock: Clock) -> String {
    match recorded.count {
        1 => String::new(),
        count => format!(
            ", the same {count} times since {}",
            clock.at(recorded.first_ms)
        ),
    }
}

/// `shop/web runs 4, wants 4 (decided 12:16:05 UTC, the same 312 times since 12:10:53)`
fn head(story: &ServiceStory<'_>, clock: Clock) -> String {
    let key = story.key;
    let decided = story.scale.map_or_else(
        || "not decided yet".to_owned(),
        |recorded| {
            format!(
                "decided {} UTC{}",
                clock.at(recorded.last_ms),
                times(recorded, clock)
            )
        },
    );
    match (story.report, scale_of(story.scale)) {
        (Some(report), _) => format!(
            "{key} runs {}, wants {} ({decided})",
            report.healthy, report.wanted
        ),
        (None, Some((_, scale))) => format!("{key} wanted {} ({decided})", scale.result),
        (None, None) => format!("{key}: no decision of that time is kept"),
    }
}

/// Why it is not as wanted, else why it is as it is.
fn because(story: &ServiceStory<'_>, clock: Clock) -> Vec<String> {
    let waits = story.report.map_or(&[][..], |report| &report.waits);
    let waits = waits
        .iter()
        .map(|wait| format!("waits: {}", reason(wait, clock)));
    let each = story.report.and_then(each_node);
    if let Some(each) = each {
        return each.into_iter().chain(waits).collect();
    }
    if waits.len() > 0 {
        return waits.collect();
    }
    let cause = scale_of(story.scale).and_then(|(_, report)| scale::cause(report));
    cause
        .into_iter()
        .map(|cause| format!("because {cause}"))
        .collect()
}

/// Which nodes have one, as it is now: the last decision only says how many have.
fn each_node(report: &ServiceReport) -> Option<Vec<String>> {
    let mut reasons = report.scale.reasons.iter();
    let each = reasons.find_map(|reason| match reason {
        Reason::EachNode(each) => Some(each),
        _ => None,
    })?;
    let mut lines = vec![format!("because {each}")];
    if !each.names_all() {
        let named = each.refusals.iter();
        lines.extend(named.map(|(node, why)| format!("  {node} not: {why}")));
        let more = (each.others as usize).saturating_sub(each.refusals.len());
        lines.extend((more > 0).then(|| format!("  and {more} more")));
    }
    Some(lines)
}

/// What is under way, where anything is.
fn state(report: &ServiceReport) -> Vec<String> {
    let mut lines = Vec::new();
    let moving = report.leaving + report.outdated + (report.wanted.abs_diff(report.serving));
    if moving > 0 {
        lines.push(format!(
            "replicas: {} planned, {} healthy, {} serving, {} leaving, {} outdated",
            report.planned, report.healthy, report.serving, report.leaving, report.outdated
        ));
    }
    lines.extend(placing::service_lines(report));
    lines
}
