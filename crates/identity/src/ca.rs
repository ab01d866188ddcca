//! The cluster's certificate authority.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use data_encoding::{BASE64, HEXLOWER};
use longshore_model::Roles;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::PkiError;
use crate::key::KeyPair;
use crate::name::Identity;
use crate::token::CaDigest;

/// Certificates are valid from this long before they were made: clocks differ.
const BACKDATE: Duration = Duration::from_secs(3600);
/// A root outlives the machines; it is rotated, not awaited.
const ROOT_VALIDITY: Duration = Duration::from_secs(20 * 365 * 86_400);
/// Longest accepted signing request.
const CSR_BYTES_MAX: usize = 8 * 1024;

/// Length of a serial, as long as RFC 5280 (4.1.2.2) lets one be; and of the last part of it: when the
/// certificate ends, in seconds since 1970, big-endian. The rest is random.
pub(crate) const SERIAL_BYTES: usize = 20;
pub(crate) const SERIAL_END_BYTES: usize = 8;

/// Organizational unit in the certificate of a node that is an edge only. Those of before roles were in
/// certificates have none, and workers need none.
pub(crate) const NO_WORKER: &str = "edge";

/// The authority: signs leaves, nothing else.
pub struct ClusterCa {
    cluster: String,
    cert_pem: String,
    cert_der: CertificateDer<'static>,
    key: KeyPair,
}

impl ClusterCa {
    /// Makes a new root for `cluster`.
    ///
    /// # Errors
    /// [`PkiError`] if keys cannot be made.
    pub fn create(cluster: &str, now: SystemTime) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        // A name of its own for each root: with equal names a peer of another cluster would be
        // told "bad signature" instead of "unknown authority".
        let mut mark = [0u8; 4];
        getrandom::fill(&mut mark).map_err(PkiError::Random)?;
        let name = format!("Longshore CA of {cluster} {}", HEXLOWER.encode(&mark));
        let mut params = base_params(&name, now, ROOT_VALIDITY)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::OrganizationName, cluster);
        let cert = params
            .self_signed(&key.0)
            .map_err(PkiError::crypto("signing the root"))?;
        Ok(Self {
            cluster: cluster.to_owned(),
            cert_pem: cert.pem(),
            cert_der: cert.der().clone(),
            key,
        })
    }

    /// Reads what [`Self::cert_pem`] and [`Self::key_pem`] gave.
    ///
    /// # Errors
    /// [`PkiError::Unreadable`] names which of the two is damaged.
    pub fn load(cluster: &str, cert_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let cert_der = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(PkiError::unreadable("the CA certificate"))?
            .into_owned();
        let key = KeyPair::from_pem(key_pem)?;
        Ok(Self {
            cluster: cluster.to_owned(),
            cert_pem: cert_pem.to_owned(),
            cert_der,
            key,
        })
    }

    /// Its certificate.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// Its certificate.
    #[must_use]
    pub fn cert_der(&self) -> &CertificateDer<'static> {
        &self.cert_der
    }

    /// Its private key.
    #[must_use]
    pub fn key_pem(&self) -> Zeroizing<String> {
        self.key.pem()
    }

    /// What join tokens pin.
    #[must_use]
    pub fn digest(&self) -> CaDigest {
        CaDigest::of_der(&self.cert_der)
    }

    /// Certificate for the public key of a signing request. Everything else in the request is
    /// ignored: rcgen's own `signed_by` would copy CA:TRUE and any name from it. Where `roles` are
    /// without work it says so: other agents speak with workers only.
    ///
    /// # Errors
    /// [`PkiError::BadRequest`] for requests that are too long, unsigned or of an unknown key.
    pub fn issue_from_csr(
        &self,
        csr_der: &[u8],
        identity: &Identity,
        roles: Roles,
        addresses: &[IpAddr],
        validity: Duration,
        now: SystemTime,
    ) -> Result<Vec<u8>, PkiError> {
        let mut request = signing_request(csr_der)?;
        let names: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
        request.params = self.leaf_params(identity, &names, validity, now)?;
        if !roles.worker {
            let subject = &mut request.params.distinguished_name;
            subject.push(DnType::OrganizationalUnitName, NO_WORKER);
        }
        let issuer = self.issuer()?;
        let cert = request
            .signed_by(&issuer)
            .map_err(PkiError::crypto("signing a certificate"))?;
        Ok(cert.der().to_vec())
    }

    /// SHA-256 of the public key of a signing request, whose signature is checked: tells whether
    /// two requests come from one holder of a key.
    ///
    /// # Errors
    /// As [`Self::issue_from_csr`].
    pub fn csr_key_digest(csr_der: &[u8]) -> Result<[u8; 32], PkiError> {
        let request = signing_request(csr_der)?;
        Ok(Sha256::digest(request.public_key.der_bytes()).into())
    }

    /// Certificate and key made together, both PEM: for operators and controllers. `names` are
    /// host names or addresses.
    ///
    /// # Errors
    /// [`PkiError`] if a name is none or keys cannot be made.
    pub fn issue_new(
        &self,
        identity: &Identity,
        names: &[String],
        validity: Duration,
        now: SystemTime,
    ) -> Result<(String, Zeroizing<String>), PkiError> {
        let key = KeyPair::generate()?;
        let params = self.leaf_params(identity, names, validity, now)?;
        let issuer = self.issuer()?;
        let cert = params
            .signed_by(&key.0, &issuer)
            .map_err(PkiError::crypto("signing a certificate"))?;
        Ok((cert.pem(), key.pem()))
    }

    fn issuer(&self) -> Result<Issuer<'static, &rcgen::KeyPair>, PkiError> {
        Issuer::from_ca_cert_der(&self.cert_der, &self.key.0)
            .map_err(PkiError::crypto("reading the CA certificate"))
    }

    fn leaf_params(
        &self,
        identity: &Identity,
        names: &[String],
        validity: Duration,
        now: SystemTime,
    ) -> Result<CertificateParams, PkiError> {
        let mut params = base_params(&identity.to_string(), now, validity)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        // Controllers serve (and call each other); everybody else only calls.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if matches!(identity, Identity::Controller(_)) {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let uri = identity.uri(&self.cluster);
        let uri = uri
            .try_into()
            .map_err(PkiError::crypto("encoding a name"))?;
        params.subject_alt_names.push(SanType::URI(uri));
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(
                    name.as_str()
                        .try_into()
                        .map_err(PkiError::crypto("encoding a host name"))?,
                ),
            });
        }
        Ok(params)
    }
}

