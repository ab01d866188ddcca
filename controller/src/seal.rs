//! The key that secrets are sealed with, and where it comes from.
//!
//! It is looked for in this order: `[store] seal_key` of the configuration; the credential
//! `longshore-seal-key` that systemd hands to the service; `seal.key` in the data directory, which is
//! made where there is none. A file holds 32 bytes in base64.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};

use crate::files::{self, FileError};
use crate::store::{SealedStore, Store, StoreError};

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = NONCE_LEN;
/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Name of the credential (systemd.exec(5), `LoadCredential=`, `LoadCredentialEncrypted=`).
const CREDENTIAL: &str = "longshore-seal-key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Its file.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is no key.
    #[error(
        "{} holds no key: 32 bytes in base64 are needed (openssl rand -base64 32)",
        path.display()
    )]
    NoKey {
        /// Which file.
        path: PathBuf,
    },
    /// There is none, and a new one opens nothing.
    #[error(
        "the store's secrets are sealed, and the key is not there: {} is missing; put it back, or \
         restore a copy of the cluster",
        path.display()
    )]
    Missing {
        /// Where it was looked for last.
        path: PathBuf,
    },
    /// No random bytes.
    #[error("no random bytes for a key or a nonce: {0}")]
    Random(getrandom::Error),
    /// AES refused: what is sealed is too long.
    #[error("{bytes} bytes are too many to be sealed at once")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A key. Its `Debug` shows no more than its id.
#[derive(Clone)]
pub struct SealKey {
    bytes: [u8; KEY_BYTES],
    cipher: LessSafeKey,
}

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let id = data_encoding::HEXLOWER.encode(&self.id());
        f.debug_tuple("SealKey").field(&id).finish()
    }
}

impl SealKey {
    /// A new one.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn random() -> Result<Self, SealError> {
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes).map_err(SealError::Random)?;
        // The length is right, so it is one.
        Self::of(&bytes).ok_or(SealError::TooLong { bytes: KEY_BYTES })
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; KEY_BYTES] = bytes.try_into().ok()?;
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).ok()?);
        Some(Self { bytes, cipher })
    }

    /// What a file holds; none: no key.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        Self::of(&BASE64.decode(text.trim().as_bytes()).ok()?)
    }

    /// As a file holds it.
    #[must_use]
    pub fn to_text(&self) -> String {
        BASE64.encode(&self.bytes) + "\n"
    }

    /// Says which key it is, and nothing of it.
    #[must_use]
    pub fn id(&self) -> [u8; 8] {
        let mut hash = Sha256::new_with_prefix(b"longshore seal key");
        hash.update(self.bytes);
        let mut id = [0; 8];
        id.copy_from_slice(&hash.finalize()[..8]);
        id
    }

    /// Nonce, and ciphertext with its tag; `place` must be the same when it is opened.
    ///
    /// # Errors
    /// [`SealError::Random`], [`SealError::TooLong`].
    pub fn seal(
        &self,
        place: &[u8],
        text: &[u8],
    ) -> Result<([u8; NONCE_BYTES], Vec<u8>), SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(SealError::Random)?;
        let mut sealed = text.to_vec();
        let used = Nonce::assume_unique_for_key(nonce);
        self.cipher
            .seal_in_place_append_tag(used, Aad::from(place), &mut sealed)
            .map_err(|_| SealError::TooLong { bytes: text.len() })?;
        Ok((nonce, sealed))
    }

    /// What was sealed; none: it was changed, or sealed for another place or with another key.
    #[must_use]
    pub fn open(&self, place: &[u8], nonce: [u8; NONCE_BYTES], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut text = sealed.to_vec();
        let used = Nonce::assume_unique_for_key(nonce);
        let opened = self.cipher.open_in_place(used, Aad::from(place), &mut text);
        let length = opened.ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

/// Where the key of a data directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    path: PathBuf,
    /// It lies beside the store, where the controller may make it and copies of the cluster take it along.
    beside: bool,
}

