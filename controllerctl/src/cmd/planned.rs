//! A plan as people read it.

use crate::output::bytes;
use crate::output::planned::{Change, Forecast, Placement, Plan};
use crate::text::{printable, replicas};

pub(super) fn plan_text(plan: &Plan, context: &str) -> String {
    // Certificates alone make no revision.
    let changed = plan.changes.iter().any(|c| c.action != "same");
    let next = plan.revision + u64::from(changed);
    let first = match plan.revision {
        0 => format!("app {}  new   context {context}", plan.app),
        now => format!(
            "app {}  revision {now} -> {next}   context {context}",
            plan.app
        ),
    };
    below(plan, first, changed)
}

/// Of services whose counts are set, or that are restarted.
pub(super) fn services_text(plan: &Plan, context: &str) -> String {
    let changed = plan.changes.iter().any(|c| c.action != "same");
    below(
        plan,
        format!("app {}  context {context}", plan.app),
        changed,
    )
}

/// A plan below its first line.
fn below(plan: &Plan, first: String, changed: bool) -> String {
    let mut lines = vec![first];
    let widths = plan.changes.iter().map(|c| c.service.chars().count());
    let width = widths.max().unwrap_or(0);
    for change in &plan.changes {
        let (sign, said) = said(change);
        let names = std::iter::once(change.service.as_str()).chain(std::iter::repeat(""));
        let signs = std::iter::once(sign).chain(std::iter::repeat(" "));
        for ((line, name), sign) in said.iter().zip(names).zip(signs) {
            lines.push(format!("  {sign} {name:<width$}  {line}"));
        }
    }
    for secret in plan.secrets.iter().filter(|s| s.action != "same") {
        let (sign, word) = match secret.action.as_str() {
            "add" => ("+", "new"),
            "remove" => ("-", "removed"),
            _ => ("~", "renewed"),
        };
        lines.push(format!("  {sign} certificate {}  {word}", secret.name));
    }
    for warning in &plan.warnings {
        lines.push(format!("  ! {warning}"));
    }
    if let Some(placement) = plan.placement.as_ref().filter(|_| changed) {
        lines.push(placement_text(placement));
    }
    lines.iter().map(|line| printable(line) + "\n").collect()
}

/// The lines of one service, the first beside its name.
fn said(change: &Change) -> (&'static str, Vec<String>) {
    let forecast = change.forecast.as_ref();
    let (sign, word) = match change.action.as_str() {
        "add" => ("+", "new service"),
        "remove" => ("-", "removed, drained first"),
        "same" => ("=", "unchanged"),
        _ => ("~", "changed"),
    };
    let counted = |count: u32| format!("{word}, {}", replicas(count));
    let mut lines = match (change.action.as_str(), forecast) {
        ("add", Some(f)) => {
            let nodes = nodes(f);
            let first = counted(f.wanted);
            vec![match nodes.is_empty() {
                true => first,
                false => format!("{first}  {nodes}"),
            }]
        }
        ("remove", Some(f)) => vec![counted(f.removed)],
        ("remove" | "same", _) => vec![word.to_owned()],
        _ => Vec::new(),
    };
    lines.extend(change.details.iter().cloned());
    let is_change = !matches!(change.action.as_str(), "add" | "remove");
    if let Some(forecast) = forecast {
        if is_change {
            lines.extend(moves(forecast));
        }
        lines.extend(unplaced(forecast));
    }
    if lines.is_empty() {
        lines.push(word.to_owned());
    }
    (sign, lines)
}

/// `node1 1, node3 1`
fn nodes(forecast: &Forecast) -> String {
    let each = forecast.nodes.iter();
    let each = each.map(|(node, replicas)| format!("{node} {replicas}"));
    each.collect::<Vec<_>>().join(", ")
}

/// What becomes of the replicas of a service that is there.
fn moves(forecast: &Forecast) -> Vec<String> {
    let mut lines = Vec::new();
    if forecast.replaced > 0 {
        let order = forecast.order.as_deref().unwrap_or_default();
        let (replaced, at_once) = (replicas(forecast.replaced), forecast.at_once);
        lines.push(format!("{replaced} replaced, {order}, {at_once} at a time"));
    }
    let (before, wanted) = (forecast.before, forecast.wanted);
    if before != wanted {
        let nodes = match nodes(forecast) {
            nodes if nodes.is_empty() => nodes,
            nodes => format!("  {nodes}"),
        };
        lines.push(format!("{before} -> {}{nodes}", replicas(wanted)));
    }
    lines
}

fn unplaced(forecast: &Forecast) -> Option<String> {
    let why = match forecast.waits.is_empty() {
        true => String::new(),
        false => format!(": {}", forecast.waits.join("; ")),
    };
    let who = match forecast.unplaced {
        0 if forecast.exchange_unplaced => "replacements".to_owned(),
        0 => return None,
        count => replicas(count),
    };
    Some(format!("{who} without a place now{why}"))
}

fn placement_text(placement: &Placement) -> String {
    let Placement {
        created,
        replaced,
        removed,
        ..
    } = placement;
    let mut text = format!("Placement: {replaced} replaced, {created} created, {removed} removed.");
    if placement.peak_replicas > 0 {
        let cpu_milli = placement.peak_cpu_milli;
        let cpu = (cpu_milli > 0).then(|| format!("{} CPU", cpu_milli as f64 / 1000.0));
        let memory_bytes = placement.peak_memory_bytes;
        let memory = (memory_bytes > 0).then(|| bytes(memory_bytes));
        let unlimited = match (cpu.is_some() || memory.is_some(), placement.peak_unlimited) {
            (true, true) => Some("not all of it limited"),
            (false, true) => Some("without limits"),
            (_, false) => None,
        };
        let each = [Some(replicas(placement.peak_replicas)), cpu, memory];
        let each = each.into_iter().flatten();
        let each: Vec<String> = each.chain(unlimited.map(str::to_owned)).collect();
        text.push_str(&format!(
            " Peak extra during the rollout: {}.",
            each.join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests;
