//! Certificates as edges serve them: for `up`, `status` and `why`.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::certificate::{
    CertificateServed, CertificateState, CertificateWanted, is_used, users,
};
use longshore_model::event::day;
use longshore_model::observe::EdgeObserved;
use longshore_model::{
    Desired, NodeId, Observed, Reason, SecretKey, ServiceKey, ServiceSpec, span,
};
use longshore_proto::control::v1 as pb;

use crate::cluster::Cluster;

/// A certificate with less left than this is a problem.
const SOON_MS: u64 = 14 * 86_400_000;

/// What all of it is said from.
pub(super) struct Scene {
    desired: Arc<Desired>,
    observed: Observed,
    now_ms: u64,
    started_ms: u64,
    edge_lease_ms: u64,
}

/// Edges that serve another certificate than the wanted one, by that one's mark.
type Others<'s> = BTreeMap<&'s str, (&'s CertificateServed, Vec<&'s str>)>;

impl Scene {
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self {
            desired: cluster.desired(),
            observed: cluster.fleet.snapshot(),
            now_ms: cluster.now_ms(),
            started_ms: cluster.started_ms,
            edge_lease_ms: cluster.config.planner.edge_lease_ms,
        }
    }

    /// All edges, with what was seen of each.
    fn edges(&self) -> impl Iterator<Item = (&NodeId, Option<&EdgeObserved>)> {
        let edges = self.desired.nodes.values().filter(|node| node.roles.edge);
        edges.map(|node| (&node.id, self.observed.edges.get(&node.id).map(Arc::as_ref)))
    }

    /// Is it away for so long that nothing waits for it any more?
    fn is_gone(&self, edge: Option<&EdgeObserved>) -> bool {
        let heard_ms = edge.map_or(0, |edge| {
            edge.session.last_echo_ms.max(edge.session.since_ms)
        });
        self.now_ms.saturating_sub(heard_ms.max(self.started_ms)) > self.edge_lease_ms
    }

    /// How each edge stands to the certificates that a service ends TLS with.
    pub(super) fn of_service(
        &self,
        key: &ServiceKey,
        spec: &ServiceSpec,
    ) -> Vec<pb::ServiceCertificate> {
        let certificates = self.desired.certificates.iter();
        let used =
            certificates.filter(|(secret, _)| secret.app == key.app && is_used(spec, secret));
        let stands = used.flat_map(|(secret, wanted)| {
            self.edges().map(move |(id, edge)| {
                let state = wanted.state(secret, edge);
                let is_awaited = state == CertificateState::Away && !self.is_gone(edge);
                let why = match state {
                    CertificateState::Refused { why, .. } => why.to_owned(),
                    CertificateState::Away => "it is not connected".to_owned(),
                    CertificateState::Silent => {
                        let silence = edge.and_then(EdgeObserved::silence);
                        silence.unwrap_or_default().to_owned()
                    }
                    _ => String::new(),
                };
                pb::ServiceCertificate {
                    name: secret.name.to_string(),
                    edge: id.to_string(),
                    state: if is_awaited { "waits" } else { state.word() }.to_owned(),
                    why,
                }
            })
        });
        stands.collect()
    }

    /// Certificates that services end TLS with, each with the first of them.
    fn used(&self) -> impl Iterator<Item = (ServiceKey, &SecretKey, &CertificateWanted)> {
        self.desired
            .certificates
            .iter()
            .filter_map(|(key, wanted)| {
                let app = self.desired.apps.get(&key.app)?;
                let service = users(app, key).next()?;
                Some((service, key, wanted))
            })
    }

    /// Edges that refuse it and serve the one before, and why.
    fn refusing<'s>(
        &'s self,
        key: &'s SecretKey,
        wanted: &'s CertificateWanted,
    ) -> impl Iterator<Item = (&'s NodeId, &'s str)> {
        self.edges()
            .filter_map(|(id, edge)| match wanted.state(key, edge) {
                CertificateState::Refused {
                    why,
                    served: Some(_),
                } => Some((id, why)),
                _ => None,
            })
    }

    /// Other ones that edges serve in its place. True: some edge serves it, or none any.
    fn others<'s>(&'s self, key: &SecretKey, wanted: &CertificateWanted) -> (Others<'s>, bool) {
        let mut others = Others::new();
        let mut is_served = false;
        for (id, edge) in self.edges() {
            let edge = edge.filter(|edge| edge.session.connected);
            let seen = edge.and_then(|edge| edge.certificates.as_ref()?.get(key));
            let Some(served) = seen.and_then(|seen| seen.served.as_ref()) else {
                continue;
            };
            if served.mark == wanted.mark {
                is_served = true;
                continue;
            }
            let edges = others.entry(&served.mark).or_insert((served, Vec::new()));
            edges.1.push(id.as_str());
        }
        let is_served = is_served || others.is_empty();
        (others, is_served)
    }

    /// Each certificate that is served under this name: what it is, and when it ends.
    fn ends(&self, key: &SecretKey, wanted: &CertificateWanted) -> Vec<(String, u64)> {
        let (others, is_served) = self.others(key, wanted);
        let names = wanted.names.join(", ");
        let newest = (
            format!("certificate {} ({names})", key.name),
            wanted.until_ms,
        );
        let newest = is_served.then_some(newest);
        let others = others.into_values().map(|(served, edges)| {
            let edges = edges.join(", ");
            let what = format!("certificate {}, the one before at {edges},", key.name);
            (what, served.until_ms)
        });
        newest.into_iter().chain(others).collect()
    }

    /// Certificates whose time is over, or soon will be, and those that edges refuse: a service that
    /// ends TLS with each, and what is to be said.
    pub(super) fn problems(&self) -> Vec<(ServiceKey, String, Option<Reason>)> {
        let mut said = Vec::new();
        for (service, key, wanted) in self.used() {
            for (edge, why) in self.refusing(key, wanted) {
                let reason = Reason::CertificateRefused {
                    edge: edge.clone(),
                    secret: key.name.clone(),
                    why: why.to_owned(),
                };
                said.push((service.clone(), reason.to_string(), Some(reason)));
            }
            let ends = self.ends(key, wanted).into_iter();
            for (what, until_ms) in ends.filter(|(_, until_ms)| *until_ms < self.now_ms + SOON_MS) {
                let then = match until_ms < self.now_ms {
                    true => "clients refuse it",
                    false => "clients will refuse it then",
                };
                let when = self.when(until_ms);
                let text =
                    format!("{what} {when}: {then}; renew it and run controllerctl up -f FILE");
                said.push((service.clone(), text, None));
            }
        }
        said
    }

    /// Each certificate that a service is served with, in a line, and who refuses a newer one.
    pub(super) fn lines(&self, service: &ServiceKey) -> Vec<String> {
        let Some((_, spec)) = self.desired.service(service) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        let of_app = self.desired.certificates.iter();
        let of_app = of_app.filter(|(key, _)| key.app == service.app && is_used(spec, key));
        for (key, wanted) in of_app {
            let ends = self.ends(key, wanted).into_iter();
            lines.extend(
                ends.map(|(what, until_ms)| format!("TLS: {what} {}", self.when(until_ms))),
            );
            let (names, until) = (wanted.names.join(", "), day(wanted.until_ms));
            lines.extend(self.refusing(key, wanted).map(|(edge, why)| {
                let name = &key.name;
                format!(
                    "TLS: {edge} refuses the new certificate {name} ({names}), good until {until}: {why}"
                )
            }));
        }
        lines
    }

    /// `ends in 9 d 3 h, on 2026-12-01`
    fn when(&self, until_ms: u64) -> String {
        let when = match until_ms < self.now_ms {
            true => format!("ended {} ago", span(self.now_ms - until_ms)),
            false => format!("ends in {}", span(until_ms - self.now_ms)),
        };
        format!("{when}, on {}", day(until_ms))
    }
}
