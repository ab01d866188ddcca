//! Keys of ours that stand where nothing follows from them, or that are misspelt.

use controllerctl::compose::problem::draw;

use crate::compose::{drawn, faults, read};

const SERVICE: &str = "    image: nginx\n    ports: [\"80:80\"]\n";

fn warnings(text: &str) -> String {
    let loaded = read(text).unwrap_or_else(|e| panic!("{text}\n{}", drawn(&e)));
    draw(&loaded.warnings, &loaded.sources, false)
}

#[test]
fn an_extension_at_the_top_that_no_alias_refers_to_is_warned_of() {
    for (key, value, place) in [
        ("x-autoscale", "{ max: 3, cpu: 60% }", "services.NAME;"),
        ("x-haproxy", "{ balance: leastconn }", "services.NAME;"),
        (
            "x-rebalance",
            "&off false",
            "services.NAME.deploy.placement;",
        ),
        ("x-policy", "binpack", "services.NAME.deploy.placement;"),
    ] {
        let said = warnings(&format!("services:\n  web:\n{SERVICE}{key}: {value}\n"));
        assert!(said.contains("no alias refers to it"), "{key}: {said}");
        assert!(said.contains(&format!("it belongs to {place}")), "{said}");
        assert!(said.contains("compose.yaml:5:1"), "{said}");
    }
}

#[test]
fn fragments_that_are_used_are_nothing_to_warn_of() {
    let policy = "{ max: 3, node_cpu: 60% }";
    for (top, used) in [
        (format!("x-autoscale: &a {policy}"), "x-autoscale: *a"),
        (
            format!("x-autoscale: &a {policy}"),
            "x-autoscale: { <<: *a }",
        ),
        (
            format!("x-autoscale: &a {policy}"),
            "x-autoscale: { <<: [*a], min: 2 }",
        ),
        (
            "x-autoscale: { most: &most 7 }".to_owned(),
            "x-autoscale: { max: *most, node_cpu: 60% }",
        ),
        ("x-haproxy: &h {}".to_owned(), "x-haproxy: *h"),
        (
            "x-rebalance: &r false".to_owned(),
            "deploy: { placement: { x-rebalance: *r } }",
        ),
        ("x-context: lab".to_owned(), "labels: { team: web }"),
        ("x-team: { of: others }".to_owned(), "labels: { team: web }"),
        // Not one of ours misspelt, whatever `x-` makes alike.
        ("x-common: &c { team: web }".to_owned(), "labels: *c"),
    ] {
        let said = warnings(&format!("{top}\nservices:\n  web:\n{SERVICE}    {used}\n"));
        assert_eq!(said, "", "{top} {used}");
    }
}

/// What is missing only because it is misspelt is said once, as a misspelling.
#[test]
fn a_misspelt_key_is_not_missing_as_well() {
    let port = "    ports: [\"80:80\"]\n";
    for (body, near) in [
        (
            "x-haproxy: { gate: { max_latency_ration: 2 } }",
            "max_latency_ratio",
        ),
        ("x-autoscale: { maxx: 3, cpu: 60% }", "max"),
        (
            "x-autoscale: { max: 3, prometheus: { querry: up, target: 5 } }",
            "query",
        ),
        (
            "x-autoscale: { max: 3, prometheus: { query: up, targt: 5 } }",
            "target",
        ),
        (
            "x-autoscale: { max: 3, cpu: 60%, behavior: { scale_up: { policies: [{ replica: 2, \
             period: 15s }] } } }",
            "replicas",
        ),
    ] {
        let text = faults(&format!("{port}    {body}\n"));
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("unknown key"), "{near}: {text}");
    }
    // This one is misspelt, and the gate would look at nothing as well.
    let text = faults(&format!(
        "{port}    x-haproxy: {{ gate: {{ mini_requests: 5 }} }}\n"
    ));
    assert!(text.contains("unknown key `mini_requests`"), "{text}");
    assert!(text.contains("looks at nothing: neither"), "{text}");
}
