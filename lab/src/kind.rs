//! The kinds of traffic of the hand-over bench.

/// A kind of traffic; generator and app count by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Requests on connections that are kept.
    KeepAlive,
    /// A connection for each request.
    NewConnection,
    /// Requests that work for two seconds.
    Slow,
    /// Bodies that take half a minute.
    Download,
    /// Echoes on WebSockets.
    WebSocket,
    /// Requests that wait for a seat at a replica, in a queue that never runs empty.
    Queued,
}

impl Kind {
    /// All of them, in the order of the printed lines.
    pub const ALL: [Self; 6] = [
        Self::KeepAlive,
        Self::NewConnection,
        Self::Slow,
        Self::Download,
        Self::WebSocket,
        Self::Queued,
    ];

    /// Its name, in headers, ledgers and printed lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::NewConnection => "new-connection",
            Self::Slow => "slow",
            Self::Download => "download",
            Self::WebSocket => "websocket",
            Self::Queued => "queued",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Place in [`Kind::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Header with the kind of a request.
pub const KIND_HEADER: &str = "x-bench-kind";
/// Header with the id of a request; the app sends it back.
pub const ID_HEADER: &str = "x-request-id";
/// Header of an answer: the replica that gave it (its host name).
pub const REPLICA_HEADER: &str = "x-replica";

/// Byte `index` of a download: both sides know it, so that a wrong body is found.
#[must_use]
pub fn body_byte(index: usize) -> u8 {
    b'a' + u8::try_from(index % 23).unwrap_or(0)
}
