//! Whom a service sees and waits for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use longshore_model::ServiceName;
use longshore_model::depends::{DEPENDS_MAX, Until};
use longshore_model::networks::{ALIASES_MAX, LINKS_MAX, NETWORKS_MAX, is_alias, is_network};
use longshore_proto::spec::v1 as pb;

use crate::error::{WireError, bounded, invalid, list, map_bounded, named};

pub(super) fn networks_to(networks: &BTreeMap<String, BTreeSet<String>>) -> Vec<pb::Attachment> {
    let networks = networks.iter();
    let attachment = |(network, aliases): (&String, &BTreeSet<String>)| pb::Attachment {
        network: network.clone(),
        aliases: aliases.iter().cloned().collect(),
    };
    networks.map(attachment).collect()
}

pub(super) fn networks_from(
    networks: Vec<pb::Attachment>,
) -> Result<BTreeMap<String, BTreeSet<String>>, WireError> {
    let mut all = BTreeMap::new();
    let mut count = 0_usize;
    for attachment in bounded("networks", NETWORKS_MAX, networks)? {
        let network = attachment.network;
        if !is_network(&network) {
            return Err(invalid(
                "networks.network",
                format!("{network:?} is no name of one"),
            ));
        }
        count = count.saturating_add(attachment.aliases.len());
        if count > ALIASES_MAX {
            let rule = format!("are more than {ALIASES_MAX} over all networks");
            return Err(invalid("networks.aliases", rule));
        }
        let aliases = list(
            "networks.aliases",
            ALIASES_MAX,
            attachment.aliases,
            |alias| host("networks.aliases", alias),
        )?;
        if all.insert(network, aliases.into_iter().collect()).is_some() {
            return Err(invalid("networks.network", "is there twice"));
        }
    }
    Ok(all)
}

pub(super) fn links_to(links: &BTreeMap<String, ServiceName>) -> HashMap<String, String> {
    let links = links.iter();
    links
        .map(|(name, to)| (name.clone(), to.to_string()))
        .collect()
}

pub(super) fn links_from(
    links: HashMap<String, String>,
) -> Result<BTreeMap<String, ServiceName>, WireError> {
    let links = map_bounded("links", LINKS_MAX, links)?.into_iter();
    let link = |(name, to)| {
        let to = ServiceName::new(to).map_err(named("links"))?;
        Ok((host("links", name)?, to))
    };
    links.map(link).collect()
}

pub(super) fn depends_to(on: &BTreeMap<ServiceName, Until>) -> HashMap<String, i32> {
    let on = on.iter();
    let until = |until: &Until| match until {
        Until::Started => pb::Until::Started,
        Until::Healthy => pb::Until::Healthy,
        Until::Completed => pb::Until::Completed,
    };
    on.map(|(name, what)| (name.to_string(), until(what).into()))
        .collect()
}

pub(super) fn depends_from(
    on: HashMap<String, i32>,
) -> Result<BTreeMap<ServiceName, Until>, WireError> {
    let on = bounded("depends_on", DEPENDS_MAX, on.into_iter().collect())?;
    let one = |(name, until): (String, i32)| {
        let until = match pb::Until::try_from(until) {
            Ok(pb::Until::Started) => Until::Started,
            Ok(pb::Until::Healthy) => Until::Healthy,
            Ok(pb::Until::Completed) => Until::Completed,
            _ => return Err(invalid("depends_on", "waits for what is not known")),
        };
        Ok((ServiceName::new(name).map_err(named("depends_on"))?, until))
    };
    on.into_iter().map(one).collect()
}

fn host(field: &'static str, name: String) -> Result<String, WireError> {
    match is_alias(&name) {
        true => Ok(name),
        false => Err(invalid(
            field,
            format!("{name:?} is no host name in lower case"),
        )),
    }
}
