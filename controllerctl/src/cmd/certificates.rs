//! Certificates that an `up` brought: it is done once all edges that can serve them do.

use std::collections::BTreeMap;

use longshore_proto::control::v1 as pb;

use crate::failure::{Exit, Failure};

/// Do edges still have to take certificates of it?
pub(super) fn on_their_way(service: &pb::Service) -> bool {
    service.certificates.iter().any(|c| c.state == "waits")
}

/// `certificate shop-cert is on its way to edge-2`, if one is.
pub(super) fn waits(service: &pb::Service) -> Option<String> {
    let waits = service.certificates.iter().find(|c| c.state == "waits")?;
    let (name, edge) = (&waits.name, &waits.edge);
    Some(match waits.why.as_str() {
        "" => format!("certificate {name} is on its way to {edge}"),
        why => format!("certificate {name} is on its way to {edge}: {why}"),
    })
}

/// Why it does not help to wait for them: an edge refuses one.
pub(super) fn refusal(services: &[pb::Service]) -> Option<Failure> {
    let all = services
        .iter()
        .flat_map(|s| s.certificates.iter().map(move |c| (s, c)));
    let refused = all.filter(|(_, c)| matches!(c.state.as_str(), "refused" | "lacks"));
    let refused: Vec<(&pb::Service, &pb::ServiceCertificate)> = refused.collect();
    let (service, first) = refused.first()?;
    let key = &service.key;
    let (name, edge, why) = (&first.name, &first.edge, &first.why);
    let mut details: Vec<String> = refused
        .iter()
        .skip(1)
        .map(|(s, c)| format!("{}: {} refuses {}: {}", s.key, c.edge, c.name, c.why))
        .collect();
    let kept = refused.iter().all(|(_, c)| c.state == "refused");
    let exit = match kept {
        true => {
            details.push("the certificate before goes on being served there".to_owned());
            Exit::Rollout
        }
        false => Exit::Unplaceable,
    };
    Some(
        Failure::new(format!(
            "{key}: {edge} refuses the new certificate {name}: {why}"
        ))
        .exit(exit)
        .details(details)
        .hint(format!(
            "put a certificate that HAProxy takes where secret {name} comes from, then: \
                 controllerctl up -f FILE"
        )),
    )
}

/// What became of certificates that were renewed, one line each.
pub(super) fn news(services: &[pb::Service], renewed: &[String]) -> Vec<String> {
    let line = |name: &String| {
        let all = services.iter().flat_map(|service| &service.certificates);
        // The same for each service that names it.
        let edges: BTreeMap<&str, &pb::ServiceCertificate> = all
            .filter(|c| c.name == *name)
            .map(|c| (c.edge.as_str(), c))
            .collect();
        let serve = edges.values().filter(|c| c.state == "served");
        let serve = serve
            .map(|c| c.edge.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        let mut line = match serve.as_str() {
            "" => format!("certificate {name} renewed; no edge is known to serve it yet"),
            serve => format!("certificate {name} renewed; served by {serve}"),
        };
        for c in edges.values().filter(|c| c.state != "served") {
            let why = match (c.state.as_str(), c.why.as_str()) {
                ("silent", why) => format!("its HAProxy does not answer: {why}"),
                ("untold", _) => "its agent is an older one, which does not say".to_owned(),
                (_, why) => format!("{why}; it gets it when it is back"),
            };
            line.push_str(&format!("; not waited for: {} ({why})", c.edge));
        }
        line
    };
    renewed.iter().map(line).collect()
}
