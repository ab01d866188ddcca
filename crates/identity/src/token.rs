//! Join tokens: `lsj1.<digest of the CA>.<id>.<secret>`.
//!
//! The digest lets the agent trust exactly one authority before it sends the secret. The
//! controller keeps only the secret's hash.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::error::PkiError;

/// SHA-256 of a CA certificate's DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaDigest(pub [u8; 32]);

impl CaDigest {
    /// Of a certificate.
    #[must_use]
    pub fn of_der(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

/// A join token as a person pastes it.
pub struct JoinToken {
    /// The only authority to trust.
    pub ca: CaDigest,
    /// Public part: names the token in lists.
    pub id: String,
    /// Secret part, 256 bits.
    pub secret: Zeroizing<String>,
}

/// Why a text is no join token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no join token (it should look like lsj1.….….…): {0}")]
pub struct TokenError(&'static str);

fn encode(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

impl JoinToken {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`PkiError::Random`] if the system gives no random bytes.
    pub fn generate(ca: CaDigest) -> Result<Self, PkiError> {
        let mut id = [0u8; 5];
        let mut secret = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut id).map_err(PkiError::Random)?;
        getrandom::fill(secret.as_mut()).map_err(PkiError::Random)?;
        Ok(Self {
            ca,
            id: encode(&id),
            secret: Zeroizing::new(encode(secret.as_ref())),
        })
    }
}

/// What the controller keeps of a secret.
#[must_use]
pub fn secret_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lsj1.{}.{}.{}",
            encode(&self.ca.0),
            self.id,
            self.secret.as_str()
        )
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({}, secret withheld)", self.id)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let ["lsj1", ca, id, secret] = parts.as_slice() else {
            return Err(TokenError("it does not have four parts"));
        };
        let digest = BASE32_NOPAD
            .decode(ca.to_ascii_uppercase().as_bytes())
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or(TokenError(
                "its second part is damaged; was it copied whole?",
            ))?;
        let plain = |text: &str, bytes_max: usize| {
            !text.is_empty()
                && text.len() <= bytes_max
                && text.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        if !plain(id, 16) {
            return Err(TokenError("its third part is damaged"));
        }
        if !plain(secret, 128) {
            return Err(TokenError("its last part is damaged; was it copied whole?"));
        }
        let secret = Zeroizing::new((*secret).to_owned());
        Ok(Self {
            ca: CaDigest(digest),
            id: (*id).to_owned(),
            secret,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_reads_back_and_hides_its_secret_in_debug() {
        let token = JoinToken::generate(CaDigest([7; 32])).unwrap();
        let again: JoinToken = token.to_string().parse().unwrap();
        assert_eq!(
            (again.ca, &again.id, &again.secret),
            (token.ca, &token.id, &token.secret)
        );
        assert!(!format!("{token:?}").contains(token.secret.as_str()));
    }

    #[test]
    fn a_token_cut_short_is_refused() {
        let token = JoinToken::generate(CaDigest([7; 32])).unwrap().to_string();
        assert!(token[..60].parse::<JoinToken>().is_err());
        assert!("".parse::<JoinToken>().is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_an_error(text in ".{0,200}") {
            let _ = text.parse::<JoinToken>();
        }
    }
}
