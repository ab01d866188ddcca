//! A replica: the chain from its place to its end.

use longshore_model::aside::Aside;
use longshore_model::plan::{Replica, Traffic};
use longshore_model::receipt::end_in_words;
use longshore_model::record::{DrainRecord, PlacementRecord, VictimRecord};
use longshore_model::replica::ReplicaStatus;
use longshore_model::weight::WeightLook;
use longshore_model::{Event, EventKind, NodeId, ReplicaId, ServiceKey, TimeMs};

use super::words::{Clock, counted, span};
use super::{placement, victims};

/// An edge that takes in requests for a replica that drains. Its deadline ends that, too.
pub const LET_IN: &str = "let in until nothing waits or another serves";

/// What is known of a replica at one time.
#[derive(Debug)]
pub struct ReplicaStory<'a> {
    /// Which.
    pub id: ReplicaId,
    /// Of which service.
    pub service: &'a ServiceKey,
    /// Its part in the plan; none once it is gone, or if it is asked about the past.
    pub planned: Option<&'a Replica>,
    /// Every edge that says anything of it gives it no request.
    pub shut_out: bool,
    /// An operator keeps it out of the routes.
    pub aside: Option<&'a Aside>,
    /// Edges whose check of it fails.
    pub not_by: Vec<&'a NodeId>,
    /// What its node says.
    pub status: Option<&'a ReplicaStatus>,
    /// Its node has a session.
    pub connected: bool,
    /// What each edge has of it: check, sessions, waiting requests.
    pub edges: Vec<(NodeId, String)>,
    /// Its weight, if that goes by load.
    pub weight: Option<&'a WeightLook>,
    /// The look for places that gave it its place.
    pub placement: Option<&'a PlacementRecord>,
    /// The choice by which it left.
    pub victims: Option<&'a VictimRecord>,
    /// The decision that it may stop.
    pub drain: Option<&'a DrainRecord>,
    /// Its events, oldest first.
    pub events: &'a [Event],
}

/// In words: where it stands, then step by step how it came there.
#[must_use]
pub fn replica(story: &ReplicaStory<'_>, clock: Clock) -> Vec<String> {
    let mut lines = vec![head(story)];
    if let Some(status) = story.status {
        lines.extend(status.reason.iter().map(|why| format!("because {why}")));
        if status.restarts > 0 {
            let times = counted(status.restarts, "time");
            lines.push(format!("  restarted {times} in place"));
        }
    }
    let leaving = story
        .planned
        .filter(|planned| planned.traffic == Traffic::Drain);
    if let Some(leaving) = leaving.and_then(|planned| planned.leaving.as_ref()) {
        lines.push(format!("  {}", finishes_until(leaving.deadline_ms, clock)));
    }
    if let Some(aside) = story.aside.filter(|_| story.planned.is_some()) {
        let since = clock.at(aside.at_ms);
        lines.push(format!(
            "  kept out of the routes since {since} UTC, {aside}"
        ));
    }
    if story.planned.is_some() && !story.connected {
        lines.push("  its node is not connected: that may be old".into());
    }
    let edges = story.edges.iter();
    lines.extend(edges.map(|(edge, said)| format!("  edge {edge}: {said}")));
    lines.extend(story.weight.map(|look| format!("  {look}")));
    let steps = steps(story);
    if !steps.is_empty() {
        lines.push("steps (UTC)".into());
    }
    let steps = steps.into_iter();
    lines.extend(steps.map(|(at_ms, said)| format!("  {}  {said}", clock.at(at_ms))));
    lines
}

/// What a draining replica does, and for how long.
#[must_use]
pub fn finishes_until(deadline_ms: TimeMs, clock: Clock) -> String {
    let until = clock.at(deadline_ms);
    format!("finishes what it has and what waits for it, until {until} UTC at most")
}

fn head(story: &ReplicaStory<'_>) -> String {
    let name = |slot: u32| format!("{}.{slot} ({})", story.service.service, story.id);
    let Some(planned) = story.planned else {
        let slot = story.events.iter().find_map(|event| event.kind.slot());
        let last = story.events.last().map(|event| &event.kind);
        let state = match last {
            Some(EventKind::Gone { .. }) => "is gone",
            Some(EventKind::Drained { .. } | EventKind::Leaving { .. }) => "was leaving",
            Some(EventKind::Serving { .. }) => "took traffic",
            Some(EventKind::Failed { .. } | EventKind::Unhealthy { .. }) => "was not healthy",
            Some(EventKind::Placed { .. }) => "had a place",
            _ => "is known from its events only",
        };
        return match slot {
            Some(slot) => format!("{} of {} {state}", name(slot), story.service),
            None => format!("{} of {} {state}", story.id, story.service),
        };
    };
    let doing = match (&planned.leaving, planned.traffic, planned.paused) {
        (Some(leaving), ..) => format!("leaves: {}", leaving.reason),
        (None, Traffic::Serve, _) if story.shut_out => {
            "is to take traffic, but no edge sends it any".into()
        }
        (None, Traffic::Serve, _) if !story.not_by.is_empty() => {
            let edges: Vec<&str> = story.not_by.iter().map(|edge| edge.as_str()).collect();
            let edges = edges.join(", ");
            format!("takes traffic, but none through {edges}: HAProxy's check fails there")
        }
        (None, Traffic::Serve, _) => "takes traffic".into(),
        (None, Traffic::Drain, _) => "finishes its sessions".into(),
        (None, Traffic::Out, true) => "is a warm standby".into(),
        (None, Traffic::Out, false) if planned.ended.is_some() => {
            match planned.ended.and_then(|ended| ended.code) {
                Some(code) => format!("has ended with {code}, and is kept for its log"),
                None => "has failed".into(),
            }
        }
        (None, Traffic::Out, false) => match story.status {
            Some(status) => format!("is {}, in no route", word(status)),
            None => "is not reported by its node yet".into(),
        },
    };
    format!(
        "{} of {} on {} {doing}",
        name(planned.slot),
        story.service,
        planned.node
    )
}

