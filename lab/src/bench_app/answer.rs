//! One connection of the bench app: HTTP/1.1 by hand, because what is sent when must be exact.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_util::sync::CancellationToken;

use super::ledger::{InHand, Ledger};
use crate::kind::{ID_HEADER, KIND_HEADER, Kind, REPLICA_HEADER, body_byte};

/// Longest head of a request.
const HEAD_MAX: usize = 8 * 1024;
/// Longest slow request and download.
const TIME_MAX: Duration = Duration::from_secs(120);
/// Largest download.
const KB_MAX: u64 = 64 * 1024;
/// Time between the pieces of a download.
const PACE: Duration = Duration::from_millis(250);

/// A connection with what its answers need.
pub(super) struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    replica: String,
    ledger: Arc<Ledger>,
    stop: CancellationToken,
}

/// The head of a request.
struct Head {
    path: String,
    query: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let target = lines.next()?.split(' ').nth(1)?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Self {
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
        })
    }

    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        let mut pairs = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        let found = pairs.rfind(|(known, _)| *known == name);
        found.map_or(default, |(_, value)| value.parse().unwrap_or(default))
    }
}

impl Peer {
    pub(super) fn new(
        stream: TcpStream,
        replica: &str,
        ledger: &Arc<Ledger>,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            replica: replica.to_owned(),
            ledger: Arc::clone(ledger),
            stop: stop.clone(),
        }
    }

    /// Answers request after request. Whatever goes wrong ends the connection; the ledger has it.
    pub(super) async fn converse(mut self) {
        let stop = self.stop.clone();
        loop {
            let idle = self.buffer.is_empty();
            let head = tokio::select! {
                biased;
                head = self.head() => head,
                () = stop.cancelled(), if idle => return,
            };
            let Ok(Some(head)) = head else { return };
            if head.path == "/ws" {
                return self.websocket(&head).await;
            }
            let last = head.header("connection").eq_ignore_ascii_case("close");
            if self.answer(&head, last).await.is_err() || last || stop.is_cancelled() {
                return;
            }
        }
    }

    /// The next head; none at the end of the connection.
    async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 4);
                return Ok(Head::parse(&text));
            }
            if self.buffer.len() > HEAD_MAX || self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn answer(&mut self, head: &Head, last: bool) -> io::Result<()> {
        let kind = match head.path.as_str() {
            "/healthz" | "/ledger" => None,
            _ => Kind::named(head.header(KIND_HEADER)),
        };
        let ledger = Arc::clone(&self.ledger);
        let in_hand = kind.map(|kind| ledger.begin(kind));
        let id = head.header(ID_HEADER).to_owned();
        match head.path.as_str() {
            "/" => self.whole("200 OK", &id, format!("{id}\n"), last).await,
            "/slow" => {
                let wait = Duration::from_millis(head.number("ms", 2000)).min(TIME_MAX);
                tokio::time::sleep(wait).await;
                self.whole("200 OK", &id, format!("{id}\n"), last).await
            }
            "/download" => self.download(head, &id, last).await,
            "/healthz" => self.whole("200 OK", &id, "ok\n".to_owned(), last).await,
            "/ledger" => {
                let text = self.ledger.to_json(&self.replica, false).to_string();
                self.whole("200 OK", &id, text, last).await
            }
            _ => {
                let text = "no such page\n".to_owned();
                self.whole("404 Not Found", &id, text, last).await
            }
        }?;
        if let Some(in_hand) = in_hand {
            in_hand.finish();
        }
        Ok(())
    }

    async fn whole(&mut self, status: &str, id: &str, body: String, last: bool) -> io::Result<()> {
        let text = self.start(status, id, body.len(), last) + &body;
        self.stream.write_all(text.as_bytes()).await
    }

    fn start(&self, status: &str, id: &str, length: usize, last: bool) -> String {
        // Told to stop, it keeps no connection.
        let close = match last || self.stop.is_cancelled() {
            true => "Connection: close\r\n",
            false => "",
        };
        let replica = &self.replica;
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{REPLICA_HEADER}: {replica}\r\n\
             {ID_HEADER}: {id}\r\n{close}\r\n"
        )
    }

    /// `?s=30&kb=64`: so many KiB, evenly over so many seconds.
    async fn download(&mut self, head: &Head, id: &str, last: bool) -> io::Result<()> {
        let time = Duration::from_secs(head.number("s", 30)).min(TIME_MAX);
        let kib = head.number("kb", 64).min(KB_MAX);
        let length = usize::try_from(kib * 1024).unwrap_or(0);
        let body: Vec<u8> = (0..length).map(body_byte).collect();
        let text = self.start("200 OK", id, length, last);
        self.stream.write_all(text.as_bytes()).await?;
        let pieces = usize::try_from(time.as_millis() / PACE.as_millis()).unwrap_or(1);
        let mut pace = tokio::time::interval(PACE);
        for piece in body.chunks(length.div_ceil(pieces.max(1)).max(1)) {
            pace.tick().await;
            self.stream.write_all(piece).await?;
        }
        Ok(())
    }

    /// Echoes until the other side says goodbye.
    async fn websocket(mut self, head: &Head) {
        let ledger = Arc::clone(&self.ledger);
        let in_hand = ledger.begin(Kind::WebSocket);
        let accept = derive_accept_key(head.header("sec-websocket-key").as_bytes());
        let replica = &self.replica;
        let text = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{REPLICA_HEADER}: {replica}\r\n\r\n"
        );
        if self.stream.write_all(text.as_bytes()).await.is_ok() {
            let early = std::mem::take(&mut self.buffer);
            let socket =
                WebSocketStream::from_partially_read(self.stream, early, Role::Server, None).await;
            echo(socket, in_hand).await;
        }
    }
}

async fn echo(mut socket: WebSocketStream<TcpStream>, in_hand: InHand<'_>) {
    let mut goodbye = false;
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Text(_) | Message::Binary(_) => match socket.send(message).await {
                Ok(()) => in_hand.echoed(),
                Err(_) => return,
            },
            Message::Close(_) => goodbye = true,
            _ => {}
        }
    }
    if goodbye {
        in_hand.finish();
    }
}
