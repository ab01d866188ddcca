//! Files that name other files: `extends` and `include`.

use crate::compose_env::{directory, load_with, taken};

/// The tree of what files in a directory become, as JSON.
fn tree(files: &[(&str, &str)]) -> serde_json::Value {
    let dir = directory(files);
    let loaded = taken(load_with(dir.path(), &[], |_| {}));
    let text = serde_json::to_string(&loaded.tree).unwrap();
    // Absolute names of the directory say nothing.
    let text = text.replace(&dir.path().display().to_string(), "/here");
    serde_json::from_str(&text).unwrap()
}

/// What is said about files.
fn said(files: &[(&str, &str)]) -> String {
    crate::said::all(files, |_| {})
}

const COMMON: &str = "services:\n  base:\n    extends: { service: root }\n    env_file: base.env\n    \
                      command: [a]\n  root: { image: \"${IMAGE:-common}\", environment: [A=1, B=1] }\n";

#[test]
fn a_service_extends_others_in_its_file_and_elsewhere() {
    let tree = tree(&[
        (
            "compose.yaml",
            "services:\n  web:\n    extends: { file: ./sub/common.yaml, service: base }\n    command: [b]\n    \
             environment: { B: 2 }\n  two: { extends: web, environment: { C: 3 }, ports: !reset [] }\n",
        ),
        (
            "compose.override.yaml",
            "services: { two: { image: over } }\n",
        ),
        ("sub/common.yaml", COMMON),
        ("sub/base.env", "FILE=f\n"),
        (".env", "IMAGE=dot\n"),
    ]);
    let web = &tree["services"]["web"];
    assert_eq!(
        (&web["image"], &web["command"]),
        (&"dot".into(), &serde_json::json!(["b"]))
    );
    let environment = serde_json::json!({"A": "1", "B": 2, "FILE": "f"});
    assert_eq!(web["environment"], environment);
    let two = &tree["services"]["two"];
    assert_eq!(two["image"], "over");
    assert_eq!(two["environment"]["C"], 3);
    assert_eq!(two["environment"]["FILE"], "f");
}

/// What a service takes away from the one it extends, it also takes away from files below.
#[test]
fn a_reset_holds_for_what_is_extended_and_for_files_below() {
    let tree = tree(&[
        (
            "compose.yaml",
            "services: { web: { image: a, ports: [\"80:80\"] } }\n",
        ),
        (
            "compose.override.yaml",
            "services:\n  base: { image: b, ports: [\"81:80\"] }\n  web: { extends: base, ports: !reset [] }\n",
        ),
    ]);
    assert_eq!(tree["services"]["web"], serde_json::json!({"image": "b"}));
}

/// What the extended service takes away is not taken away from the one that extends it.
#[test]
fn a_reset_is_of_the_service_that_says_it() {
    let tree = tree(&[
        (
            "compose.yaml",
            "services: { web: { image: a, ports: [\"80:80\"] } }\n",
        ),
        (
            "compose.override.yaml",
            "services:\n  base: { image: b, ports: !reset [\"${NONE:?nobody asks for it}\"] }\n  web: { extends: base }\n",
        ),
    ]);
    let wanted = serde_json::json!({"image": "b", "ports": ["80:80"]});
    assert_eq!(tree["services"]["web"], wanted);
}

#[test]
fn circles_and_what_is_not_there_are_said_by_name() {
    let circle =
        "services:\n  a: { extends: b }\n  b: { extends: { service: c } }\n  c: { extends: a }\n";
    let text = said(&[("compose.yaml", circle)]);
    let names = "a (compose.yaml) -> b (compose.yaml) -> c (compose.yaml) -> a (compose.yaml)";
    assert!(text.contains(names) && text.lines().count() == 1, "{text}");
    let text = said(&[
        (
            "compose.yaml",
            "services: { a: { extends: { file: o.yaml, service: b } } }\n",
        ),
        (
            "o.yaml",
            "services: { b: { extends: { file: compose.yaml, service: a } } }\n",
        ),
    ]);
    let names = "a (compose.yaml) -> b (o.yaml) -> a (compose.yaml)";
    assert!(text.contains(names), "{text}");
    let cases = [
        (
            "extends: bse",
            "there is no service `bse` in compose.yaml",
            "did you mean `base`?",
        ),
        (
            "extends: { service: base, file: none.yaml }",
            "cannot read none.yaml",
            "start from the directory",
        ),
        (
            "extends: { file: compose.yaml }",
            "names no service",
            "extends: {",
        ),
        (
            "extends: { servce: base }",
            "unknown key `servce`",
            "did you mean `service`?",
        ),
        (
            "extends: { file: bad.yaml, service: x }",
            "bad.yaml:2:",
            "closed",
        ),
    ];
    for (key, message, help) in cases {
        let text = format!("services:\n  base: {{ image: a }}\n  web: {{ image: b, {key} }}\n");
        let text = said(&[("compose.yaml", &text), ("bad.yaml", "a: 1\nb: [\n")]);
        assert!(
            text.contains(message) && text.contains(help),
            "{key}: {text}"
        );
    }
}

