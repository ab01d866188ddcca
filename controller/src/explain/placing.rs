//! `why`, the part about places: drains, refusals, moves, standbys.

use longshore_model::report::{NodeReport, ServiceReport};
use longshore_model::weight::WeightLook;
use longshore_model::{Node, Reason, TimeMs};

/// Nodes named that refuse.
const NAMED_MAX: usize = 8;

fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}

/// How a node's drain goes; empty if it is not drained.
pub(super) fn drain_lines(node: &Node, report: &NodeReport, now_ms: TimeMs) -> Vec<String> {
    let (Some(order), Some(drain)) = (&node.drain, &report.drain) else {
        return Vec::new();
    };
    if drain.left == 0 {
        return vec!["  drained: nothing is left on it".into()];
    }
    let then = match order.force {
        true => "what is left then is stopped",
        false => "it goes on after that",
    };
    let deadline = match order.deadline_ms.checked_sub(now_ms) {
        Some(ms) if ms > 0 => format!("deadline in {} s, {then}", seconds(ms)),
        _ => format!(
            "{} s past its deadline",
            (now_ms - order.deadline_ms) / 1_000
        ),
    };
    let mut lines = vec![format!(
        "  drains: {} left, {} of them leaving; {deadline}",
        drain.left, drain.leaving
    )];
    let waits = drain.waits.iter();
    lines.extend(waits.map(|(service, why)| format!("    {service}: {why}")));
    lines
}

/// Why nobody fits: node by node, as far as they are named.
pub(super) fn refusal_lines(reason: &Reason) -> Vec<String> {
    let Reason::Unplaceable {
        refusals, nodes, ..
    } = reason
    else {
        return Vec::new();
    };
    let named = refusals.iter().take(NAMED_MAX);
    let mut lines: Vec<String> = named
        .map(|(node, why)| format!("    {node}  {why}"))
        .collect();
    let more = (*nodes as usize).max(refusals.len()) - lines.len();
    if more > 0 {
        lines.push(format!("    and {more} more nodes"));
    }
    lines
}

/// Warm standbys and moves of a service.
pub(super) fn service_lines(report: &ServiceReport) -> Vec<String> {
    let mut lines = Vec::new();
    let warm = &report.warm;
    if warm.wanted > 0 || warm.planned > 0 {
        let why = warm.waits.as_ref().map(|why| format!("; {why}"));
        lines.push(format!(
            "  warm: {} wanted, {} ready, {} on the way{}",
            warm.wanted,
            warm.ready,
            warm.planned.saturating_sub(warm.ready),
            why.unwrap_or_default()
        ));
    }
    let moves = &report.rebalance;
    if moves.moving > 0 {
        lines.push(format!(
            "  {} on the move to even out the nodes",
            moves.moving
        ));
    }
    if let Some(stay) = &moves.stays {
        lines.push(format!("  rebalance: {stay}"));
    }
    lines.extend(weight_lines(&report.weights));
    lines
}

/// Weights that go by load, the lowest first: those say where traffic was taken from.
fn weight_lines(looks: &[WeightLook]) -> Vec<String> {
    let mut looks: Vec<&WeightLook> = looks.iter().collect();
    looks.sort_by_key(|look| (look.weight, look.slot));
    let named = looks.iter().take(NAMED_MAX);
    let mut lines: Vec<String> = named
        .map(|look| format!("  replica {} has {look}", look.slot))
        .collect();
    let more = looks.len() - lines.len();
    if more > 0 {
        lines.push(format!("  and {more} more, with no less"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use longshore_model::RefusalCount;
    use longshore_model::reason::Refusal;
    use longshore_model::weight::WeightRule;

    use super::*;

    #[test]
    fn weights_are_told_from_the_lowest_on() {
        let look = |slot: u32, weight, free_percent, rule| WeightLook {
            replica: longshore_model::ReplicaId(u64::from(slot)),
            slot,
            node: format!("node{slot}").parse().unwrap(),
            weight,
            target: 20,
            free_percent,
            age_ms: 1_400,
            rule,
        };
        let mut report = ServiceReport {
            weights: vec![
                look(1, 100, None, WeightRule::Keeps),
                look(2, 50, Some(8), WeightRule::Falls),
            ],
            ..ServiceReport::default()
        };
        assert_eq!(
            service_lines(&report),
            [
                "  replica 2 has weight 50 of 100 on its way to 20: node2 has 8 % of its CPU free \
                 (1 s ago); goes down no faster than this",
                "  replica 1 has weight 100 of 100: node1 is not measured; not measured lately: as \
                 it was",
            ]
        );
        report.weights = (0..11)
            .map(|n| look(n, 90, Some(50), WeightRule::Steady))
            .collect();
        assert_eq!(service_lines(&report)[8], "  and 3 more, with no less");
    }

    #[test]
    fn ten_thousand_refusals_are_counted_and_some_are_named() {
        let memory = |free_mib: u64| Refusal::Memory {
            free_bytes: free_mib << 20,
            asked_bytes: 512 << 20,
        };
        let all: Vec<Refusal> = (0..10_000).map(|n| memory(n % 512)).collect();
        let reason = Reason::Unplaceable {
            refusals: (0..32)
                .map(|n| (format!("node{n}").parse().unwrap(), memory(n)))
                .collect(),
            counts: RefusalCount::of(&all, 32),
            nodes: 10_000,
            home: None,
        };
        let lines = refusal_lines(&reason);
        assert_eq!(lines.len(), 9);
        assert_eq!(lines[8], "    and 9992 more nodes");
        assert_eq!(
            reason.to_string(),
            "0 of 10000 nodes fit: 10000 lack 512 MiB of memory"
        );
    }
}
