//! What `x-autoscale` becomes, and what is said about each wrong value.

use controllerctl::compose::interpolate::Variables;
use controllerctl::compose::problem::{Level, Problem};
use controllerctl::compose::source::Source;
use controllerctl::compose::{ComposeError, Loaded, parse};
use longshore_model::ServiceSpec;
use longshore_model::autoscale::{AutoscaleMode, ScheduleEnd, StepTo, TargetKind};

fn read(text: &str) -> Result<Loaded, ComposeError> {
    let source = Source::new("compose.yaml", text);
    let surroundings = (&crate::here(), &Variables::new([]));
    parse(vec![source], None, "shop", surroundings)
}

/// The service `web` of a file that is right.
fn web(body: &str) -> ServiceSpec {
    let text = format!("services:\n  web:\n    image: nginx\n{body}");
    let loaded = read(&text).unwrap_or_else(|error| panic!("{text}\n{error:?}"));
    loaded.services.into_values().next().unwrap()
}

fn problems(text: &str) -> Vec<Problem> {
    match read(text) {
        Ok(_) => panic!("taken:\n{text}"),
        Err(ComposeError::Problems { problems, .. }) => problems,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn autoscale_reads_the_short_and_the_long_form() {
    let short = web("    x-autoscale: { min: 2, max: 12, node_cpu: 60% }\n");
    let policy = short.autoscale.unwrap();
    assert_eq!(
        (policy.min, policy.max, policy.metrics[0].target),
        (2, 12, 0.6)
    );
    assert_eq!(
        (policy.window_ms, policy.scale_down.stabilization_ms),
        (30_000, 300_000)
    );
    assert_eq!(short.replicas, 2, "min, where deploy.replicas is silent");
    let long = web(
        "    x-autoscale:\n      min: 1\n      max: 10\n      metrics: [{ node_cpu: 70% }]\n      steps:\n        \
         - node_cpu: { 0%: 1, 50%: 3, 80%: +2 }\n        - node_cpu: { each: 10% }\n      window: 10s\n      mode: dry-run\n      behavior:\n        \
         scale_up: { tolerance: 0.2, policies: [{ percent: 50, period: 60s }] }\n",
    );
    let policy = long.autoscale.unwrap();
    let steps: Vec<_> = policy.steps[0].steps.iter().map(|s| (s.at, s.to)).collect();
    let wanted = [
        (0.0, StepTo::Count(1)),
        (0.5, StepTo::Count(3)),
        (0.8, StepTo::Change(2)),
    ];
    assert_eq!(steps, wanted);
    let each = &policy.steps[1].steps;
    let counts: Vec<_> = each.iter().map(|step| step.to).collect();
    assert_eq!(counts, (1..=10).map(StepTo::Count).collect::<Vec<_>>());
    // What is below the first amount asks for one, or no fall would ever bring the count back.
    assert_eq!((each[0].at, each[1].at), (0.0, 0.2));
    assert_eq!(
        (policy.window_ms, policy.scale_up.policies.len()),
        (10_000, 1)
    );
}

#[test]
fn autoscale_reads_each_signal_in_its_unit() {
    let spec = web(
        "    ports: [\"80:80\"]\n    deploy: { resources: { limits: { cpus: '1', memory: 1G } } }\n    \
         x-autoscale:\n      min: 0\n      max: 9\n      warm: 2\n      mode: approve\n      metrics:\n        \
         - node_cpu: 60%\n        - cpu: 50%\n        - memory: 80%\n        - requests: 600/m\n        \
         - queue: 1\n        - concurrency: 40\n        - latency: { average: 250ms }\n        - errors: 5%\n        \
         - prometheus: { url: \"http://10.0.0.9:9090\", query: \"sum(jobs)\", target: 50 }\n        \
         - prometheus: { query: up, target: 2, type: value }\n      steps:\n        \
         - latency: { 100ms: +1, 1s: 9 }\n        - prometheus: { query: up, steps: { 0: 1, 10: 3 } }\n      \
         schedules:\n        - { name: office, cron: \"0 7 * * MON-FRI\", for: 12h, timezone: Europe/Brussels, min: 4 }\n        \
         - { cron: \"0 22 * * *\", end: \"0 6 * * *\", max: 5 }\n",
    );
    let policy = spec.autoscale.unwrap();
    let metrics: Vec<_> = policy
        .metrics
        .iter()
        .map(|m| (m.signal.to_string(), m.target, m.kind))
        .collect();
    let wanted = [
        ("node_cpu", 0.6, TargetKind::Utilization),
        ("cpu", 0.5, TargetKind::Utilization),
        ("memory", 0.8, TargetKind::Utilization),
        ("requests", 10.0, TargetKind::AverageValue),
        ("queue", 1.0, TargetKind::AverageValue),
        ("concurrency", 40.0, TargetKind::AverageValue),
        ("latency", 250.0, TargetKind::Value),
        ("errors", 0.05, TargetKind::Value),
        ("prometheus(sum(jobs))", 50.0, TargetKind::AverageValue),
        ("prometheus(up)", 2.0, TargetKind::Value),
    ];
    assert_eq!(
        metrics,
        wanted.map(|(word, target, kind)| (word.to_owned(), target, kind))
    );
    assert_eq!(policy.steps[0].steps[1].at, 1_000.0);
    assert_eq!(policy.steps[1].steps.len(), 2);
    assert_eq!(
        (policy.min, policy.warm, policy.mode),
        (0, 2, AutoscaleMode::Approve)
    );
    let office = &policy.schedules[0];
    assert_eq!(
        (office.name.as_str(), office.min, office.max),
        ("office", Some(4), None)
    );
    assert_eq!(office.end, ScheduleEnd::After(43_200_000));
    let night = &policy.schedules[1];
    assert_eq!((night.time_zone.as_str(), night.max), ("UTC", Some(5)));
    assert_eq!(night.end, ScheduleEnd::At("0 6 * * *".into()));
}

/// Wrong policies and words of what is said of them.
const WRONG_POLICIES: &[(&str, &str)] = &[
    (
        "min: 9, node_cpu: 60%",
        "x-autoscale.min: min 9 is above max 5",
    ),
    (
        "min: 0, node_cpu: 60%",
        "x-autoscale.min: min 0 needs a signal",
    ),
    (
        "node_cpu: 0%",
        "x-autoscale.node_cpu: \"0%\" must be above 0",
    ),
    ("node_cpu: -5%", "x-autoscale.node_cpu: \"-5%\" is no share"),
    ("node_cpu: NaN", "x-autoscale.node_cpu: \"NaN\" is no share"),
    ("node_cpu: inf", "x-autoscale.node_cpu: \"inf\" is no share"),
    ("node_cpu: .nan", "`.nan` is no number"),
    ("node_cpu: -.inf", "write a finite one"),
    ("node_cpu: 60", "write 60%"),
    ("requests: 100", "write 100/s"),
    ("requests: 100/s", "the service has no route"),
    ("cpu: 60%", "set deploy.resources.reservations"),
    ("memory: 60%", "set deploy.resources.reservations"),
    (
        "metrics: [{ latency: { percentile: p95 } }]",
        "averages only",
    ),
    ("metrics: [{ nodecpu: 60% }]", "did you mean `node_cpu`?"),
    (
        "node_cpu: 60%, window: 5m",
        "x-autoscale.window: 5m is outside of 1s to 2m",
    ),
    ("node_cpu: 60%, window: 0s", "0s is outside of 1s to 2m"),
    ("node_cpu: 60%, mode: aprove", "did you mean `approve`?"),
    ("node_cpu: 60%, schedule: []", "did you mean `schedules`?"),
    ("prometheus: { query: up }", "has no target"),
    ("prometheus: { target: 1 }", "has no query"),
    (
        "prometheus: { query: up, target: 1, url: \"ftp://x\" }",
        "no http:// or https:// address",
    ),
    (
        "node_cpu: 60%, schedules: [{ cron: \"0 7 * *\", for: 1h, min: 2 }]",
        "x-autoscale.schedules[0].cron: \"0 7 * *\" is no cron time: five fields",
    ),
    (
        "node_cpu: 60%, schedules: [{ cron: \"0 7 31 2 *\", for: 1h, min: 2 }]",
        "schedules[0].cron: \"0 7 31 2 *\" never happens",
    ),
    (
        "node_cpu: 60%, schedules: [{ cron: \"0 7 * * *\", for: 1h, timezone: Europe/Brusels, min: 2 }]",
        "did you mean `Europe/Brussels`?",
    ),
    (
        "node_cpu: 60%, schedules: [{ cron: \"0 7 * * *\", for: 1h, min: 8 }]",
        "schedules[0].min: min 8 is above max 5",
    ),
    (
        "node_cpu: 60%, schedules: [{ cron: \"0 7 * * *\", for: 1h }]",
        "sets neither min nor max",
    ),
    (
        "node_cpu: 60%, schedules: [{ cron: \"0 7 * * *\", min: 2 }]",
        "needs either for or end",
    ),
    (
        "node_cpu: 60%, behavior: { scale_up: { policies: [{ percent: 0, period: 1s }] } }",
        "from 1 to 10000",
    ),
    (
        "node_cpu: 60%, behavior: { scale_up: { tolerance: NaN } }",
        "behavior.scale_up.tolerance",
    ),
];

/// Each wrong value: one error, at its own key, with a way out where one exists.
#[test]
fn autoscale_refuses_each_wrong_value_with_one_error_at_its_place() {
    for (body, words) in WRONG_POLICIES {
        let text =
            format!("services:\n  web:\n    image: nginx\n    x-autoscale: {{ max: 5, {body} }}\n");
        let found = problems(&text).into_iter();
        let found: Vec<_> = found.filter(|p| p.level == Level::Error).collect();
        assert_eq!(found.len(), 1, "{body}\n{found:?}");
        let help = found[0].help.clone().unwrap_or_default();
        let line = 1 + text[..found[0].place.offset].matches('\n').count();
        assert_eq!(line, 4, "{body}");
        let text = format!("{} {help}", found[0]);
        assert!(text.contains(words), "{body}\n{text}");
    }
    let many = vec!["{ node_cpu: 60% }"; 17].join(", ");
    let text = format!(
        "services:\n  web:\n    image: nginx\n    x-autoscale: {{ max: 5, metrics: [{many}] }}\n"
    );
    let text = problems(&text)[0].to_string();
    assert!(text.contains("has 17 entries; at most 16"), "{text}");
}

/// Of all answers at most all are errors.
#[test]
fn a_share_of_answers_above_all_of_them_is_refused_at_its_place() {
    for (body, fine) in [
        ("errors: 100%", true),
        ("errors: 500%", false),
        ("steps: [{ errors: { 5%: 2, 120%: 3 } }]", false),
    ] {
        let text = format!(
            "services:\n  web:\n    image: nginx\n    ports: [\"80\"]\n    \
             x-autoscale: {{ max: 5, {body} }}\n"
        );
        if fine {
            read(&text).unwrap_or_else(|error| panic!("{body}: {error:?}"));
            continue;
        }
        let found = problems(&text).into_iter();
        let found: Vec<_> = found.filter(|p| p.level == Level::Error).collect();
        assert!(!found.is_empty(), "{body}");
        for problem in found {
            let line = 1 + text[..problem.place.offset].matches('\n').count();
            assert_eq!(line, 5, "{body}");
            let words = format!("{problem} {}", problem.help.clone().unwrap_or_default());
            assert!(words.contains("at most 100 %"), "{words}");
            assert!(words.contains("for example: errors: 5%"), "{words}");
        }
    }
}

#[test]
fn the_example_with_schedules_is_right() {
    let text = include_str!("../../../examples/scheduled/compose.yaml");
    let loaded = read(text).unwrap_or_else(|error| panic!("{error:?}"));
    let shop = loaded.services.into_values().next().unwrap();
    assert_eq!(shop.autoscale.unwrap().schedules.len(), 2);
}
