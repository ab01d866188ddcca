//! Names in certificates: `spiffe://CLUSTER/node/ID`, `…/operator/ROLE/NAME`, `…/controller/ID`.

use std::fmt;
use std::str::FromStr;

use longshore_model::NodeId;
use serde::{Deserialize, Serialize};

use crate::error::PkiError;

/// What an operator may do; each role includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorRole {
    /// Reads.
    Viewer,
    /// Applies, scales and stops apps.
    Deployer,
    /// Manages nodes, tokens and credentials.
    Admin,
}

impl OperatorRole {
    /// The word used in certificates and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Deployer => "deployer",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for OperatorRole {
    type Err = PkiError;
    fn from_str(text: &str) -> Result<Self, PkiError> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "deployer" => Ok(Self::Deployer),
            "admin" => Ok(Self::Admin),
            _ => Err(PkiError::NoIdentity(format!("role {text:?}"))),
        }
    }
}

/// Who holds a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// An agent; it speaks only for its own node.
    Node(NodeId),
    /// A person or a program of theirs.
    Operator {
        /// Name, `[a-z][a-z0-9-]*`.
        name: String,
        /// What they may do.
        role: OperatorRole,
    },
    /// A controller.
    Controller(String),
}

impl Identity {
    /// The URI that goes into the certificate.
    #[must_use]
    pub fn uri(&self, cluster: &str) -> String {
        format!("spiffe://{cluster}/{self}")
    }

    /// Reads the path of a URI of `cluster`'s, whatever cluster that is: the CA that signed it
    /// decides which cluster it belongs to.
    ///
    /// # Errors
    /// [`PkiError::NoIdentity`] if the URI has another form.
    pub fn from_uri(uri: &str) -> Result<Self, PkiError> {
        let none = || PkiError::NoIdentity(format!("{uri:.200}"));
        let path = uri
            .strip_prefix("spiffe://")
            .and_then(|rest| rest.split_once('/'));
        let parts: Vec<&str> = path.ok_or_else(none)?.1.split('/').collect();
        // Node ids and all other names share one white-list.
        let name = |text: &str| NodeId::new(text).map_err(|_| none());
        match parts.as_slice() {
            ["node", id] => Ok(Self::Node(name(id)?)),
            ["operator", role, who] => Ok(Self::Operator {
                name: name(who)?.into(),
                role: role.parse()?,
            }),
            ["controller", id] => Ok(Self::Controller(name(id)?.into())),
            _ => Err(none()),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node/{id}"),
            Self::Operator { name, role } => write!(f, "operator/{}/{name}", role.as_str()),
            Self::Controller(id) => write!(f, "controller/{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identities_read_back() {
        let all = [
            Identity::Node(NodeId::new("worker1").unwrap()),
            Identity::Operator {
                name: "ana".into(),
                role: OperatorRole::Deployer,
            },
            Identity::Controller("c1".into()),
        ];
        for identity in all {
            assert_eq!(Identity::from_uri(&identity.uri("lab")).unwrap(), identity);
        }
    }

    #[test]
    fn each_role_includes_the_ones_before_it() {
        assert!(OperatorRole::Viewer < OperatorRole::Deployer);
        assert!(OperatorRole::Deployer < OperatorRole::Admin);
    }

    proptest! {
        #[test]
        fn other_uris_name_nobody(uri in "(spiffe://)?[a-zA-Z0-9/._-]{0,60}") {
            if let Ok(identity) = Identity::from_uri(&uri) {
                let cluster = uri.trim_start_matches("spiffe://").split('/').next().unwrap_or("");
                prop_assert_eq!(identity.uri(cluster), uri);
            }
        }
    }
}