impl KeyFile {
    /// `given` by the configuration, a credential in `credentials`, or `beside` the store.
    #[must_use]
    pub fn find(given: Option<&Path>, credentials: Option<&Path>, beside: PathBuf) -> Self {
        let credential = credentials.map(|folder| folder.join(CREDENTIAL));
        let credential = credential.filter(|path| path.exists());
        match given.map(Path::to_owned).or(credential) {
            Some(path) => Self {
                path,
                beside: false,
            },
            None => Self {
                path: beside,
                beside: true,
            },
        }
    }

    /// As [`Self::find`], with the environment that systemd gives to a service.
    #[must_use]
    pub fn of_service(given: Option<&Path>, beside: PathBuf) -> Self {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        Self::find(given, credentials.as_deref(), beside)
    }

    /// Does a copy of the cluster hold the key?
    #[must_use]
    pub fn goes_with_copies(&self) -> bool {
        self.beside
    }

    /// The key, if it is there.
    ///
    /// # Errors
    /// [`SealError`] names the file and the way out.
    pub fn there(&self) -> Result<Option<SealKey>, SealError> {
        let path = &self.path;
        if self.beside && !path.exists() {
            return Ok(None);
        }
        let key = SealKey::from_text(&files::read_private(path)?);
        let key = key.ok_or_else(|| SealError::NoKey { path: path.clone() })?;
        Ok(Some(key))
    }

    /// The key. Beside the store it is made if there is none and nothing `is_sealed` yet.
    ///
    /// # Errors
    /// As [`Self::there`]; [`SealError::Missing`].
    pub fn load(&self, is_sealed: bool) -> Result<SealKey, SealError> {
        match self.there()? {
            None if is_sealed => Err(SealError::Missing {
                path: self.path.clone(),
            }),
            None => self.load_or(None),
            Some(key) => Ok(key),
        }
    }

    /// The key; if there is none, `other` is put there, or a new one.
    ///
    /// # Errors
    /// As [`Self::there`].
    pub fn load_or(&self, other: Option<&SealKey>) -> Result<SealKey, SealError> {
        if let Some(key) = self.there()? {
            return Ok(key);
        }
        let key = other.map_or_else(SealKey::random, |key| Ok(key.clone()))?;
        files::write_private(&self.path, key.to_text().as_bytes())?;
        Ok(key)
    }
}

/// What a controller seals with.
#[derive(Debug, Clone)]
pub struct Seal {
    /// The key.
    pub key: SealKey,
    /// Does a copy of the cluster hold it?
    pub in_copies: bool,
}

/// `inner` with its secrets sealed.
///
/// # Errors
/// [`SealError`].
pub fn sealed(inner: Arc<dyn Store>, file: &KeyFile) -> Result<(Arc<dyn Store>, Seal), SealError> {
    let store = SealedStore::open(inner, |is_sealed| file.load(is_sealed))?;
    let seal = Seal {
        key: store.key().clone(),
        in_copies: file.goes_with_copies(),
    };
    Ok((Arc::new(store), seal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_beside_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let beside = dir.path().join("seal.key");
        let file = KeyFile::find(None, Some(dir.path()), beside.clone());
        assert!(file.goes_with_copies());
        assert!(matches!(file.load(true), Err(SealError::Missing { .. })));
        let made = file.load(false).unwrap();
        assert_eq!(file.load(true).unwrap().id(), made.id());
        assert_eq!(
            format!("{made:?}").len(),
            "SealKey(\"0123456789abcdef\")".len()
        );

        let credential = dir.path().join(CREDENTIAL);
        files::write_private(&credential, SealKey::random().unwrap().to_text().as_bytes()).unwrap();
        let file = KeyFile::find(None, Some(dir.path()), beside.clone());
        assert!(!file.goes_with_copies());
        assert_ne!(file.load(true).unwrap().id(), made.id());

        let given = dir.path().join("given");
        let file = KeyFile::find(Some(&given), Some(dir.path()), beside);
        assert!(matches!(file.load(false), Err(SealError::File(_))));
        files::write_private(&given, b"c2hvcnQ=\n").unwrap();
        assert!(matches!(file.load(false), Err(SealError::NoKey { .. })));
    }
}
