//! Tokens: `KIND.<digest of the CA>.<id>.<secret>`.
//!
//! The digest lets its holder trust exactly one authority before it sends the secret. The
//! controller keeps only the secret's hash.

use std::fmt;

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

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// One node joins with it, once.
    Join,
    /// One operator gets a certificate for it, once.
    Invite,
    /// An operator calls with it, until it ends.
    Bearer,
}

impl TokenKind {
    const ALL: [Self; 3] = [Self::Join, Self::Invite, Self::Bearer];

    /// What tokens of this kind begin with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Join => "lsj1",
            Self::Invite => "lsi1",
            Self::Bearer => "lsb1",
        }
    }

    /// In words.
    fn words(self) -> &'static str {
        match self {
            Self::Join => "a join token: a node joins with it (node-agent join)",
            Self::Invite => {
                "an invite: an operator gets a certificate for it (controllerctl context join)"
            }
            Self::Bearer => "an operator's token: they call with it (CONTROLLERCTL_TOKEN)",
        }
    }
}

/// A token as a person pastes it.
pub struct Token {
    /// What it is for.
    pub kind: TokenKind,
    /// The only authority to trust.
    pub ca: CaDigest,
    /// Public part: names the token in lists.
    pub id: String,
    /// Secret part, 256 bits.
    pub secret: Zeroizing<String>,
}

/// Why a text is no such token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is none at all, or not whole.
    #[error("this is no token (it should look like {}.….….…): {why}", .wanted.prefix())]
    Damaged {
        /// What was wanted.
        wanted: TokenKind,
        /// What is wrong.
        why: &'static str,
    },
    /// It is for something else.
    #[error("{} is wanted, and this is {}", .wanted.prefix(), .found.words())]
    Other {
        /// What was wanted.
        wanted: TokenKind,
        /// What it is.
        found: TokenKind,
    },
}

fn encode(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

impl Token {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`PkiError::Random`] if the system gives no random bytes.
    pub fn generate(kind: TokenKind, ca: CaDigest) -> Result<Self, PkiError> {
        let mut id = [0u8; 5];
        let mut secret = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut id).map_err(PkiError::Random)?;
        getrandom::fill(secret.as_mut()).map_err(PkiError::Random)?;
        Ok(Self {
            kind,
            ca,
            id: encode(&id),
            secret: Zeroizing::new(encode(secret.as_ref())),
        })
    }

    /// Reads one of this kind.
    ///
    /// # Errors
    /// [`TokenError`] in words.
    pub fn parse(kind: TokenKind, text: &str) -> Result<Self, TokenError> {
        let damaged = |why| TokenError::Damaged { wanted: kind, why };
        let parts: Vec<&str> = text.trim().split('.').collect();
        let &[prefix, ca, id, secret] = parts.as_slice() else {
            return Err(damaged("it does not have four parts"));
        };
        if prefix != kind.prefix() {
            let found = TokenKind::ALL
                .into_iter()
                .find(|other| other.prefix() == prefix);
            return Err(match found {
                Some(found) => TokenError::Other {
                    wanted: kind,
                    found,
                },
                None => damaged("its first part is another"),
            });
        }
        let digest = BASE32_NOPAD
            .decode(ca.to_ascii_uppercase().as_bytes())
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or_else(|| damaged("its second part is damaged; was it copied whole?"))?;
        let plain = |text: &str, bytes_max: usize| {
            !text.is_empty()
                && text.len() <= bytes_max
                && text.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        if !plain(id, 16) {
            return Err(damaged("its third part is damaged"));
        }
        if !plain(secret, 128) {
            return Err(damaged("its last part is damaged; was it copied whole?"));
        }
        Ok(Self {
            kind,
            ca: CaDigest(digest),
            id: id.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
        })
    }
}

/// What the controller keeps of a secret.
#[must_use]
pub fn secret_hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{}.{}.{}",
            self.kind.prefix(),
            encode(&self.ca.0),
            self.id,
            self.secret.as_str()
        )
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} token({}, secret withheld)", self.kind, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn new(kind: TokenKind) -> Token {
        Token::generate(kind, CaDigest([7; 32])).unwrap()
    }

    #[test]
    fn a_token_reads_back_and_hides_its_secret_in_debug() {
        for kind in TokenKind::ALL {
            let token = new(kind);
            let again = Token::parse(kind, &token.to_string()).unwrap();
            assert_eq!(
                (again.ca, &again.id, &again.secret),
                (token.ca, &token.id, &token.secret)
            );
            assert!(!format!("{token:?}").contains(token.secret.as_str()));
        }
    }

    #[test]
    fn a_token_for_something_else_is_refused_and_named() {
        let join = new(TokenKind::Join).to_string();
        let error = Token::parse(TokenKind::Invite, &join).unwrap_err();
        assert!(error.to_string().contains("a join token"), "{error}");
    }

    #[test]
    fn a_token_cut_short_is_refused() {
        let token = new(TokenKind::Join).to_string();
        assert!(Token::parse(TokenKind::Join, &token[..60]).is_err());
        assert!(Token::parse(TokenKind::Join, "").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_an_error(text in ".{0,200}") {
            let _ = Token::parse(TokenKind::Bearer, &text);
        }
    }
}
