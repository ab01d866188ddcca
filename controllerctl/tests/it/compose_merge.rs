//! Several files as one, by the rules of the Compose Specification.

use controllerctl::compose::interpolate::Variables;
use controllerctl::compose::problem::Problems;
use controllerctl::compose::source::Source;
use controllerctl::compose::{ComposeError, Loaded, Request, load, merge, node};
use serde_json::{Value, json};

use crate::compose::drawn;

/// Texts of files to one tree, as JSON, and what is said about them.
fn merged(texts: &[&str]) -> (Value, Vec<String>) {
    let mut problems = Problems::default();
    let nodes = texts.iter().enumerate().map(|(index, text)| {
        let source = Source::new(format!("{index}.yaml"), text);
        node::parse(&source, index).unwrap_or_else(|p| panic!("{p}: {text}"))
    });
    let tree = nodes.reduce(|base, over| merge::merge(base, over, &mut problems));
    let tree = merge::settle(tree.unwrap());
    let said = problems.into_sorted();
    let said = said.iter().map(ToString::to_string).collect();
    (serde_json::to_value(&tree).unwrap(), said)
}

/// The service `web` of files that each say something about it.
fn web(bodies: &[&str]) -> Value {
    let texts: Vec<String> = bodies
        .iter()
        .map(|body| format!("services: {{ web: {{ {body} }} }}\n"))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (mut tree, said) = merged(&texts);
    assert!(said.is_empty(), "{said:?}");
    tree["services"]["web"].take()
}

#[test]
fn mappings_merge_lists_grow_and_commands_are_replaced() {
    let cases = [
        ("image: a", "image: b", json!({"image": "b"})),
        ("image: a", "image:", json!({"image": "a"})),
        ("command: [a, b]", "command: [c]", json!({"command": ["c"]})),
        ("command: a b", "command: [c]", json!({"command": ["c"]})),
        (
            "entrypoint: [a]",
            "entrypoint: b",
            json!({"entrypoint": "b"}),
        ),
        (
            "healthcheck: {test: [CMD, a], retries: 2}",
            "healthcheck: {test: [CMD, b]}",
            json!({"healthcheck": {"test": ["CMD", "b"], "retries": 2}}),
        ),
        (
            "deploy: {placement: {constraints: [a==b]}}",
            "deploy: {placement: {constraints: [c==d]}}",
            json!({"deploy": {"placement": {"constraints": ["a==b", "c==d"]}}}),
        ),
        ("dns: a", "dns: [b, a]", json!({"dns": ["a", "b"]})),
        ("tmpfs: /a", "tmpfs: /b", json!({"tmpfs": ["/a", "/b"]})),
        (
            "cap_add: [A, B]",
            "cap_add: [B, C]",
            json!({"cap_add": ["A", "B", "C"]}),
        ),
        (
            "build: ./a",
            "build: {target: t}",
            json!({"build": {"context": "./a", "target": "t"}}),
        ),
    ];
    for (base, over, wanted) in cases {
        assert_eq!(web(&[base, over]), wanted, "{base} + {over}");
    }
}

#[test]
fn lists_of_pairs_and_of_names_merge_with_mappings() {
    for key in ["environment", "labels", "annotations", "sysctls"] {
        let over = format!("{key}: {{B: 3, C: }}");
        let base = format!("{key}: [A=1, B=2, C=4, A=5]");
        let wanted = json!({key: {"A": "5", "B": 3, "C": "4"}});
        assert_eq!(web(&[&base, &over]), wanted);
    }
    assert_eq!(
        web(&["networks: [a, b]", "networks: {b: {aliases: [x]}}"]),
        json!({"networks": {"a": null, "b": {"aliases": ["x"]}}})
    );
    assert_eq!(
        web(&[
            "depends_on: [a, b]",
            "depends_on: {b: {condition: service_healthy}}"
        ]),
        json!({"depends_on": {"a": {"condition": "service_started"}, "b": {"condition": "service_healthy"}}})
    );
    assert_eq!(
        web(&[
            "extra_hosts: {a: [\"1\", \"2\"]}",
            "extra_hosts: [\"b=3\", \"a=1\"]"
        ]),
        json!({"extra_hosts": ["a=1", "a=2", "b=3"]})
    );
}

#[test]
fn what_is_the_same_inside_is_replaced_in_its_place() {
    assert_eq!(
        web(&[
            "volumes: [\"a:/x\", \"b:/y\"]",
            "volumes: [{source: c, target: /x/}, \"d:/z:ro\"]"
        ]),
        json!({"volumes": [{"source": "c", "target": "/x/"}, "b:/y", "d:/z:ro"]})
    );
    assert_eq!(
        web(&[
            "devices: [\"/dev/a:/dev/x\"]",
            "devices: [\"/dev/b:/dev/x:r\"]"
        ]),
        json!({"devices": ["/dev/b:/dev/x:r"]})
    );
    // Another published port is another way in; the same one is there once.
    assert_eq!(
        web(&[
            "ports: [\"80:8000\", 9000]",
            "ports: [{target: 8000, published: \"80\"}, \"81:8000\", \"80:8000/udp\"]"
        ]),
        json!({"ports": [{"target": 8000, "published": "80"}, 9000, "81:8000", "80:8000/udp"]})
    );
    assert_eq!(
        web(&["secrets: [a, b]", "secrets: [{source: c, target: a}]"]),
        json!({"secrets": [{"source": "c", "target": "a"}, "b"]})
    );
    assert_eq!(
        web(&[
            "configs: [a]",
            "configs: [{source: a, target: /etc/a}, {source: b, target: /a}]"
        ]),
        json!({"configs": [{"source": "b", "target": "/a"}, {"source": "a", "target": "/etc/a"}]})
    );
    assert_eq!(
        web(&[
            "env_file: a.env",
            "env_file: [{path: a.env, required: false}, b.env]"
        ]),
        json!({"env_file": [{"path": "a.env", "required": false}, "b.env"]})
    );
}

