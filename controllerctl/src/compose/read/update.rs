//! How one revision follows another: `deploy.update_config`, `deploy.rollback_config`,
//! `deploy.restart_policy` and `x-haproxy.gate`.

use longshore_model::spec::{FailureAction, GateSpec, UpdateOrder, UpdateSpec};

use super::super::problem::Problems;
use super::item::Item;
use super::job;

/// Most replicas of one batch.
const PARALLELISM_MAX: u32 = 10_000;
/// Requests on either side before the gate has an opinion, where the file is silent.
const GATE_REQUESTS: u64 = 50;
/// Response times up to this are fine, where the file is silent: below it a ratio is noise.
const GATE_LATENCY_MS: u32 = 10;
/// Largest ratio of response times.
const GATE_RATIO_MAX: f64 = 1_000.0;

/// `update_config`.
pub(super) fn update(item: &Item<'_>, p: &mut Problems) -> Option<UpdateSpec> {
    let actions = [
        ("pause", FailureAction::Pause),
        ("continue", FailureAction::Continue),
        ("rollback", FailureAction::Rollback),
    ];
    config(item, &actions, p)
}

/// `rollback_config`: the same without a way further back.
pub(super) fn rollback(item: &Item<'_>, p: &mut Problems) -> Option<UpdateSpec> {
    let actions = [
        ("pause", FailureAction::Pause),
        ("continue", FailureAction::Continue),
    ];
    config(item, &actions, p)
}

fn config(
    item: &Item<'_>,
    actions: &[(&'static str, FailureAction)],
    p: &mut Problems,
) -> Option<UpdateSpec> {
    let mut fields = item.fields(p)?;
    let mut update = UpdateSpec::default();
    if let Some(n) = fields
        .take("parallelism")
        .and_then(|i| i.number(p, 0, PARALLELISM_MAX))
    {
        update.parallelism = n;
    }
    let orders = [
        ("start-first", UpdateOrder::StartFirst),
        ("stop-first", UpdateOrder::StopFirst),
    ];
    if let Some(order) = fields.take("order").and_then(|i| i.choice(p, &orders)) {
        update.order = order;
    }
    if update.order == UpdateOrder::StopFirst {
        // Who stops first has accepted that so many are missing meanwhile.
        update.max_unavailable = update.parallelism;
    }
    if let Some(ms) = fields.take("delay").and_then(|i| i.duration_ms(p)) {
        update.delay_ms = ms;
    }
    // The specification: "Setting to 0 will use the default 5s".
    if let Some(ms) = fields.take("monitor").and_then(|i| i.duration_ms(p))
        && ms > 0
    {
        update.monitor_ms = ms;
    }
    if let Some(action) = fields
        .take("failure_action")
        .and_then(|i| i.choice(p, actions))
    {
        update.failure_action = action;
    }
    if let Some(share) = fields.take("max_failure_ratio").and_then(|i| i.share(p)) {
        update.failure_permille_max = Some(permille(share));
    }
    fields.finish(p, &[]);
    Some(update)
}

/// A share or ratio in thousandths; what is finer is rounded.
fn permille(value: f64) -> u32 {
    // Readers bound the value far below what a u32 holds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let permille = (value * 1_000.0).round() as u32;
    permille
}

/// `restart_policy`: what ends is always started again, by its agent and then by the controller;
/// what asks for less is said. Gives how often a job is started at most.
pub(super) fn restart_policy(item: &Item<'_>, is_job: bool, p: &mut Problems) -> Option<u32> {
    let mut fields = item.fields(p)?;
    if is_job {
        let tries = job::policy(item, &mut fields, p);
        fields.finish(p, &[]);
        return Some(tries);
    }
    let conditions = [("none", true), ("on-failure", false), ("any", false)];
    if let Some(i) = fields.take("condition")
        && i.choice(p, &conditions) == Some(true)
    {
        let message = "a service is kept running: what ends is started again";
        p.warn("restart", i.place(), &i.path, message).file();
    }
    let mut paced = false;
    for name in ["delay", "window"] {
        let item: Option<Item<'_>> = fields.take(name);
        paced |= item.and_then(|i| i.duration_ms(p)).is_some();
    }
    let attempts = fields.take("max_attempts");
    paced |= attempts
        .and_then(|i| i.number::<u32>(p, 0, u32::MAX))
        .is_some();
    if paced {
        let message = "restarts are paced by a back-off that grows from 1 s to 5 min and ends \
                       once a replica has proven itself";
        p.warn("restart", item.key, &item.path, message).file();
    }
    fields.finish(p, &[]);
    None
}

/// `x-haproxy.gate`. `tcp`: the service has no requests, so response times are not measured.
pub(super) fn gate(item: &Item<'_>, tcp: bool, p: &mut Problems) -> Option<GateSpec> {
    let mut fields = item.fields(p)?;
    let mut gate = GateSpec {
        requests_min: GATE_REQUESTS,
        error_increase_permille_max: None,
        latency_permille_max: None,
        latency_ms_min: GATE_LATENCY_MS,
    };
    if let Some(n) = fields
        .take("min_requests")
        .and_then(|i| i.number(p, 1, 1_000_000_000))
    {
        gate.requests_min = n;
    }
    if let Some(share) = fields
        .take("max_error_ratio_increase")
        .and_then(|i| i.share(p))
    {
        gate.error_increase_permille_max = Some(permille(share));
    }
    if let Some(i) = fields.take("max_latency_ratio")
        && let Some(ratio) = i.decimal(p, GATE_RATIO_MAX)
    {
        if tcp {
            i.invalid(p, "response times need mode http");
        } else if ratio < 1.0 {
            i.invalid_help(
                p,
                "below 1: every new replica would have to be faster than the old ones",
                "1.5 lets it take half as long again",
            );
        } else {
            gate.latency_permille_max = Some(permille(ratio));
        }
    }
    if let Some(ms) = fields.take("min_latency").and_then(|i| i.duration_ms(p)) {
        gate.latency_ms_min = u32::try_from(ms).unwrap_or(u32::MAX);
    }
    fields.finish(p, &[]);
    let measures = ["max_error_ratio_increase", "max_latency_ratio"];
    if measures.iter().all(|key| item.node.get(key).is_none()) {
        item.lacks(
            p,
            &measures,
            "looks at nothing: neither errors nor response times",
            "for example: gate: { max_error_ratio_increase: 1%, max_latency_ratio: 1.5 }",
        );
    }
    Some(gate)
}
