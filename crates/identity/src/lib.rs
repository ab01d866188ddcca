//! Who is who: SPIFFE-style names, the cluster's certificate authority, tokens and TLS 1.3
//! configurations for both ends.
//!
//! - Only the public key of a signing request is ever used; name, purpose, serial and validity
//!   are set here. A request that asks to be an authority gets what everybody gets.
//! - Chains are exactly leaf → root: a certificate of ours can sign nothing.
//! - Certificates of users' sites (`site`) are read and checked here, and trusted for nothing.
//! - Nothing here listens or dials by itself; see [`tls::accept`] and [`tls::connect`].

pub mod ca;
pub mod error;
pub mod key;
pub mod name;
pub mod site;
pub mod tls;
pub mod token;

pub use error::PkiError;
pub use name::{Identity, OperatorRole};
pub use token::{CaDigest, Token, TokenError, TokenKind};
