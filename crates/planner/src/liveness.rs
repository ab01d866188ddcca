//! Which nodes are there: two witnesses, and a brake.
//!
//! The session (an echo each second) is one witness, the edges' own health checks of the node's
//! replicas are the other. Both say gone: lost at once. Only the session gone: unknown, and still
//! serving. Nobody to ask: the slower timeout. Too many at once: nobody is declared lost, the
//! fault is more likely ours.

use std::sync::Arc;

use longshore_model::report::NodeState;
use longshore_model::{EventKind, Reason, TimeMs};

use crate::PlanInput;
use crate::cluster::{Cursor, Held, NodeSlot, contact_ms};
use crate::draft::Draft;

/// What the witnesses say of a node whose session is gone.
enum Verdict {
    Wait,
    Doubt,
    Gone(String),
}

/// Judges every node, updates `plan.lost`, and says what changed.
pub(crate) fn run(draft: &mut Draft<'_>) {
    let input = draft.input;
    let mut gone: Vec<(usize, String)> = Vec::new();
    for at in 0..draft.cluster.silent.len() {
        let number = draft.cluster.silent[at];
        let slot = &mut draft.cluster.nodes[number];
        match verdict(&input, slot, &draft.cluster.held[number]) {
            Verdict::Wait => {}
            Verdict::Doubt => slot.doubted = true,
            Verdict::Gone(words) => gone.push((number, words)),
        }
    }
    declare(draft, &gone);
    say(draft, &gone);
    crate::flaps::run(draft);
    say_edges(draft);
    say_sharers(draft);
    crate::certificates::say(draft);
    say_repairs(draft);
}

/// How long nothing was heard of it, as far as this controller can know.
fn silent_ms(input: &PlanInput<'_>, slot: &NodeSlot<'_>) -> u64 {
    let heard_ms = slot.seen.map_or(0, |seen| contact_ms(&seen.session));
    let contact_ms = heard_ms
        .max(input.listens_since_ms())
        // One from the time before the clock was put back says nothing of now.
        .max(
            Some(slot.node.joined_ms)
                .filter(|at_ms| *at_ms <= input.now_ms)
                .unwrap_or(0),
        );
    input.now_ms.saturating_sub(contact_ms)
}

fn verdict(input: &PlanInput<'_>, slot: &NodeSlot<'_>, held: &Held) -> Verdict {
    // One that was never heard of and holds nothing has nothing to lose: it is awaited.
    let heard_ms = slot.seen.map_or(0, |seen| contact_ms(&seen.session));
    if heard_ms == 0 && held.replicas == 0 {
        return Verdict::Wait;
    }
    let silent_ms = silent_ms(input, slot);
    let observing = input.now_ms < input.config.observe_until(input.started_ms);
    let seconds = silent_ms / 1_000;
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::UnknownIsDead)
        && silent_ms > input.config.session_timeout_ms
    {
        return Verdict::Gone("unknown".to_owned());
    }
    if observing || silent_ms <= input.config.session_timeout_ms {
        Verdict::Wait
    } else if held.up > 0 {
        if silent_ms >= input.config.hold_while_serving_ms {
            Verdict::Doubt
        } else {
            Verdict::Wait
        }
    } else if held.down > 0 {
        let all = held.down;
        Verdict::Gone(format!(
            "no echo for {seconds} s; HAProxy reaches 0 of its {all} servers"
        ))
    } else if silent_ms >= input.config.single_witness_timeout_ms {
        Verdict::Gone(format!("no echo for {seconds} s; no edge can tell"))
    } else {
        Verdict::Wait
    }
}

