//! What OpenSSL refuses to serve at security level 2, which Debian 12 and 13 build it with. Only
//! what is certain: this refuses before anything is sent, and without asking HAProxy.

use rustls_pki_types::CertificateDer;
use x509_parser::asn1_rs::Integer;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::SiteProblem;

/// RSA and DSA keys of up to so many bits are refused for certain: OpenSSL wants 112 bits of
/// security, which it reckons them to have from somewhere between 1,960 and 2,000 on. The keys of
/// first certificates are held to more where they are read.
const WEAK_BITS: usize = 1_920;
/// The same of elliptic curves: 224 is enough. Lengths are those of a coordinate in whole bytes.
const WEAK_CURVE_BITS: usize = 216;

/// By object identifier: of RSA, RSA, ECDSA, DSA.
const WEAK_SIGNATURES: [(&str, &str); 4] = [
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
    ("1.2.840.10040.4.3", "SHA-1"),
];

/// Why HAProxy will not take this chain, its first certificate first.
pub(super) fn weakness(chain: &[CertificateDer<'_>]) -> Option<SiteProblem> {
    let numbered = chain.iter().zip(1..);
    let mut found = numbered.filter_map(|(der, nth)| {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        weak_signature(&certificate)
            .map(|digest| SiteProblem::WeakSignature { nth, digest })
            .or_else(|| {
                let (kind, bits) = weak_key(certificate.public_key())?;
                Some(SiteProblem::WeakKey { nth, kind, bits })
            })
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

/// Kind and length of a key that is too short. A length that nobody can tell is none.
fn weak_key(key: &SubjectPublicKeyInfo<'_>) -> Option<(&'static str, usize)> {
    let (kind, bits, weak) = match key.parsed().ok()? {
        PublicKey::RSA(rsa) => ("an RSA", rsa.key_size(), WEAK_BITS),
        PublicKey::EC(point) => ("an elliptic curve", point.key_size(), WEAK_CURVE_BITS),
        PublicKey::DSA(_) => ("a DSA", prime_bits(key)?, WEAK_BITS),
        _ => return None,
    };
    (1..=weak).contains(&bits).then_some((kind, bits))
}

/// Length of the first of a DSA key's parameters, in whole bytes.
fn prime_bits(key: &SubjectPublicKeyInfo<'_>) -> Option<usize> {
    let parameters = key.algorithm.parameters.as_ref()?;
    let (_, prime) = Integer::from_der(parameters.data).ok()?;
    let bytes: &[u8] = prime.as_ref();
    let bytes = bytes.iter().skip_while(|byte| **byte == 0);
    Some(bytes.count() * 8)
}
