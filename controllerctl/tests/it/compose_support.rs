//! What becomes of each key, and files that are taken without some of theirs.

use controllerctl::compose::interpolate::Variables;
use controllerctl::compose::support::{Row, Status};
use controllerctl::compose::{Checked, Request, check};

use crate::compose_env::{directory, load_with, refused, taken};

const FILE: &str = "name: shop\nnetworks: { back: { internal: true } }\nservices:\n  web:\n    image: a\n    gpus: all\n    \
                    hostname: w\n    environment: { A: 1 }\n    networks: [back]\n    deploy:\n      \
                    replicas: 1\n      endpoint_mode: dnsrr\n    x-haproxy: { drain: 5s }\n    ports: [\"80:80\"]\n    \
                    x-mine: 1\n  db:\n    image: b\n    profiles: [data]\n    build: .\n";

fn checked(text: &str, ignore_unsupported: bool) -> Checked {
    let dir = directory(&[("compose.yaml", text)]);
    let request = Request {
        directory: dir.path().to_owned(),
        ignore_unsupported,
        ..Request::default()
    };
    check(&request, &Variables::default()).unwrap()
}

fn line(row: &Row) -> String {
    format!(
        "{} {:?} {}",
        row.key,
        row.status,
        row.reason.as_deref().unwrap_or("-")
    )
}

#[test]
fn each_key_is_in_the_table_once_with_what_becomes_of_it() {
    let checked = checked(FILE, false);
    assert_eq!(checked.services(), None);
    let rows: Vec<String> = checked.support().iter().map(line).collect();
    let starts = [
        "name Supported -",
        "networks.back.internal Refused not supported: containers reach",
        "services.web.image Supported -",
        "services.web.gpus Refused not supported: devices are not",
        "services.web.hostname Conditional for one replica only",
        "services.web.environment Supported -",
        "services.web.networks Supported -",
        "services.web.deploy.replicas Supported -",
        "services.web.deploy.endpoint_mode Refused not supported: every service",
        "services.web.x-haproxy.drain Supported -",
        "services.web.ports Supported -",
    ];
    assert_eq!(rows.len(), starts.len(), "{rows:#?}");
    for (row, start) in rows.iter().zip(starts) {
        assert!(row.starts_with(start), "{row} is not {start}");
    }
}

#[test]
fn unknown_keys_and_wrong_values_are_refused_in_the_table() {
    let text = "services:\n  a: &a { image: a, comand: x, read_only: maybe }\n  b: *a\n";
    let rows = checked(text, true).support();
    let of = |key: &str| rows.iter().find(|row| row.key == key).unwrap();
    for service in ["a", "b"] {
        let row = of(&format!("services.{service}.comand"));
        let said = (row.status, row.reason.as_deref());
        assert_eq!(said, (Status::Refused, Some("unknown key `comand`")));
        let row = of(&format!("services.{service}.read_only"));
        assert_eq!(row.status, Status::Refused);
        let row = of(&format!("services.{service}.image"));
        assert_eq!((row.status, &row.reason), (Status::Supported, &None));
    }
}

#[test]
fn what_is_not_supported_may_be_left_out_and_what_is_unknown_may_not() {
    let dir = directory(&[("compose.yaml", FILE)]);
    assert!(refused(load_with(dir.path(), &[], |_| {})).contains("not supported"));
    let loaded = taken(load_with(dir.path(), &[], |r| r.ignore_unsupported = true));
    let said: Vec<&str> = loaded.warnings.iter().map(|p| p.path.as_str()).collect();
    let dropped = [
        "networks.back.internal",
        "services.web.gpus",
        "services.web.deploy.endpoint_mode",
    ];
    for path in dropped {
        assert!(said.contains(&path), "{path}: {said:?}");
    }
    let text = serde_json::to_string(&loaded.tree).unwrap();
    assert!(!text.contains("gpus") && !text.contains("dnsrr"), "{text}");
    let table = checked(FILE, true).support();
    let dropped = table.iter().filter(|row| row.status == Status::Dropped);
    assert_eq!(dropped.count(), 3);

    let dir = directory(&[("compose.yaml", "services: { web: { image: a, frob: 1 } }\n")]);
    let said = refused(load_with(dir.path(), &[], |r| r.ignore_unsupported = true));
    assert!(said.contains("unknown key `frob`"), "{said}");
    // There is nothing to run without what is left out.
    let dir = directory(&[(
        "compose.yaml",
        "services: { web: { provider: { type: a } } }\n",
    )]);
    let said = refused(load_with(dir.path(), &[], |r| r.ignore_unsupported = true));
    assert!(said.contains("has no image"), "{said}");
}

#[test]
fn keys_that_hold_under_a_condition_are_said_with_it_and_names_of_ones_own_are_no_keys() {
    let text = "services:\n  web:\n    image: a\n    annotations: { a: b }\n    runtime: runsc\n    userns_mode: \
                host\n    storage_opt: { size: 1G }\n    ulimits: { nofile: { soft: 1, hard: 2 } }\n    depends_on: \
                [db]\n  db: { image: b }\n";
    let rows = checked(text, false).support();
    let of = |key: &str| rows.iter().find(|row| row.key == key);
    for key in [
        "annotations",
        "runtime",
        "userns_mode",
        "storage_opt",
        "depends_on",
    ] {
        let row = of(&format!("services.web.{key}")).unwrap();
        assert_eq!(row.status, Status::Conditional, "{}", line(row));
    }
    let row = of("services.web.ulimits").unwrap();
    assert_eq!(row.status, Status::Supported);
}

#[test]
fn modes_that_end_are_refused_with_their_reason() {
    let of = |mode: &str| {
        let text = format!("services: {{ web: {{ image: a, deploy: {{ mode: {mode} }} }} }}\n");
        let dir = directory(&[("compose.yaml", &text)]);
        load_with(dir.path(), &[], |_| {})
    };
    taken(of("replicated"));
    taken(of("global"));
    taken(of("replicated-job"));
    assert!(refused(of("global-job")).contains("a job is run once"));
    assert!(refused(of("globl")).contains("did you mean `global`?"));
}

#[test]
fn two_services_with_one_container_name_are_refused() {
    let text = "services:\n  a: { image: a, container_name: app }\n  b: { image: b, container_name: app }\n";
    let dir = directory(&[("compose.yaml", text)]);
    let said = refused(load_with(dir.path(), &[], |_| {}));
    assert!(
        said.contains("service `a` has the container_name \"app\", too"),
        "{said}"
    );
}
