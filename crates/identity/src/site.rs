//! Certificates that users' sites are served with: read from PEM, checked, and written anew.
//!
//! What comes out holds certificates and one key and nothing else, so it may stand in a file or a
//! command of HAProxy; equal content has an equal digest, however it was laid out.

use std::time::{Duration, SystemTime};

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use longshore_model::SecretText;
use longshore_model::secret::PEM_BYTES_MAX;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use crate::tls::certificate_validity;

mod strength;

/// Longest text that is read at all: comments and other blocks are left out.
pub const SITE_TEXT_BYTES_MAX: usize = 64 << 10;
/// A certificate with less left than this is worth a word.
const SOON: Duration = Duration::from_secs(14 * 86_400);
/// Characters of a line of PEM.
const LINE_CHARS: usize = 64;

/// Why a text cannot be used. Nothing of the text is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteProblem {
    /// HAProxy would not take it.
    #[error("{bytes} bytes of certificates and key; at most {PEM_BYTES_MAX} are allowed")]
    TooLarge {
        /// How long it is.
        bytes: usize,
    },
    /// No certificate block.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// No key block.
    #[error("there is no private key in it")]
    NoKey,
    /// A key behind a password, which nobody could type in.
    #[error("its private key is encrypted")]
    Encrypted,
    /// More than one key.
    #[error("there are {count} private keys in it; one is meant")]
    Keys {
        /// How many.
        count: usize,
    },
    /// A block that is damaged, or of a kind that is not known.
    #[error("{what} cannot be read")]
    Unreadable {
        /// Which part.
        what: &'static str,
    },
    /// A key of a kind that is not known.
    #[error("its private key is none of RSA (2,048 bits or more), ECDSA P-256 or P-384, Ed25519")]
    KeyKind,
    /// The first certificate is another key's.
    #[error("its private key does not belong to its first certificate")]
    Mismatch,
    /// The key belongs to a later certificate.
    #[error("its private key belongs to certificate {nth}; that one must be the first")]
    Order {
        /// Which one, from 1.
        nth: usize,
    },
    /// OpenSSL does not serve it.
    #[error("certificate {nth} in it is signed with {digest}, which HAProxy refuses")]
    WeakSignature {
        /// Which one, from 1.
        nth: usize,
        /// What it is signed with.
        digest: &'static str,
    },
    /// OpenSSL does not serve it.
    #[error("certificate {nth} in it has {kind} key of {bits} bits, which HAProxy refuses")]
    WeakKey {
        /// Which one, from 1.
        nth: usize,
        /// Of which kind, with its article.
        kind: &'static str,
        /// Length of the key.
        bits: usize,
    },
}

impl SiteProblem {
    /// The way out.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => {
                "leave out the root and certificates that are not in the chain"
            }
            Self::WeakSignature { .. } | Self::WeakKey { .. } => {
                "have it issued again by a chain that is signed with SHA-256 and has RSA keys of \
                 2,048 bits or more, ECDSA P-256, P-384 or P-521, or Ed25519"
            }
            Self::Encrypted => "decrypt it: openssl pkey -in KEY -out PLAIN_KEY",
            _ => {
                "put certificate, chain and key into one file: cat fullchain.pem privkey.pem > shop.pem"
            }
        }
    }
}

/// How a certificate stands at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It can be used.
    Valid,
    /// Only from this time on.
    NotYet(SystemTime),
    /// Its time was over then.
    Expired(SystemTime),
    /// Its time is over soon.
    Ends(SystemTime),
}

