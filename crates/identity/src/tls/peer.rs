//! What a verified certificate says about its holder.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::ca::{NO_WORKER, SERIAL_BYTES, SERIAL_END_BYTES};
use crate::error::PkiError;
use crate::name::Identity;

/// Who is at the other end; an extension of every request.
#[derive(Debug, Clone)]
pub struct PeerInfo {
    /// None: no certificate was shown.
    pub identity: Option<Identity>,
    /// Serial of the certificate, lower-case hexadecimal; empty without one.
    pub serial: String,
    /// Where it called from.
    pub remote: SocketAddr,
    /// For how long its certificate had been over when the connection was made. Its holder may renew
    /// it and nothing else.
    pub late: Option<Duration>,
}

/// Reads the identity from a chain that TLS has already verified (leaf first). Nothing is looked at a
/// clock for: [`PeerInfo::late`] is for whoever accepts the connection.
///
/// # Errors
/// [`PkiError::NoIdentity`] if a certificate was shown that names nobody.
pub fn peer_info(
    chain: Option<&[CertificateDer<'_>]>,
    remote: SocketAddr,
) -> Result<PeerInfo, PkiError> {
    let Some(leaf) = chain.and_then(<[_]>::first) else {
        return Ok(PeerInfo {
            identity: None,
            serial: String::new(),
            remote,
            late: None,
        });
    };
    let serial = serial_of(leaf).ok_or_else(|| PkiError::NoIdentity("no serial".into()))?;
    Ok(PeerInfo {
        identity: Some(identity_of(leaf)?),
        serial,
        remote,
        late: None,
    })
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PkiError> {
    X509Certificate::from_der(der)
        .map(|(_, cert)| cert)
        .map_err(PkiError::unreadable("the certificate"))
}

pub(super) fn identity_of(leaf: &CertificateDer<'_>) -> Result<Identity, PkiError> {
    let cert = parse(leaf)?;
    let none = |detail: &str| PkiError::NoIdentity(detail.to_owned());
    let names = cert
        .subject_alternative_name()
        .map_err(|_| none("alternative names are damaged"))?
        .ok_or_else(|| none("it has no alternative name"))?;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Identity::from_uri(uri),
        _ => Err(none("it must have exactly one URI")),
    }
}

/// Does a certificate say that its node is an edge only? One that cannot be read is no worker's.
pub(super) fn is_no_worker(leaf: &CertificateDer<'_>) -> bool {
    let Ok(cert) = parse(leaf) else { return true };
    let mut units = cert.subject().iter_organizational_unit();
    units.any(|unit| unit.as_str() == Ok(NO_WORKER))
}

/// Serial of a certificate, as [`PeerInfo::serial`] has it. None: it is no certificate.
#[must_use]
pub fn serial_of(leaf: &CertificateDer<'_>) -> Option<String> {
    let cert = parse(leaf).ok()?;
    Some(data_encoding::HEXLOWER.encode(cert.raw_serial()))
}

/// From when until when a certificate is valid.
///
/// # Errors
/// [`PkiError::Unreadable`] if it is no certificate.
pub fn certificate_validity(
    der: &CertificateDer<'_>,
) -> Result<(SystemTime, SystemTime), PkiError> {
    let cert = parse(der)?;
    let at = |seconds: i64| {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    };
    let validity = cert.validity();
    Ok((
        at(validity.not_before.timestamp()),
        at(validity.not_after.timestamp()),
    ))
}

/// For how long a certificate has been over. None: it is not, or it is no certificate.
#[must_use]
pub fn lateness(der: &CertificateDer<'_>, now: SystemTime) -> Option<Duration> {
    let (_, until) = certificate_validity(der).ok()?;
    // Valid until the end of that second.
    now.duration_since(until + Duration::from_secs(1)).ok()
}

/// When the certificate with this serial ends. None: it is of before serials said so.
#[must_use]
pub fn serial_end(serial: &str) -> Option<SystemTime> {
    let bytes = data_encoding::HEXLOWER.decode(serial.as_bytes()).ok()?;
    let bytes = <[u8; SERIAL_BYTES]>::try_from(bytes).ok()?;
    let end_s = bytes.last_chunk::<SERIAL_END_BYTES>()?;
    let end = Duration::from_secs(u64::from_be_bytes(*end_s));
    SystemTime::UNIX_EPOCH.checked_add(end)
}
