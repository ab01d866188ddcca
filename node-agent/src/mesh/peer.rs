//! Between agents: TLS, a head of eleven bytes, an answer of one, then the connection's own bytes.
//!
//! ```text
//! → version (1), replica id (u64), port (u16), both in network order
//! ← 0 take it | 1 takes nothing new | 2 not here | 3 its container refused
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_identity::tls::{NodeStream, NodeTls};
use longshore_model::ReplicaId;
use longshore_model::names::NamedReplica;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::doors::{Guest, Shut};
use super::forward::{NotTaken, carry};
use super::{Shared, prepare, prepare_peer};
use crate::backoff::Backoff;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 11;

const TAKEN: u8 = 0;
const CLOSED: u8 = 1;
const NOT_HERE: u8 = 2;
const REFUSED: u8 = 3;

const BIND_FIRST: Duration = Duration::from_millis(200);
const BIND_CAP: Duration = Duration::from_secs(30);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A refusal is sent and ended in this time, or dropped.
const REFUSAL_DEADLINE: Duration = Duration::from_secs(1);

fn head_of(replica: ReplicaId, port: u16) -> [u8; HEAD_BYTES] {
    let mut head = [VERSION; HEAD_BYTES];
    head[1..9].copy_from_slice(&replica.0.to_be_bytes());
    head[9..].copy_from_slice(&port.to_be_bytes());
    head
}

fn read_head(head: &[u8; HEAD_BYTES]) -> Option<(ReplicaId, u16)> {
    let [version, a, b, c, d, e, f, g, h, high, low] = *head;
    let port = u16::from_be_bytes([high, low]);
    let replica = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    (version == VERSION && port > 0).then_some((ReplicaId(replica), port))
}

/// Asks the agent of a replica's node for a connection to it.
pub(super) async fn dial(
    tls: &NodeTls,
    named: &NamedReplica,
    port: u16,
) -> Result<NodeStream, NotTaken> {
    if named.peer_port == 0 {
        return Err(NotTaken::NotHere);
    }
    let tcp = TcpStream::connect((named.address, named.peer_port)).await;
    let tcp = tcp.map_err(NotTaken::Unreached)?;
    prepare_peer(&tcp)?;
    let mut peer = tls.dial(&named.node, tcp).await?;
    peer.stream.write_all(&head_of(named.replica, port)).await?;
    peer.stream.flush().await?;
    match peer.stream.read_u8().await? {
        TAKEN => Ok(peer),
        CLOSED => Err(NotTaken::Closed),
        REFUSED => Err(NotTaken::Refused),
        _ => Err(NotTaken::NotHere),
    }
}

/// Takes connections of other agents until `stop`.
pub(super) async fn listen(shared: &Arc<Shared>, at: SocketAddr, stop: &CancellationToken) {
    let about = format!("connections from other nodes on {at}");
    let mut backoff = Backoff::new(BIND_FIRST, BIND_CAP);
    let listener = loop {
        match TcpListener::bind(at).await {
            Ok(listener) => break listener,
            Err(error) => {
                let text = format!(
                    "containers of other nodes do not reach services here: the agent cannot \
                     listen on {at}: {error} (`names_peer_port` in node-agent.toml)"
                );
                shared.problems.say(&about, text);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(backoff.next_wait().max(BIND_FIRST / 4)) => {}
        }
    };
    shared.problems.clear(&about);
    accept(shared, &listener, stop).await;
}

/// The accept loop of [`listen`].
pub(super) async fn accept(shared: &Arc<Shared>, listener: &TcpListener, stop: &CancellationToken) {
    let slots = Arc::new(Semaphore::new(shared.limits.greetings_max));
    let sources = Arc::new(Sources::default());
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((tcp, from)) => {
                // Half of the places: whoever fills them before it has shown any certificate leaves the
                // rest to others.
                let most = shared.limits.greetings_max.div_ceil(2);
                let Some(place) = sources.enter(from.ip(), most) else {
                    tracing::debug!(%from, "too many connections at a time from there: one is closed");
                    continue;
                };
                tokio::spawn(serve(Arc::clone(shared), tcp, from, (slot, place)));
            }
            Err(error) => {
                // Out of file descriptors, or the other end gave up: neither ends the listener.
                tracing::warn!(%error, "accepting another agent's connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Greetings at a time, by the address that they come from.
#[derive(Debug, Default)]
struct Sources(Mutex<BTreeMap<IpAddr, usize>>);

/// One of them, until it is dropped.
struct Place {
    sources: Arc<Sources>,
    from: IpAddr,
}

impl Sources {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, from: IpAddr, most: usize) -> Option<Place> {
        let mut sources = self.lock();
        let count = sources.get(&from).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        sources.insert(from, count + 1);
        let sources = Arc::clone(self);
        Some(Place { sources, from })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut sources = self.sources.lock();
        if let Some(count) = sources.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.from);
            }
        }
    }
}

