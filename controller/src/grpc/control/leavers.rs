//! Replicas that leave, as what a change waits for: `up`, `down`, `scale` and `rollout status`.

use longshore_model::observe::{EdgeObserved, ServerAdmin};
use longshore_model::plan::{Leaving, Plan, Replica, Traffic};
use longshore_model::report::ServiceReport;
use longshore_model::{NodeId, Observed, Reason, ServiceKey};

use crate::explain::{self, Clock};

/// Replicas named; of the others it is said how many they are.
const LEAVERS_MAX: usize = 3;

/// What a service waits for, its leaving replicas among it: before what only follows from them,
/// while a place is empty until one has left.
pub(super) fn waits(
    report: Option<&ServiceReport>,
    plan: &Plan,
    observed: &Observed,
    key: &ServiceKey,
    clock: Clock,
) -> Vec<String> {
    let reasons = report.map_or(&[][..], |report| &report.waits);
    let mut waits: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    let is_short = report.is_some_and(|report| report.planned < report.wanted);
    let follows = |reason: &Reason| {
        matches!(
            reason,
            Reason::WaitsForReplacement { .. } | Reason::NoRoomToStartFirst { .. }
        )
    };
    let at = reasons
        .iter()
        .position(|reason| is_short && follows(reason));
    let at = at.unwrap_or(waits.len());
    waits.splice(at..at, leavers(plan, observed, key, clock));
    waits
}

/// The leaving replicas of a service, each with what keeps it.
pub(super) fn leavers(
    plan: &Plan,
    observed: &Observed,
    key: &ServiceKey,
    clock: Clock,
) -> Vec<String> {
    let replicas = plan.replicas_of(key);
    let mut leaving: Vec<(&Replica, &Leaving)> = replicas
        .filter_map(|replica| Some((&**replica, replica.leaving.as_deref()?)))
        .collect();
    leaving.sort_by_key(|(replica, leaving)| (leaving.deadline_ms, replica.id));
    let more = leaving.len().saturating_sub(LEAVERS_MAX);
    leaving.truncate(LEAVERS_MAX);
    let said = leaving
        .iter()
        .map(|(replica, leaving)| leaver(replica, leaving, observed, clock));
    let more = (more > 0).then(|| format!("and {more} more that leave"));
    said.chain(more).collect()
}

/// No numbers of sessions: they change all the time, and a line of progress would with them.
fn leaver(replica: &Replica, leaving: &Leaving, observed: &Observed, clock: Clock) -> String {
    let name = format!("{} ({}) on {}", replica.name(), replica.id, replica.node);
    let node = observed.nodes.get(&replica.node);
    let is_connected = node.is_some_and(|node| node.session.connected);
    if replica.traffic == Traffic::Drain {
        let edges = observed.edges.iter();
        let kept: Vec<String> = edges
            .filter_map(|(id, seen)| keeps(id, seen, replica))
            .collect();
        let kept = match kept.is_empty() {
            true => String::new(),
            false => format!(" ({})", kept.join("; ")),
        };
        let until = explain::finishes_until(leaving.deadline_ms, clock);
        return format!("{name} {until}{kept}");
    }
    match is_connected {
        true => format!("{name} is out of the routes and stops"),
        false => format!("{name} is out of the routes; its node, which is to stop it, is away"),
    }
}

/// How an edge keeps a replica from leaving, if it does.
fn keeps(id: &NodeId, seen: &EdgeObserved, replica: &Replica) -> Option<String> {
    let server = seen.server(&replica.service, replica.id)?;
    if server.admin == ServerAdmin::Ready {
        return Some(format!("{id}: {}", explain::LET_IN));
    }
    let has = match (server.sessions > 0, server.queued > 0) {
        (true, true) => "has sessions on it, and requests that wait",
        (true, false) => "has sessions on it",
        (false, true) => "has requests that wait for it",
        (false, false) => return None,
    };
    Some(format!("{id}: {has}"))
}

#[cfg(test)]
mod tests;
