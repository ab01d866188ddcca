//! Connections between services by name: the agent of the caller's node takes them on the
//! service's name address and picks a replica; one on another node is reached through that node's
//! agent, over TLS with both nodes' certificates (docs/names.md).
//!
//! In go two things: the directory ([`Names`], by a `watch` channel) and this node's replicas
//! ([`Doors::set`], by the reconciler, directly: what it reads back must not be older than what it
//! said). Out come the connections of each replica at its own node ([`Doors::counts`]) and
//! [`Mesh::problems`].
//!
//! # Guarantees
//! - A connection that the caller's program sees as established but that no replica has taken yet
//!   is tried with each replica before it is given up; none of its bytes were sent before.
//! - Established connections outlive every change of the directory.
//! - An end that was not orderly on one side is a reset on the other, never an orderly end.
//!
//! # Assumptions
//! The kernel takes the range as this host's own ([`address`] sees to it).

mod address;
pub mod doors;
mod forward;
mod guests;
mod handle;
mod listen;
mod peer;
mod problems;
pub mod range;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use longshore_identity::tls::{NodeTls, TrustHolder};
use longshore_model::names::Names;
use longshore_model::{NodeId, ServiceKey};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub use self::doors::{Doors, Local};
use self::forward::Outgoing;
use self::guests::{Cables, Guests};
pub use self::handle::Handle;
use self::problems::Problems;
pub use self::range::Range;

/// One direction of one connection.
const BUFFER_BYTES: usize = 32 * 1024;
/// A silent connection is asked for life after this; four unanswered questions end it.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_TRIES: u32 = 4;

/// Callers of networks that are not known yet, at a time; further ones are reset.
const STRANGERS_MAX: usize = 256;

/// Bounds of the data path.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections that are taken by name on this node at a time.
    pub connections_max: u32,
    /// The same to one service.
    pub service_max: u32,
    /// A connection that no replica took in this time is reset.
    pub patience: Duration,
    /// One try with one replica.
    pub attempt: Duration,
    /// Handshake and head of a connection from another agent.
    pub greeting: Duration,
    /// Greetings at a time; further connections wait in the kernel's backlog. Of one address: half
    /// as many; further ones are closed.
    pub greetings_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 4_096,
            service_max: 1_024,
            patience: Duration::from_secs(3),
            attempt: Duration::from_secs(1),
            greeting: Duration::from_secs(2),
            greetings_max: 256,
        }
    }
}

/// What a mesh works with.
pub struct Parts {
    /// This node.
    pub node: NodeId,
    /// Its certificate, and whom it trusts.
    pub tls: NodeTls,
    /// Its replicas.
    pub doors: Arc<Doors>,
    /// The directory.
    pub names: watch::Receiver<Arc<Names>>,
    /// The addresses that services have.
    pub range: Range,
    /// Networks of callers beyond this host's bridges.
    pub callers: Vec<Range>,
    /// Bounds.
    pub limits: Limits,
}

/// One agent's part of the data path.
pub struct Mesh(Arc<Shared>);

struct Shared {
    node: NodeId,
    tls: NodeTls,
    doors: Arc<Doors>,
    names: watch::Receiver<Arc<Names>>,
    range: Range,
    guests: Guests,
    /// Places for callers that are looked up.
    strangers: Arc<Semaphore>,
    limits: Limits,
    outgoing: Arc<Outgoing>,
    problems: Problems,
}

impl Mesh {
    /// Listens on nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let mut always = parts.callers;
        always.push(parts.range);
        Self(Arc::new(Shared {
            node: parts.node,
            tls: parts.tls,
            doors: parts.doors,
            names: parts.names,
            range: parts.range,
            guests: Guests::new(always, Path::new("/"), Cables::Kernel),
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
            limits: parts.limits,
            outgoing: Arc::default(),
            problems: Problems::default(),
        }))
    }

    /// Works until `stop`. `peers`: where other agents reach this one; none: they do not.
    pub async fn run(&self, peers: Option<SocketAddr>, stop: CancellationToken) {
        let (ready_out, ready) = watch::channel(false);
        tokio::join!(
            address::keep(self.0.range, &self.0.problems, ready_out, stop.clone()),
            self.listen(peers, ready, stop.clone()),
        );
    }

    /// As [`Self::run`], where the range is this host's once `ready` says so.
    async fn listen(
        &self,
        peers: Option<SocketAddr>,
        ready: watch::Receiver<bool>,
        stop: CancellationToken,
    ) {
        let peers = async {
            if let Some(at) = peers {
                peer::listen(&self.0, at, &stop).await;
            }
        };
        tokio::join!(listen::run(&self.0, ready, &stop), peers);
    }

    /// What does not work at present, in words with the way out. First that there are too many
    /// connections: reports have room for 64.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut all: Vec<String> = self.0.outgoing.refused_lately().into_iter().collect();
        all.extend(self.0.problems.list());
        all
    }

    /// Whom it trusts: certificates that are revoked there are refused, and connections of their
    /// holders are cut.
    #[must_use]
    pub fn trust(&self) -> &Arc<TrustHolder> {
        self.0.tls.trust()
    }

    /// Connections that were reset since the start because there were too many.
    #[cfg(test)]
    fn refused(&self) -> u64 {
        self.0.outgoing.refused()
    }

    #[cfg(test)]
    pub(crate) fn complain(&self, text: &str) {
        self.0.problems.say("test", text.to_owned());
    }

    /// Where services have their addresses on this node.
    #[must_use]
    pub fn range(&self) -> Range {
        self.0.range
    }

    /// Connections that are taken by name on this node now, by service.
    #[cfg(test)]
    fn taken(&self, service: &ServiceKey) -> u32 {
        self.0.outgoing.taken(service)
    }
}

/// Small pieces go out at once, and an other end that vanished is noticed.
fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_TRIES);
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

/// As [`prepare`], for a connection with another node: the kernel asks for life only where nothing is on
/// its way, and would wait a quarter of an hour for a node that is gone to confirm what is.
fn prepare_peer(tcp: &TcpStream) -> io::Result<()> {
    prepare(tcp)?;
    SockRef::from(tcp).set_tcp_user_timeout(Some(KEEPALIVE + KEEPALIVE_INTERVAL * KEEPALIVE_TRIES))
}

/// Ends a connection in a way that nobody takes for an orderly end.
fn reset(tcp: TcpStream) {
    // Where even that fails, the connection ends with a plain close.
    let _ = tcp.set_zero_linger();
    drop(tcp);
}

/// Words for a service at one address, for problems.
fn door_name(service: &ServiceKey, address: Ipv4Addr, port: u16) -> String {
    format!("{service} at {address}:{port}")
}
