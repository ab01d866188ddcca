//! One HTTP request per connection, with deadlines: small enough to trust in a fault test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Body.
    pub body: String,
}

/// GET from the app through the edge.
///
/// # Errors
/// In words: no connection, no answer in 5 s, no HTTP.
pub fn get(path: &str) -> Result<Answer, String> {
    get_with(&crate::app_address(), path, Duration::from_secs(5))
}

/// GET from `address` (`host:port`).
///
/// # Errors
/// As [`get`].
pub fn get_with(address: &str, path: &str, timeout: Duration) -> Result<Answer, String> {
    let target = address
        .parse()
        .map_err(|error| format!("{address}: {error}"))?;
    let mut stream = TcpStream::connect_timeout(&target, timeout)
        .map_err(|error| format!("connect: {error}"))?;
    stream
        .set_read_timeout(Some(timeout))
        .map_err(|error| error.to_string())?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream
        .write_all(request.as_bytes())
        .map_err(|error| format!("write: {error}"))?;
    let mut text = String::new();
    stream
        .read_to_string(&mut text)
        .map_err(|error| format!("read: {error}"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or("no status")?;
    Ok(Answer {
        status,
        body: body.to_owned(),
    })
}
