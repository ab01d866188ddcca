//! Accept loop: bounded handshakes, identity per connection, a switch that cuts revoked peers.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::crowd::{Crowd, Place};
use super::holder::TrustHolder;
use super::peer::{PeerInfo, lateness, peer_info};

/// Bounds of the accept loop.
#[derive(Debug, Clone, Copy)]
pub struct AcceptLimits {
    /// Handshakes at the same time; further connections wait in the kernel's backlog.
    pub handshakes_max: usize,
    /// While others wait, a handshake that has taken this long gives way.
    pub handshake_grace: Duration,
    /// A handshake that takes longer is dropped.
    pub handshake_timeout: Duration,
    /// Connections of one peer: of a certificate's name, or without one of an address.
    pub per_peer_max: usize,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self {
            handshakes_max: 256,
            handshake_grace: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(3),
            per_peer_max: 128,
        }
    }
}

/// Where connections come from: a port of this machine, or of a simulated network.
pub trait Listener: Send + 'static {
    /// A connection.
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one, and from where.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Io, SocketAddr)>> + Send;
}

impl Listener for tokio::net::TcpListener {
    type Io = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<(Self::Io, SocketAddr)> {
        let (tcp, remote) = Self::accept(self).await?;
        tcp.set_nodelay(true)?;
        Ok((tcp, remote))
    }
}

/// Accepts connections until the stream is dropped. Failed handshakes are logged and dropped;
/// they never end the loop. Feed it to `serve_with_incoming`.
#[must_use]
pub fn accept<L: Listener>(
    listener: L,
    config: ServerConfig,
    trust: Arc<TrustHolder>,
    limits: AcceptLimits,
) -> ReceiverStream<io::Result<TlsIo<L::Io>>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(accept_loop(
        listener,
        TlsAcceptor::from(Arc::new(config)),
        trust,
        limits,
        sender,
    ));
    ReceiverStream::new(receiver)
}

async fn accept_loop<L: Listener>(
    listener: L,
    acceptor: TlsAcceptor,
    trust: Arc<TrustHolder>,
    limits: AcceptLimits,
    sender: mpsc::Sender<io::Result<TlsIo<L::Io>>>,
) {
    let slots = Arc::new(Semaphore::new(limits.handshakes_max));
    let crowd = Arc::new(Crowd::default());
    let mut begun = VecDeque::new();
    loop {
        let Some(slot) = slot(&slots, &mut begun, limits).await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let (tcp, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, or the peer gave up: neither ends the server.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (acceptor, sender, trust) = (acceptor.clone(), sender.clone(), Arc::clone(&trust));
        let crowd = Arc::clone(&crowd);
        let task = tokio::spawn(async move {
            let enter = |peer: &PeerInfo| {
                crowd.enter(peer.identity.as_ref(), remote.ip(), limits.per_peer_max)
            };
            let handshake = handshake(acceptor, tcp, remote, &trust, enter);
            match tokio::time::timeout(limits.handshake_timeout, handshake).await {
                Ok(Ok(io)) => drop(sender.send(Ok(io)).await),
                Ok(Err(error)) => tracing::info!(%remote, %error, "TLS handshake refused"),
                Err(_) => tracing::info!(%remote, "TLS handshake took too long"),
            }
            drop(slot);
        });
        begun.push_back((Instant::now(), task.abort_handle()));
    }
}

/// A slot for a handshake. Where none is free, the oldest handshake gives way once it has had its
/// time: peers that connect and say nothing must not keep others out.
async fn slot(
    slots: &Arc<Semaphore>,
    begun: &mut VecDeque<(Instant, AbortHandle)>,
    limits: AcceptLimits,
) -> Option<OwnedSemaphorePermit> {
    if begun.len() >= limits.handshakes_max.saturating_mul(2) || slots.available_permits() == 0 {
        begun.retain(|(_, task)| !task.is_finished());
    }
    loop {
        let oldest = begun
            .front()
            .map(|(since, _)| *since + limits.handshake_grace);
        let Some(oldest) = oldest else {
            return Arc::clone(slots).acquire_owned().await.ok();
        };
        tokio::select! {
            biased;
            slot = Arc::clone(slots).acquire_owned() => return slot.ok(),
            () = tokio::time::sleep_until(oldest) => {
                if let Some((_, task)) = begun.pop_front() {
                    task.abort();
                }
            }
        }
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    acceptor: TlsAcceptor,
    tcp: S,
    remote: SocketAddr,
    trust: &Arc<TrustHolder>,
    enter: impl FnOnce(&PeerInfo) -> Option<Place>,
) -> io::Result<TlsIo<S>> {
    let stream = acceptor.accept(tcp).await?;
    let chain = stream.get_ref().1.peer_certificates();
    let mut peer = peer_info(chain, remote)
        .map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))?;
    let place = enter(&peer).ok_or_else(|| io::Error::other("it has too many connections"))?;
    let leaf = chain.and_then(<[_]>::first);
    peer.late = leaf.and_then(|leaf| lateness(leaf, SystemTime::now()));
    if let (Some(who), Some(late)) = (&peer.identity, peer.late) {
        let late_s = late.as_secs();
        tracing::info!(%who, %remote, late_s, "its certificate is over: it may only renew it");
    }
    let (trust, serial) = (Arc::clone(trust), peer.serial.clone());
    let cut = Box::pin(async move { trust.until_revoked(&serial).await });
    Ok(TlsIo {
        stream,
        peer,
        cut,
        _place: place,
    })
}

/// One accepted connection.
pub struct TlsIo<S> {
    stream: TlsStream<S>,
    peer: PeerInfo,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Place,
}

impl<S> Connected for TlsIo<S> {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 always has a read pending, so this wakes the connection when it is revoked.
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "certificate revoked",
            )));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