/// DER certificates as one PEM text.
#[must_use]
pub fn pem_of_certificates<'a>(chain: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut text = String::new();
    for der in chain {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = BASE64.encode(der);
        // PEM lines hold 64 characters; base64 is ASCII, so any cut is at a character.
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

fn signing_request(csr_der: &[u8]) -> Result<CertificateSigningRequestParams, PkiError> {
    if csr_der.len() > CSR_BYTES_MAX {
        return Err(PkiError::BadRequest("longer than 8 KiB"));
    }
    let der = CertificateSigningRequestDer::from(csr_der.to_vec());
    CertificateSigningRequestParams::from_der(&der)
        .map_err(|_| PkiError::BadRequest("not a signed PKCS#10 request with a known key"))
}

fn base_params(
    common_name: &str,
    now: SystemTime,
    validity: Duration,
) -> Result<CertificateParams, PkiError> {
    let end = now + validity;
    let mut serial = [0u8; SERIAL_BYTES];
    getrandom::fill(&mut serial).map_err(PkiError::Random)?;
    // A positive number without leading zero: some readers insist.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    // Serials outlive their certificates in lists of what is refused: they say when they may leave.
    let end_s = end.duration_since(SystemTime::UNIX_EPOCH);
    let end_s = end_s.unwrap_or_default().as_secs().to_be_bytes();
    serial[SERIAL_BYTES - SERIAL_END_BYTES..].copy_from_slice(&end_s);
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    // A clock without a battery begins in 1970, and nobody reads times before that.
    let from = now.checked_sub(BACKDATE).unwrap_or(now);
    params.not_before = from.max(SystemTime::UNIX_EPOCH).into();
    params.not_after = end.into();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    Ok(params)
}
