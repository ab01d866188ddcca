//! An independent look at an outcome before it is committed: the design's invariants, by their
//! own logic. Nothing here calls the stages, so that one mistake cannot hide in both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::observe::{CheckState, EngineState, ServerAdmin, SessionObserved};
use longshore_model::plan::{Assignment, Replica, Traffic};
use longshore_model::reason::{LeaveReason, ScaleCause};
use longshore_model::replica::ReplicaState;
use longshore_model::{NodeId, ServiceKey};

use self::terms::{Terms, in_force};
use crate::{Outcome, PlanInput};

/// An invariant that the outcome breaks. Its number is the design's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invariant {invariant}: {detail}")]
pub struct Violation {
    /// Number of the invariant.
    pub invariant: u8,
    /// Which replica, node or service breaks it, and how.
    pub detail: String,
}

mod nodes;
mod places;
mod terms;

type Verdict = Result<(), Violation>;

fn demand(holds: bool, invariant: u8, detail: impl FnOnce() -> String) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            invariant,
            detail: detail(),
        })
    }
}

/// Looks whether `outcome` may follow `input.current`.
///
/// # Errors
/// The first [`Violation`] found. The outcome must then not be committed.
pub fn check(input: &PlanInput<'_>, outcome: &Outcome) -> Result<(), Violation> {
    versions(input, outcome)?;
    identities(input, outcome)?;
    for replica in outcome.plan.replicas() {
        served_only_if_healthy(input, replica)?;
        way_out(input, outcome, replica)?;
    }
    for before in input.current.replicas() {
        if same_in(&outcome.plan, before).is_none() {
            removed_only_if_gone(input, outcome, before)?;
        }
    }
    changes_keep_serving(input, outcome)?;
    sick_ones_stay_only_in_need(input, outcome)?;
    patience(input, outcome)?;
    brake(input, outcome)?;
    places::standbys(input, outcome)?;
    places::moves(input, outcome)?;
    nodes::hold_what_they_can(input, outcome)
}

/// 6: versions and generations rise exactly with content.
fn versions(input: &PlanInput<'_>, outcome: &Outcome) -> Verdict {
    let (old, new) = (input.current, &outcome.plan);
    if new != old {
        let follows = new.version == old.version + 1 && new.parent == old.version;
        demand(follows, 6, || {
            format!("version {} after {}", new.version, old.version)
        })?;
        let mut same = (**new).clone();
        (same.version, same.parent) = (old.version, old.parent);
        demand(same != **old, 6, || {
            "a new version with nothing in it".to_owned()
        })?;
    }
    let (routes_old, routes_new) = (old.routes(), new.routes());
    let differs = routes_old.backends != routes_new.backends;
    let rises = routes_new.generation == routes_old.generation + u64::from(differs);
    demand(rises, 6, || {
        format!(
            "routes {} -> {}",
            routes_old.generation, routes_new.generation
        )
    })?;
    let (mut before, mut after) = (assignments(old), assignments(new));
    let nodes: BTreeSet<&NodeId> = before.keys().chain(after.keys()).copied().collect();
    let generation = |plan: &longshore_model::Plan, node: &NodeId| {
        plan.generations.get(node).copied().unwrap_or(0)
    };
    for node in nodes {
        let differs = before.remove(node) != after.remove(node);
        let (g_old, g_new) = (generation(old, node), generation(new, node));
        let rises = g_new == g_old + u64::from(differs);
        demand(rises, 6, || {
            format!("{node}: assignment {g_old} -> {g_new}, differs: {differs}")
        })?;
    }
    Ok(())
}

fn assignments(
    plan: &longshore_model::Plan,
) -> BTreeMap<&NodeId, Vec<longshore_model::plan::AssignedReplica>> {
    let mut nodes: BTreeMap<&NodeId, Assignment> = BTreeMap::new();
    for replica in plan.replicas() {
        nodes
            .entry(&replica.node)
            .or_default()
            .replicas
            .push(replica.assigned());
    }
    let sorted = |mut assignment: Assignment| {
        assignment.replicas.sort_by_key(|replica| replica.id);
        assignment.replicas
    };
    nodes
        .into_iter()
        .map(|(node, assignment)| (node, sorted(assignment)))
        .collect()
}

