//! TLS 1.3 with certificates on both ends, swappable while connections live.

mod accept;
mod connect;
mod holder;
mod node;
mod peer;
mod verify;

pub use accept::{AcceptLimits, TlsIo, accept};
pub use connect::{CertificateRefusal, ConnectError, ServerTrust, connect, explain};
pub use holder::{CertHolder, Refused, TrustHolder};
pub use node::{NodeStream, NodeTls};
pub use peer::{PeerInfo, certificate_validity, peer_info};
pub use verify::server_config;
