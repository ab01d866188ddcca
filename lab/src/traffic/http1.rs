//! A client's side of HTTP/1.1 by hand: every byte is waited for, nothing is tried twice.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::target::Target;
use super::verdict::Failure;
use crate::kind::{ID_HEADER, KIND_HEADER, Kind, REPLICA_HEADER};

/// Time for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest head of an answer.
const HEAD_MAX: usize = 8 * 1024;

/// A connection to the edge.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

/// What is asked.
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    pub(super) id: &'a str,
    pub(super) path: &'a str,
    /// More lines of the head, each with its end.
    pub(super) more: &'a str,
}

/// A head that came back.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) length: Option<usize>,
    pub(super) replica: Option<String>,
    pub(super) close: bool,
}

impl Connection {
    pub(super) async fn open(target: Target) -> Result<Self, Failure> {
        let stream = match timeout(CONNECT, TcpStream::connect(target.address())).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(_)) => return Err(Failure::Connect),
            Err(_) => return Err(Failure::ConnectTimeout),
        };
        // Latencies are wanted, not large packets.
        let _ = stream.set_nodelay(true);
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// False if the other side has closed it meanwhile, or sent what nobody asked for.
    pub(super) fn is_usable(&self) -> bool {
        let mut byte = [0];
        let read = self.stream.try_read(&mut byte);
        self.buffer.is_empty()
            && matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    pub(super) async fn write(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        let Request {
            kind,
            id,
            path,
            more,
        } = request;
        let text = format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\n{KIND_HEADER}: {}\r\n{ID_HEADER}: {id}\r\n\
             {more}\r\n",
            kind.name()
        );
        let written = self.stream.write_all(text.as_bytes()).await;
        written.map_err(|_| Failure::NotWritten)
    }

    pub(super) async fn head(&mut self) -> Result<Head, Failure> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                break end;
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Failure::NoAnswer),
                Err(_) => return Err(Failure::Reset),
                Ok(_) if self.buffer.len() > HEAD_MAX => return Err(Failure::BadHead),
                Ok(_) => {}
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        parse(&text).ok_or(Failure::BadHead)
    }

    /// Exactly `length` bytes.
    pub(super) async fn body(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        while self.buffer.len() < length {
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(Failure::Truncated),
                Err(_) => return Err(Failure::CutOff),
                Ok(_) => {}
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// The connection, with what came after the head already.
    pub(super) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.buffer)
    }
}

fn parse(text: &str) -> Option<Head> {
    let mut lines = text.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut head = Head {
        status,
        ..Head::default()
    };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = Some(value.parse().ok()?),
            "connection" => head.close = value.eq_ignore_ascii_case("close"),
            REPLICA_HEADER => head.replica = Some(value.to_owned()),
            _ => {}
        }
    }
    Some(head)
}
