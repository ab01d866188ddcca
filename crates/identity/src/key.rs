//! Private keys: ECDSA P-256, made where they are used and never sent.

use rcgen::{CertificateParams, DistinguishedName, DnType};
use zeroize::Zeroizing;

use crate::error::PkiError;

/// A private key.
pub struct KeyPair(pub(crate) rcgen::KeyPair);

impl KeyPair {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`PkiError::Crypto`] if the system gives no random bytes.
    pub fn generate() -> Result<Self, PkiError> {
        rcgen::KeyPair::generate()
            .map(Self)
            .map_err(PkiError::crypto("making a key"))
    }

    /// Reads a PKCS#8 PEM.
    ///
    /// # Errors
    /// [`PkiError::Crypto`] if it is none.
    pub fn from_pem(pem: &str) -> Result<Self, PkiError> {
        rcgen::KeyPair::from_pem(pem)
            .map(Self)
            .map_err(PkiError::crypto("reading a private key"))
    }

    /// As PKCS#8 PEM.
    #[must_use]
    pub fn pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.serialize_pem())
    }

    /// A signing request that proves possession of the key. `common_name` is for people only.
    ///
    /// # Errors
    /// [`PkiError::Crypto`] if signing fails.
    pub fn csr_der(&self, common_name: &str) -> Result<Vec<u8>, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let csr = params
            .serialize_request(&self.0)
            .map_err(PkiError::crypto("signing a certificate request"))?;
        Ok(csr.der().to_vec())
    }
}
