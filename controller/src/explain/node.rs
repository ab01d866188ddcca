//! A node: what it is judged to be, what an operator made of it, whom it refuses.

use longshore_identity::tls::CertificateRefusal;
use longshore_model::reason::Refusal;
use longshore_model::record::NodeFacts;
use longshore_model::report::{NodeReport, NodeState};
use longshore_model::{Availability, EventKind, Node, NodeId, Recorded, ServiceKey, TimeMs};

use super::placing;
use super::words::{Clock, counted, reason};

/// Services shown that the node refuses.
const REFUSED_SHOWN: usize = 6;
/// Problems shown of the node.
const PROBLEMS_SHOWN: usize = 16;

/// Replicas named that a node had.
const THERE_SHOWN: usize = 8;

/// What is known of a node now.
#[derive(Debug)]
pub struct NodeStory<'a> {
    /// Which.
    pub id: &'a NodeId,
    /// Its last report.
    pub report: &'a NodeReport,
    /// Its state in a word.
    pub state: String,
    /// Its availability in a word.
    pub availability: String,
    /// What operators made of it.
    pub node: Option<&'a Node>,
    /// Last sign of life; 0: none since the controller started.
    pub seen_ms: TimeMs,
    /// It has a session.
    pub connected: bool,
    /// It came with a certificate that is not taken, after the last sign of life: when, and why.
    pub refused: Option<(TimeMs, CertificateRefusal)>,
    /// Services that wait and that it refuses.
    pub refuses: Vec<(&'a ServiceKey, &'a Refusal)>,
    /// What does not work there, in its agent's words.
    pub problems: &'a [String],
}

/// In words, the cause first.
#[must_use]
pub fn node(story: &NodeStory<'_>, clock: Clock) -> Vec<String> {
    let (id, report) = (story.id, story.report);
    let mut lines = vec![format!("{id} is {}, {}", story.state, story.availability)];
    lines.extend(
        report
            .reason
            .iter()
            .map(|why| format!("because {}", reason(why, clock))),
    );
    if let Some(note) = story.node.and_then(|node| node.note.as_ref()) {
        let words = match note.message.is_empty() {
            true => String::new(),
            false => format!(": {}", note.message),
        };
        lines.push(format!(
            "  {} since {} UTC by {}{words}",
            story.availability,
            clock.at(note.at_ms),
            note.by
        ));
    }
    lines.push(match (story.seen_ms, story.connected) {
        (0, _) => "  not heard of since the controller started".into(),
        (seen_ms, true) => format!("  last round trip {} UTC", clock.at(seen_ms)),
        (seen_ms, false) => format!("  last heard of {} UTC", clock.at(seen_ms)),
    });
    lines.extend(story.refused.map(|refused| certificate(id, refused, clock)));
    if let Some(node) = story.node {
        lines.extend(placing::drain_lines(node, report, clock.now_ms));
    }
    if report.state == NodeState::Ready {
        lines.push(format!(
            "  {} planned; reserved {}m cpu, {} MiB",
            counted(report.replicas, "replica"),
            report.cpu_reserved_milli,
            report.memory_reserved_bytes >> 20
        ));
    }
    if !story.problems.is_empty() {
        lines.push("does not work".into());
    }
    let problems = story.problems.iter().take(PROBLEMS_SHOWN);
    lines.extend(problems.map(|text| format!("  {text}")));
    if !story.refuses.is_empty() {
        lines.push("refuses".into());
    }
    let refuses = story.refuses.iter().take(REFUSED_SHOWN);
    lines.extend(refuses.map(|(service, why)| format!("  {service}: {why}")));
    lines
}

