//! `[store.etcd]` of `controller.toml`.

use std::path::PathBuf;
use std::time::Duration;

use longshore_etcd::{Credentials, Settings};
use serde::Deserialize;

use super::SharedError;
use crate::files;

/// The etcd that several controllers share.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdConfig {
    /// `https://host:2379` of each member; plain `http` on loopback only.
    pub endpoints: Vec<String>,
    /// The CA that signed etcd's certificates, PEM.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Certificate that is shown to etcd, PEM.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM, for its owner alone.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Where the cluster is in etcd.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// How long after its last sign of life a leader is replaced, in seconds.
    #[serde(default = "lease_s")]
    pub lease_s: u64,
    /// By what name other controllers know this one; its first `advertise` if there is none.
    #[serde(default)]
    pub name: Option<String>,
}

fn prefix() -> String {
    "/longshore".into()
}

fn lease_s() -> u64 {
    3
}

impl EtcdConfig {
    /// What the client needs.
    ///
    /// # Errors
    /// [`SharedError`] names the file or the setting.
    pub fn settings(&self) -> Result<Settings, SharedError> {
        let client = match (&self.cert_file, &self.key_file) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((files::read(cert)?, files::read_private(key)?)),
            _ => return Err(SharedError::HalfAnIdentity),
        };
        let client = client
            .as_ref()
            .map(|(cert, key)| (cert.as_str(), key.as_str()));
        let credentials = match &self.ca_file {
            None => None,
            Some(ca) => Some(Credentials::new(&files::read(ca)?, client)?),
        };
        Ok(Settings::new(&self.endpoints, credentials.as_ref())?)
    }

    /// The election's key.
    #[must_use]
    pub fn election_key(&self) -> String {
        format!("{}/leader", self.prefix.trim_end_matches('/'))
    }

    /// Below which controllers say where they are.
    #[must_use]
    pub fn controllers_prefix(&self) -> String {
        format!("{}/controller/", self.prefix.trim_end_matches('/'))
    }

    /// Of the leader's lease.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_s)
    }
}
