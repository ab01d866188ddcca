//! `why`, the part about places: drains, refusals, moves, standbys.

use longshore_model::report::{NodeReport, ServiceReport};
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
    lines
}

#[cfg(test)]
mod tests {
    use longshore_model::RefusalCount;
    use longshore_model::reason::Refusal;

    use super::*;

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
