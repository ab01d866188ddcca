//! Health checks that the agent makes itself, against the node's own address: the same way that
//! edges take.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A status line fits; more is not read.
const ANSWER_BYTES_MAX: usize = 256;
/// The engine's port proxy accepts for a container that does not listen yet and hangs up at once.
const HANG_UP_WAIT: Duration = Duration::from_millis(20);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub address: SocketAddr,
    /// HTTP path; none: a connection is enough.
    pub path: Option<String>,
    /// Longest wait.
    pub timeout: Duration,
}

/// Asks once.
///
/// # Errors
/// In words, for people: `connection refused`, `GET /healthz: 503`.
pub async fn probe(target: &Target) -> Result<(), String> {
    let asked = match &target.path {
        None => timeout(target.timeout, connects(target.address)).await,
        Some(path) => timeout(target.timeout, answers(target.address, path)).await,
    };
    let what = target.path.as_deref().map_or_else(
        || format!("connecting to {}", target.address),
        |path| format!("GET {path}"),
    );
    match asked {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(format!("{what}: {why}")),
        Err(_) => Err(format!(
            "{what}: no answer within {} ms",
            target.timeout.as_millis()
        )),
    }
}

async fn connects(address: SocketAddr) -> Result<(), String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|e| e.to_string())?;
    let mut byte = [0];
    match timeout(HANG_UP_WAIT, stream.peek(&mut byte)).await {
        Ok(Ok(0)) => Err("closed at once".into()),
        Ok(Err(error)) => Err(error.to_string()),
        // It speaks first, or it waits for us: both are alive.
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

async fn answers(address: SocketAddr, path: &str) -> Result<(), String> {
    // The path comes from a user: nothing of it may end the line.
    if !path.starts_with('/') || path.bytes().any(|b| b <= b' ' || b == 0x7f) {
        return Err("the path is not valid".into());
    }
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(|e| e.to_string())?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: longshore-probe\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .map_err(|e| e.to_string())?;
    let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
    let mut rest = stream.take(ANSWER_BYTES_MAX as u64);
    while !answer.contains(&b'\n') {
        match rest.read_buf(&mut answer).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    verdict(&answer)
}

fn verdict(answer: &[u8]) -> Result<(), String> {
    let line = answer
        .split(|b| *b == b'\r' || *b == b'\n')
        .next()
        .unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default();
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1));
    match status.and_then(|status| status.parse::<u16>().ok()) {
        Some(200..=399) => Ok(()),
        Some(status) => Err(status.to_string()),
        None if answer.is_empty() => Err("closed without an answer".into()),
        None => Err("not an HTTP answer".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn status_lines_are_judged() {
        for (line, ok) in [
            ("HTTP/1.1 200 OK\r\n", true),
            ("HTTP/1.0 301 Moved\r\n", true),
            ("HTTP/1.1 503 Service Unavailable\r\n", false),
            ("HTTP/1.1 99999 x\r\n", false),
            ("SSH-2.0-OpenSSH\r\n", false),
            ("", false),
        ] {
            assert_eq!(verdict(line.as_bytes()).is_ok(), ok, "{line:?}");
        }
    }

    async fn serve(answer: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 512];
                if answer.is_empty() {
                    continue;
                }
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer).await;
            }
        });
        address
    }

    fn target(address: SocketAddr, path: Option<&str>) -> Target {
        Target {
            address,
            path: path.map(str::to_owned),
            timeout: Duration::from_secs(2),
        }
    }

    #[tokio::test]
    async fn a_real_answer_passes_and_a_hang_up_does_not() {
        let good = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(probe(&target(good, Some("/healthz"))).await, Ok(()));
        assert_eq!(probe(&target(good, None)).await, Ok(()));
        let proxy = serve(b"").await;
        assert!(
            probe(&target(proxy, None))
                .await
                .unwrap_err()
                .contains("closed at once")
        );
        assert!(probe(&target(proxy, Some("/"))).await.is_err());
    }

    #[tokio::test]
    async fn a_path_cannot_smuggle_a_second_request() {
        let good = serve(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let why = probe(&target(good, Some("/ HTTP/1.1\r\nX: y")))
            .await
            .unwrap_err();
        assert!(why.contains("not valid"), "{why}");
    }
}