async fn serve(
    shared: Arc<Shared>,
    tcp: TcpStream,
    from: SocketAddr,
    slot: (OwnedSemaphorePermit, Place),
) {
    let greeted = timeout(shared.limits.greeting, greet(&shared.tls, tcp)).await;
    drop(slot);
    let (mut peer, replica, port) = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(error)) => {
            tracing::info!(%from, %error, "a connection of another node is refused");
            return;
        }
        Err(_) => {
            tracing::info!(%from, "another node's connection took too long to say what it wants");
            return;
        }
    };
    let entered = timeout(shared.limits.attempt, enter(&shared, replica, port)).await;
    match entered.unwrap_or(Err(REFUSED)) {
        Ok((container, guest)) => {
            let trust = shared.tls.trust();
            let cut = async {
                tokio::select! {
                    () = trust.until_revoked(&peer.serial) => {}
                    () = guest.cut.cancelled() => {}
                }
            };
            let told = async {
                peer.stream.write_u8(TAKEN).await?;
                peer.stream.flush().await
            };
            if told.await.is_ok() {
                carry(container, &mut peer.stream, cut).await;
            }
        }
        Err(code) => {
            let node = &peer.node;
            tracing::debug!(%replica, port, %node, code, "another node's connection is not taken");
            let refuse = async {
                peer.stream.write_u8(code).await?;
                peer.stream.shutdown().await
            };
            // Whoever does not even read a refusal goes without.
            let _ = timeout(REFUSAL_DEADLINE, refuse).await;
        }
    }
}

pub(super) async fn greet(
    tls: &NodeTls,
    tcp: TcpStream,
) -> std::io::Result<(NodeStream, ReplicaId, u16)> {
    prepare_peer(&tcp)?;
    let mut peer = tls.accept(tcp).await?;
    let mut head = [0; HEAD_BYTES];
    peer.stream.read_exact(&mut head).await?;
    let (replica, port) = read_head(&head).ok_or_else(|| {
        let why = "it speaks another version of this";
        std::io::Error::new(std::io::ErrorKind::InvalidData, why)
    })?;
    Ok((peer, replica, port))
}

/// Through the replica's door to its container; else the answer.
async fn enter(
    shared: &Arc<Shared>,
    replica: ReplicaId,
    port: u16,
) -> Result<(TcpStream, Guest), u8> {
    let guest = shared.doors.enter(replica).map_err(|shut| match shut {
        Shut::Closed => CLOSED,
        Shut::NotHere => NOT_HERE,
    })?;
    if !is_listed(shared, &guest, port) {
        return Err(NOT_HERE);
    }
    let container = TcpStream::connect((guest.address, port)).await;
    let container = container.map_err(|_| REFUSED)?;
    prepare(&container).map_err(|_| REFUSED)?;
    Ok((container, guest))
}

/// Is it one of the ports of the replica's service? The caller's node says which it wants, and may be
/// anybody's by now: what the directory does not have stays out of reach, also of the host's own
/// address, which a replica in its network has.
fn is_listed(shared: &Shared, guest: &Guest, port: u16) -> bool {
    let names = shared.names.borrow();
    let services = guest.service.as_ref().map(|key| names.services.get(key));
    let named = services.flatten();
    named.is_some_and(|named| named.ports.contains(&port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_read_back_and_others_do_not() {
        let head = head_of(ReplicaId(0x0102_0304_0506_0708), 6379);
        assert_eq!(head, [1, 1, 2, 3, 4, 5, 6, 7, 8, 0x18, 0xeb]);
        assert_eq!(
            read_head(&head),
            Some((ReplicaId(0x0102_0304_0506_0708), 6379))
        );
        let mut newer = head;
        newer[0] = 2;
        assert_eq!(read_head(&newer), None);
        assert_eq!(read_head(&head_of(ReplicaId(1), 0)), None);
    }
}
