//! Who may tell the cluster what: operators, and what they show for it (decision 0079).
//!
//! Names in certificates only say who somebody is. What they may do, and whether that certificate or token still
//! counts, is looked up here at each call.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use longshore_identity::OperatorRole;
use longshore_identity::tls::serial_end;
use longshore_model::TimeMs;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

#[cfg(test)]
mod tests;

/// Operators of a cluster; each is kept in memory.
pub const OPERATORS_MAX: usize = 1_000;

/// An operator as the store has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRecord {
    /// Their name.
    pub name: String,
    /// What they may do, whatever their certificate says.
    pub role: OperatorRole,
    /// When they were let in.
    pub since_ms: TimeMs,
    /// By whom; empty: they made the cluster.
    pub by: String,
    /// Serials of certificates that count.
    #[serde(default)]
    pub serials: Vec<String>,
    /// Any certificate of that name counts: it was made before serials were kept.
    #[serde(default)]
    pub any_serial: bool,
    /// Waits to be traded for a certificate.
    #[serde(default)]
    pub invite: Option<Credential>,
    /// What they call with instead of a certificate.
    #[serde(default)]
    pub token: Option<Credential>,
}

/// A secret of an operator, known only as a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Public part.
    pub id: String,
    /// SHA-256 of its secret.
    pub hash: [u8; 32],
    /// Not after this time.
    pub expires_ms: TimeMs,
    /// SHA-256 of the public key that it was traded with. Whoever holds that key may ask again: the answer may have
    /// been lost.
    #[serde(default)]
    pub used_key: Option<[u8; 32]>,
}

impl OperatorRecord {
    /// One who has nothing to show yet.
    #[must_use]
    pub fn new(name: String, role: OperatorRole, since_ms: TimeMs, by: String) -> Self {
        Self {
            name,
            role,
            since_ms,
            by,
            serials: Vec::new(),
            any_serial: false,
            invite: None,
            token: None,
        }
    }

    /// Name of the operator who makes a cluster.
    pub const FIRST: &str = "admin";

    /// Who makes a cluster, or is let in on its machine, with the serial of their certificate.
    #[must_use]
    pub fn first(name: String, serial: String, now: SystemTime) -> Self {
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let since_ms = u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(0);
        Self {
            serials: vec![serial],
            ..Self::new(name, OperatorRole::Admin, since_ms, String::new())
        }
    }

    /// The one operator of a cluster that was made before there were rows of them.
    pub(crate) fn of_before() -> Self {
        Self {
            any_serial: true,
            ..Self::new(Self::FIRST.into(), OperatorRole::Admin, 0, String::new())
        }
    }

    /// When the last thing that they can show ends; none: they can show nothing.
    #[must_use]
    pub fn shows_until(&self, now_ms: TimeMs) -> Option<TimeMs> {
        let ms = |end: SystemTime| {
            let end = end.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            u64::try_from(end.as_millis()).ok()
        };
        let serials = self.serials.iter().filter_map(|s| ms(serial_end(s)?));
        let token = self.token.as_ref().map(|token| token.expires_ms);
        let any = self.any_serial.then_some(TimeMs::MAX);
        let ends = serials.chain(token).chain(any);
        ends.filter(|end| *end >= now_ms).max()
    }
}

/// An operator who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Their name.
    pub name: String,
    /// What they may do now.
    pub role: OperatorRole,
    /// With a token, until then.
    pub token_until_ms: Option<TimeMs>,
}

/// What somebody shows.
#[derive(Clone, PartialEq, Eq)]
pub enum Shown {
    /// A certificate of this name, with this serial.
    Certificate(String, String),
    /// A token with this id, whose secret has this hash.
    Token(String, [u8; 32]),
}

/// Why what is shown does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLetIn {
    /// No such operator.
    #[error(
        "operator {0} is none of this cluster's, or was removed; an admin lets them in: controllerctl operator add {0}"
    )]
    Unknown(String),
    /// Another certificate is in its place.
    #[error(
        "this certificate of operator {0} was replaced or revoked; an admin makes another: controllerctl operator rotate {0}"
    )]
    Replaced(String),
    /// No such token.
    #[error(
        "this token is not known here: mistyped, revoked, or of another cluster; an admin makes one: controllerctl operator add NAME --token"
    )]
    Token,
    /// Its time is over.
    #[error("the token of operator {name} ended {} ago; an admin makes another: controllerctl operator rotate {name}", humantime::format_duration(*.ago))]
    Over {
        /// Whose.
        name: String,
        /// For how long.
        ago: Duration,
    },
}

/// All operators, by name.
#[derive(Debug, Clone, Default)]
pub struct Operators(pub BTreeMap<String, OperatorRecord>);

impl Operators {
    /// Who shows this, if it counts.
    ///
    /// # Errors
    /// [`NotLetIn`] with the way out.
    pub fn who(&self, shown: &Shown, now_ms: TimeMs) -> Result<Operator, NotLetIn> {
        match shown {
            Shown::Certificate(name, serial) => self.of_certificate(name, serial),
            Shown::Token(id, hash) => self.of_token(id, hash, now_ms),
        }
    }

    fn of_certificate(&self, name: &str, serial: &str) -> Result<Operator, NotLetIn> {
        let record = self.0.get(name);
        let record = record.ok_or_else(|| NotLetIn::Unknown(name.to_owned()))?;
        if !record.any_serial && !record.serials.iter().any(|known| known == serial) {
            return Err(NotLetIn::Replaced(name.to_owned()));
        }
        Ok(Operator {
            name: name.to_owned(),
            role: record.role,
            token_until_ms: None,
        })
    }

    fn of_token(&self, id: &str, hash: &[u8; 32], now_ms: TimeMs) -> Result<Operator, NotLetIn> {
        let tokens = |record: &'_ OperatorRecord| record.token.clone();
        let mut all = self.0.values().filter_map(|r| Some((r, tokens(r)?)));
        let found = all.find(|(_, token)| token.id == id);
        let (record, token) = found.ok_or(NotLetIn::Token)?;
        if !bool::from(token.hash.ct_eq(hash)) {
            return Err(NotLetIn::Token);
        }
        if now_ms > token.expires_ms {
            let ago = Duration::from_secs((now_ms - token.expires_ms) / 1_000);
            let name = record.name.clone();
            return Err(NotLetIn::Over { name, ago });
        }
        Ok(Operator {
            name: record.name.clone(),
            role: record.role,
            token_until_ms: Some(token.expires_ms),
        })
    }

    /// The operator whose invite has this secret.
    #[must_use]
    pub fn invited(&self, hash: &[u8; 32]) -> Option<&OperatorRecord> {
        let mut found = None;
        // Looks at all of them, so that the time taken says nothing.
        for record in self.0.values() {
            let invite = record.invite.as_ref();
            if invite.is_some_and(|invite| bool::from(invite.hash.ct_eq(hash))) {
                found = Some(record);
            }
        }
        found
    }

    /// Is there an admin but this one who can show something?
    #[must_use]
    pub fn has_other_admin(&self, name: &str, now_ms: TimeMs) -> bool {
        let mut others = self.0.values().filter(|record| record.name != name);
        others.any(|other| other.role == OperatorRole::Admin && other.shows_until(now_ms).is_some())
    }
}
