//! Names and ids. A name that is not on the white-list cannot become a value of these types, so
//! nothing downstream (HAProxy config, container names, labels) needs to quote it.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// Longest accepted name in bytes: a DNS label.
pub const NAME_BYTES_MAX: usize = 63;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The empty string.
    #[error("{kind} name is empty")]
    Empty {
        /// What the name was for.
        kind: &'static str,
    },
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("{kind} name has {bytes} bytes; at most {NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// What the name was for.
        kind: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// Holds what it may not.
    #[error("{kind} name {name:?} may hold only {rule}")]
    Character {
        /// What the name was for.
        kind: &'static str,
        /// The name as given.
        name: String,
        /// What it may hold, in words.
        rule: &'static str,
    },
    /// Not of the form that the id has.
    #[error("{name:?} is no {kind}")]
    Form {
        /// What was expected.
        kind: &'static str,
        /// The text as given.
        name: String,
    },
}

/// What a kind of name may hold: bytes of a DNS label, and what Compose's names have besides.
struct Rule {
    upper: bool,
    underscore: bool,
    /// May it begin with a digit?
    digit_first: bool,
    words: &'static str,
}

/// Nodes: names of hosts.
const HOST: Rule = Rule {
    upper: false,
    underscore: false,
    digit_first: false,
    words: "a-z, 0-9 and '-', and must start with a letter",
};
/// Apps: Compose's project names.
const APP: Rule = Rule {
    underscore: true,
    digit_first: true,
    words: "a-z, 0-9, '-' and '_', and must start with a letter or a digit",
    ..HOST
};
/// Services and secrets: Compose's, but for the dot, which stands between a service and a slot.
const SERVICE: Rule = Rule {
    upper: true,
    words: "letters, digits, '-' and '_', and must start with a letter or a digit",
    ..APP
};

fn check_name(kind: &'static str, rule: &Rule, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { kind });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong {
            kind,
            bytes: name.len(),
        });
    }
    let letter = |b: u8| b.is_ascii_lowercase() || (rule.upper && b.is_ascii_uppercase());
    let first = name.as_bytes()[0];
    let first_ok = letter(first) || (rule.digit_first && first.is_ascii_digit());
    let inner =
        |b: u8| letter(b) || b.is_ascii_digit() || b == b'-' || (rule.underscore && b == b'_');
    if first_ok && name.bytes().all(inner) {
        Ok(())
    } else {
        // The text goes into an error message: keep it short and printable through `{:?}`.
        Err(NameError::Character {
            kind,
            name: name.to_owned(),
            rule: rule.words,
        })
    }
}

/// A text type that is cheap to clone and to compare: copies share the text, and two that share it
/// are equal without looking at it.
macro_rules! shared_text {
    ($type:ident) => {
        impl $type {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq for $type {
            #[inline]
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }

        impl Eq for $type {}

        impl PartialOrd for $type {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $type {
            #[inline]
            fn cmp(&self, other: &Self) -> Ordering {
                if Arc::ptr_eq(&self.0, &other.0) {
                    Ordering::Equal
                } else {
                    self.0.cmp(&other.0)
                }
            }
        }

        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.as_str().to_owned()
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    };
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks `name` against the rule of its kind.
            ///
            /// # Errors
            /// [`NameError`] names the rule that was broken.
            pub fn new(name: impl AsRef<str>) -> Result<Self, NameError> {
                let name = name.as_ref();
                check_name($kind, &$rule, name)?;
                Ok(Self(name.into()))
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        shared_text!($type);
    };
}

name_type!(
    /// Name of an app: one Compose file, applied under this name.
    AppName,
    "app",
    APP
);
name_type!(
    /// Name of a service inside its app.
    ServiceName,
    "service",
    SERVICE
);
name_type!(
    /// Name of a secret inside its app.
    SecretName,
    "secret",
    SERVICE
);
name_type!(
    /// Id of a node: the name it joined under, unique in its cluster.
    NodeId,
    "node",
    HOST
);

/// A service of the cluster: app and service name. Shown as `app/service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceKey {
    /// The app it belongs to.
    pub app: AppName,
    /// Its name there.
    pub service: ServiceName,
}

impl ServiceKey {
    /// Joins the two names.
    #[must_use]
    pub fn new(app: AppName, service: ServiceName) -> Self {
        Self { app, service }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.service)
    }
}