/// Lost or braked: decides for all nodes together.
fn declare(draft: &mut Draft<'_>, gone: &[(usize, String)]) {
    let input = draft.input;
    let cluster = &draft.cluster;
    draft.lost.retain(|id, _| {
        cluster
            .number(id)
            .is_some_and(|number| !cluster.nodes[number].state.is_connected())
    });
    // Where the clock was put back, they would count as lost just now for as long.
    for at_ms in draft.lost.values_mut() {
        *at_ms = (*at_ms).min(input.now_ms);
    }
    let window_ms = input.config.outage_window_ms;
    let recent = |at_ms: u64| input.now_ms.saturating_sub(at_ms) <= window_ms;
    let (mut at_once, mut all) = (0_u32, cluster.workers);
    for (id, at_ms) in &draft.lost {
        let number = cluster.number(id);
        if number.is_some_and(|number| cluster.nodes[number].node.roles.worker) {
            match recent(*at_ms) {
                true => at_once += 1,
                false => all = all.saturating_sub(1),
            }
        }
    }
    let fresh = gone.iter().filter(|(number, _)| {
        let slot = &draft.cluster.nodes[*number];
        slot.node.roles.worker && !draft.lost.contains_key(slot.id)
    });
    at_once += u32::try_from(fresh.count()).unwrap_or(u32::MAX);
    let starts = is_outage(&input, at_once, all);
    // A second witness needs a moment: of nodes that fell silent together, the first to be judged
    // must not be evicted before it is known whether the others go the same way.
    let undecided = undecided(draft, gone);
    let unsettled = !starts && is_outage(&input, at_once.saturating_add(undecided), all);
    #[cfg(feature = "mutants")]
    let starts = starts && !longshore_model::mutant::is(longshore_model::Mutant::NoBrake);
    draft.braked_ms = brake_since(draft, starts, (at_once, all));
    draft.brake = draft.braked_ms.is_some();
    if draft.brake {
        draft
            .report
            .problems
            .push(Reason::PartialOutage { away: at_once, all });
    }
    for (number, _) in gone {
        let slot = &mut draft.cluster.nodes[*number];
        if !draft.brake && !unsettled && slot.node.roles.worker {
            draft.lost.entry(slot.id.clone()).or_insert(input.now_ms);
        } else {
            slot.doubted = true;
            slot.braked = draft.brake;
        }
    }
    for id in draft.lost.keys() {
        if let Some(number) = draft.cluster.number(id) {
            let slot = &mut draft.cluster.nodes[number];
            slot.state = NodeState::Lost;
            slot.doubted = false;
        }
    }
}

/// Are so many nodes away at once that the fault is more likely ours?
fn is_outage(input: &PlanInput<'_>, away: u32, all: u32) -> bool {
    let config = input.config;
    let over_share = u64::from(away) * u64::from(config.outage_denominator)
        > u64::from(all) * u64::from(config.outage_numerator);
    away >= config.outage_nodes_min && over_share
}

/// Workers of which nobody knows yet whether they are gone: they fell silent so lately that the second witness may
/// still be about to speak, or there is none, and their time is not over.
fn undecided(draft: &Draft<'_>, gone: &[(usize, String)]) -> u32 {
    let input = &draft.input;
    let config = input.config;
    let settle_ms = config
        .session_timeout_ms
        .saturating_add(config.outage_settle_ms);
    let silent = draft.cluster.silent.iter().filter(|number| {
        let slot = &draft.cluster.nodes[**number];
        let held = &draft.cluster.held[**number];
        let alone_ms = match held.up == 0 && held.down == 0 {
            true => config.single_witness_timeout_ms,
            false => 0,
        };
        slot.node.roles.worker
            && slot.state == NodeState::Away
            && silent_ms(input, slot) <= settle_ms.max(alone_ms)
            && !draft.lost.contains_key(slot.id)
            && gone.iter().all(|(gone, _)| gone != *number)
    });
    u32::try_from(silent.count()).unwrap_or(u32::MAX)
}

/// When the brake was last needed; none: it is off. It lets go only after a calm time, so that
/// one node that comes back does not get the others evicted.
fn brake_since(draft: &Draft<'_>, starts: bool, (away, all): (u32, u32)) -> Option<TimeMs> {
    let (now_ms, config) = (draft.input.now_ms, draft.input.config);
    let needed_ms = draft.input.memory.braked_ms;
    let share = u64::from(all) * u64::from(config.outage_calm_percent);
    let calm = u64::from(away) * 100 < share || away < config.outage_nodes_min;
    if starts || (needed_ms.is_some() && !calm) {
        return Some(now_ms);
    }
    needed_ms.filter(|at_ms| now_ms.saturating_sub(*at_ms) < config.outage_calm_ms)
}

/// Events of edges whose HAProxy does not answer, once when it begins and once when it ends.
fn say_edges(draft: &mut Draft<'_>) {
    let mut silent = Arc::clone(&draft.edges_silent);
    for edge in &draft.cluster.edges {
        let Some(seen) = edge.seen.filter(|_| edge.connected) else {
            continue;
        };
        let node = edge.id.clone();
        match (seen.silence(), silent.contains(edge.id)) {
            (Some(problem), false) => {
                Arc::make_mut(&mut silent).insert(node.clone());
                let problem = problem.to_owned();
                let kind = EventKind::EdgeSilent { node, problem };
                draft.report.events.push(kind);
            }
            (None, true) => {
                Arc::make_mut(&mut silent).remove(edge.id);
                draft.report.events.push(EventKind::EdgeAnswers { node });
            }
            _ => {}
        }
    }
    let nodes = &draft.input.desired.nodes;
    if silent.iter().any(|id| !nodes.contains_key(id)) {
        Arc::make_mut(&mut silent).retain(|id| nodes.contains_key(id));
    }
    draft.edges_silent = silent;
}

