//! What can go wrong with keys, names and certificates.

/// Failure of a key, name or certificate operation.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A key could not be made or read.
    #[error("{attempted}")]
    Crypto {
        /// What was attempted.
        attempted: &'static str,
        /// Cause.
        #[source]
        source: rcgen::Error,
    },
    /// PEM or DER that is none.
    #[error("{what} is not readable: {detail}")]
    Unreadable {
        /// Which file or field.
        what: &'static str,
        /// The parser's words.
        detail: String,
    },
    /// A signing request that is refused.
    #[error("signing request refused: {0}")]
    BadRequest(&'static str),
    /// A certificate whose name is not one of ours.
    #[error("certificate names nobody of this cluster: {0}")]
    NoIdentity(String),
    /// TLS would not take the configuration.
    #[error("TLS configuration refused")]
    Tls(#[from] rustls::Error),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
}

impl PkiError {
    pub(crate) fn crypto(attempted: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |source| Self::Crypto { attempted, source }
    }

    pub(crate) fn unreadable<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Unreadable {
            what,
            detail: error.to_string(),
        }
    }
}
