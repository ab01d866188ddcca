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
use longshore_planner::{EdgePresence, PlannerConfig};
use longshore_proto::control::v1 as pb;

use crate::cluster::Cluster;

/// A certificate with less left than this is a problem.
const SOON_MS: u64 = 14 * 86_400_000;

/// What all of it is said from.
pub(super) struct Scene {
    desired: Arc<Desired>,
    observed: Observed,
    now_ms: u64,
    listens_since_ms: u64,
    planner: PlannerConfig,
}

/// One edge.
struct Edge<'s> {
    id: &'s NodeId,
    /// What was heard of it, though it may be away by now.
    seen: Option<&'s EdgeObserved>,
    is_connected: bool,
    /// It is away for so long that nothing waits for it any more.
    is_gone: bool,
}

impl<'s> Edge<'s> {
    /// What it says, while it is there to say it.
    fn says(&self) -> Option<&'s EdgeObserved> {
        self.seen.filter(|_| self.is_connected)
    }

    /// The certificate that it had when it was heard last; none: nobody knows of one.
    fn served(&self, key: &SecretKey) -> Option<&'s CertificateServed> {
        let seen = self.seen.filter(|seen| seen.silence().is_none())?;
        seen.certificates.as_ref()?.get(key)?.served.as_ref()
    }
}

/// Edges that serve another certificate than the wanted one, by that one's mark.
type Others<'s> = BTreeMap<&'s str, (&'s CertificateServed, Vec<&'s str>)>;

impl Scene {
    pub(super) fn of(cluster: &Cluster) -> Self {
        Self {
            desired: cluster.desired(),
            observed: cluster.fleet.snapshot(),
            now_ms: cluster.now_ms(),
            listens_since_ms: cluster.started_ms.max(cluster.watch().since_ms()),
            planner: cluster.config.planner.clone(),
        }
    }

