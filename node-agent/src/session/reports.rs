//! When a report goes out and what it says. Changes are sent at once but at most every 50 ms;
//! measurements go with the report of the interval.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use longshore_model::ReplicaState;
use longshore_model::node::Capacity;
use longshore_proto::agent::v1::session_request::Message as Out;
use longshore_wire::{EdgeReport, NodeReport, ReplicaReport, edge_report_to_pb, node_report_to_pb};
use tokio::time::Instant;

use super::SessionParts;
use crate::advice;
use crate::edge::is_urgent;
use crate::reconcile::View;
use crate::runtime::Runtime;
use crate::sampler::Sample;

/// Changes inside this time become one report.
const SPACING: Duration = Duration::from_millis(50);

pub(super) struct Reporter {
    interval: Duration,
    node: Lane,
    edge: Option<Lane>,
    last_edge: Option<EdgeReport>,
    last_sample: Sample,
}

/// One kind of report.
struct Lane {
    last: Option<Instant>,
    /// When the next regular one is due.
    due: Option<Instant>,
    changed: bool,
}

impl Lane {
    fn new() -> Self {
        Self {
            last: None,
            due: None,
            changed: true,
        }
    }

    fn at(&self, now: Instant) -> Instant {
        let regular = self.due.unwrap_or(now);
        let soon = self.last.map_or(now, |last| last + SPACING);
        if self.changed {
            soon.min(regular)
        } else {
            regular
        }
    }
}

/// Most problems in a report.
const PROBLEMS_MAX: usize = 64;

impl Reporter {
    pub(super) fn new(interval: Duration, edge: bool) -> Self {
        Self {
            interval,
            node: Lane::new(),
            edge: edge.then(Lane::new),
            last_edge: None,
            last_sample: Sample::default(),
        }
    }

    pub(super) fn node_changed(&mut self) {
        self.node.changed = true;
    }

    pub(super) fn edge_changed(&mut self, next: &EdgeReport) {
        let urgent = self
            .last_edge
            .as_ref()
            .is_none_or(|last| is_urgent(last, next));
        if let Some(lane) = &mut self.edge {
            lane.changed |= urgent;
        }
    }

    /// The next report need not wait for its turn.
    pub(super) fn hurry(&mut self) {
        self.node.last = None;
        if let Some(lane) = &mut self.edge {
            lane.last = None;
        }
    }

    pub(super) fn wake_at(&self, now: Instant) -> Instant {
        let node = self.node.at(now);
        self.edge
            .as_ref()
            .map_or(node, |edge| node.min(edge.at(now)))
    }

    /// A report that is due, if any.
    pub(super) fn next<R: Runtime>(
        &mut self,
        parts: &mut SessionParts<R>,
        now: Instant,
    ) -> Option<Out> {
        let interval = self.interval;
        let lane = &mut self.node;
        if lane.at(now) <= now {
            let regular = lane.due.is_none_or(|due| due <= now);
            lane.last = Some(now);
            lane.changed = false;
            if regular {
                lane.due = Some(now + interval);
            }
            if let Some(report) = self.node_report(parts, now, regular) {
                return Some(report);
            }
        }
        let lane = self.edge.as_mut().filter(|lane| lane.at(now) <= now)?;
        lane.last = Some(now);
        lane.changed = false;
        if lane.due.is_none_or(|due| due <= now) {
            lane.due = Some(now + interval);
        }
        let report = parts.edge_reports.borrow().to_send(now);
        let message = edge_report_to_pb(&report);
        self.last_edge = Some(report);
        Some(Out::EdgeReport(message))
    }

    fn node_report<R: Runtime>(
        &mut self,
        parts: &mut SessionParts<R>,
        now: Instant,
        regular: bool,
    ) -> Option<Out> {
        let snapshot = parts.snapshots.borrow().clone();
        // What is here is not known yet: silence is better than a wrong word.
        if parts.assignments.is_some() && !snapshot.settled {
            return None;
        }
        if regular {
            let running = snapshot
                .replicas
                .iter()
                .filter_map(|view| view.container.as_deref());
            self.last_sample = parts.sampler.sample(running, now);
        }
        let now_ms = parts.clock.now_ms();
        let replica = |view: &View| self.replica_report(view, now_ms, regular);
        let report = NodeReport {
            assignment_generation: snapshot.generation,
            engine: snapshot.engine,
            cpu_ratio: self.last_sample.cpu_ratio.filter(|_| regular),
            memory_used_bytes: self.last_sample.memory_used_bytes,
            replicas: snapshot.replicas.iter().map(replica).collect(),
            images: images(snapshot.images, &parts.ahead.borrow()),
            capacity: left(
                parts.sampler.capacity(&parts.engine.borrow()),
                snapshot.unclaimed_reserved,
            ),
            problems: problems(parts, snapshot.unclaimed),
            advice: advice::advice(&parts.engine.borrow()),
            time_ms: wall_ms(),
            engine_version: parts.engine.borrow().version.clone(),
        };
        Some(Out::NodeReport(node_report_to_pb(&report)))
    }

    fn replica_report(&self, view: &View, now_ms: i64, regular: bool) -> ReplicaReport {
        let used = view
            .container
            .as_deref()
            .and_then(|id| self.last_sample.containers.get(id));
        let ago = |at_ms: i64| u64::try_from(now_ms - at_ms).unwrap_or(0);
        let measured = regular && view.state != ReplicaState::Failed;
        ReplicaReport {
            id: view.id,
            state: view.state,
            reason: view.reason.clone(),
            container_id: view.container.clone(),
            started_ago_ms: view.started_ms.map(ago),
            healthy_ago_ms: view.healthy_ms.map(ago),
            restarts: view.restarts,
            memory_bytes: used.and_then(|used| used.memory_bytes).unwrap_or(0),
            memory_sample_bytes: used.and_then(|used| used.memory_bytes).filter(|_| measured),
            cpu_milli: used
                .and_then(|used| used.cpu_milli)
                .filter(|_| measured && view.state != ReplicaState::Paused),
            exit: view.exit,
            exposed: view.exposed.clone(),
        }
    }
}

/// The node's clock, as people set it.
fn wall_ms() -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// Most images in a report.
const IMAGES_MAX: usize = 256;

/// Those of the assignment, and those that were fetched ahead.
fn images(mut here: Vec<String>, ahead: &[String]) -> Vec<String> {
    for image in ahead {
        if here.len() < IMAGES_MAX && !here.contains(image) {
            here.push(image.clone());
        }
    }
    here
}

/// What does not work on this node, and what nobody knows.
fn problems<R: Runtime>(parts: &SessionParts<R>, unclaimed: Vec<String>) -> Vec<String> {
    let names = parts.names.as_ref();
    let problems = names.map(|names| names.mesh.problems()).unwrap_or_default();
    let all = problems.into_iter().chain(unclaimed);
    all.take(PROBLEMS_MAX).collect()
}

/// What the node has beside what nobody knows but runs: no plan counts that.
fn left(has: Capacity, (cpu_milli, memory_bytes): (u64, u64)) -> Capacity {
    Capacity {
        cpu_milli: has.cpu_milli.saturating_sub(cpu_milli),
        memory_bytes: has.memory_bytes.saturating_sub(memory_bytes),
        ..has
    }
}