/// A certificate with its chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteCertificate {
    /// All of it, as it is handed on.
    pub pem: SecretText,
    /// SHA-1 of the certificate as HAProxy shows it: hexadecimal, upper case. No proof of anything.
    pub fingerprint: String,
    /// SHA-256 over its certificates, lower-case hexadecimal: tells one renewal from the next. The
    /// key is not in it.
    pub mark: String,
    /// Why HAProxy will not serve it, as far as that is certain.
    pub weakness: Option<SiteProblem>,
    /// Host names that it is for; `*.` stands for one label.
    pub names: Vec<String>,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl SiteCertificate {
    /// Reads a text and checks that it is whole: a chain, and the key of its first certificate.
    /// Whether it is valid now is another question.
    ///
    /// # Errors
    /// [`SiteProblem`]
    pub fn read(text: &[u8]) -> Result<Self, SiteProblem> {
        if text.len() > SITE_TEXT_BYTES_MAX {
            return Err(SiteProblem::TooLarge { bytes: text.len() });
        }
        let unreadable = |what| SiteProblem::Unreadable { what };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(|_| unreadable("a certificate"))?;
        let leaf = chain.first().ok_or(SiteProblem::NoCertificate)?.clone();
        let keys = PrivateKeyDer::pem_slice_iter(text);
        let mut keys: Vec<PrivateKeyDer<'static>> = keys
            .collect::<Result<_, _>>()
            .map_err(|_| unreadable("its private key"))?;
        let key = match (keys.pop(), keys.len()) {
            (Some(key), 0) => key,
            (Some(_), others) => return Err(SiteProblem::Keys { count: others + 1 }),
            (None, _) if contains(text, b"ENCRYPTED PRIVATE KEY") => {
                return Err(SiteProblem::Encrypted);
            }
            (None, _) => return Err(SiteProblem::NoKey),
        };
        check_match(&chain, &key)?;
        let pem = canonical(&chain, &key);
        if pem.len() > PEM_BYTES_MAX {
            return Err(SiteProblem::TooLarge { bytes: pem.len() });
        }
        let validity = certificate_validity(&leaf);
        let (not_before, not_after) = validity.map_err(|_| unreadable("the certificate"))?;
        Ok(Self {
            pem: SecretText::new(pem.as_str()),
            fingerprint: HEXUPPER.encode(&Sha1::digest(&leaf)),
            mark: mark(&chain),
            weakness: strength::weakness(&chain),
            names: names(&leaf).ok_or(unreadable("the certificate"))?,
            not_before,
            not_after,
        })
    }

    /// As [`Self::read`], for one that is new: what HAProxy is certain to refuse is refused, too.
    ///
    /// # Errors
    /// [`SiteProblem`]
    pub fn read_new(text: &[u8]) -> Result<Self, SiteProblem> {
        let mut site = Self::read(text)?;
        match site.weakness.take() {
            Some(weakness) => Err(weakness),
            None => Ok(site),
        }
    }

    /// Is it for this host name? A wildcard stands for one whole label.
    #[must_use]
    pub fn covers(&self, domain: &str) -> bool {
        self.names.iter().any(|name| match name.strip_prefix("*.") {
            None => name.eq_ignore_ascii_case(domain),
            Some(rest) => domain
                .split_once('.')
                .is_some_and(|(label, tail)| !label.is_empty() && tail.eq_ignore_ascii_case(rest)),
        })
    }

    /// How it stands at `now`.
    #[must_use]
    pub fn validity(&self, now: SystemTime) -> Validity {
        if now < self.not_before {
            Validity::NotYet(self.not_before)
        } else if now > self.not_after {
            Validity::Expired(self.not_after)
        } else if now + SOON > self.not_after {
            Validity::Ends(self.not_after)
        } else {
            Validity::Valid
        }
    }

    /// The first and the last moment that it can be used in.
    #[must_use]
    pub fn times(&self) -> (SystemTime, SystemTime) {
        (self.not_before, self.not_after)
    }

    /// Tells contents apart without showing them.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&self.pem)
    }
}

/// SHA-256 of a secret, in lower-case hexadecimal: tells contents apart without showing them.
#[must_use]
pub fn digest(secret: &SecretText) -> String {
    HEXLOWER.encode(&Sha256::digest(secret.expose().as_bytes()))
}

fn mark(chain: &[CertificateDer<'_>]) -> String {
    let mut all = Sha256::new();
    chain.iter().for_each(|der| all.update(der));
    HEXLOWER.encode(&all.finalize())
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|part| part == word)
}

fn check_match(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
) -> Result<(), SiteProblem> {
    let signer = any_supported_type(key).map_err(|_| SiteProblem::KeyKind)?;
    let is_of = |certificate: &CertificateDer<'static>| {
        let pair = CertifiedKey::new(vec![certificate.clone()], signer.clone());
        pair.keys_match().is_ok()
    };
    match chain.iter().position(is_of) {
        Some(0) => Ok(()),
        Some(at) => Err(SiteProblem::Order { nth: at + 1 }),
        None => Err(SiteProblem::Mismatch),
    }
}

fn names(leaf: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.map(|names| &names.value.general_names);
    let names = names.into_iter().flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Some(names.collect())
}

/// Certificates, then the key, without anything between.
fn canonical(chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::new());
    for certificate in chain {
        block(&mut out, "CERTIFICATE", certificate);
    }
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    block(&mut out, label, key.secret_der());
    out
}