/// Ids are used once; what a replica is never changes; leaving and stop are never taken back.
fn identities(input: &PlanInput<'_>, outcome: &Outcome) -> Verdict {
    let (old, new) = (input.current, &outcome.plan);
    let rises = new.next_replica >= old.next_replica;
    demand(rises, 9, || format!("next id fell to {}", new.next_replica))?;
    let mut slots: BTreeSet<(&ServiceKey, u32)> = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (key, id, now) in new.services.iter().flat_map(|(key, service)| {
        let replicas = service.replicas.iter();
        replicas.map(move |(id, now)| (key, id, now))
    }) {
        let once = ids.insert(id) && now.service == *key;
        demand(once, 9, || format!("{id} is in two services"))?;
        let known = new.template(now).is_some();
        demand(known && now.id == *id, 9, || {
            format!("{id} has no template")
        })?;
        let unique = now.leaving.is_some() || slots.insert((&now.service, now.slot));
        demand(unique, 9, || {
            format!("{id}: slot {} of {} twice", now.slot, now.service)
        })?;
        let Some(was) = same_in(old, now) else {
            let fresh = id.0 >= old.next_replica && id.0 < new.next_replica;
            demand(fresh, 9, || format!("id {id} used again"))?;
            let quiet = now.traffic == Traffic::Out && now.leaving.is_none() && !now.stop;
            demand(quiet, 9, || format!("{id} is born with a past"))?;
            continue;
        };
        let same = now.service == was.service
            && now.node == was.node
            && now.slot == was.slot
            && now.template == was.template
            && now.ports == was.ports
            && now.created_ms == was.created_ms
            && now.address == was.address;
        demand(same, 9, || format!("{id} became another"))?;
        let kept = match (&was.leaving, &now.leaving) {
            (Some(was), Some(now)) => was.reason == now.reason && was.since_ms == now.since_ms,
            (was, _) => was.is_none(),
        };
        demand(kept && (now.stop || !was.stop), 9, || {
            format!("{id} was called back")
        })?;
    }
    Ok(())
}

/// The same replica in another plan.
fn same_in<'p>(plan: &'p longshore_model::Plan, replica: &Replica) -> Option<&'p Arc<Replica>> {
    let service = plan.services.get(&replica.service)?;
    service.replicas.get(&replica.id)
}

fn session_ok(input: &PlanInput<'_>, session: &SessionObserved) -> bool {
    let contact = session.last_echo_ms.max(session.since_ms);
    session.connected && input.now_ms.saturating_sub(contact) <= input.config.session_timeout_ms
}

/// What a connected node with a working engine says of its replica.
fn heard(input: &PlanInput<'_>, replica: &Replica) -> Option<ReplicaState> {
    let seen = input.observed.nodes.get(&replica.node)?;
    let speaks = session_ok(input, &seen.session) && seen.engine == EngineState::Ok;
    let status = seen.replicas.get(&replica.id).filter(|_| speaks)?;
    Some(status.state)
}

/// 1: into the routes only when reported healthy; not left there when known not to be.
fn served_only_if_healthy(input: &PlanInput<'_>, now: &Replica) -> Verdict {
    let was = same_in(input.current, now).map_or(Traffic::Out, |was| was.traffic);
    let heard = heard(input, now);
    let fine = match (was, now.traffic) {
        (_, Traffic::Out) => true,
        // One whose check fails may stay in need: see `sick_ones_stay_only_in_need`.
        (Traffic::Serve, Traffic::Serve) => heard
            .is_none_or(|state| matches!(state, ReplicaState::Healthy | ReplicaState::Unhealthy)),
        (_, Traffic::Serve) => heard == Some(ReplicaState::Healthy) && now.leaving.is_none(),
        (Traffic::Serve | Traffic::Drain, Traffic::Drain) => now.leaving.is_some(),
        (Traffic::Out, Traffic::Drain) => false,
    };
    demand(fine, 1, || {
        format!("{}: {was:?} -> {:?}, heard {heard:?}", now.id, now.traffic)
    })
}