    /// All edges, as planning runs count them: a session that nothing ends may be open for long after
    /// its edge was cut off.
    fn edges(&self) -> impl Iterator<Item = Edge<'_>> {
        let edges = self.desired.nodes.values().filter(|node| node.roles.edge);
        edges.map(|node| {
            let seen = self.observed.edges.get(&node.id).map(Arc::as_ref);
            let presence =
                EdgePresence::of(seen, self.now_ms, self.listens_since_ms, &self.planner);
            Edge {
                id: &node.id,
                seen,
                is_connected: presence.connected,
                is_gone: presence.gone,
            }
        })
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
            self.edges().map(move |edge| {
                let state = wanted.state(secret, edge.says());
                let is_awaited = state == CertificateState::Away && !edge.is_gone;
                let why = match state {
                    CertificateState::Refused { why, .. } => why.to_owned(),
                    CertificateState::Away => "it is not connected".to_owned(),
                    CertificateState::Silent => {
                        let silence = edge.seen.and_then(EdgeObserved::silence);
                        silence.unwrap_or_default().to_owned()
                    }
                    _ => String::new(),
                };
                pb::ServiceCertificate {
                    name: secret.name.to_string(),
                    edge: edge.id.to_string(),
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

    /// Edges that refuse it, and why: those that serve the one before in its place, or those that
    /// serve none.
    fn refusing<'s>(
        &'s self,
        key: &'s SecretKey,
        wanted: &'s CertificateWanted,
        serves_before: bool,
    ) -> impl Iterator<Item = (&'s NodeId, &'s str)> {
        self.edges()
            .filter_map(move |edge| match wanted.state(key, edge.says()) {
                CertificateState::Refused { why, served } if served.is_some() == serves_before => {
                    Some((edge.id, why))
                }
                _ => None,
            })
    }

    /// Other ones that edges serve in its place. True: some edge serves it, or none any.
    fn others<'s>(&'s self, key: &SecretKey, wanted: &CertificateWanted) -> (Others<'s>, bool) {
        let mut others = Others::new();
        let mut is_served = false;
        for edge in self.edges().filter(|edge| edge.is_connected) {
            let Some(served) = edge.served(key) else {
                continue;
            };
            if served.mark == wanted.mark {
                is_served = true;
                continue;
            }
            let edges = others.entry(&served.mark).or_insert((served, Vec::new()));
            edges.1.push(edge.id.as_str());
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

    /// Is any edge known to serve one under this name, or one there whose agent does not say?
    fn may_be_served(&self, key: &SecretKey, wanted: &CertificateWanted) -> bool {
        self.edges().any(|edge| {
            let is_untold = wanted.state(key, edge.says()) == CertificateState::Untold;
            is_untold || edge.served(key).is_some()
        })
    }

    /// Edges that are away, each with what is known of the certificate that it serves until it is
    /// back; not those that have the newest one.
    fn away<'s>(
        &'s self,
        key: &'s SecretKey,
        wanted: &'s CertificateWanted,
    ) -> impl Iterator<Item = (&'s NodeId, Option<&'s CertificateServed>)> {
        let away = self.edges().filter(|edge| !edge.is_connected);
        away.map(|edge| (edge.id, edge.served(key)))
            .filter(|(_, served)| served.is_none_or(|served| served.mark != wanted.mark))
    }

    /// Certificates whose time is over, or soon will be, and those that edges refuse: a service that
    /// ends TLS with each, and what is to be said.
    pub(super) fn problems(&self) -> Vec<(ServiceKey, String, Option<Reason>)> {
        let mut said = Vec::new();
        for (service, key, wanted) in self.used() {
            for (edge, why) in self.refusing(key, wanted, true) {
                let reason = Reason::CertificateRefused {
                    edge: edge.clone(),
                    secret: key.name.clone(),
                    why: why.to_owned(),
                };
                said.push((service.clone(), reason.to_string(), Some(reason)));
            }
            let ends = self.ends(key, wanted).into_iter();
            for (what, until_ms) in ends.filter(|(_, until_ms)| *until_ms < self.now_ms + SOON_MS) {
                let then = match (self.may_be_served(key, wanted), until_ms < self.now_ms) {
                    // What no client sees, none can refuse.
                    (false, _) => "no edge is known to serve it",
                    (true, true) => "clients refuse it",
                    (true, false) => "clients will refuse it then",
                };
                let when = self.when(until_ms);
                let text =
                    format!("{what} {when}: {then}; renew it and run controllerctl up -f FILE");
                said.push((service.clone(), text, None));
            }
            for (edge, served) in self.away(key, wanted) {
                let served = served.filter(|served| served.until_ms < self.now_ms + SOON_MS);
                if let Some(served) = served {
                    let before = self.before_at(edge, key, served);
                    let text = format!("{before}; {edge} gets the new one when it is back");
                    said.push((service.clone(), text, None));
                }
            }
        }
        said
    }

    /// Each certificate that a service is served with, in a line, or that no edge serves it; who
    /// refuses it.
    pub(super) fn lines(&self, service: &ServiceKey) -> Vec<String> {
        let Some((_, spec)) = self.desired.service(service) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        let of_app = self.desired.certificates.iter();
        let of_app = of_app.filter(|(key, _)| key.app == service.app && is_used(spec, key));
        for (key, wanted) in of_app {
            let nobody = match self.may_be_served(key, wanted) {
                true => "",
                false => "no edge is known to serve ",
            };
            let ends = self.ends(key, wanted).into_iter();
            lines.extend(ends.map(|(what, until_ms)| {
                let which = if nobody.is_empty() { "" } else { ", which" };
                format!("TLS: {nobody}{what}{which} {}", self.when(until_ms))
            }));
            lines.extend(self.away(key, wanted).map(|(edge, served)| match served {
                None => format!(
                    "TLS: {edge} is away; which certificate {} it serves is not known",
                    key.name
                ),
                Some(served) => {
                    let before = self.before_at(edge, key, served);
                    format!("TLS: {before}; {edge} serves it until it is back")
                }
            }));
            let (names, until) = (wanted.names.join(", "), day(wanted.until_ms));
            lines.extend(self.refusing(key, wanted, true).map(|(edge, why)| {
                let name = &key.name;
                format!(
                    "TLS: {edge} refuses the new certificate {name} ({names}), good until {until}: {why}"
                )
            }));
            lines.extend(self.refusing(key, wanted, false).map(|(edge, why)| {
                format!(
                    "TLS: {edge} refuses certificate {} and has none before it: {why}",
                    key.name
                )
            }));
        }
        lines
    }

    /// `certificate cert, the one before at edge2, which is away, ends in 9 d 3 h, on 2026-12-01`
    fn before_at(&self, edge: &NodeId, key: &SecretKey, served: &CertificateServed) -> String {
        let when = self.when(served.until_ms);
        let name = &key.name;
        format!("certificate {name}, the one before at {edge}, which is away, {when}")
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

#[cfg(test)]
mod tests;
