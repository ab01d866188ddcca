//! What the own certificate says.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::SystemTime;

use longshore_identity::Identity;
use longshore_identity::tls::{CertHolder, TrustHolder, certificate_validity, peer_info};

use crate::failure::{Exit, Failure};

/// A certificate in words.
#[derive(Debug)]
pub struct Certificate {
    /// `operator ana (admin)`
    pub identity: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
}

/// Reads a certificate and proves that the key belongs to it, and that the CA issued it.
///
/// # Errors
/// In words: damaged, not a pair, or not of the CA.
pub fn describe(ca_pem: &str, cert_pem: &str, key_pem: &str) -> Result<Certificate, Failure> {
    let unusable = "the certificate cannot be used";
    let holder = CertHolder::from_pem(cert_pem, key_pem)
        .map_err(|e| Failure::new(format!("{unusable}: {e}")))?;
    let leaf = holder.leaf_der().ok_or_else(|| Failure::new(unusable))?;
    let trust = TrustHolder::new(ca_pem, HashSet::new());
    let trust = trust.map_err(|e| Failure::new(format!("the CA cannot be used: {e}")))?;
    if !trust.is_issuer_of(&leaf) {
        let message = "the certificate is not of this CA: no controller of its cluster lets it in";
        return Err(Failure::new(message).exit(Exit::Usage));
    }
    let validity = certificate_validity(&leaf);
    let (from, until) = validity.map_err(|e| Failure::new(format!("{unusable}: {e}")))?;
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let peer =
        peer_info(Some(&[leaf]), nowhere).map_err(|e| Failure::new(format!("{unusable}: {e}")))?;
    let identity = match peer.identity {
        Some(Identity::Operator { name, role }) => format!("operator {name} ({})", role.as_str()),
        Some(Identity::Node(node)) => format!("node {node}: no operator"),
        Some(Identity::Controller(id)) => format!("controller {id}: no operator"),
        None => "nobody".into(),
    };
    let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
    Ok(Certificate {
        identity,
        not_before: time(from),
        not_after: time(until),
    })
}

/// Refuses a certificate that every controller would refuse: in TLS 1.3 a client learns it late,
/// if at all.
///
/// # Errors
/// Exit 6: expired, or not valid yet.
pub fn still_valid(holder: &CertHolder, context: &str) -> Result<(), Failure> {
    let Some((from, until)) = holder
        .leaf_der()
        .and_then(|leaf| certificate_validity(&leaf).ok())
    else {
        return Ok(());
    };
    let now = SystemTime::now();
    let time = |time: SystemTime| humantime::format_rfc3339_seconds(time);
    let message = if until < now {
        format!(
            "the certificate of context {context:?} has expired ({})",
            time(until)
        )
    } else if from > now {
        format!(
            "the certificate of context {context:?} is not valid before {}: this clock is behind",
            time(from)
        )
    } else {
        return Ok(());
    };
    Err(Failure::new(message)
        .exit(Exit::Unreachable)
        .hint("import a context with a new certificate: controllerctl context import FILE"))
}
