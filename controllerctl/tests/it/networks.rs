//! Networks, aliases and links.

use std::collections::BTreeMap;

use controllerctl::compose::problem::Level;
use controllerctl::compose::{ComposeError, Loaded};
use longshore_model::networks::names_seen;
use longshore_model::{ServiceName, ServiceSpec};

use crate::compose::{drawn, read};
use crate::compose_env::{directory, load_with, refused};

pub(crate) fn taken(text: &str) -> Loaded {
    read(text).unwrap_or_else(|error| panic!("{text}\n{}", drawn(&error)))
}

pub(crate) fn warnings(loaded: &Loaded) -> Vec<String> {
    let warnings = loaded.warnings.iter();
    warnings.map(ToString::to_string).collect()
}

/// All that is said of a file that is not taken, a line each.
pub(crate) fn errors(text: &str) -> String {
    let Err(ComposeError::Problems { problems, .. }) = read(text) else {
        panic!("taken:\n{text}");
    };
    let errors = problems.iter().filter(|p| p.level == Level::Error);
    let lines = errors.map(|p| format!("{p}; {}", p.help.as_deref().unwrap_or("-")));
    lines.collect::<Vec<_>>().join("\n")
}

pub(crate) fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

fn seen(services: &BTreeMap<ServiceName, ServiceSpec>, by: &str) -> Vec<String> {
    let services = services.clone().into_iter();
    let services = services.map(|(name, spec)| (name, spec.into())).collect();
    let names = names_seen(&services, &name(by));
    names.iter().map(|(n, s)| format!("{n}={s}")).collect()
}

#[test]
fn networks_say_who_sees_whom_and_by_which_names() {
    let text = "networks: { front: , back: { driver: overlay, driver_opts: { encrypted: \"\" } } }\n\
                services:\n  web: { image: a, networks: [front] }\n  \
                api: { image: a, networks: { front: , back: { aliases: [API.internal], priority: 10 } } }\n  \
                db: { image: a, networks: [back], links: [api, \"api:backend\"] }\n  cron: { image: a }\n";
    let loaded = taken(text);
    let services = &loaded.services;
    assert_eq!(seen(services, "web"), ["api=api", "web=web"]);
    let db = ["api=api", "api.internal=api", "backend=api", "db=db"];
    assert_eq!(seen(services, "db"), db);
    assert_eq!(seen(services, "cron"), ["cron=cron"]);
    let said = warnings(&loaded);
    let starts = [
        "networks: they say who knows whose name",
        "networks.back.driver: nothing follows from it",
        "networks.back.driver_opts.encrypted: nothing follows",
        "services.api.networks.back.priority: nothing follows",
    ];
    assert_eq!(said.len(), starts.len(), "{said:#?}");
    for (said, start) in said.iter().zip(starts) {
        assert!(said.starts_with(start), "{said} is not {start}");
    }
}

#[test]
fn without_networks_all_see_each_other_and_nothing_is_said() {
    let loaded = taken("services:\n  web: { image: a, links: [db] }\n  db: { image: b }\n");
    assert_eq!(seen(&loaded.services, "web"), ["db=db", "web=web"]);
    assert_eq!(warnings(&loaded), [""; 0]);
    let text = "networks: { default: { name: shop } }\nservices: { a: { image: a, networks: [default] } }\n";
    let said = warnings(&taken(text));
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("no engine has a network of this name"),
        "{said:?}"
    );
}