/// What keeps away a node whose certificate was not taken, or not for a session.
fn certificate(
    id: &NodeId,
    (at_ms, refusal): (TimeMs, CertificateRefusal),
    clock: Clock,
) -> String {
    let at = clock.at(at_ms);
    if refusal == CertificateRefusal::Late {
        return format!(
            "  its certificate was over when it came {at} UTC: it renews that first, by itself; if it \
             does not, the log of its agent says why"
        );
    }
    format!(
        "  its certificate was not taken {at} UTC: {refusal}; enrol it again: controllerctl token \
         create --role ROLE --name {id}, then node-agent join on that host"
    )
}

/// What is kept of a node of a time that is past.
#[derive(Debug)]
pub struct NodeThen<'a> {
    /// Which.
    pub id: &'a NodeId,
    /// The last word on its session.
    pub session: Option<(TimeMs, &'a EventKind)>,
    /// What an operator made of it last.
    pub availability: Option<(TimeMs, &'a EventKind)>,
    /// Its beginning is among the events that are kept: they say all of it.
    pub joined: bool,
    /// Replicas there.
    pub replicas: Vec<String>,
    /// What the last look for places knew of it.
    pub seen: Option<Seen<'a>>,
    /// The last decisions that name it, oldest first.
    pub decisions: &'a [Recorded],
}

/// What a look for places knew of a node.
#[derive(Debug)]
pub struct Seen<'a> {
    /// When.
    pub at_ms: TimeMs,
    /// For which service.
    pub service: &'a ServiceKey,
    /// The node's state in a word.
    pub state: String,
    /// All of it.
    pub facts: &'a NodeFacts,
    /// Why the node could not take one.
    pub refusal: Option<Refusal>,
}

/// A node as it was, in words.
#[must_use]
pub fn node_then(story: &NodeThen<'_>, clock: Clock) -> Vec<String> {
    let id = story.id;
    let mut lines = vec![format!("{id} as it was {} UTC", clock.at(clock.now_ms))];
    let said = [story.session, story.availability].into_iter().flatten();
    lines.extend(said.map(|(at_ms, kind)| format!("  since {} UTC: {kind}", clock.at(at_ms))));
    if story.availability.is_none() && story.joined {
        lines.push("  active: no operator had said otherwise".into());
    }
    lines.extend(story.seen.as_ref().map(|seen| looked(seen, clock)));
    let there = &story.replicas;
    if !there.is_empty() {
        let mut names: Vec<String> = there.iter().take(THERE_SHOWN).cloned().collect();
        let more = there.len().saturating_sub(names.len());
        if more > 0 {
            names.push(format!("{more} more"));
        }
        let (count, names) = (counted(there.len() as u64, "replica"), names.join(", "));
        lines.push(format!("  {count} there, by the events: {names}"));
    }
    if !story.decisions.is_empty() {
        lines.push("decisions (UTC)".into());
    }
    let decisions = story.decisions.iter();
    lines.extend(decisions.map(|recorded| {
        let said = super::summary(&recorded.record);
        let kind = recorded.record.decision.kind().as_str();
        format!("  {}  {kind} {said}", clock.at(recorded.last_ms))
    }));
    if lines.len() == 1 {
        lines.push("  no event and no decision until then is kept".into());
    }
    lines
}

/// `12:03:01 UTC, for a place of shop/web: ready, active, 1200m of 4000m cpu and …`
fn looked(seen: &Seen<'_>, clock: Clock) -> String {
    let Seen { facts, state, .. } = seen;
    let availability = match facts.availability {
        Availability::Active => "active",
        Availability::Cordoned => "cordoned",
        Availability::Draining => "draining",
    };
    let answer = match &seen.refusal {
        Some(refusal) => format!("refused: {refusal}"),
        None => "it fitted".into(),
    };
    format!(
        "  {} UTC, as a place for {}: {state}, {availability}, reserved {}m of {}m cpu, {} of {} \
         MiB; {answer}",
        clock.at(seen.at_ms),
        seen.service,
        facts.cpu_reserved_milli,
        facts.cpu_milli,
        facts.memory_reserved_bytes >> 20,
        facts.memory_bytes >> 20
    )
}
