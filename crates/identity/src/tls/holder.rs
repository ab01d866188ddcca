//! What can be swapped at run time: the own certificate, the trusted roots, the revoked serials.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use super::connect::CertificateRefusal;
use crate::error::PkiError;
use crate::name::Identity;

/// The own certificate and key. New handshakes use what was swapped in last.
pub struct CertHolder(ArcSwap<CertifiedKey>);

impl CertHolder {
    /// From a PEM chain (leaf first) and a PEM key.
    ///
    /// # Errors
    /// [`PkiError`] names which of the two is damaged, or that they do not belong together.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Arc<Self>, PkiError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(certified_key(
            chain_pem, key_pem,
        )?))))
    }

    /// Replaces both.
    ///
    /// # Errors
    /// As [`Self::from_pem`]; the old ones stay then.
    pub fn swap(&self, chain_pem: &str, key_pem: &str) -> Result<(), PkiError> {
        self.0.store(Arc::new(certified_key(chain_pem, key_pem)?));
        Ok(())
    }

    /// Holds what the other one holds, from the next handshake on.
    pub fn take_over(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }

    /// DER of the leaf.
    #[must_use]
    pub fn leaf_der(&self) -> Option<CertificateDer<'static>> {
        self.0.load().cert.first().cloned()
    }
}

fn certified_key(chain_pem: &str, key_pem: &str) -> Result<CertifiedKey, PkiError> {
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(PkiError::unreadable("the certificate"))?;
    if chain.is_empty() {
        return Err(PkiError::Unreadable {
            what: "the certificate",
            detail: "it holds no PEM certificate".into(),
        });
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
        .map_err(PkiError::unreadable("the private key"))?;
    let provider = rustls::crypto::ring::default_provider();
    Ok(CertifiedKey::from_der(chain, key, &provider)?)
}

impl fmt::Debug for CertHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CertHolder")
    }
}

impl ResolvesServerCert for CertHolder {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for CertHolder {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whom a server trusts: its roots and the serials that it no longer takes.
pub struct TrustHolder {
    pub(super) verifier: ArcSwap<VerifierCell>,
    revoked: watch::Sender<Arc<HashSet<String>>>,
    refused: Mutex<HashMap<Identity, Refused>>,
}

/// A certificate of this cluster that was shown and not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// When it was shown last.
    pub at: SystemTime,
    /// Why it was not taken.
    pub refusal: CertificateRefusal,
}

/// Holders of refused certificates that are remembered; beyond it the oldest is forgotten.
const REFUSED_MAX: usize = 1_024;

/// Sized home for the trait object, as `ArcSwap` wants one.
pub(super) struct VerifierCell(pub(super) Arc<dyn rustls::server::danger::ClientCertVerifier>);

impl TrustHolder {
    /// Trusts the given CA certificates; `revoked` holds serials as lower-case hexadecimal.
    ///
    /// # Errors
    /// [`PkiError::Unreadable`] if no certificate can be read.
    pub fn new(ca_pem: &str, revoked: HashSet<String>) -> Result<Arc<Self>, PkiError> {
        Ok(Arc::new(Self {
            verifier: ArcSwap::from_pointee(verifier_of(ca_pem)?),
            revoked: watch::Sender::new(Arc::new(revoked)),
            refused: Mutex::default(),
        }))
    }

    /// Refuses these serials from now on and cuts their live connections.
    pub fn revoke(&self, serials: impl IntoIterator<Item = String>) {
        // Whoever names them may look at the list meanwhile, which is locked below.
        let serials: Vec<String> = serials.into_iter().collect();
        self.revoked.send_modify(|set| {
            let mut next = HashSet::clone(set);
            next.extend(serials);
            *set = Arc::new(next);
        });
    }

    /// Is the serial refused?
    #[must_use]
    pub fn is_revoked(&self, serial: &str) -> bool {
        self.revoked.borrow().contains(serial)
    }

    /// The last time that a certificate of `identity` was shown and not taken, for those who ask
    /// why it stays away.
    #[must_use]
    pub fn last_refusal(&self, identity: &Identity) -> Option<Refused> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(identity).copied()
    }

    pub(super) fn refused(&self, identity: Identity, refused: Refused) {
        let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REFUSED_MAX && !all.contains_key(&identity) {
            let oldest = all.iter().min_by_key(|(_, seen)| seen.at);
            if let Some(oldest) = oldest.map(|(identity, _)| identity.clone()) {
                all.remove(&oldest);
            }
        }
        all.insert(identity, refused);
    }

    /// All serials that are refused.
    #[must_use]
    pub fn revoked(&self) -> Arc<HashSet<String>> {
        Arc::clone(&self.revoked.borrow())
    }

    pub(super) fn watch_revoked(&self) -> watch::Receiver<Arc<HashSet<String>>> {
        self.revoked.subscribe()
    }

    /// Ends once the certificate with this serial is revoked; a connection of its holder is cut
    /// then.
    pub async fn until_revoked(&self, serial: &str) {
        let hit = self
            .watch_revoked()
            .wait_for(|set| !serial.is_empty() && set.contains(serial))
            .await
            .is_ok();
        if !hit {
            // The list's owner is gone: nobody can revoke any more.
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for TrustHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrustHolder")
    }
}

pub(super) fn roots_of(ca_pem: &str) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(cert.map_err(PkiError::unreadable("the CA certificate"))?)?;
    }
    if roots.is_empty() {
        return Err(PkiError::Unreadable {
            what: "the CA certificate",
            detail: "it holds no PEM certificate".into(),
        });
    }
    Ok(roots)
}

fn verifier_of(ca_pem: &str) -> Result<VerifierCell, PkiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(roots_of(ca_pem)?);
    WebPkiClientVerifier::builder_with_provider(roots, provider)
        .allow_unauthenticated()
        .build()
        .map(VerifierCell)
        .map_err(PkiError::unreadable("the CA certificate"))
}