impl FromStr for ServiceKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (app, service) = text.split_once('/').ok_or_else(|| NameError::Form {
            kind: "service key (app/service)",
            name: text.into(),
        })?;
        Ok(Self {
            app: app.parse()?,
            service: service.parse()?,
        })
    }
}

impl TryFrom<String> for ServiceKey {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ServiceKey> for String {
    fn from(key: ServiceKey) -> String {
        key.to_string()
    }
}

/// Id of a replica. Numbers are handed out by the plan in ascending order and never used again.
/// Shown as `r17`; people mostly see `service.slot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("r{}", self.0))
    }
}

impl FromStr for ReplicaId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let form = || NameError::Form {
            kind: "replica id (r17)",
            name: text.into(),
        };
        let digits = text.strip_prefix('r').ok_or_else(form)?;
        // `parse` alone would take "+7".
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(form());
        }
        digits.parse().map(Self).map_err(|_| form())
    }
}

impl TryFrom<String> for ReplicaId {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ReplicaId> for String {
    fn from(id: ReplicaId) -> String {
        id.to_string()
    }
}

/// Identity of a container spec: the hash of its canonical form. Two replicas with the same
/// template are interchangeable.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct TemplateId(Arc<str>);

impl TemplateId {
    /// Takes 16 to 64 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// [`NameError::Form`] for anything else.
    pub fn new(hex: impl AsRef<str>) -> Result<Self, NameError> {
        let hex = hex.as_ref();
        let ok = (16..=64).contains(&hex.len())
            && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if ok {
            Ok(Self(hex.into()))
        } else {
            Err(NameError::Form {
                kind: "template id",
                name: hex.to_owned(),
            })
        }
    }

    pub(crate) fn from_digest(digest: &[u8]) -> Self {
        Self(data_encoding::HEXLOWER.encode(&digest[..16]).into())
    }
}

shared_text!(TemplateId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_names_are_refused() {
        for bad in [
            "",
            "-web",
            "_web",
            "web.1",
            "web/1",
            "web;shutdown",
            "web\n",
            "we b",
            "wéb",
            "../x",
        ] {
            assert!(ServiceName::new(bad).is_err(), "{bad:?} was taken");
        }
        for good in ["Web", "1web", "my_web-2", "serviceA"] {
            assert!(ServiceName::new(good).is_ok(), "{good:?} was refused");
        }
        assert!(AppName::new("my_app").is_ok() && AppName::new("3tier").is_ok());
        for bad in ["Web", "_web", "my.app"] {
            assert!(AppName::new(bad).is_err(), "{bad:?} was taken");
        }
        for bad in ["Node1", "node_1", "1node"] {
            assert!(NodeId::new(bad).is_err(), "{bad:?} was taken");
        }
        assert!(ServiceName::new("a".repeat(63)).is_ok());
        assert!(ServiceName::new("a".repeat(64)).is_err());
    }

    #[test]
    fn replica_ids_read_only_their_own_form() {
        assert_eq!("r17".parse(), Ok(ReplicaId(17)));
        for bad in ["17", "r", "r+1", "r-1", "rr1", "r99999999999999999999999"] {
            assert!(bad.parse::<ReplicaId>().is_err(), "{bad:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_holds_only_listed_bytes(text in ".{0,80}") {
            if let Ok(name) = NodeId::new(text) {
                prop_assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
            }
        }

        #[test]
        fn keys_read_back(app in "[a-z0-9][a-z0-9_-]{0,62}", service in "[A-Za-z0-9][A-Za-z0-9_-]{0,62}") {
            let key = ServiceKey::new(AppName::new(app).unwrap(), ServiceName::new(service).unwrap());
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}
