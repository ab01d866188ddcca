//! All that is wrong with files is said at once, where it stands, and nothing that only follows
//! from it.

use crate::said::errors;

fn said(text: &str) -> String {
    errors(&[("compose.yaml", text)], |_| {})
}

/// As many lines as `wanted`, each of which is in one of them.
fn all(text: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert_eq!(text.lines().count(), wanted.len(), "{text}");
}

#[test]
fn a_base_that_is_not_there_hides_nothing_else() {
    let text = "services:\n  web:\n    extends: { file: nof.yaml, service: q }\n    replcas: 3\n    \
                ports: [\"x\"]\n    x-haproxy: { path: /a }\n  other:\n    image: a\n    env_file: none.env\n    foo: 1\n";
    all(
        &said(text),
        &[
            "compose.yaml:3:22: services.web.extends: cannot read nof.yaml",
            "compose.yaml:4:5: services.web: unknown key `replcas`",
            "compose.yaml:5:13: services.web.ports[0]: \"x\" is no port",
            "compose.yaml:9:15: services.other.env_file: cannot read none.env",
            "compose.yaml:10:5: services.other: unknown key `foo`",
        ],
    );
}

#[test]
fn an_include_that_is_not_there_hides_nothing_else() {
    let text = "include: [nofile.yaml]\nservices:\n  web:\n    image: a\n    replcas: 3\n    networks: [theirs]\n    \
                volumes: [\"theirs:/data\"]\n    depends_on: [theirs]\n    secrets: [theirs]\n    links: [theirs]\n";
    all(
        &said(text),
        &[
            "1:11: include: cannot read nofile.yaml",
            "5:5: services.web: unknown key `replcas`",
        ],
    );
    // Nothing but that: what is in it may be the services.
    all(
        &said("include: [nofile.yaml]\n"),
        &["cannot read nofile.yaml"],
    );
}

#[test]
fn each_key_that_is_there_twice_is_said() {
    let text = "services:\n  web:\n    image: a\n    image: b\n    frob: 1\n  web:\n    image: c\n  db:\n    image: d\n    \
                environment: { A: 1, A: 2 }\n";
    all(
        &said(text),
        &[
            "4:5: services.web: key image is there twice",
            "5:5: services.web: unknown key `frob`",
            "6:3: services: key web is there twice",
            "10:26: services.db.environment: key A is there twice",
        ],
    );
    // A number twice is a key twice, too; a merge key is none.
    assert!(
        said("services: { web: { image: a, labels: { 1: a, 1: b } } }\n").contains("there twice")
    );
}

#[test]
fn what_follows_a_syntax_error_in_another_file_is_said() {
    let files = [
        ("compose.yaml", "services:\n  web: { frob: 1 }\n"),
        ("compose.override.yaml", "a: [\n"),
    ];
    let text = errors(&files, |_| {});
    all(
        &text,
        &[
            "compose.override.yaml:",
            "2:10: services.web: unknown key `frob`",
        ],
    );
}