/// Edges that still hold things up: heard of within their lease.
fn live_edges<'a>(input: &PlanInput<'a>) -> impl Iterator<Item = &'a NodeId> {
    let (now_ms, started_ms) = (input.now_ms, input.started_ms);
    let (lease_ms, observed) = (input.config.edge_lease_ms, input.observed);
    let timeout_ms = input.config.session_timeout_ms;
    let edges = input
        .desired
        .nodes
        .iter()
        .filter(|(_, node)| node.roles.edge);
    edges.map(|(id, _)| id).filter(move |id| {
        let session = observed
            .edges
            .get(*id)
            .map(|edge| edge.session)
            .unwrap_or_default();
        let contact = session.last_echo_ms.max(session.since_ms);
        let silent_ms = now_ms.saturating_sub(contact);
        (session.connected && silent_ms <= timeout_ms)
            || now_ms.saturating_sub(contact.max(started_ms)) <= lease_ms
    })
}

fn edges_run(input: &PlanInput<'_>, generation: u64) -> bool {
    live_edges(input).all(|id| {
        input
            .observed
            .edges
            .get(id)
            .is_some_and(|edge| edge.routes_generation >= generation)
    })
}

fn no_sessions(input: &PlanInput<'_>, replica: &Replica) -> bool {
    live_edges(input).all(|edge| {
        let server = input
            .observed
            .edges
            .get(edge)
            .and_then(|edge| edge.server(&replica.service, replica.id));
        server.is_none_or(|server| server.sessions == 0 && server.queued == 0)
    })
}

fn routed(input: &PlanInput<'_>, replica: &Replica) -> bool {
    leads(input.current, replica)
}

fn leads(plan: &longshore_model::Plan, replica: &Replica) -> bool {
    let service = plan.services.get(&replica.service);
    service.is_some_and(|service| {
        service.routes.iter().any(|route| {
            let mut ports = replica.ports.iter();
            ports.any(|port| port.container_port == route.container_port)
        })
    })
}

fn on_dead_node(input: &PlanInput<'_>, outcome_lost: bool, replica: &Replica) -> bool {
    outcome_lost || !input.desired.nodes.contains_key(&replica.node)
}

fn dead(reason: &LeaveReason) -> bool {
    matches!(reason, LeaveReason::Failed { .. } | LeaveReason::NodeLost)
}

/// 2: parked only when drained, stopped only when parked; both without waiting past the deadline.
fn way_out(input: &PlanInput<'_>, outcome: &Outcome, now: &Replica) -> Verdict {
    let Some(leaving) = &now.leaving else {
        return demand(!now.stop, 2, || format!("{} stops without leaving", now.id));
    };
    let was = same_in(input.current, now);
    let was_in = was.is_some_and(|was| was.traffic != Traffic::Out && routed(input, was));
    let late = input.now_ms >= leaving.deadline_ms;
    if was_in && now.traffic == Traffic::Out && !dead(&leaving.reason) {
        let was_draining = was.is_some_and(|was| was.traffic == Traffic::Drain);
        let drained =
            was_draining && edges_run(input, leaving.drain_generation) && no_sessions(input, now);
        let sick = heard(input, now).is_some_and(|state| state != ReplicaState::Healthy);
        let lost = on_dead_node(input, outcome.plan.lost.contains_key(&now.node), now);
        let forgiven = late || sick || lost || live_edges(input).next().is_none();
        let fine = drained || forgiven;
        demand(fine, 2, || format!("{} parked with sessions", now.id))?;
    }
    if now.stop && was.is_some_and(|was| !was.stop) {
        demand(now.traffic == Traffic::Out, 2, || {
            format!("{} stops in traffic", now.id)
        })?;
        let too_late = leaving
            .deadline_ms
            .saturating_add(input.config.park_grace_ms);
        let parked = !routed(input, now) || edges_run(input, leaving.park_generation);
        let fine = parked || input.now_ms >= too_late;
        demand(fine, 2, || {
            format!("{} stops before every edge is without it", now.id)
        })?;
        let has_park = !was_in || leaving.park_generation > input.current.routes_generation;
        demand(has_park, 2, || format!("{} was never parked", now.id))?;
    }
    Ok(())
}

