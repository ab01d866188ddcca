//! `behavior`: windows, tolerance and rates, one set per direction.

use longshore_model::autoscale::{AutoscaleSpec, Behavior, RateAmount, RatePolicy};

use super::super::super::problem::Problems;
use super::super::deploy::REPLICAS_MAX;
use super::super::item::Item;

pub(super) fn read(item: Option<Item<'_>>, p: &mut Problems) -> (Behavior, Behavior) {
    let (mut up, mut down) = (AutoscaleSpec::default_up(), AutoscaleSpec::default_down());
    if let Some(mut fields) = item.and_then(|item| item.fields(p)) {
        if let Some(i) = fields.take("scale_up") {
            behavior(&i, &mut up, p);
        }
        if let Some(i) = fields.take("scale_down") {
            behavior(&i, &mut down, p);
        }
        fields.finish(p, &[]);
    }
    (up, down)
}

fn behavior(item: &Item<'_>, behavior: &mut Behavior, p: &mut Problems) {
    let Some(mut fields) = item.fields(p) else {
        return;
    };
    if let Some(ms) = fields.take("stabilization").and_then(|i| i.duration_ms(p)) {
        behavior.stabilization_ms = ms;
    }
    if let Some(tolerance) = fields.take("tolerance").and_then(|i| i.decimal(p, 10.0)) {
        behavior.tolerance = tolerance;
    }
    if let Some(min) = fields
        .take("select")
        .and_then(|i| i.choice(p, &[("max", false), ("min", true)]))
    {
        behavior.select_min = min;
    }
    if let Some(list) = fields.take("policies") {
        let items = list.items(p);
        behavior.policies = items.iter().filter_map(|i| policy(i, p)).collect();
    }
    fields.finish(p, &[]);
}

fn policy(item: &Item<'_>, p: &mut Problems) -> Option<RatePolicy> {
    let mut fields = item.fields(p)?;
    let replicas = fields.take("replicas");
    let percent = fields.take("percent");
    let period = fields.take("period");
    fields.finish(p, &[]);
    let amount = match (replicas, percent) {
        (Some(i), None) => i.number(p, 1, REPLICAS_MAX).map(RateAmount::Replicas),
        (None, Some(i)) => i.number(p, 1, 10_000).map(RateAmount::Percent),
        _ => {
            let example = "for example: { replicas: 4, period: 15s }";
            item.lacks(
                p,
                &["replicas", "percent"],
                "needs either replicas or percent",
                example,
            );
            None
        }
    };
    let Some(period) = period else {
        item.lacks(p, &["period"], "needs a period", "for example: period: 15s");
        return None;
    };
    let period_ms = period.duration_ms(p)?;
    if period_ms == 0 {
        period.invalid(p, "must be above 0");
        return None;
    }
    Some(RatePolicy {
        amount: amount?,
        period_ms,
    })
}
