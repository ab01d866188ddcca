//! Certificates as they are wanted and as edges have them. Nothing of it is secret: marks are made
//! of certificates alone, without their keys.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, ServiceKey};
use crate::observe::EdgeObserved;
use crate::secret::SecretKey;
use crate::{ServiceSpec, TimeMs};

/// A certificate that edges shall serve.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CertificateWanted {
    /// SHA-256 over its certificates: tells one renewal from the next.
    pub mark: String,
    /// Host names that it is for; of many the first ones.
    pub names: Vec<String>,
    /// Last moment that it can be used in.
    pub until_ms: TimeMs,
    /// Who brought it; empty: not known any more.
    #[serde(default)]
    pub by: String,
}

/// A certificate that is served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CertificateServed {
    /// Its mark.
    pub mark: String,
    /// Last moment that it can be used in.
    pub until_ms: TimeMs,
}

/// A certificate that HAProxy does not take.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CertificateRefused {
    /// Its mark.
    pub mark: String,
    /// Why, in HAProxy's words as far as it says.
    pub why: String,
}

/// What an edge says of one certificate that its routes name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CertificateObserved {
    /// The one that HAProxy was seen to have; none: none, or it was not looked at yet.
    pub served: Option<CertificateServed>,
    /// The one that it was told to take and does not take.
    pub refused: Option<CertificateRefused>,
}

/// What an edge says of certificates, by the secret that each is in.
pub type CertificatesObserved = BTreeMap<SecretKey, CertificateObserved>;

/// How an edge stands to a certificate that it shall serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateState<'a> {
    /// It serves it.
    Served,
    /// It is on its way.
    Waits,
    /// HAProxy refuses it, and serves this one; none: it has none.
    Refused {
        /// Why.
        why: &'a str,
        /// What is served instead.
        served: Option<&'a CertificateServed>,
    },
    /// The edge is not connected.
    Away,
    /// Its HAProxy does not answer.
    Silent,
    /// Its agent is an older one, which does not say.
    Untold,
}

impl CertificateState<'_> {
    /// As JSON and the API have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Waits => "waits",
            Self::Refused {
                served: Some(_), ..
            } => "refused",
            Self::Refused { served: None, .. } => "lacks",
            Self::Away => "away",
            Self::Silent => "silent",
            Self::Untold => "untold",
        }
    }
}

impl CertificateWanted {
    /// How an edge stands to it.
    #[must_use]
    pub fn state<'e>(
        &self,
        key: &SecretKey,
        edge: Option<&'e EdgeObserved>,
    ) -> CertificateState<'e> {
        let Some(edge) = edge.filter(|edge| edge.session.connected) else {
            return CertificateState::Away;
        };
        if edge.reported_ms == 0 {
            return CertificateState::Waits;
        }
        let Some(certificates) = &edge.certificates else {
            return CertificateState::Untold;
        };
        let seen = certificates.get(key);
        let served = seen.and_then(|seen| seen.served.as_ref());
        let refused = seen.and_then(|seen| seen.refused.as_ref());
        if edge.silence().is_some() {
            // What it served is not what it serves.
            return CertificateState::Silent;
        }
        match refused {
            Some(refused) if refused.mark == self.mark => CertificateState::Refused {
                why: &refused.why,
                served,
            },
            _ if served.is_some_and(|served| served.mark == self.mark) => CertificateState::Served,
            _ => CertificateState::Waits,
        }
    }
}

/// What was said in events of one certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CertificateSaid {
    /// The one that all edges served when they were last asked for one.
    pub mark: String,
    /// The newest one that edges refuse.
    pub refused_mark: String,
    /// Those edges.
    pub refused_by: BTreeSet<NodeId>,
    /// Edges that were not waited for when it was said of `mark` that edges serve it.
    #[serde(default)]
    pub late: BTreeSet<NodeId>,
}

/// What was said in events of certificates.
pub type CertificatesSaid = BTreeMap<SecretKey, CertificateSaid>;

/// Does a service end TLS with it?
#[must_use]
pub fn is_used(spec: &ServiceSpec, key: &SecretKey) -> bool {
    let mut names = spec.routes.iter().flat_map(|route| &route.tls);
    names.any(|text| text == key.name.as_str())
}

/// Names of services, one after the other.
#[must_use]
pub(crate) fn list<'a, T: ToString + 'a>(items: impl IntoIterator<Item = &'a T>) -> String {
    let items = items.into_iter().map(ToString::to_string);
    items.collect::<Vec<_>>().join(", ")
}

/// Services of an app that end TLS with a certificate of it.
pub fn users<'a>(app: &'a crate::App, key: &'a SecretKey) -> impl Iterator<Item = ServiceKey> + 'a {
    let users = app.services.iter().filter(|(_, spec)| is_used(spec, key));
    users.map(|(service, _)| ServiceKey::new(key.app.clone(), service.clone()))
}
