//! Whom a service sees and waits for, over the wire.

// Helpers of tests fail a test by a panic, too.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use longshore_model::depends::{DEPENDS_MAX, Until};
use longshore_model::networks::{ALIASES_MAX, LINKS_MAX, NETWORKS_MAX};
use longshore_model::spec::JobSpec;
use longshore_model::{ContainerSpec, ServiceSpec};
use longshore_proto::spec::v1 as pb;
use longshore_wire::{service_spec_from_pb, service_spec_to_pb};

fn spec() -> ServiceSpec {
    ServiceSpec {
        container: ContainerSpec {
            image: "longshore/hello:1".into(),
            ..ContainerSpec::default()
        },
        networks: BTreeMap::from([
            ("back".into(), BTreeSet::from(["db.internal".into()])),
            ("front_1".into(), BTreeSet::new()),
        ]),
        links: BTreeMap::from([("store".into(), "db".parse().unwrap())]),
        depends_on: BTreeMap::from([
            ("cache".parse().unwrap(), Until::Started),
            ("db".parse().unwrap(), Until::Healthy),
            ("migrate".parse().unwrap(), Until::Completed),
        ]),
        job: Some(JobSpec { tries_max: 3 }),
        ..ServiceSpec::default()
    }
}

#[test]
fn networks_and_links_come_back_the_same() {
    let spec = spec();
    assert_eq!(service_spec_from_pb(service_spec_to_pb(&spec)), Ok(spec));
}

/// Why a message is refused once it was changed.
fn refused(change: impl FnOnce(&mut pb::ServiceSpec)) -> String {
    let mut message = service_spec_to_pb(&spec());
    change(&mut message);
    service_spec_from_pb(message).unwrap_err().to_string()
}

fn network(name: &str, aliases: &[&str]) -> pb::Attachment {
    pb::Attachment {
        network: name.into(),
        aliases: aliases.iter().map(|alias| (*alias).into()).collect(),
    }
}

#[test]
fn wrong_names_and_too_many_are_refused() {
    let of = |networks: Vec<pb::Attachment>| refused(|m| m.networks = networks);
    let said = of(vec![network("a b", &[])]);
    assert_eq!(said, "networks.network: \"a b\" is no name of one");
    let said = of(vec![network("a", &[]), network("a", &[])]);
    assert_eq!(said, "networks.network: is there twice");
    let said = of(vec![network("a", &["DB"])]);
    assert_eq!(
        said,
        "networks.aliases: \"DB\" is no host name in lower case"
    );
    let many = (0..=NETWORKS_MAX).map(|n| network(&format!("n{n}"), &[]));
    assert!(of(many.collect()).contains("at most 32"));
    let half = vec!["a"; ALIASES_MAX / 2 + 1];
    let said = of(vec![network("a", &half), network("b", &half)]);
    assert!(said.contains("more than 64 over all networks"), "{said}");

    let links = |links: Vec<(String, &str)>| {
        let links = links.into_iter().map(|(name, to)| (name, to.to_owned()));
        refused(|m| m.links = links.collect())
    };
    assert!(links(vec![("a b".into(), "db")]).contains("no host name"));
    assert_eq!(links(vec![("a".into(), "d.b")]), "links");
    let many = (0..=LINKS_MAX).map(|n| (format!("l{n}"), "db")).collect();
    assert!(links(many).contains("at most 64"));

    let on = |on: Vec<(String, i32)>| refused(|m| m.depends_on = on.into_iter().collect());
    assert!(on(vec![("db".into(), 0)]).contains("waits for what is not known"));
    assert!(on(vec![("db".into(), 7)]).contains("waits for what is not known"));
    assert_eq!(on(vec![("d.b".into(), 1)]), "depends_on");
    let many = (0..=DEPENDS_MAX).map(|n| (format!("s{n}"), 1)).collect();
    assert!(on(many).contains("at most 64"));
}