#[test]
fn chains_and_copies_have_limits() {
    let mut text = String::from("services:\n  s0: { image: a }\n");
    for n in 1..40 {
        text.push_str(&format!("  s{n}: {{ extends: s{} }}\n", n - 1));
    }
    assert!(said(&[("compose.yaml", &text)]).contains("more than 16 services extend"));
    let mut text = String::from("services:\n  big:\n    image: a\n    command:\n");
    text.push_str(&"      - x\n".repeat(1_000));
    for n in 0..250 {
        text.push_str(&format!("  s{n}: {{ extends: big }}\n"));
    }
    assert!(said(&[("compose.yaml", &text)]).contains("larger than any app"));
}

#[test]
fn a_problem_of_an_extended_file_names_its_line() {
    let text = said(&[
        (
            "compose.yaml",
            "services: { web: { extends: { file: o.yaml, service: b } } }\n",
        ),
        ("o.yaml", "services:\n  b:\n    image: a\n    comand: x\n"),
    ]);
    assert!(
        text.contains("o.yaml:4:5") && text.contains("unknown key `comand`"),
        "{text}"
    );
}

#[test]
fn included_files_bring_their_directory_and_variables() {
    let tree = tree(&[
        (
            "compose.yaml",
            "include:\n  - sub/compose.yaml\n  - path: [other/a.yaml, other/b.yaml]\n    project_directory: sub\n    \
             env_file: [x.env]\nservices: { web: { image: a } }\n",
        ),
        (
            "sub/compose.yaml",
            "name: other\ninclude: [deep/d.yaml]\nservices:\n  db:\n    image: \"db:${TAG}\"\n    env_file: db.env\n    \
             environment: [TAG]\n",
        ),
        ("sub/.env", "TAG=sub\n"),
        ("sub/db.env", "DB=1\n"),
        ("sub/deep/d.yaml", "volumes: { deep: {} }\n"),
        (
            "other/a.yaml",
            "services: { o: { image: \"o:${TAG}\", env_file: db.env } }\n",
        ),
        ("other/b.yaml", "services: { o: { command: [x] } }\n"),
        ("x.env", "TAG=x\n"),
        (
            "compose.override.yaml",
            "services: { db: { command: [y] } }\n",
        ),
    ]);
    let services = serde_json::json!({
        "web": {"image": "a"},
        "db": {"image": "db:sub", "command": ["y"], "environment": {"TAG": "sub", "DB": "1"}},
        "o": {"image": "o:x", "command": ["x"], "environment": {"DB": "1"}},
    });
    assert_eq!(tree["services"], services);
    assert_eq!(tree["volumes"], serde_json::json!({"deep": {}}));
    assert!(tree.get("include").is_none() && tree.get("name").is_none());
}

#[test]
fn the_same_may_be_included_twice_and_something_else_may_not() {
    let shared = ("shared.yaml", "services: { web: { image: a } }\n");
    let files = [
        ("compose.yaml", "include: [a.yaml, b.yaml]\n"),
        ("a.yaml", "include: [shared.yaml]\n"),
        ("b.yaml", "include: [shared.yaml]\n"),
        shared,
    ];
    assert_eq!(
        tree(&files)["services"],
        serde_json::json!({"web": {"image": "a"}})
    );
    let text = said(&[
        (
            "compose.yaml",
            "include: [shared.yaml]\nservices:\n  web: { image: b }\n",
        ),
        shared,
    ]);
    assert!(text.contains("compose.yaml:3:3"), "{text}");
    assert!(
        text.contains("services.web: is in two files, here and in shared.yaml:1"),
        "{text}"
    );
}