/// Events of other programs on edges' ports, once when one is there and once when it is not.
fn say_sharers(draft: &mut Draft<'_>) {
    let none = Arc::default();
    let mut said = Arc::clone(&draft.edges_shared);
    for edge in &draft.cluster.edges {
        let Some(seen) = edge.seen.filter(|_| edge.connected) else {
            continue;
        };
        let before = said.get(edge.id).unwrap_or(&none);
        if *before == seen.sharers {
            continue;
        }
        let events = &mut draft.report.events;
        let node = || edge.id.clone();
        for (program, ports) in &*seen.sharers {
            if before.get(program) != Some(ports) {
                let (node, program, ports) = (node(), program.clone(), ports.clone());
                events.push(EventKind::PortsShared {
                    node,
                    program,
                    ports,
                });
            }
        }
        for (program, ports) in &**before {
            if !seen.sharers.contains_key(program) {
                let (node, program, ports) = (node(), program.clone(), ports.clone());
                events.push(EventKind::PortsOwn {
                    node,
                    program,
                    ports,
                });
            }
        }
        let said = Arc::make_mut(&mut said);
        match seen.sharers.is_empty() {
            true => said.remove(edge.id),
            false => said.insert(node(), Arc::clone(&seen.sharers)),
        };
    }
    let nodes = &draft.input.desired.nodes;
    if said.keys().any(|id| !nodes.contains_key(id)) {
        Arc::make_mut(&mut said).retain(|id, _| nodes.contains_key(id));
    }
    draft.edges_shared = said;
}

/// Events of what edges' agents mended, each once: of an edge that nothing is remembered of, what
/// was mended since this controller leads.
fn say_repairs(draft: &mut Draft<'_>) {
    let mut said = Arc::clone(&draft.edges_repaired);
    for edge in &draft.cluster.edges {
        let Some(seen) = edge.seen.filter(|_| edge.connected) else {
            continue;
        };
        let known = said.get(edge.id).copied();
        let last = seen.repairs.last().map(|(_, repair)| repair.number);
        let Some(last) = last.filter(|last| known != Some(*last)) else {
            continue;
        };
        for (at_ms, repair) in &*seen.repairs {
            let is_new = match known {
                Some(number) => repair.number > number,
                None => *at_ms >= draft.input.started_ms,
            };
            if is_new {
                let (node, repair) = (edge.id.clone(), repair.clone());
                let kind = EventKind::EdgeRepaired { node, repair };
                draft.report.events.push(kind);
            }
        }
        Arc::make_mut(&mut said).insert(edge.id.clone(), last);
    }
    let nodes = &draft.input.desired.nodes;
    if said.keys().any(|id| !nodes.contains_key(id)) {
        Arc::make_mut(&mut said).retain(|id, _| nodes.contains_key(id));
    }
    draft.edges_repaired = said;
}

/// Nodes whose state is not as last said, in order.
fn restless(draft: &Draft<'_>) -> Vec<usize> {
    let cluster = &draft.cluster;
    if cluster.same_states {
        let touched = cluster.touched().iter().copied();
        let other = |number: &usize| {
            let slot = &cluster.nodes[*number];
            slot.state != slot.was.state
        };
        let mut numbers: Vec<usize> = touched.filter(other).collect();
        numbers.sort_unstable();
        return numbers;
    }
    let mut known = Cursor::new(&*draft.node_states);
    let nodes = cluster.nodes.iter().enumerate();
    nodes
        .filter(|(_, slot)| known.get(slot.id) != Some(&slot.state))
        .map(|(number, _)| number)
        .collect()
}

/// Events, once per change of state.
fn say(draft: &mut Draft<'_>, gone: &[(usize, String)]) {
    for number in restless(draft) {
        let slot = &draft.cluster.nodes[number];
        let before = draft.node_states.get(slot.id).copied();
        let node = slot.id.clone();
        let up = slot.state.is_connected();
        let was_up = before.is_some_and(NodeState::is_connected);
        if slot.state == NodeState::Lost {
            if !draft.input.current.lost.contains_key(slot.id) {
                let words = gone
                    .iter()
                    .find(|(n, _)| *n == number)
                    .map(|(_, w)| w.clone());
                let witnesses = words.unwrap_or_default();
                draft
                    .report
                    .events
                    .push(EventKind::NodeLost { node, witnesses });
            }
        } else if up && draft.input.current.lost.contains_key(slot.id) {
            draft.report.events.push(EventKind::NodeBack { node });
        } else if up && !was_up {
            draft.report.events.push(EventKind::NodeConnected { node });
        } else if was_up && !up {
            draft.report.events.push(EventKind::NodeAway { node });
        }
        Arc::make_mut(&mut draft.node_states).insert(slot.id.clone(), slot.state);
    }
    let nodes = &draft.input.desired.nodes;
    if draft.node_states.len() > nodes.len() {
        Arc::make_mut(&mut draft.node_states).retain(|id, _| nodes.contains_key(id));
    }
}