/// 2: forgotten only when its node said so, or is lost.
fn removed_only_if_gone(input: &PlanInput<'_>, outcome: &Outcome, was: &Replica) -> Verdict {
    let lost = outcome.plan.lost.contains_key(&was.node);
    if on_dead_node(input, lost, was) {
        return Ok(());
    }
    let stop_generation = was
        .leaving
        .as_ref()
        .map_or(0, |leaving| leaving.stop_generation);
    let seen = input.observed.nodes.get(&was.node);
    let gone = seen.is_some_and(|seen| {
        let listed = seen.replicas.get(&was.id).map(|status| status.state);
        seen.assignment_generation >= stop_generation
            && listed.is_none_or(|state| state == ReplicaState::Gone)
    });
    demand(was.stop && gone, 2, || {
        format!("{} forgotten while it may run", was.id)
    })
}

/// Healthy by its node's last word (or, where the node cannot speak, reached by an edge), in the
/// routes, and sent requests by every connected edge.
fn counts_as_serving(
    input: &PlanInput<'_>,
    outcome: &Outcome,
    lost: bool,
    replica: &Replica,
) -> bool {
    if replica.leaving.is_some() || replica.traffic != Traffic::Serve || lost {
        return false;
    }
    let edges = input
        .desired
        .nodes
        .iter()
        .filter(|(_, node)| node.roles.edge)
        .count();
    let connected = input.observed.edges.iter().filter(|(id, edge)| {
        let role = input
            .desired
            .nodes
            .get(*id)
            .is_some_and(|node| node.roles.edge);
        role && session_ok(input, &edge.session)
    });
    let mut answers = 0;
    let mut through = edges == 0 || !leads(&outcome.plan, replica);
    let (mut all, mut reached) = (true, false);
    for (_, edge) in connected {
        let server = edge.server(&replica.service, replica.id);
        let takes = server.is_some_and(|server| {
            server.admin == ServerAdmin::Ready && server.check != CheckState::Down
        });
        reached |= server.is_some_and(|server| server.check == CheckState::Up);
        answers += 1;
        all &= takes;
    }
    through |= answers > 0 && all;
    let seen = input.observed.nodes.get(&replica.node);
    let said = seen
        .and_then(|seen| seen.replicas.get(&replica.id))
        .map(|status| status.state);
    let silent = seen.is_none_or(|seen| !session_ok(input, &seen.session));
    through && (said == Some(ReplicaState::Healthy) || (silent && reached))
}

/// 1: where a replica stays in the routes although its check fails, no more than half of the
/// service is in there.
fn sick_ones_stay_only_in_need(input: &PlanInput<'_>, outcome: &Outcome) -> Verdict {
    for (key, service) in &outcome.plan.services {
        let stays = |now: &&Arc<Replica>| now.leaving.is_none() && now.traffic == Traffic::Serve;
        let serving: Vec<&Arc<Replica>> = service.replicas.values().filter(stays).collect();
        let sick = |now: &&Arc<Replica>| heard(input, now) == Some(ReplicaState::Unhealthy);
        let Some(sick) = serving.iter().copied().find(sick) else {
            continue;
        };
        // Judged by the count that was in force when the run began.
        let before = input.current.services.get(key);
        let half = before.map_or(0, |before| before.target).div_ceil(2).max(1);
        let fine = u32::try_from(serving.len()).is_ok_and(|count| count <= half);
        demand(fine, 1, || {
            format!(
                "{} fails its check and stays among {}",
                sick.id,
                serving.len()
            )
        })?;
    }
    Ok(())
}