#[test]
fn options_of_another_log_driver_do_not_stay() {
    let base = "logging: {driver: a, options: {x: 1}}";
    assert_eq!(
        web(&[base, "logging: {driver: b, options: {y: 2}}"]),
        json!({"logging": {"driver": "b", "options": {"y": 2}}})
    );
    assert_eq!(
        web(&[base, "logging: {options: {y: 2}}"]),
        json!({"logging": {"driver": "a", "options": {"x": 1, "y": 2}}})
    );
}

#[test]
fn reset_takes_away_and_override_replaces() {
    let base = "image: a, ports: [\"80:80\"], environment: {A: 1, B: 2}";
    assert_eq!(
        web(&[base, "ports: !reset [], environment: {A: !reset null}"]),
        json!({"image": "a", "environment": {"B": 2}})
    );
    assert_eq!(
        web(&[
            base,
            "ports: !override [\"81:80\"], environment: !override {C: 3}"
        ]),
        json!({"image": "a", "ports": ["81:80"], "environment": {"C": 3}})
    );
    // With nothing below, and in a service that is new.
    assert_eq!(
        web(&["image: a", "command: !reset [], cap_add: !override [A]"]),
        json!({"image": "a", "cap_add": ["A"]})
    );
    let over = "services: { web: !reset null, new: { image: b, ports: !reset [] } }";
    let (tree, _) = merged(&["services: { web: { image: a } }", over]);
    assert_eq!(tree, json!({"services": {"new": {"image": "b"}}}));
}

#[test]
fn a_third_file_adds_to_what_the_second_left() {
    let base = "ports: [\"80:80\"]";
    for second in ["ports: !reset []", "ports: !override [\"81:80\"]"] {
        let (reset, third) = (second.contains("reset"), "ports: [\"82:80\"]");
        let ports = match reset {
            true => json!(["82:80"]),
            false => json!(["81:80", "82:80"]),
        };
        assert_eq!(web(&[base, second, third]), json!({"ports": ports}));
    }
}

#[test]
fn what_cannot_be_merged_is_said_with_the_way_out() {
    let base = "services:\n  web:\n    ports: [\"80:80\"]\n";
    let over = "services:\n  web:\n    ports: { a: b }\n";
    let (_, said) = merged(&[base, over]);
    assert_eq!(
        said,
        ["services.web.ports: cannot be merged: a mapping here, a list in the file below"]
    );
}

#[test]
fn other_tags_are_refused_where_they_stand() {
    for text in [
        "a: !frob 1",
        "!frob a: 1",
        "a: [!!frob x]",
        "a: !include b.yaml",
    ] {
        let problem = node::parse(&Source::new("f", text), 0).unwrap_err();
        assert_eq!(problem.level, controllerctl::compose::problem::Level::Error);
        assert!(problem.message.contains("tag"), "{text}: {problem}");
    }
    for text in [
        "a: !!str 1",
        "a: ! 1",
        "a: &x !override [1]\nb: *x",
        "a: !!map {}",
    ] {
        let source = Source::new("f", text);
        node::parse(&source, 0).unwrap_or_else(|p| panic!("{text}: {p}"));
    }
}

fn load_in(directory: &std::path::Path, set: &[(&str, &str)]) -> Loaded {
    let pairs = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let request = Request {
        directory: directory.to_owned(),
        ..Request::default()
    };
    load(&request, &Variables::new(pairs)).unwrap_or_else(|error| panic!("{}", drawn(&error)))
}

#[test]
fn files_come_from_the_environment_or_under_their_usual_names() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, image: &str| {
        let text = format!("services: {{ web: {{ image: {image} }} }}\n");
        std::fs::write(directory.path().join(name), text).unwrap();
    };
    let image = |set: &[(&str, &str)]| {
        let loaded = load_in(directory.path(), set);
        let spec = loaded.services.into_values().next().unwrap();
        (spec.container.image, loaded.sources.len())
    };
    let none = load(
        &Request {
            directory: directory.path().to_owned(),
            ..Request::default()
        },
        &Variables::default(),
    );
    assert!(matches!(none, Err(ComposeError::NoFile)));
    write("compose.yml", "base");
    assert_eq!(image(&[]), ("base".into(), 1));
    write("docker-compose.override.yml", "over");
    assert_eq!(image(&[]), ("over".into(), 2));
    write("a.yaml", "a");
    write("b.yaml", "b");
    assert_eq!(image(&[("COMPOSE_FILE", "b.yaml:a.yaml")]), ("a".into(), 2));
    let set = [
        ("COMPOSE_FILE", "a.yaml;b.yaml"),
        ("COMPOSE_PATH_SEPARATOR", ";"),
    ];
    assert_eq!(image(&set), ("b".into(), 2));
    std::fs::write(directory.path().join(".env"), "COMPOSE_FILE=a.yaml\n").unwrap();
    assert_eq!(image(&[]), ("a".into(), 1));
}