#[test]
fn what_only_a_network_device_could_do_is_refused_at_its_key() {
    let options = [
        (
            "external: true",
            "networks.n.external: not supported: services see those of their own",
        ),
        (
            "external: { name: traefik }",
            "networks.n.external: not supported",
        ),
        (
            "internal: true",
            "networks.n.internal: not supported: containers reach whatever",
        ),
        (
            "enable_ipv6: true",
            "networks.n.enable_ipv6: not supported: names lead to IPv4",
        ),
        (
            "driver: macvlan",
            "networks.n.driver: not supported: containers are on the bridge",
        ),
        (
            "driver_opts: { parent: eth0 }",
            "networks.n.driver_opts.parent: not supported",
        ),
        (
            "ipam: { config: [{ subnet: 10.1.0.0/24 }] }",
            "networks.n.ipam: not supported",
        ),
        ("ipam: { driver: swarm }", "networks.n.ipam: not supported"),
        ("frob: 1", "unknown key `frob`"),
    ];
    for (option, words) in options {
        let text =
            format!("networks: {{ n: {{ {option} }} }}\nservices: {{ a: {{ image: a }} }}\n");
        let said = errors(&text);
        assert!(said.contains(words), "{option}\n{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    for option in [
        "external: false",
        "internal: false",
        "ipam: { driver: default }",
        "ipam: { config: [] }",
    ] {
        let text =
            format!("networks: {{ n: {{ {option} }} }}\nservices: {{ a: {{ image: a }} }}\n");
        assert_eq!(warnings(&taken(&text)), [""; 0], "{option}");
    }
    let keys = [
        "ipv4_address: 10.0.0.7",
        "mac_address: x",
        "interface_name: eth7",
        "driver_opts: { a: b }",
    ];
    for key in keys {
        let text =
            format!("services: {{ a: {{ image: a, networks: {{ default: {{ {key} }} }} }} }}\n");
        assert!(errors(&text).contains("not supported"), "{key}");
    }
    // They may be left out: the network is one of the app's own then.
    let text =
        "networks: { n: { external: true } }\nservices: { a: { image: a, networks: [n] } }\n";
    let dir = directory(&[("compose.yaml", text)]);
    assert!(refused(load_with(dir.path(), &[], |_| {})).contains("external"));
    let loaded = load_with(dir.path(), &[], |r| r.ignore_unsupported = true).unwrap();
    assert!(loaded.services[&name("a")].networks.contains_key("n"));
}

#[test]
fn wrong_networks_and_links_are_said_where_they_stand() {
    let two = |web: &str| {
        format!(
            "networks: {{ back: }}\nservices:\n  web: {{ image: a, {web} }}\n  db: {{ image: b, networks: [default, back] }}\n"
        )
    };
    let cases = [
        (
            "networks: [bakc]",
            "network \"bakc\" is not described in this file",
        ),
        ("networks: [bakc]", "did you mean `back`?"),
        (
            "networks: [other]",
            "add at the top of the file: networks: { other: {} }",
        ),
        ("networks: [back, back]", "\"back\" is there twice"),
        (
            "networks: { back: { aliases: [a, a] } }",
            "\"a\" is there twice",
        ),
        (
            "networks: { back: { aliases: [10.0.0.1] } }",
            "is no name of a host",
        ),
        (
            "networks: { back: { aliases: [db] } }",
            "\"db\" is a name of web",
        ),
        (
            "networks: [back], network_mode: host",
            "cannot stand side by side",
        ),
        ("networks: { back: { priority: high } }", "must be a number"),
        ("links: [dbs]", "links name dbs, which is not in the app"),
        ("links: [\"db:a b\"]", "\"a b\" is no name of a host"),
        (
            "links: [\"db:web\"]",
            "\"web\" is a name of db, and web knows web by it",
        ),
        (
            "links: [\"db:x\", \"web:x\"]",
            "\"x\" is the name of db and of web",
        ),
        (
            "network_mode: \"service:db\"",
            "reach the other by its name",
        ),
        (
            "network_mode: none",
            "not supported: containers are on the bridge",
        ),
        ("network_mode: hots", "is no network mode"),
        (
            "external_links: [db]",
            "not supported: services see those of their own app",
        ),
    ];
    for (web, words) in cases {
        let said = errors(&two(web));
        assert!(said.contains(words), "{web}\n{said}");
        assert!(said.starts_with("services.web"), "another place: {said}");
    }
}

#[test]
fn links_lead_to_what_is_seen_and_network_modes_to_their_network() {
    let apart = "networks: { back: }\nservices:\n  web: { image: a, links: [db] }\n  db: { image: b, networks: [back] }\n";
    assert!(errors(apart).contains("the two have no network in common"));
    // What could not be read is not called missing as well.
    let broken = "services:\n  web: { image: a, links: [db] }\n  db: { imag: b }\n";
    assert!(!errors(broken).contains("which is not in the app"));
    assert!(
        taken("services: { a: { image: a, network_mode: bridge } }\n")
            .warnings
            .is_empty()
    );
    let host = taken("services: { a: { image: a, network_mode: host } }\n");
    assert!(host.services[&name("a")].container.privileges.host_network);
    assert!(host.warnings.iter().all(|p| p.level == Level::Warning));
}