#[test]
fn files_that_cannot_be_merged_are_read_all_the_same() {
    let files = [
        (
            "compose.yaml",
            "services:\n  web:\n    image: a\n    ports: [\"x\"]\n    ulimits: { nofile: none }\n",
        ),
        (
            "compose.override.yaml",
            "services:\n  web:\n    ports: { a: b }\n    ulimits: [1]\n",
        ),
    ];
    let text = errors(&files, |_| {});
    for part in [
        "override.yaml:3:12: services.web.ports: cannot be merged",
        "override.yaml:4:14: services.web.ulimits: cannot be merged",
        "compose.yaml:4:13: services.web.ports[0]: \"x\" is no port",
        "compose.yaml:5:24: services.web.ulimits.nofile: \"none\" must be",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn each_fault_of_a_text_with_variables_is_said() {
    let text = "services:\n  web:\n    image: a\n    command: \"$ 5 ${1bad} ${A:=b} ${NONE:?must be set} ${open\"\n";
    all(
        &said(text),
        &[
            "not a variable: a single $",
            "not a variable: ${1bad}",
            "not a variable: ${A:=b}",
            "NONE is required: must be set",
            "not a variable: ${open has no end",
        ],
    );
}

#[test]
fn tags_that_nobody_knows_are_all_said() {
    let text = "services:\n  web: { image: !a x, command: !b [x], frob: 1 }\n";
    all(
        &said(text),
        &["the tag \"!a\"", "the tag \"!b\"", "unknown key `frob`"],
    );
}

#[test]
fn an_entry_of_several_lines_is_said_where_it_begins() {
    let text = "services:\n  web:\n    image: a\n    ports:\n      - \"80:80\"\n      - published: 80\n        target: 81\n      \
                - published: 90\n";
    all(
        &said(text),
        &[
            "6:9: services.web.ports[1]: port 80 is published twice",
            "8:9: services.web.ports[2]: has no target",
        ],
    );
}

#[test]
fn keys_of_another_place_are_said_with_theirs() {
    for (key, help) in [
        ("replicas: 3", "deploy: { replicas: 3 }"),
        ("replcas: 3", "deploy: { replicas: 3 }"),
        ("replicas: 3", "controllerctl scale web=3"),
        ("placement: {}", "it belongs to services.NAME.deploy"),
        ("update_config: {}", "it belongs to services.NAME.deploy"),
        ("resources: {}", "it belongs to services.NAME.deploy"),
        ("memory: 1g", "deploy.resources.limits"),
        (
            "constraints: []",
            "it belongs to services.NAME.deploy.placement",
        ),
        ("comand: x", "did you mean `command`?"),
        ("metrics: []", "it belongs to services.NAME.x-autoscale"),
    ] {
        let text = said(&format!("services:\n  web:\n    image: a\n    {key}\n"));
        assert!(text.contains(help), "{key}: {text}");
    }
    let text = said("services:\n  web:\n    image: a\n    deploy:\n      image: b\n");
    assert!(text.contains("it belongs to services.NAME"), "{text}");
}

/// What is only known once all services are read is said of those that are wrong, too.
#[test]
fn another_error_of_a_service_hides_nothing_of_it() {
    let text = "services:\n  web:\n    image: a\n    replcas: 3\n    depends_on: [nobody, db]\n    ports: [\"80:80\"]\n  \
                db:\n    image: a\n    frob: 1\n    links: [none]\n    ports: [\"80:80\"]\n";
    all(
        &said(text),
        &[
            "4:5: services.web: unknown key `replcas`",
            "5:5: services.web.depends_on: depends_on names nobody, which is not in the app",
            "7:3: services.db: port 80 is already taken by service `web`",
            "9:5: services.db: unknown key `frob`",
            "10:5: services.db.links: links name none, which is not in the app",
        ],
    );
    let circle = "services:\n  a: { image: a, frob: 1, depends_on: [b] }\n  b: { image: a, depends_on: [a] }\n";
    all(&said(circle), &["unknown key `frob`", "is a circle"]);
    // Apart by what could not be read: whether they clash nobody knows.
    let text = "services:\n  a: { image: a, ports: [\"80:80\"], x-haproxy: { domain: a.org } }\n  \
                b: { image: a, ports: [\"80:80\"], x-haproxy: { domains: [b.org] } }\n";
    all(&said(text), &["unknown key `domain`"]);
}

#[test]
fn a_time_without_a_unit_is_said_once_with_the_way_out() {
    let lines = "    image: a\n    stop_grace_period: 10\n    healthcheck: { test: x, interval: 30, timeout: 1.5, \
                 start_period: 0, start_interval: true }\n    \
                 deploy: { update_config: { delay: 5 }, restart_policy: { window: \"7\" } }\n";
    all(
        &said(&format!("services:\n  web:\n{lines}")),
        &[
            "stop_grace_period: 10 has no unit; write 10s",
            "interval: 30 has no unit; write 30s",
            "timeout: 1.5 has no unit; write 1.5s",
            "start_period: 0 has no unit; write 0s",
            "start_interval: true is no time; write for example 30s",
            "delay: 5 has no unit; write 5s",
            "window: \"7\" has no unit; write 7s",
        ],
    );
}

#[test]
fn what_only_follows_from_another_problem_is_not_said() {
    let lines = "    image: a\n    ports: [\"80;80\"]\n    x-haproxy: { path: /a }\n    x-autoscale: { max: 3, requests: 9/s }\n";
    all(
        &said(&format!("services:\n  web:\n{lines}")),
        &["\"80;80\" is no port"],
    );
    let mut text = String::from("services:\n");
    for n in 0..6_000 {
        text.push_str(&format!("  s{n}: {{ image: a }}\n"));
    }
    all(&said(&text), &["1:1: services: 6000 services; at most 256"]);
    all(&said("services: []\n"), &["services: must be a mapping"]);
    all(&said("services: {}\n"), &["there are no services"]);
}
