//! What OpenSSL refuses to serve at security level 2, which Debian 12 and 13 build it with. Only
//! what is certain: this refuses before anything is sent, and without asking HAProxy.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use super::SiteProblem;

/// RSA keys of up to so many bits are refused for certain. The keys of first certificates are
/// held to more where they are read.
const WEAK_RSA_BITS: usize = 1_536;

/// By object identifier: of RSA, RSA, ECDSA.
const WEAK_SIGNATURES: [(&str, &str); 3] = [
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
];

/// Why HAProxy will not take this chain, its first certificate first.
pub(super) fn weakness(chain: &[CertificateDer<'_>]) -> Option<SiteProblem> {
    let numbered = chain.iter().zip(1..);
    let mut found = numbered.filter_map(|(der, nth)| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        weak_signature(&certificate)
            .map(|digest| SiteProblem::WeakSignature { nth, digest })
            .or_else(|| weak_key(&certificate).map(|bits| SiteProblem::WeakKey { nth, bits }))
    });
    found.next()
}

/// A signature of its own name is not looked at: nobody goes by it.
fn weak_signature(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    if certificate.subject() == certificate.issuer() {
        return None;
    }
    let by = certificate.signature_algorithm.algorithm.to_id_string();
    let weak = WEAK_SIGNATURES.iter().find(|(id, _)| *id == by);
    weak.map(|(_, digest)| *digest)
}

fn weak_key(certificate: &X509Certificate<'_>) -> Option<usize> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()).filter(|bits| *bits <= WEAK_RSA_BITS),
        _ => None,
    }
}
