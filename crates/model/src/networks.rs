//! Compose's networks: which services of an app see which, and by which names.
//!
//! There is no overlay network. A network is a group of services that know each other's names; what
//! a name leads to is in `names` (docs/names.md).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::id::ServiceName;
use crate::shared::SharedMap;
use crate::spec::ServiceSpec;

/// The network of services that name none.
pub const DEFAULT: &str = "default";
/// Most networks of one service.
pub const NETWORKS_MAX: usize = 32;
/// Most further names of one service, over all its networks.
pub const ALIASES_MAX: usize = 64;
/// Most links of one service.
pub const LINKS_MAX: usize = 64;
/// Longest name of a network.
pub const NETWORK_BYTES_MAX: usize = 128;
/// Longest name of a host.
const HOST_BYTES_MAX: usize = 253;

/// The services of one app.
pub type Services = SharedMap<ServiceName, Arc<ServiceSpec>>;

/// May a network be called so?
#[must_use]
pub fn is_network(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=NETWORK_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

/// May a service be known so? Lower case, as resolvers compare; no address, and nothing that every
/// container has already.
#[must_use]
pub fn is_alias(name: &str) -> bool {
    let label = |l: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        (1..=63).contains(&l.len()) && !l.starts_with('-') && l.bytes().all(plain)
    };
    name.len() <= HOST_BYTES_MAX
        && name.split('.').all(label)
        && name != "localhost"
        && name.parse::<IpAddr>().is_err()
}

/// The networks of a service, with its further names there.
fn networks(spec: &ServiceSpec) -> impl Iterator<Item = (&str, Option<&BTreeSet<String>>)> {
    let default = spec.networks.is_empty().then_some((DEFAULT, None));
    let named = spec.networks.iter();
    default
        .into_iter()
        .chain(named.map(|(network, aliases)| (network.as_str(), Some(aliases))))
}

fn is_on(spec: &ServiceSpec, network: &str) -> bool {
    networks(spec).any(|(on, _)| on == network)
}

/// Do they see each other?
#[must_use]
pub fn share(a: &ServiceSpec, b: &ServiceSpec) -> bool {
    networks(a).any(|(network, _)| is_on(b, network))
}

/// Names that others have for `other` on the networks that it shares with `spec`.
fn aliases<'s>(spec: &'s ServiceSpec, other: &'s ServiceSpec) -> impl Iterator<Item = &'s String> {
    let shared = networks(other).filter(|(network, _)| is_on(spec, network));
    shared.filter_map(|(_, aliases)| aliases).flatten()
}

/// The names by which the containers of `service` reach services of its app, itself included. Where
/// two have one name, which [`faults`] refuses, the service that is called so has it, then a link,
/// then the first one with that alias.
#[must_use]
pub fn names_seen(services: &Services, service: &ServiceName) -> BTreeMap<String, ServiceName> {
    let mut names = BTreeMap::new();
    let Some(spec) = services.get(service) else {
        return names;
    };
    let seen = || services.iter().filter(|(_, other)| share(spec, other));
    for (name, _) in seen() {
        names.insert(name.to_string(), name.clone());
    }
    for (name, _) in seen() {
        // Most resolvers ask in lower case, or compare so.
        let lower = name.as_str().to_ascii_lowercase();
        names.entry(lower).or_insert_with(|| name.clone());
    }
    let is_seen = |to: &&ServiceName| services.get(*to).is_some_and(|other| share(spec, other));
    for (alias, to) in spec.links.iter().filter(|(_, to)| is_seen(to)) {
        names.entry(alias.clone()).or_insert_with(|| to.clone());
    }
    for (name, other) in seen() {
        for alias in aliases(spec, other) {
            names.entry(alias.clone()).or_insert_with(|| name.clone());
        }
    }
    names
}

