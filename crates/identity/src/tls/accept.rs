//! Accept loop: bounded handshakes, identity per connection, a switch that cuts revoked peers.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::holder::TrustHolder;
use super::peer::{PeerInfo, lateness, peer_info};

/// Bounds of the accept loop.
#[derive(Debug, Clone, Copy)]
pub struct AcceptLimits {
    /// Handshakes at the same time; further connections wait in the kernel's backlog.
    pub handshakes_max: usize,
    /// A handshake that takes longer is dropped.
    pub handshake_timeout: Duration,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self {
            handshakes_max: 256,
            handshake_timeout: Duration::from_secs(3),
        }
    }
}

/// Accepts connections until the stream is dropped. Failed handshakes are logged and dropped;
/// they never end the loop. Feed it to `serve_with_incoming`.
#[must_use]
pub fn accept(
    listener: TcpListener,
    config: ServerConfig,
    trust: Arc<TrustHolder>,
    limits: AcceptLimits,
) -> ReceiverStream<io::Result<TlsIo>> {
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

async fn accept_loop(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    trust: Arc<TrustHolder>,
    limits: AcceptLimits,
    sender: mpsc::Sender<io::Result<TlsIo>>,
) {
    let slots = Arc::new(Semaphore::new(limits.handshakes_max));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
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
        tokio::spawn(async move {
            let handshake = handshake(acceptor, tcp, remote, &trust);
            match tokio::time::timeout(limits.handshake_timeout, handshake).await {
                Ok(Ok(io)) => drop(sender.send(Ok(io)).await),
                Ok(Err(error)) => tracing::info!(%remote, %error, "TLS handshake refused"),
                Err(_) => tracing::info!(%remote, "TLS handshake took too long"),
            }
            drop(slot);
        });
    }
}

async fn handshake(
    acceptor: TlsAcceptor,
    tcp: TcpStream,
    remote: std::net::SocketAddr,
    trust: &Arc<TrustHolder>,
) -> io::Result<TlsIo> {
    tcp.set_nodelay(true)?;
    let stream = acceptor.accept(tcp).await?;
    let chain = stream.get_ref().1.peer_certificates();
    let mut peer = peer_info(chain, remote)
        .map_err(|error| io::Error::new(io::ErrorKind::PermissionDenied, error))?;
    let leaf = chain.and_then(<[_]>::first);
    peer.late = leaf.and_then(|leaf| lateness(leaf, SystemTime::now()));
    if let (Some(who), Some(late)) = (&peer.identity, peer.late) {
        let late_s = late.as_secs();
        tracing::info!(%who, %remote, late_s, "its certificate is over: it may only renew it");
    }
    let (trust, serial) = (Arc::clone(trust), peer.serial.clone());
    let cut = Box::pin(async move { trust.until_revoked(&serial).await });
    Ok(TlsIo { stream, peer, cut })
}

/// One accepted connection.
pub struct TlsIo {
    stream: TlsStream<TcpStream>,
    peer: PeerInfo,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Connected for TlsIo {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for TlsIo {
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

impl AsyncWrite for TlsIo {
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