#[test]
fn wrong_includes_are_said_with_the_way_out() {
    let text = said(&[
        ("compose.yaml", "include: [a.yaml]\n"),
        ("a.yaml", "include: [./b.yaml]\n"),
        ("b.yaml", "include: [a.yaml]\n"),
    ]);
    let circle = "files include each other: a.yaml -> b.yaml -> a.yaml";
    assert!(text.contains(circle), "{text}");
    assert!(text.contains("b.yaml:1:11"), "{text}");
    let cases = [
        ("none.yaml", "must be a list of files", "include: ["),
        (
            "[none.yaml]",
            "cannot read none.yaml",
            "start from the directory",
        ),
        (
            "[{ paht: a.yaml }]",
            "unknown key `paht`",
            "did you mean `path`?",
        ),
        ("[{ project_directory: a }]", "names no file", "include: ["),
        (
            "[{ path: a.yaml, env_file: bad.env }]",
            "bad.env:1:",
            "one NAME=value",
        ),
        ("[list.yaml]", "must be a mapping", "Compose file"),
        ("[bad.yaml]", "bad.yaml:3:1", "unknown key `servces`"),
    ];
    for (value, message, help) in cases {
        let text = format!("include: {value}\nservices: {{ web: {{ image: a }} }}\n");
        let text = said(&[
            ("compose.yaml", &text),
            ("a.yaml", "services: {}\n"),
            ("bad.env", "?\n"),
            ("list.yaml", "[a]\n"),
            ("bad.yaml", "x-a: 1\n   # c\nservces: {}\n"),
        ]);
        assert!(
            text.contains(message) && text.contains(help),
            "{value}: {text}"
        );
    }
    let mut text = String::from("include:\n");
    text.push_str(&"  - a.yaml\n".repeat(300));
    let text = said(&[("compose.yaml", &text), ("a.yaml", "services: {}\n")]);
    assert!(text.contains("more than 256 files"), "{text}");
}

/// Several documents of one file are as several files with `-f`.
#[test]
fn documents_of_one_file_are_merged_in_their_order() {
    let tree = tree(&[
        (
            "compose.yaml",
            "---\nservices:\n  web: { image: a, ports: [\"80:80\"], environment: { A: 1, B: 1 } }\n  old: { image: a }\n\
             ---\n# Nothing but a comment.\n---\nservices:\n  web: { ports: !override [\"81:80\"], environment: [B=2] }\n  \
             old: !reset null\n  two: { extends: { file: base.yaml, service: base } }\n...\n",
        ),
        (
            "base.yaml",
            "services: { base: { image: b, command: [x] } }\n---\nservices: { base: { image: c } }\n",
        ),
    ]);
    let services = serde_json::json!({
        "web": {"image": "a", "ports": ["81:80"], "environment": {"A": 1, "B": "2"}},
        "two": {"image": "c", "command": ["x"]},
    });
    assert_eq!(tree["services"], services);
}

#[test]
fn what_is_wrong_in_a_later_document_is_said_with_its_line() {
    let text = "services:\n  web: { image: a }\n---\nservices:\n  web:\n    ports: [\"é\", x]\n    frob: 1\n---\nsevices: {}\n";
    let said = said(&[("compose.yaml", text)]);
    let places = ["6:13: ", "6:18: ", "7:5: ", "9:1: "];
    for (line, place) in said.lines().zip(places) {
        assert!(line.starts_with(&format!("compose.yaml:{place}")), "{said}");
    }
    assert_eq!(said.lines().count(), places.len(), "{said}");
    // Anchors end with their document, and so do keys that are there twice.
    let text = "x-a: &a { image: a }\nservices: { web: *a }\n---\nservices: { two: *a }\n";
    let said = crate::said::errors(&[("compose.yaml", text)], |_| {});
    assert!(said.contains("compose.yaml:4:"), "{said}");
    let many = "services: { web: { image: a } }\n---\n".repeat(40);
    let said = crate::said::errors(&[("compose.yaml", &many)], |_| {});
    assert!(said.contains("more than 16 documents"), "{said}");
}