/// What is wrong with the names of an app's services.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A link leads nowhere.
    #[error("{at}: links name {to}, which is not in the app")]
    LinkToNobody {
        /// The service that has it.
        at: ServiceName,
        /// Whom it names.
        to: ServiceName,
    },
    /// A link leads to a service that is not seen.
    #[error("{at}: links name {to}, and the two have no network in common")]
    LinkUnseen {
        /// The service that has it.
        at: ServiceName,
        /// Whom it names.
        to: ServiceName,
    },
    /// One name, two services.
    #[error("{at}: {name:?} is a name of {of}, and {seen_by} knows {first} by it")]
    Ambiguous {
        /// The service whose link or alias it is.
        at: ServiceName,
        /// The name.
        name: String,
        /// Whose name it is to be.
        of: ServiceName,
        /// Who would not know which one is meant.
        seen_by: ServiceName,
        /// Whose name it is.
        first: ServiceName,
    },
}

impl Fault {
    /// The services whose networks decide.
    #[must_use]
    pub fn services(&self) -> Vec<&ServiceName> {
        match self {
            Self::LinkToNobody { at, .. } => vec![at],
            Self::LinkUnseen { at, to } => vec![at, to],
            Self::Ambiguous {
                at,
                of,
                seen_by,
                first,
                ..
            } => vec![at, of, seen_by, first],
        }
    }

    /// The service to change, and the key of it.
    #[must_use]
    pub fn at(&self) -> (&ServiceName, &'static str) {
        match self {
            Self::LinkToNobody { at, .. } | Self::LinkUnseen { at, .. } => (at, "links"),
            Self::Ambiguous {
                at, seen_by, of, ..
            } if at == seen_by && at != of => (at, "links"),
            Self::Ambiguous { at, .. } => (at, "networks"),
        }
    }
}

/// What is wrong with an app's names: the first of each service, so that it stays short.
#[must_use]
pub fn faults(services: &Services) -> Vec<Fault> {
    let each = services.iter();
    each.filter_map(|(name, spec)| fault(services, name, spec))
        .collect()
}

