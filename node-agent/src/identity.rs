//! Who this node is: `DATA/identity/{key,cert,ca}.pem` and `DATA/node.toml`.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use longshore_identity::PkiError;
use longshore_identity::key::KeyPair;
use longshore_identity::tls::{CertHolder, certificate_validity, lateness};
use longshore_model::{NodeId, node::Roles};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::controllers::Controllers;
use crate::files::{FileError, private_dir, read_optional, write_atomic};

/// What enrolment settled, in `node.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFile {
    /// The cluster's name.
    pub cluster: String,
    /// This node's id.
    pub node: NodeId,
    /// `https://host:port` of the controller.
    pub controller: String,
    /// Address under which edges reach this node's replicas.
    pub address: IpAddr,
    /// What this node does.
    pub roles: Roles,
}

/// Why the identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing is there yet.
    #[error(
        "this node is not enrolled: {} is missing; run `node-agent join` with a token from \
         `controllerctl token create`",
        path.display()
    )]
    NotEnrolled {
        /// The file that is missing.
        path: PathBuf,
    },
    /// Others may read the key.
    #[error(
        "{} may be read by others (mode {mode:o}); if nobody did, `chmod 600` it, else enrol anew",
        path.display()
    )]
    KeyMode {
        /// The key.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// `node.toml` is damaged.
    #[error("{} is damaged: {detail}", path.display())]
    NodeFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Keys or certificates are damaged.
    #[error("the identity in {} is unusable", path.display())]
    Pki {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: PkiError,
    },
}

/// Where the identity of a node lives.
#[derive(Debug, Clone)]
pub struct IdentityDir {
    data: PathBuf,
}

/// A loaded identity.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    /// What enrolment settled.
    pub file: NodeFile,
    /// The cluster's CA.
    pub ca_pem: String,
    /// Certificate and key; swapped at renewal.
    pub certs: Arc<CertHolder>,
    /// Where controllers are.
    pub controllers: Controllers,
    /// Held while a certificate is asked for: one is enough.
    pub renewing: Arc<Mutex<()>>,
}

impl IdentityDir {
    /// Under the agent's data directory.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.data.join("identity").join(name)
    }

    /// The certificate: written last, so its presence means: enrolled.
    #[must_use]
    pub fn cert_path(&self) -> PathBuf {
        self.path("cert.pem")
    }

    /// Gets everything ready for an identity, before a token is spent on it: the directories
    /// take files, and the key is there. A key that is there already is kept, so that a join
    /// whose answer was lost can be repeated.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and the way out; nothing was asked of the controller yet.
    pub fn prepare(&self) -> Result<KeyPair, IdentityError> {
        private_dir(&self.data.join("identity"))?;
        for probe in [self.data.join("probe"), self.path("probe")] {
            write_atomic(&probe, b"", 0o600)?;
            std::fs::remove_file(&probe).map_err(FileError::at("remove", &probe))?;
        }
        if self.path("key.pem").exists() {
            let pki = |source| IdentityError::Pki {
                path: self.data.join("identity"),
                source,
            };
            return KeyPair::from_pem(&self.key_pem()?).map_err(pki);
        }
        let key = KeyPair::generate().map_err(|source| IdentityError::Pki {
            path: self.data.join("identity"),
            source,
        })?;
        write_atomic(&self.path("key.pem"), key.pem().as_bytes(), 0o600)?;
        Ok(key)
    }

    /// Stores a new identity beside the key of [`Self::prepare`]; the certificate comes last.
    ///
    /// # Errors
    /// [`FileError`]; the node is not enrolled then.
    pub fn store(&self, file: &NodeFile, chain_pem: &str, ca_pem: &str) -> Result<(), FileError> {
        let text = toml::to_string_pretty(file).unwrap_or_default();
        write_atomic(&self.data.join("node.toml"), text.as_bytes(), 0o600)?;
        write_atomic(&self.path("ca.pem"), ca_pem.as_bytes(), 0o600)?;
        self.replace_cert(chain_pem)
    }

    /// Replaces the certificate; the key stays.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn replace_cert(&self, chain_pem: &str) -> Result<(), FileError> {
        write_atomic(&self.cert_path(), chain_pem.as_bytes(), 0o600)
    }

    /// The private key.
    ///
    /// # Errors
    /// [`IdentityError`] if it is missing or others may read it.
    pub fn key_pem(&self) -> Result<String, IdentityError> {
        let path = self.path("key.pem");
        let pem = self.read("key.pem")?;
        let mode = std::fs::metadata(&path)
            .map_err(FileError::at("read", &path))?
            .permissions()
            .mode()
            & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::KeyMode { path, mode });
        }
        Ok(pem)
    }

    fn read(&self, name: &str) -> Result<String, IdentityError> {
        let path = self.path(name);
        read_optional(&path)?.ok_or(IdentityError::NotEnrolled { path })
    }

    /// Where controllers are.
    #[must_use]
    pub fn controllers(&self, file: &NodeFile) -> Controllers {
        Controllers::load(&file.controller, self.data.join("controllers.json"))
    }

    /// Loads what `join` stored.
    ///
    /// # Errors
    /// [`IdentityError`] names the file and the way out.
    pub fn load(&self) -> Result<NodeIdentity, IdentityError> {
        let chain = self.read("cert.pem")?;
        let key = self.key_pem()?;
        let ca_pem = self.read("ca.pem")?;
        let path = self.data.join("node.toml");
        let text = read_optional(&path)?
            .ok_or_else(|| IdentityError::NotEnrolled { path: path.clone() })?;
        let file: NodeFile = toml::from_str(&text).map_err(|error| IdentityError::NodeFile {
            path,
            detail: error.to_string(),
        })?;
        let certs = CertHolder::from_pem(&chain, &key).map_err(|source| IdentityError::Pki {
            path: self.data.join("identity"),
            source,
        })?;
        Ok(NodeIdentity {
            controllers: self.controllers(&file),
            file,
            ca_pem,
            certs,
            renewing: Arc::default(),
        })
    }
}

impl NodeIdentity {
    /// From when until when the present certificate is valid.
    #[must_use]
    pub fn validity(&self) -> Option<(SystemTime, SystemTime)> {
        certificate_validity(&self.certs.leaf_der()?).ok()
    }

    /// Is the present certificate over, by this clock?
    #[must_use]
    pub fn is_late(&self, now: SystemTime) -> bool {
        let leaf = self.certs.leaf_der();
        leaf.is_some_and(|leaf| lateness(&leaf, now).is_some())
    }
}