/// 3: what is given up by choice leaves enough that serves, and a replacement is there first.
fn changes_keep_serving(input: &PlanInput<'_>, outcome: &Outcome) -> Verdict {
    let mut services: BTreeMap<&ServiceKey, Vec<&Replica>> = BTreeMap::new();
    for now in outcome.plan.replicas().filter(|now| !now.paused) {
        services.entry(&now.service).or_default().push(now);
    }
    for (key, replicas) in services {
        let Some(spec) = in_force(input, outcome, key) else {
            continue;
        };
        let terms = Terms::of(outcome, key, spec);
        let target = outcome
            .plan
            .services
            .get(key)
            .map_or(0, |service| service.target);
        let given: Vec<&Replica> = replicas
            .iter()
            .copied()
            .filter(|now| {
                let was = same_in(input.current, now);
                now.leaving
                    .as_ref()
                    .is_some_and(|leaving| !dead(&leaving.reason))
                    && was.is_some_and(|was| was.leaving.is_none())
            })
            .collect();
        if given.is_empty() {
            continue;
        }
        let lost = |r: &Replica| outcome.plan.lost.contains_key(&r.node);
        let mut by_choice = given
            .iter()
            .filter(|now| !places::is_forced(now))
            .peekable();
        // An order to force comes whatever is missing, also where more is wanted than fits.
        let all_forced = by_choice.peek().is_none();
        let gave_serving = by_choice.any(|now| {
            let was = same_in(input.current, now);
            was.is_some_and(|was| counts_as_serving(input, outcome, lost(was), was))
        });
        let after = replicas
            .iter()
            .filter(|r| counts_as_serving(input, outcome, lost(r), r))
            .count();
        let forced = places::forced(input, &given)?;
        let needed = terms.least_serving(target);
        demand(!gave_serving || after + forced >= needed, 3, || {
            format!("{key}: {after} serve after the change, {needed} must")
        })?;
        let staying = replicas.iter().filter(|r| r.leaving.is_none()).count();
        let start_first = terms.starts_first && !all_forced;
        let enough = staying + forced >= target as usize;
        demand(!start_first || enough, 3, || {
            format!("{key}: {staying} stay of {target}; a replacement must start first")
        })?;
    }
    Ok(())
}

/// 4: while the controller still watches, metrics take nothing away and nobody is declared lost.
fn patience(input: &PlanInput<'_>, outcome: &Outcome) -> Verdict {
    for (key, service) in &outcome.plan.services {
        let before = input
            .current
            .services
            .get(key)
            .and_then(|s| s.last_change.as_ref());
        let Some(change) = service.last_change.as_ref().filter(|c| Some(*c) != before) else {
            continue;
        };
        let by_metric = matches!(change.cause, ScaleCause::Metric { .. });
        let policy = in_force(input, outcome, key).and_then(|spec| spec.autoscale.as_ref());
        let watch_ms = policy
            .map_or(0, |p| p.window_ms)
            .max(input.config.observe_ms);
        let watching = input.now_ms < input.started_ms.saturating_add(watch_ms);
        let fine = !(by_metric && watching && change.to < change.from);
        demand(fine, 4, || {
            format!("{key}: scaled in while still observing")
        })?;
    }
    let watching = input.now_ms < input.started_ms.saturating_add(input.config.observe_ms);
    let newly = outcome
        .plan
        .lost
        .keys()
        .find(|node| !input.current.lost.contains_key(*node));
    demand(!watching || newly.is_none(), 4, || {
        format!("{newly:?} lost while still observing")
    })
}

/// 5: never more than the share is declared lost at once.
fn brake(input: &PlanInput<'_>, outcome: &Outcome) -> Verdict {
    let newly = outcome
        .plan
        .lost
        .keys()
        .any(|node| !input.current.lost.contains_key(node));
    if !newly {
        return Ok(());
    }
    let (mut lost, mut all) = (0_u64, 0_u64);
    for (id, node) in &input.desired.nodes {
        let at_ms = outcome.plan.lost.get(id).copied();
        let old =
            at_ms.is_some_and(|at| input.now_ms.saturating_sub(at) > input.config.outage_window_ms);
        if node.roles.worker && !old {
            all += 1;
            lost += u64::from(at_ms.is_some());
        }
    }
    let share = lost * u64::from(input.config.outage_denominator)
        > all * u64::from(input.config.outage_numerator);
    let few = lost < u64::from(input.config.outage_nodes_min);
    demand(few || !share, 5, || {
        format!("{lost} of {all} nodes declared lost at once")
    })
}