fn word(status: &ReplicaStatus) -> String {
    format!("{:?}", status.state).to_lowercase()
}

/// The chain, by time: placed → started → healthy → routed → drained → stopped → gone.
fn steps(story: &ReplicaStory<'_>) -> Vec<(TimeMs, String)> {
    let mut steps: Vec<(TimeMs, String)> = Vec::new();
    let mut started = story.status.and_then(|status| status.started_ms);
    let mut healthy = story.status.and_then(|status| status.healthy_ms);
    let mut frozen = false;
    for event in story.events {
        if let EventKind::Serving {
            started_ms,
            healthy_ms,
            again,
            ..
        } = &event.kind
        {
            // What the event froze is the incarnation that was routed. One that only proves itself
            // anew, because its agent forgot, was healthy before.
            let proves_anew = *again && frozen && (started_ms.is_none() || *started_ms == started);
            if !proves_anew {
                started = started_ms.or(started);
                healthy = healthy_ms.or(healthy);
            }
            frozen = true;
        }
        let said = step(story, event);
        steps.extend(said.map(|said| (event.at_ms, said)));
    }
    steps.extend(started.map(|at_ms| (at_ms, "started".to_owned())));
    steps.extend(healthy.map(|at_ms| (at_ms, "healthy".to_owned())));
    if let Some(drain) = story.drain {
        let forced = if drain.forced() { ", forced" } else { "" };
        steps.push((
            drain.at_ms,
            format!(
                "told to stop: {}{forced}",
                match drain.edges.len() {
                    0 => "no edge had it".to_owned(),
                    edges => format!("{} of {edges} edges run without it", parked(drain)),
                }
            ),
        ));
    }
    // A clock of a node that runs ahead must not reorder what caused what: events keep their
    // order, and equal times too.
    steps.sort_by_key(|(at_ms, _)| *at_ms);
    steps
}

fn parked(drain: &DrainRecord) -> usize {
    let runs =
        |edge: &&longshore_model::record::EdgeAnswer| edge.runs_generation >= drain.park_generation;
    drain.edges.iter().filter(runs).count()
}

fn step(story: &ReplicaStory<'_>, event: &Event) -> Option<String> {
    Some(match &event.kind {
        EventKind::Placed { node, replica, .. } => {
            let record = story.placement;
            let choice = record.and_then(|record| {
                let choice = record.choices.iter().find(|c| c.replica == *replica)?;
                Some(placement::chosen(record, choice))
            });
            format!("placed on {}", choice.unwrap_or_else(|| node.to_string()))
        }
        EventKind::Serving { again: true, .. } => "routed again".to_owned(),
        EventKind::Serving { after_ms, .. } => {
            let mut routed = story
                .events
                .iter()
                .filter(|e| matches!(e.kind, EventKind::Serving { .. }));
            if routed.next().is_some_and(|first| first.at_ms < event.at_ms) {
                "routed again".to_owned()
            } else {
                format!("routed, {} after it was placed", span(*after_ms))
            }
        }
        EventKind::Unhealthy { why, .. } => match why {
            Some(why) => format!("left the routes: {why}"),
            None => "left the routes: not healthy".into(),
        },
        EventKind::Leaving { why, .. } => {
            let record = story.victims;
            let chosen = record.and_then(|record| {
                let candidate = record.candidate(story.id)?;
                Some(victims::chosen(record, candidate))
            });
            match chosen {
                Some(chosen) => format!("leaves: {why} ({chosen})"),
                None => format!("leaves: {why}"),
            }
        }
        EventKind::Drained {
            after_ms, receipts, ..
        } => {
            let edges: Vec<String> = receipts
                .iter()
                .map(|(edge, receipt)| format!("{edge} {receipt}"))
                .collect();
            format!("drained in {}: {}", span(*after_ms), edges.join("; "))
        }
        EventKind::Gone { exit, lost, .. } => format!("gone: {}", end_in_words(*exit, *lost)),
        EventKind::Failed { why, .. } => format!("failed: {why}"),
        EventKind::Moving { successor, to, .. } if *successor == story.id => {
            format!("takes another one's place on {to}, to even out the cluster")
        }
        EventKind::Moving { successor, to, .. } => format!("moves to {to} as {successor}"),
        EventKind::Woken { .. } => "woken from standby".into(),
        EventKind::JobCompleted { after_ms, .. } => format!("completed after {}", span(*after_ms)),
        _ => return None,
    })
}