fn fault(services: &Services, service: &ServiceName, spec: &ServiceSpec) -> Option<Fault> {
    for to in spec.links.values() {
        let (at, to) = (service.clone(), to.clone());
        match services.get(&to) {
            None => return Some(Fault::LinkToNobody { at, to }),
            Some(other) if !share(spec, other) => return Some(Fault::LinkUnseen { at, to }),
            Some(_) => {}
        }
    }
    let names = names_seen(services, service);
    let links = spec.links.iter().map(|(name, of)| (service, name, of));
    let links = links.map(|(at, name, of)| (at, name.clone(), of));
    let others = || services.iter().filter(|(_, other)| share(spec, other));
    let aliases = others().flat_map(|(of, other)| {
        let aliases = aliases(spec, other).cloned();
        aliases.map(move |name| (of, name, of))
    });
    let own = others().map(|(of, _)| (of, of.as_str().to_ascii_lowercase(), of));
    let mut all = links.chain(aliases).chain(own);
    all.find_map(|(at, name, of)| {
        let first = names.get(&name).filter(|first| *first != of)?;
        Some(Fault::Ambiguous {
            at: at.clone(),
            name,
            of: of.clone(),
            seen_by: service.clone(),
            first: first.clone(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    /// `web: back=db.internal front | db2:store`: networks with an alias each, then links.
    fn services(lines: &[&str]) -> Services {
        let service = |line: &&str| {
            let (service, rest) = line.split_once(':').unwrap();
            let (networks, links) = rest.split_once('|').unwrap_or((rest, ""));
            let mut spec = ServiceSpec::default();
            for word in networks.split_whitespace() {
                let (network, alias) = word.split_once('=').unwrap_or((word, ""));
                let aliases = spec.networks.entry(network.to_owned()).or_default();
                aliases.extend((!alias.is_empty()).then(|| alias.to_owned()));
            }
            for word in links.split_whitespace() {
                let (to, alias) = word.split_once(':').unwrap();
                spec.links.insert(alias.to_owned(), name(to));
            }
            (name(service), Arc::new(spec))
        };
        lines.iter().map(service).collect()
    }

    fn seen(services: &Services, by: &str) -> String {
        let names = names_seen(services, &name(by));
        let names: Vec<String> = names.iter().map(|(n, s)| format!("{n}={s}")).collect();
        names.join(" ")
    }

    fn said(lines: &[&str]) -> Vec<String> {
        faults(&services(lines))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn capitals_are_found_in_lower_case_too_and_two_that_differ_in_them_only_are_refused() {
        let app = services(&["Api:", "my_db:"]);
        assert_eq!(seen(&app, "my_db"), "Api=Api api=Api my_db=my_db");
        assert_eq!(said(&["Api:", "my_db:"]), [""; 0]);
        assert_eq!(said(&["Api:", "api:"]).len(), 2);
    }

    #[test]
    fn services_without_networks_see_each_other() {
        let app = services(&["api:", "db:", "web: default"]);
        for by in ["api", "db", "web"] {
            assert_eq!(seen(&app, by), "api=api db=db web=web");
        }
        assert_eq!(seen(&app, "nobody"), "");
        assert!(faults(&app).is_empty());
    }

    #[test]
    fn only_a_common_network_makes_seen_and_aliases_are_its_own() {
        let app = services(&[
            "web: front",
            "api: front=backend back=api.internal",
            "db: back=postgres",
            "cron:",
        ]);
        assert_eq!(seen(&app, "web"), "api=api backend=api web=web");
        assert_eq!(
            seen(&app, "db"),
            "api=api api.internal=api db=db postgres=db"
        );
        let both = "api=api api.internal=api backend=api db=db postgres=db web=web";
        assert_eq!(seen(&app, "api"), both);
        assert_eq!(seen(&app, "cron"), "cron=cron");
    }

    #[test]
    fn a_link_is_a_name_for_one_service_alone() {
        let app = services(&["web: | db:store", "db:", "api:"]);
        assert_eq!(seen(&app, "web"), "api=api db=db store=db web=web");
        assert_eq!(seen(&app, "api"), "api=api db=db web=web");
        assert!(faults(&app).is_empty());
    }

    #[test]
    fn links_that_lead_nowhere_are_faults() {
        assert_eq!(
            said(&["web: | db:db"]),
            ["web: links name db, which is not in the app"]
        );
        let apart = ["web: front | db:db", "db: back"];
        assert_eq!(
            said(&apart),
            ["web: links name db, and the two have no network in common"]
        );
        assert_eq!(seen(&services(&apart), "web"), "web=web");
    }

    #[test]
    fn one_name_for_two_services_is_a_fault_and_goes_to_the_one_called_so() {
        let twice = ["api: n=store", "db: n=store", "far: m=store"];
        let said_of = said(&twice);
        assert_eq!(
            said_of,
            [
                "db: \"store\" is a name of db, and api knows api by it",
                "db: \"store\" is a name of db, and db knows api by it"
            ]
        );
        let named = ["a: n=db", "db: n"];
        assert_eq!(seen(&services(&named), "a"), "a=a db=db");
        assert!(said(&named)[0].starts_with("a: \"db\" is a name of a"));
        let linked = ["web: | api:db", "api:", "db:"];
        assert_eq!(seen(&services(&linked), "web"), "api=api db=db web=web");
        assert_eq!(
            said(&linked),
            ["web: \"db\" is a name of api, and web knows db by it"]
        );
        let faults = faults(&services(&linked));
        assert_eq!(faults[0].at(), (&name("web"), "links"));
        // It may be called again as it is called.
        assert!(said(&["db: n=db", "web: n | db:db"]).is_empty());
    }

    #[test]
    fn names_that_resolvers_or_files_of_hosts_would_misread_are_none() {
        for good in ["db", "db_1", "db-1.internal", "1db", "a.b.c"] {
            assert!(is_alias(good), "{good}");
        }
        for bad in [
            "",
            "DB",
            "a b",
            "-a",
            "a..b",
            "a.",
            "localhost",
            "10.0.0.1",
            "a#b",
            "ü",
        ] {
            assert!(!is_alias(bad), "{bad}");
        }
        assert!(!is_alias(&"a".repeat(64)) && !is_alias(&["a"; 128].join(".")));
        assert!(is_network("back_end.1") && !is_network("") && !is_network("a b"));
        assert!(!is_network(&"a".repeat(NETWORK_BYTES_MAX + 1)));
    }
}
