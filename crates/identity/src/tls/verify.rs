//! The server's side of a handshake: which clients get in.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::connect::CertificateRefusal;
use super::holder::{CertHolder, Refused, TrustHolder};
use super::peer::{identity_of, lateness, serial_of};
use crate::error::PkiError;
use crate::name::Identity;

/// A node's certificate that was over for longer renews nothing: its node has to join again.
pub const LATE_MAX: Duration = Duration::from_secs(30 * 86_400);

/// TLS 1.3 only, HTTP/2 only, no resumption (a revoked peer must not come back by ticket). A
/// client certificate is optional here, because joining nodes have none yet; every call but
/// joining checks the identity that [`super::PeerInfo`] carries.
///
/// Nodes get in with a certificate that has been over for at most [`LATE_MAX`], so that a long
/// absence of the controller strands nobody: the handshake proves that they have its key, and
/// [`super::PeerInfo::late`] says that renewing is all that they may do.
///
/// # Errors
/// [`PkiError::Tls`] if the crypto provider lacks TLS 1.3.
pub fn server_config(
    certs: Arc<CertHolder>,
    trust: Arc<TrustHolder>,
) -> Result<ServerConfig, PkiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(ClientVerifier::new(trust, LATE_MAX)))
        .with_cert_resolver(certs);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

#[derive(Debug)]
pub(super) struct ClientVerifier {
    trust: Arc<TrustHolder>,
    /// Nodes get in with a certificate that was over for so long.
    late_max: Duration,
}

impl TrustHolder {
    /// Is the certificate one of a CA that is trusted here? Whether its time has come or is over does
    /// not matter, nor whether it was revoked since.
    #[must_use]
    pub fn is_issuer_of(&self, leaf: &CertificateDer<'_>) -> bool {
        let Ok((_, until)) = super::certificate_validity(leaf) else {
            return false;
        };
        let last = until.duration_since(SystemTime::UNIX_EPOCH);
        let last = UnixTime::since_unix_epoch(last.unwrap_or_default());
        let verifier = &self.verifier.load().0;
        verifier.verify_client_cert(leaf, &[], last).is_ok()
    }
}

impl ClientVerifier {
    pub(super) fn new(trust: Arc<TrustHolder>, late_max: Duration) -> Self {
        Self { trust, late_max }
    }

    fn inner(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.trust.verifier.load().0)
    }

    /// Remembers whose certificate was not taken, or not for more than renewing it. It must have been
    /// verified but for its time: a name of this cluster in a stranger's certificate means nothing.
    fn remember(&self, leaf: &CertificateDer<'_>, now: UnixTime, refusal: CertificateRefusal) {
        if let Ok(identity) = identity_of(leaf) {
            let at = wall(now);
            self.trust.refused(identity, Refused { at, refusal });
        }
    }

    /// What is wrong with a certificate whose time is over, and was good until then, if anything is.
    fn judge_expired(
        &self,
        leaf: &CertificateDer<'_>,
        late: Duration,
    ) -> Result<(), (CertificateRefusal, CertificateError)> {
        let serial = serial_of(leaf).unwrap_or_default();
        if self.trust.is_revoked(&serial) {
            return Err((CertificateRefusal::Revoked, CertificateError::Revoked));
        }
        // Others have nothing to renew with.
        let is_node = matches!(identity_of(leaf), Ok(Identity::Node(_)));
        match is_node && late <= self.late_max {
            true => Ok(()),
            false => Err((CertificateRefusal::Expired, CertificateError::Expired)),
        }
    }
}

fn wall(now: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs())
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hint: the roots can be swapped, and every client has one certificate only.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Leaf → root only. Intermediates are never offered to path building, so a leaf that
        // once got CA:TRUE by mistake could still sign nobody in.
        if intermediates.len() > 1 {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        }
        let verified = match self.inner().verify_client_cert(end_entity, &[], now) {
            Ok(verified) => verified,
            Err(error) => {
                let late = lateness(end_entity, wall(now));
                let Some(late) = late.filter(|_| self.trust.is_issuer_of(end_entity)) else {
                    return Err(error);
                };
                let judged = self.judge_expired(end_entity, late);
                let seen = judged.as_ref().err().map(|(refusal, _)| *refusal);
                self.remember(end_entity, now, seen.unwrap_or(CertificateRefusal::Late));
                judged.map_err(|(_, error)| Error::InvalidCertificate(error))?;
                return Ok(ClientCertVerified::assertion());
            }
        };
        match serial_of(end_entity) {
            Some(serial) if !self.trust.is_revoked(&serial) => Ok(verified),
            Some(_) => {
                self.remember(end_entity, now, CertificateRefusal::Revoked);
                Err(Error::InvalidCertificate(CertificateError::Revoked))
            }
            None => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner().supported_verify_schemes()
    }
}
