//! Events of certificates: when all edges serve a renewed one, which edges refuse it, and which ones
//! come to serve it later.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::certificate::{CertificateSaid, CertificateState, CertificateWanted, users};
use longshore_model::{EventKind, NodeId, SecretKey, ServiceKey};

use crate::draft::Draft;

/// Says what became of each certificate, once.
pub(crate) fn say(draft: &mut Draft<'_>) {
    let desired = draft.input.desired;
    let mut said = Arc::clone(&draft.certificates);
    let none = CertificateSaid::default();
    for (key, wanted) in desired.certificates.iter() {
        let app = desired.apps.get(&key.app);
        let services: BTreeSet<ServiceKey> =
            app.into_iter().flat_map(|app| users(app, key)).collect();
        // One that an earlier revision names is kept, and nobody serves it.
        if services.is_empty() {
            continue;
        }
        let before = said.get(key).unwrap_or(&none);
        let looked = Looked::at(draft, key, wanted);
        let (next, events) = looked.compare(before, key, wanted, &services);
        draft.report.events.extend(events);
        if next != *before {
            Arc::make_mut(&mut said).insert(key.clone(), next);
        }
    }
    if said
        .keys()
        .any(|key| !desired.certificates.contains_key(key))
    {
        Arc::make_mut(&mut said).retain(|key, _| desired.certificates.contains_key(key));
    }
    draft.certificates = said;
}

/// How edges stand to one certificate.
#[derive(Default)]
struct Looked {
    served: BTreeSet<NodeId>,
    /// They are away for longer than their lease, do not answer or do not say.
    without: BTreeSet<NodeId>,
    /// With why, and whether the one before is served.
    refused: Vec<(NodeId, String, bool)>,
    /// Some edge may still come to serve it.
    waits: bool,
    /// Another one that an edge serves.
    older: Option<String>,
}

impl Looked {
    fn at(draft: &Draft<'_>, key: &SecretKey, wanted: &CertificateWanted) -> Self {
        let mut looked = Self::default();
        for edge in &draft.cluster.edges {
            let seen = edge.seen.filter(|_| edge.connected);
            match wanted.state(key, seen) {
                CertificateState::Served => {
                    looked.served.insert(edge.id.clone());
                }
                CertificateState::Refused { why, served } => {
                    let refused = (edge.id.clone(), why.to_owned(), served.is_some());
                    looked.refused.push(refused);
                }
                CertificateState::Away if !edge.gone => looked.waits = true,
                CertificateState::Waits => looked.waits = true,
                CertificateState::Away | CertificateState::Silent | CertificateState::Untold => {
                    looked.without.insert(edge.id.clone());
                }
            }
            let certificates = seen.and_then(|seen| seen.certificates.as_ref()?.get(key));
            let served = certificates.and_then(|seen| seen.served.as_ref());
            let other = served.filter(|served| served.mark != wanted.mark);
            looked.older = looked.older.or(other.map(|served| served.mark.clone()));
        }
        looked
    }

    /// What is remembered from now on, and what is to be said.
    fn compare(
        self,
        before: &CertificateSaid,
        key: &SecretKey,
        wanted: &CertificateWanted,
        services: &BTreeSet<ServiceKey>,
    ) -> (CertificateSaid, Vec<EventKind>) {
        let (mut next, mut events) = (before.clone(), Vec::new());
        if next.refused_mark != wanted.mark && !self.refused.is_empty() {
            next.refused_mark.clone_from(&wanted.mark);
            next.refused_by.clear();
        }
        for (node, why, served) in self.refused.iter().cloned() {
            if next.refused_by.insert(node.clone()) {
                events.push(EventKind::CertificateRefused {
                    app: key.app.clone(),
                    secret: key.name.clone(),
                    services: services.clone(),
                    node,
                    why,
                    served,
                });
            }
        }
        next.refused_by.retain(|node| !self.served.contains(node));
        next.late.retain(|node| !self.served.contains(node));
        let all = !self.waits && self.refused.is_empty() && !self.served.is_empty();
        if next.mark.is_empty() {
            // The first look of this controller, or the first certificate: where an edge still serves
            // another one, a renewal is on its way.
            let known = self.older.or(all.then(|| wanted.mark.clone()));
            next.mark = known.unwrap_or_default();
        } else if next.mark != wanted.mark && all {
            next.mark.clone_from(&wanted.mark);
            next.late.clone_from(&self.without);
            events.push(EventKind::CertificateRenewed {
                app: key.app.clone(),
                secret: key.name.clone(),
                names: wanted.names.clone(),
                services: services.clone(),
                until_ms: wanted.until_ms,
                by: wanted.by.clone(),
                edges: self.served,
                without: self.without,
            });
        } else {
            let come = self.came_after(before, wanted).cloned();
            events.extend(come.map(|node| EventKind::CertificateServed {
                app: key.app.clone(),
                secret: key.name.clone(),
                names: wanted.names.clone(),
                services: services.clone(),
                until_ms: wanted.until_ms,
                node,
            }));
        }
        (next, events)
    }

    /// Edges that serve it by now, and of which it was said that they do not.
    fn came_after<'l>(
        &'l self,
        before: &'l CertificateSaid,
        wanted: &CertificateWanted,
    ) -> impl Iterator<Item = &'l NodeId> {
        let is_late = before.mark == wanted.mark;
        let is_refused = before.refused_mark == wanted.mark;
        self.served.iter().filter(move |node| {
            (is_late && before.late.contains(*node))
                || (is_refused && before.refused_by.contains(*node))
        })
    }
}
