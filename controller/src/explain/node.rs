//! A node: what it is judged to be, what an operator made of it, whom it refuses.

use longshore_identity::tls::CertificateRefusal;
use longshore_model::reason::Refusal;
use longshore_model::report::{NodeReport, NodeState};
use longshore_model::{Node, NodeId, ServiceKey, TimeMs};

use super::placing;
use super::words::{Clock, counted, reason};

/// Services shown that the node refuses.
const REFUSED_SHOWN: usize = 6;

/// What is known of a node at one time.
#[derive(Debug)]
pub struct NodeStory<'a> {
    /// Which.
    pub id: &'a NodeId,
    /// Its last report; none if it is asked about the past.
    pub report: Option<&'a NodeReport>,
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
}

/// In words, the cause first.
#[must_use]
pub fn node(story: &NodeStory<'_>, clock: Clock) -> Vec<String> {
    let id = story.id;
    let Some(report) = story.report else {
        return vec![format!(
            "{id}: what happened to it until {} UTC",
            clock.at(clock.now_ms)
        )];
    };
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
    if let Some((at_ms, refusal)) = story.refused {
        lines.push(format!(
            "  its certificate was not taken {} UTC: {refusal}; enrol it again: controllerctl token \
             create --role ROLE --name {id}, then node-agent join on that host",
            clock.at(at_ms)
        ));
    }
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
    if !story.refuses.is_empty() {
        lines.push("refuses".into());
    }
    let refuses = story.refuses.iter().take(REFUSED_SHOWN);
    lines.extend(refuses.map(|(service, why)| format!("  {service}: {why}")));
    lines
}