fn block(out: &mut String, label: &str, der: &[u8]) {
    let text = Zeroizing::new(BASE64.encode(der));
    out.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE_CHARS));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str(&format!("-----END {label}-----\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn what_it_is_laid_out_like_does_not_matter() {
        let (certificate, key) = made(&["a.example.com", "*.b.example.com"]);
        let read = |text: &str| SiteCertificate::read(text.as_bytes()).unwrap();
        let one = read(&format!("{certificate}{key}"));
        let other =
            format!("a comment\r\n\n{key}\n\n subject=x\n{certificate}\n").replace('\n', "\r\n");
        let other = read(&other);
        assert_eq!(one, other);
        assert_eq!(one.digest(), other.digest());
        assert_eq!(read(one.pem.expose()), one);
        assert!(
            !one.pem.expose().contains(['\r', ' ']) || one.pem.expose().contains("BEGIN PRIVATE")
        );
        assert!(one.covers("a.example.com") && one.covers("x.b.example.com"));
        for other in [
            "b.example.com",
            "x.y.b.example.com",
            ".b.example.com",
            "example.com",
        ] {
            assert!(!one.covers(other), "{other}");
        }
        let shown = format!("{one:?}");
        assert!(!shown.contains("BEGIN"), "{shown}");
    }

    #[test]
    fn each_thing_that_is_wrong_is_named() {
        let (certificate, key) = made(&["a.org"]);
        let (other, other_key) = made(&["a.org"]);
        let problem = |text: String| SiteCertificate::read(text.as_bytes()).unwrap_err();
        assert_eq!(problem(String::new()), SiteProblem::NoCertificate);
        assert_eq!(problem(key.clone()), SiteProblem::NoCertificate);
        assert_eq!(problem(certificate.clone()), SiteProblem::NoKey);
        let both = problem(format!("{certificate}{key}{other_key}"));
        assert_eq!(both, SiteProblem::Keys { count: 2 });
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let encrypted = problem(format!("{certificate}{encrypted}"));
        assert_eq!(encrypted, SiteProblem::Encrypted);
        let mixed = problem(format!("{certificate}{other_key}"));
        assert_eq!(mixed, SiteProblem::Mismatch);
        let turned = problem(format!("{other}{certificate}{key}"));
        assert_eq!(turned, SiteProblem::Order { nth: 2 });
        let long = problem(format!("{}{key}", certificate.repeat(40)));
        assert!(matches!(long, SiteProblem::TooLarge { .. }), "{long}");
        let huge = problem("x".repeat(SITE_TEXT_BYTES_MAX + 1));
        assert!(matches!(huge, SiteProblem::TooLarge { .. }), "{huge}");
        let junk = "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n";
        let junk = problem(format!("{junk}{key}"));
        assert!(matches!(junk, SiteProblem::Unreadable { .. }), "{junk}");
    }

    #[test]
    fn what_openssl_refuses_is_no_new_certificate() {
        let (certificate, key) = made(&["a.org"]);
        let read = |more: &str| {
            let text = format!("{certificate}{more}{key}");
            let whole = SiteCertificate::read(text.as_bytes()).unwrap();
            let new = SiteCertificate::read_new(text.as_bytes());
            assert_eq!(new.as_ref().err(), whole.weakness.as_ref());
            (whole.weakness, whole.mark)
        };
        let weak = |nth, digest| Some(SiteProblem::WeakSignature { nth, digest });
        let (sha1, md5) = (
            include_str!("../testdata/sha1.pem"),
            include_str!("../testdata/md5.pem"),
        );
        let root = include_str!("../testdata/root_sha1.pem");
        assert_eq!(read("").0, None);
        assert_eq!(read(sha1).0, weak(2, "SHA-1"));
        assert_eq!(read(md5).0, weak(2, "MD5"));
        // A root's signature is its own.
        assert_eq!(read(root).0, None);
        assert_eq!(read(&format!("{root}{sha1}")).0, weak(3, "SHA-1"));
        let dsa = include_str!("../testdata/sha1_dsa.pem");
        assert_eq!(read(dsa).0, weak(2, "SHA-1"));
        let short = |kind, bits| Some(SiteProblem::WeakKey { nth: 2, kind, bits });
        let of = |more| read(more).0;
        let rsa = of(include_str!("../testdata/short.pem"));
        assert_eq!(rsa, short("an RSA", 1_024));
        let longer = of(include_str!("../testdata/rsa1792.pem"));
        assert_eq!(longer, short("an RSA", 1_792));
        let dsa = of(include_str!("../testdata/dsa.pem"));
        assert_eq!(dsa, short("a DSA", 1_024));
        let curve = of(include_str!("../testdata/p192.pem"));
        assert_eq!(curve, short("an elliptic curve", 192));
        let said = curve.unwrap().to_string();
        let words =
            "certificate 2 in it has an elliptic curve key of 192 bits, which HAProxy refuses";
        assert_eq!(said, words);
        assert_ne!(read("").1, read(root).1, "another chain is another renewal");
    }

    #[test]
    fn validity_goes_by_the_time_that_is_given() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.org".to_owned()]).unwrap();
        let at = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
        params.not_before = at(1_000).into();
        params.not_after = at(1_100).into();
        let certificate = params.self_signed(&key).unwrap().pem();
        let text = format!("{certificate}{}", key.serialize_pem());
        let site = SiteCertificate::read(text.as_bytes()).unwrap();
        assert_eq!(site.validity(at(999)), Validity::NotYet(at(1_000)));
        assert_eq!(site.validity(at(1_050)), Validity::Valid);
        assert_eq!(site.validity(at(1_090)), Validity::Ends(at(1_100)));
        assert_eq!(site.validity(at(1_101)), Validity::Expired(at(1_100)));
    }
}
