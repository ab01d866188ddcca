//! What etcd takes, and how long anything here may last. The limits are etcd's defaults
//! (<https://etcd.io/docs/v3.5/dev-guide/limit/>, `server/embed/config.go`); a server that was set
//! to less refuses by itself, and says so.

use std::time::Duration;

/// Most entries in each of the three lists of a transaction: `--max-txn-ops`
/// (`DefaultMaxTxnOps = 128`; `checkTxnRequest` takes the longest list, not their sum).
pub const TXN_OPS_MAX: usize = 128;

/// Most bytes of a request inside of etcd: `--max-request-bytes`
/// (`DefaultMaxRequestBytes = 1.5 * 1024 * 1024`).
pub const ETCD_REQUEST_BYTES_MAX: usize = 1_572_864;

/// What etcd wraps around a request before it measures it (an id, a user name).
const WRAPPING_BYTES: usize = 1024;

/// Most bytes of a transaction as it is sent.
pub const TXN_BYTES_MAX: usize = ETCD_REQUEST_BYTES_MAX - WRAPPING_BYTES;

/// Most bytes of an answer. etcd itself sends whatever was asked for; ask for fewer rows at a time.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Most endpoints of one cluster: etcd advises against more than seven members.
pub const ENDPOINTS_MAX: usize = 9;

/// Shortest and longest time to live of an election's lease. etcd makes shorter ones longer
/// (half as long again as its election timeout: 1.5 s by default, rounded up).
pub const TTL_MIN: Duration = Duration::from_secs(2);
/// See [`TTL_MIN`].
pub const TTL_MAX: Duration = Duration::from_secs(60);

/// Most attempts of one read, each at an endpoint that had just won a race.
pub(crate) const ATTEMPTS_MAX: usize = 8;

/// HTTP/2 pings find an endpoint that is silent while nothing but a watch is open. etcd ends
/// connections that ping more often than `--grpc-keepalive-min-time` (5 s), or while no call is
/// open (`PermitWithoutStream: false`).
pub(crate) const PING_EVERY: Duration = Duration::from_secs(6);
/// How long a ping's answer may take.
pub(crate) const PING_ANSWER: Duration = Duration::from_secs(2);

/// Between two races that nobody won, with full jitter.
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// See [`BACKOFF_FIRST`].
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(1);
