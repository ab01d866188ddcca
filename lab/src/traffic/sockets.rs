//! WebSockets: each lives for a while and has its echoes counted; then another one is opened.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::Shared;
use super::http1::{Connection, Request};
use super::verdict::Failure;
use crate::kind::Kind;

/// Time for a handshake or an echo.
const PATIENCE: Duration = Duration::from_secs(40);
/// Pause after a failure, so that a dead edge is not hammered.
const PAUSE: Duration = Duration::from_millis(500);

/// Keeps one socket open until the run ends.
pub(super) async fn one_after_another(number: u32, shared: Arc<Shared>) {
    let first = Duration::from_secs(shared.plan.socket_s)
        .mul_f64(f64::from(number + 1) / f64::from(shared.plan.sockets));
    // Lives of different lengths at first, so that they do not all end together.
    let mut life = first;
    while !shared.stop.is_cancelled() {
        if !live(life, &shared).await {
            sleep(PAUSE).await;
        }
        life = Duration::from_secs(shared.plan.socket_s);
    }
}

/// One socket; false if it failed.
async fn live(life: Duration, shared: &Shared) -> bool {
    let Some(id) = shared.next_id(Kind::WebSocket) else {
        return true;
    };
    let began = Instant::now();
    let mut replica = None;
    let opened = timeout(PATIENCE, open(&id, shared, &mut replica)).await;
    let mut socket = match opened.unwrap_or(Err(Failure::Timeout)) {
        Ok(socket) => socket,
        Err(failure) => {
            // A socket that did not come about counts as one failed echo.
            let verdict = Err(failure);
            let tally = &shared.tally;
            tally.count(Kind::WebSocket, &id, began, replica.as_deref(), verdict);
            return false;
        }
    };
    let mut due = interval(Duration::from_secs_f64(1.0 / shared.plan.echo_rate));
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0;
    while began.elapsed() < life && !shared.stop.is_cancelled() {
        due.tick().await;
        number += 1;
        let text = format!("{id}.{number}");
        let sent = Instant::now();
        let echoed = timeout(PATIENCE, echo(&mut socket, &text)).await;
        let result = echoed.unwrap_or(Err(Failure::Timeout));
        let tally = &shared.tally;
        tally.count(Kind::WebSocket, &text, sent, replica.as_deref(), result);
        if result.is_err() {
            return false;
        }
    }
    goodbye(socket).await;
    true
}

async fn open(
    id: &str,
    shared: &Shared,
    replica: &mut Option<String>,
) -> Result<WebSocketStream<TcpStream>, Failure> {
    let mut connection = Connection::open(shared.plan.target).await?;
    let more = format!(
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {}\r\n",
        generate_key()
    );
    let kind = Kind::WebSocket;
    let request = Request {
        kind,
        id,
        path: "/ws",
        more: &more,
    };
    connection.write(&request).await?;
    shared.tally.wrote(kind);
    let head = connection.head().await?;
    *replica = head.replica;
    if head.status != 101 {
        return Err(Failure::Status(head.status));
    }
    shared.tally.answered(kind);
    let (stream, early) = connection.into_parts();
    Ok(WebSocketStream::from_partially_read(stream, early, Role::Client, None).await)
}

async fn echo(socket: &mut WebSocketStream<TcpStream>, text: &str) -> Result<(), Failure> {
    let message = Message::text(text.to_owned());
    if socket.send(message).await.is_err() {
        return Err(Failure::SocketLost);
    }
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(back))) if back.as_str() == text => return Ok(()),
            Some(Ok(Message::Text(_) | Message::Binary(_))) => return Err(Failure::WrongBody),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Failure::SocketLost),
            Some(Ok(_)) => {}
        }
    }
}

/// Ends it in order; what comes of that is no request any more.
async fn goodbye(mut socket: WebSocketStream<TcpStream>) {
    let end = async {
        socket.close(None).await?;
        while socket.next().await.is_some() {}
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    };
    let _ = timeout(Duration::from_secs(5), end).await;
}
