//! What an app keeps secret: certificates with their keys. Only names stand in specs and plans; the
//! contents go another way, and never into a text that people or other programs read.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{AppName, NameError, SecretName};

/// Most secrets of one app.
pub const SECRETS_MAX: usize = 32;
/// Most secrets of a cluster: all of them go to each edge in one message.
pub const SECRETS_ALL_MAX: usize = 512;
/// Longest certificate with its chain and key as PEM: HAProxy takes 16,384 bytes with the command
/// around them.
pub const PEM_BYTES_MAX: usize = 15_000;

/// A secret of the cluster. Shown as `app/secret`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretKey {
    /// The app that it belongs to.
    pub app: AppName,
    /// Its name there.
    pub name: SecretName,
}

impl SecretKey {
    /// Joins the two names.
    #[must_use]
    pub fn new(app: AppName, name: SecretName) -> Self {
        Self { app, name }
    }
}

impl fmt::Display for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.app, self.name)
    }
}

impl FromStr for SecretKey {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (app, name) = text.split_once('/').ok_or_else(|| NameError::Form {
            kind: "secret key (app/secret)",
            name: text.into(),
        })?;
        Ok(Self::new(app.parse()?, name.parse()?))
    }
}

impl TryFrom<String> for SecretKey {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<SecretKey> for String {
    fn from(key: SecretKey) -> String {
        key.to_string()
    }
}

/// A text that is not to be seen. It is not shown by `Debug`, has no `Display` and is no part of
/// what serde writes; whoever needs it says so.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Arc<str>);

impl SecretText {
    /// Keeps `text`.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for a file, a socket or the store.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} secret bytes>", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let shown = format!("{:?} {0:#?}", Some(SecretText::new("hunter2")));
        assert!(shown.contains("<7 secret bytes>"), "{shown}");
        assert!(!shown.contains("hunter"), "{shown}");
    }
}
