//! Each wrong policy has one fault, with these words.

use super::super::{ExternalQuery, OnMissing, RatePolicy, Schedule, ScheduleEnd, Step, StepTo};
use super::*;

fn metric(signal: Signal) -> Metric {
    Metric {
        kind: signal.default_kind(),
        signal,
        target: 0.6,
    }
}

fn policy() -> AutoscaleSpec {
    AutoscaleSpec {
        min: 1,
        max: 5,
        metrics: vec![metric(Signal::NodeCpu)],
        steps: vec![],
        window_ms: AutoscaleSpec::WINDOW_MS,
        warmup_ms: AutoscaleSpec::WARMUP_MS,
        scale_up: AutoscaleSpec::default_up(),
        scale_down: AutoscaleSpec::default_down(),
        on_missing: OnMissing::Hold,
        mode: super::super::AutoscaleMode::On,
        schedules: vec![],
        warm: 0,
    }
}

fn office(min: Option<u32>, max: Option<u32>) -> Schedule {
    Schedule {
        name: "office".into(),
        start: "0 7 * * MON-FRI".into(),
        end: ScheduleEnd::After(3_600_000),
        time_zone: "Europe/Brussels".into(),
        min,
        max,
    }
}

fn external(url: Option<&str>) -> Metric {
    metric(Signal::Prometheus(ExternalQuery {
        url: url.map(str::to_owned),
        query: "jobs".into(),
    }))
}

/// Breaks a good policy and expects exactly one fault, with these words.
fn refused(breaking: impl Fn(&mut AutoscaleSpec), words: &str) {
    let mut broken = policy();
    breaking(&mut broken);
    let faults = broken.faults(&Resources::default(), false);
    let texts: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [words]);
}

#[test]
fn a_share_of_all_answers_is_at_most_all() {
    let errors = |target: f64| {
        let mut policy = policy();
        let metric = metric(Signal::Errors);
        policy.metrics = vec![Metric { target, ..metric }];
        policy.faults(&Resources::default(), true)
    };
    assert_eq!(errors(1.0), []);
    let said: Vec<_> = errors(5.0).iter().map(ToString::to_string).collect();
    let words = "x-autoscale.metrics[0]: 500 % of all answers: a share is above 0 and at most \
                 100 %";
    assert_eq!(said, [words]);
    let mut policy = policy();
    let steps = [0.05, 1.5].map(|at| Step {
        at,
        to: StepTo::Count(2),
    });
    policy.steps = vec![StepRule {
        signal: Signal::Errors,
        steps: steps.to_vec(),
    }];
    let faults = policy.faults(&Resources::default(), true);
    let share = AutoscaleFault::Share { share: 1.5 };
    assert_eq!(
        faults.iter().map(|f| &f.fault).collect::<Vec<_>>(),
        [&share]
    );
}

#[test]
fn a_good_policy_has_no_faults() {
    assert_eq!(policy().faults(&Resources::default(), false), []);
    let mut rich = policy();
    rich.min = 0;
    rich.metrics = vec![
        metric(Signal::Requests),
        metric(Signal::Memory),
        external(Some("http://10.0.0.9:9090")),
    ];
    rich.schedules = vec![office(Some(2), None)];
    let resources = Resources {
        memory_reserved_bytes: 1,
        ..Resources::default()
    };
    assert_eq!(rich.faults(&resources, true), []);
}

#[test]
fn each_bound_is_checked() {
    refused(|p| p.min = 9, "x-autoscale.min: min 9 is above max 5");
    refused(
        |p| (p.min, p.max) = (1, 0),
        "x-autoscale.max: max must be at least 1",
    );
    refused(
        |p| p.max = 10_001,
        "x-autoscale.max: 10001 replicas; at most 10000 are allowed",
    );
    refused(
        |p| p.min = 0,
        "x-autoscale.min: min 0 needs a signal that shows that somebody waits",
    );
    refused(
        |p| p.warm = 10_001,
        "x-autoscale.warm: 10001 replicas; at most 10000 are allowed",
    );
}

#[test]
fn each_signal_is_checked() {
    for target in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let words = format!("x-autoscale.metrics[0]: target {target} must be a number above 0");
        refused(|p| p.metrics[0].target = target, &words);
    }
    refused(
        |p| p.metrics.clear(),
        "x-autoscale: has neither metrics nor steps",
    );
    refused(
        |p| p.metrics[0].kind = TargetKind::Value,
        "x-autoscale.metrics[0]: node_cpu cannot be compared as Value",
    );
    refused(
        |p| p.metrics = vec![metric(Signal::NodeCpu); 17],
        "x-autoscale: has 17 entries; at most 16 are allowed",
    );
    let shares = "is a share of a limit or reservation, and the service has neither";
    for signal in [Signal::Cpu, Signal::Memory] {
        let words = format!("x-autoscale.metrics[0]: {signal} {shares}");
        refused(|p| p.metrics = vec![metric(signal.clone())], &words);
    }
    refused(
        |p| p.metrics.push(metric(Signal::Queue)),
        "x-autoscale.metrics[1]: queue is measured by HAProxy, and the service has no route",
    );
    refused(
        |p| p.metrics.push(external(Some("file:///etc/passwd"))),
        "x-autoscale.metrics[1]: query has a url that is no http:// or https:// address",
    );
    let at = |at| Step {
        at,
        to: StepTo::Count(1),
    };
    for steps in [vec![], vec![at(0.2), at(0.2)], vec![at(f64::NAN)]] {
        let rule = StepRule {
            signal: Signal::NodeCpu,
            steps,
        };
        refused(
            |p| p.steps = vec![rule.clone()],
            "x-autoscale.steps[0]: thresholds must be numbers of 0 or more that rise",
        );
    }
}

#[test]
fn each_time_and_rate_is_checked() {
    refused(
        |p| p.window_ms = 999,
        "x-autoscale.window: 999ms is outside of 1s to 2m",
    );
    refused(
        |p| p.warmup_ms = u64::MAX,
        "x-autoscale.warmup: 18446744073709551615ms is outside of 0s to 24h",
    );
    refused(
        |p| p.scale_up.tolerance = f64::NAN,
        "x-autoscale.behavior.scale_up: tolerance NaN must be a number from 0 to 10",
    );
    let nothing = RatePolicy {
        amount: RateAmount::Percent(0),
        period_ms: 1_000,
    };
    refused(
        |p| p.scale_down.policies = vec![nothing],
        "x-autoscale.behavior.scale_down: policy 0 needs an amount and a period above 0",
    );
}

#[test]
fn each_schedule_is_checked() {
    refused(
        |p| p.schedules = vec![office(None, None)],
        "x-autoscale.schedules[0]: sets neither min nor max",
    );
    refused(
        |p| p.schedules = vec![office(Some(6), None)],
        "x-autoscale.schedules[0]: min 6 is above max 5",
    );
    refused(
        |p| p.schedules = vec![office(Some(2), None); 2],
        "x-autoscale.schedules[1]: name is used twice",
    );
    let mut elsewhere = office(Some(2), None);
    elsewhere.time_zone = "Europe/Brussel".into();
    refused(
        |p| p.schedules = vec![elsewhere.clone()],
        "x-autoscale.schedules[0]: \"Europe/Brussel\" is no time zone",
    );
    refused(
        |p| p.schedules = vec![office(Some(0), None)],
        "x-autoscale.schedules[0]: min 0 needs a signal that shows that somebody waits",
    );
}
