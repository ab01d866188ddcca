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
    let body = match head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        true => unchunked(body).ok_or("not chunked as it says")?,
        false => body.to_owned(),
    };
    Ok(Answer { status, body })
}

/// The body without its chunks' sizes, each a line of hexadecimal digits.
fn unchunked(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::unchunked;

    #[test]
    fn chunks_are_joined() {
        let joined = unchunked("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n");
        assert_eq!(joined.as_deref(), Some("abc0123456789"));
        assert_eq!(unchunked("5\r\nabc"), None);
    }
}
