//! TLS 1.3 with certificates on both ends, swappable while connections live.

mod accept;
mod connect;
mod crowd;
mod holder;
mod node;
mod peer;
mod verify;

pub use accept::{AcceptLimits, Listener, TlsIo, accept};
pub use connect::{CertificateRefusal, ConnectError, ServerTrust, connect, explain};
pub use holder::{CertHolder, Refused, TrustHolder};
pub use node::{NodeStream, NodeTls};
pub use peer::{PeerInfo, certificate_validity, lateness, peer_info, serial_end, serial_of};
pub use verify::{LATE_MAX, server_config};

/// Metadata key of a refusal whose way out is to renew the certificate first; its value does not matter.
pub const RENEW_FIRST: &str = "longshore-renew-first";
