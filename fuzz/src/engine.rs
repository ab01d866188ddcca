//! Answers of a container engine: a real client asks a socket that says anything.
//!
//! Each line is the answer to one question, the last one to all further ones; its first character says how it went.

#![no_main]

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use libfuzzer_sys::fuzz_target;
use node_agent::runtime::Runtime;
use node_agent::runtime::disk::Disk;
use node_agent::runtime::docker::DockerRuntime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

static ANSWERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
static SOCKET: OnceLock<PathBuf> = OnceLock::new();

fn next() -> Vec<u8> {
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    match answers.len() {
        0 => Vec::new(),
        1 => answers[0].clone(),
        _ => answers.remove(0),
    }
}

fn response(answer: &[u8]) -> Vec<u8> {
    let (status, body) = match answer.split_first() {
        Some((b'4', body)) => (404, body),
        Some((b'5', body)) => (500, body),
        Some((b'9', body)) => (409, body),
        Some((b'0', _)) => (204, &[][..]),
        Some((_, body)) => (200, body),
        None => (200, &[][..]),
    };
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nApi-Version: 1.41\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

async fn serve(mut stream: UnixStream) {
    let mut asked = Vec::new();
    loop {
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(read) => asked.extend_from_slice(&piece[..read]),
        }
        while let Some(end) = asked.windows(4).position(|four| four == b"\r\n\r\n") {
            asked.drain(..end + 4);
            if stream.write_all(&response(&next())).await.is_err() {
                return;
            }
        }
    }
}

fn socket() -> &'static PathBuf {
    SOCKET.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory").keep();
        let path = dir.join("engine.sock");
        let bound = path.clone();
        let (ready, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                let listener = UnixListener::bind(&bound).expect("a socket");
                ready.send(()).expect("somebody waits");
                loop {
                    if let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(serve(stream));
                    }
                }
            });
        });
        wait.recv().expect("a socket");
        path
    })
}

fuzz_target!(|input: &[u8]| {
    let lines = input.split(|byte| *byte == b'\n').take(16);
    let answers: Vec<Vec<u8>> = lines.map(<[u8]>::to_vec).collect();
    let path = socket();
    *ANSWERS.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let engine = DockerRuntime::new(path, "lab");
        let _ = engine.info().await;
        if let Ok(listed) = engine.list().await {
            assert!(listed.iter().all(|container| container.exposed.len() <= 32));
        }
        if let Ok(seen) = engine.inspect("abc").await {
            assert!(seen.last_line.chars().count() <= 200);
            assert!(!seen.last_line.contains(char::is_control));
        }
        let _ = engine.disk(true, &["data".to_owned()]).await;
    });
});
