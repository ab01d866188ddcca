//! What is tried again and what is not (reliability.md B10).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::host::{Host, Replica, free_port, get, http, loopback, server};
use longshore_model::routes::ServerMode::Serve;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes its check, takes requests and hangs up on them without an answer.
async fn mute(asked: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind((loopback(), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(hang_up(stream, Arc::clone(&asked)));
        }
    });
    port
}

async fn hang_up(mut stream: TcpStream, asked: Arc<AtomicUsize>) {
    let mut head = vec![0; 4_096];
    let read = stream.read(&mut head).await.unwrap_or(0);
    let head = String::from_utf8_lossy(&head[..read]).into_owned();
    if head.contains(" /healthz ") {
        let _ = stream
            .write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
            .await;
    } else if read > 0 {
        asked.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_sent_is_never_sent_again() {
    let mut host = Host::start().await;
    let port = free_port();
    let asked = Arc::new(AtomicUsize::new(0));
    let good = Replica::start(1).await;
    let silent = server(2, mute(Arc::clone(&asked)).await, Serve);
    host.serve(
        1,
        vec![http("shop/web", port, vec![good.server(Serve), silent])],
    )
    .await;
    let before = good.count();
    let (mut answered, mut failed) = (0, 0);
    for _ in 0..20 {
        match get(port, "/", "x").await.unwrap().0 {
            200 => answered += 1,
            status => {
                assert_eq!(status, 502);
                failed += 1;
            }
        }
    }
    assert_eq!((answered, failed), (10, 10), "in turns");
    let sent = (good.count() - before, asked.load(Ordering::SeqCst));
    assert_eq!(sent, (10, 10), "each to one replica, once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_refused_goes_to_another_replica() {
    let mut host = Host::with(|settings| settings.check.inter_ms = 60_000).await;
    let port = free_port();
    let replicas = [Replica::start(1).await, Replica::start(2).await];
    let servers = replicas.iter().map(|r| r.server(Serve)).collect();
    host.serve(1, vec![http("shop/web", port, servers)]).await;
    replicas[1].kill();
    for _ in 0..20 {
        assert_eq!(get(port, "/", "x").await, Ok((200, "r1".to_owned())));
    }
}
