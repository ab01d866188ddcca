//! The first check of a joining server, made at once.
//!
//! HAProxy checks a server that leaves maint at its next interval, up to 500 ms later, and no
//! command makes it check earlier. This host can ask the same question over the same path right
//! away; a server that passes here is let in, and HAProxy's own check, which then stands one
//! failure from down, goes on as ever. A failed probe means nothing: HAProxy's check decides.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use longshore_model::ReplicaId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::intent::Check;
use crate::name::BackendName;

/// Probes at the same time.
const PROBES_MAX: usize = 64;
/// Longest head of an answer that is read: the status is in its first line.
const ANSWER_BYTES_MAX: usize = 64;

/// What is to be asked: the same as HAProxy's check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) key: (BackendName, ReplicaId),
    pub(crate) address: SocketAddr,
    pub(crate) check: Check,
}

/// Asks all at the same time and gives those that are well. Over within `deadline`.
pub(crate) async fn ask_all(
    questions: Vec<Question>,
    deadline: Duration,
) -> BTreeSet<(BackendName, ReplicaId)> {
    let mut probes = JoinSet::new();
    for question in questions.into_iter().take(PROBES_MAX) {
        probes.spawn(async move {
            let well = tokio::time::timeout(deadline, ask(&question)).await;
            well.unwrap_or(false).then_some(question.key)
        });
    }
    let mut well = BTreeSet::new();
    while let Some(done) = probes.join_next().await {
        well.extend(done.ok().flatten());
    }
    well
}

async fn ask(question: &Question) -> bool {
    let Ok(mut stream) = TcpStream::connect(question.address).await else {
        return false;
    };
    let Check::Http { path, host } = &question.check else {
        return true;
    };
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
        path.as_str(),
        host.as_str()
    );
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut head = [0; ANSWER_BYTES_MAX];
    let mut filled = 0;
    while filled < head.len() && !head[..filled].contains(&b'\n') {
        match stream.read(&mut head[filled..]).await {
            Ok(read) if read > 0 => filled += read,
            _ => break,
        }
    }
    is_well(&head[..filled])
}

/// 200 to 399 in a status line.
fn is_well(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    let mut words = text.split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let status: u16 = words
        .next()
        .and_then(|word| word.get(..3)?.parse().ok())
        .unwrap_or(0);
    is_http && (200..400).contains(&status)
}

#[cfg(test)]
mod tests {
    use super::is_well;

    #[test]
    fn only_a_status_from_200_to_399_is_well() {
        for good in [
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.0 399 x\r\n",
            "HTTP/1.1 204\r\n",
        ] {
            assert!(is_well(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "",
            "HTTP/1.1",
            "HTTP/1.1 503 x",
            "HTTP/1.1 400 x",
            "SSH-2.0 200 x",
            "HTTP/1.1 2",
        ] {
            assert!(!is_well(bad.as_bytes()), "{bad:?}");
        }
        assert!(!is_well(&[0xff; 64]));
    }
}
