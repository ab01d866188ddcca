//! A real HAProxy as a child process, replicas as tasks, and a client; all on loopback.
// A test program is a crate of its own, so nothing of it is reachable from outside.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use longshore_haproxy_driver::{Applied, Edge, EdgeSnapshot, ProcessSettings, Settings, Ticked};
use longshore_model::routes::{Backend, Routes, Server, ServerMode};
use longshore_model::spec::RouteSpec;
use longshore_model::{ReplicaId, ServiceKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until `look` finds what it wants, and gives that; what it saw instead is
/// what the test says when its patience ends.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) => assert!(
                Instant::now() < deadline,
                "{what}: not within {PATIENCE:?}; {seen}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn loopback() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// A port that was free a moment ago, below those that the system gives to clients, out of a hundred that no other
/// test's process has, so that tests that run at the same time do not meet.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static HUNDRED: LazyLock<(u16, File)> = LazyLock::new(hundred);
    for _ in 0..10_000 {
        let port = 12_000 + HUNDRED.0 * 100 + NEXT.fetch_add(1, Ordering::SeqCst) % 100;
        if std::net::TcpListener::bind((loopback(), port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// One of 200, held by a lock as long as this process lives.
fn hundred() -> (u16, File) {
    let first = std::process::id();
    let mut tried = (0..200).map(|n| u16::try_from((first + n) % 200).unwrap());
    let taken = tried.find_map(|n| {
        let path = std::env::temp_dir().join(format!("longshore-ports-{n}"));
        let file = File::options().create(true).append(true).open(path).ok()?;
        file.try_lock().ok()?;
        Some((n, file))
    });
    taken.expect("a hundred ports that nobody has")
}

/// HAProxy, its files and the edge that drives it.
pub struct Host {
    dir: tempfile::TempDir,
    pub settings: Settings,
    pub edge: Edge,
    haproxy: Option<Child>,
}

impl Host {
    /// What HAProxy shows. Right after a reload a worker that is about to end may not say what it
    /// still has.
    pub async fn read(&mut self) -> EdgeSnapshot {
        until("HAProxy can be read", async || {
            self.edge.read().await.map_err(|error| error.to_string())
        })
        .await
    }

    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut host = Self::stopped(change).await;
        host.start_haproxy().await;
        host
    }

    pub async fn stopped(change: impl FnOnce(&mut Settings)) -> Self {
        // Unix socket paths are short: not below a deep target directory.
        let dir = tempfile::Builder::new()
            .prefix("lsh")
            .tempdir_in("/tmp")
            .unwrap();
        let at = |name: &str| dir.path().join(name);
        let mut settings = Settings {
            config_path: at("haproxy.cfg"),
            state_path: at("haproxy.state"),
            slots_path: at("slots.json"),
            certificates_path: at("certificates"),
            admin_socket: at("admin.sock"),
            master_socket: at("master.sock"),
            bind_address: loopback(),
            stats_address: loopback(),
            stats_port: free_port(),
            process: ProcessSettings {
                user: None,
                group: None,
                chroot: None,
                socket_group: None,
            },
            connections_max: 500,
            // Tests change structure one after the other.
            reload_spacing_ms: 0,
            // A busy machine may stand still for seconds. Tests of silence have their own.
            socket_deadline_ms: 15_000,
            check_deadline_ms: 30_000,
            reload_deadline_ms: 15_000,
            ..Settings::default()
        };
        change(&mut settings);
        let edge = Edge::open(settings.clone())
            .await
            .expect("install haproxy (apt-get install haproxy)");
        Self {
            dir,
            settings,
            edge,
            haproxy: None,
        }
    }

    pub async fn start_haproxy(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let child = Command::new("haproxy")
            .args(["-W", "-S"])
            .arg(&self.settings.master_socket)
            .arg("-f")
            .arg(&self.settings.config_path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("install haproxy (apt-get install haproxy)");
        self.haproxy = Some(child);
        until("haproxy answers", async || match self.edge.read().await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}\n{}", self.log())),
        })
        .await;
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn config(&self) -> String {
        std::fs::read_to_string(&self.settings.config_path).unwrap()
    }

    /// Asks the master to stop all, and waits for it.
    pub fn stop_haproxy(&mut self) {
        let Some(mut child) = self.haproxy.take() else {
            return;
        };
        signal(child.id(), rustix::process::Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while let Ok(None) = child.try_wait() {
            if Instant::now() > deadline {
                let _ = child.kill();
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.wait();
    }

    /// Kills the worker as a crash would; the master follows.
    pub async fn crash_haproxy(&mut self) {
        let pid = self.edge.read().await.unwrap().pid;
        signal(pid, rustix::process::Signal::KILL);
        let mut child = self.haproxy.take().unwrap();
        until("the master ends", async || {
            let ended = child.try_wait().unwrap();
            ended.ok_or_else(|| "it outlived its worker".to_owned())
        })
        .await;
    }

    pub fn is_running(&mut self) -> bool {
        self.haproxy
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub fn master_pid(&self) -> u32 {
        self.haproxy.as_ref().unwrap().id()
    }

    /// Ticks until it is `done`.
    pub async fn tick_until(&mut self, what: &str, done: impl Fn(&Edge, &Ticked) -> bool) {
        until(what, async || {
            let ticked = self.edge.tick().await.unwrap();
            match done(&self.edge, &ticked) {
                true => Ok(()),
                false => Err(format!(
                    "{ticked:?}, {:#?}\n{}",
                    self.edge.slots(),
                    self.log()
                )),
            }
        })
        .await;
    }

    /// Ticks until nothing is pending.
    pub async fn settle(&mut self) {
        let done = |_: &Edge, ticked: &Ticked| ticked.pending == 0 && ticked.steps == 0;
        self.tick_until("settled", done).await;
    }

    /// Applies the routes and settles.
    pub async fn serve(&mut self, generation: u64, backends: Vec<Backend>) -> Applied {
        let applied = self.edge.apply(&routes(generation, backends)).await;
        self.settle().await;
        applied.unwrap()
    }

    /// One command on the worker's socket, as a hand would send it.
    pub async fn by_hand(&self, command: &str) -> String {
        ask(&self.settings.admin_socket, command).await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop_haproxy();
    }
}

async fn ask(socket: &Path, command: &str) -> String {
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    stream
        .write_all(format!("{command}\n").as_bytes())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text).await;
    text
}

pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// A replica: answers its own name; `/slow` waits for the gate; `/healthz` can be told to fail.
pub struct Replica {
    pub id: u64,
    pub port: u16,
    pub requests: Arc<AtomicUsize>,
    pub healthy: Arc<AtomicBool>,
    /// Requests for `/slow` that have arrived.
    pub slow: Arc<AtomicUsize>,
    /// One permit lets one slow request finish.
    pub gate: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Replica {
    pub async fn start(id: u64) -> Self {
        Self::start_at(id, 0).await
    }

    pub async fn start_at(id: u64, port: u16) -> Self {
        let listener = TcpListener::bind((loopback(), port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let healthy = Arc::new(AtomicBool::new(true));
        let slow = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(Semaphore::new(0));
        let shared = (
            requests.clone(),
            healthy.clone(),
            slow.clone(),
            gate.clone(),
        );
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            // Closed before they are cut, else somebody who hears of that gets in once more.
            let listener = listener;
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, healthy, slow, gate) = shared.clone();
                connections.spawn(serve(stream, id, requests, healthy, slow, gate));
            }
        });
        Self {
            id,
            port,
            requests,
            healthy,
            slow,
            gate,
            task,
        }
    }

    /// As a killed container: nobody listens, connections are cut.
    pub fn kill(&self) {
        self.task.abort();
    }

    pub fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn server(&self, mode: ServerMode) -> Server {
        server(self.id, self.port, mode)
    }
}

pub fn server(id: u64, port: u16, mode: ServerMode) -> Server {
    Server {
        replica: ReplicaId(id),
        address: loopback(),
        port,
        mode,
        weight: None,
    }
}

async fn serve(
    mut stream: TcpStream,
    id: u64,
    requests: Arc<AtomicUsize>,
    healthy: Arc<AtomicBool>,
    slow: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        buffer.drain(..end);
        let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let mut status = "200 OK";
        if path == "/healthz" {
            if !healthy.load(Ordering::SeqCst) {
                status = "503 Service Unavailable";
            }
        } else {
            requests.fetch_add(1, Ordering::SeqCst);
        }
        if path == "/slow" {
            slow.fetch_add(1, Ordering::SeqCst);
            if let Ok(permit) = gate.acquire().await {
                permit.forget();
            }
        }
        let body = format!("r{id}");
        let text = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let is_last = head.contains("Connection: close");
        if stream.write_all(text.as_bytes()).await.is_err() || is_last {
            return;
        }
    }
}

/// One request on its own connection: status and body.
pub async fn get(port: u16, path: &str, host: &str) -> Result<(u16, String), String> {
    let work = async {
        let at = SocketAddr::new(loopback(), port);
        let mut stream = TcpStream::connect(at)
            .await
            .map_err(|e| format!("connect: {e}"))?;
        let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream
            .write_all(text.as_bytes())
            .await
            .map_err(|e| format!("write: {e}"))?;
        let mut bytes = Vec::new();
        stream
            .read_to_end(&mut bytes)
            .await
            .map_err(|e| format!("read: {e}"))?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok());
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        status
            .zip(body)
            .ok_or_else(|| format!("no answer: {text:?}"))
    };
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err("no end".to_owned()))
}

/// Asks until it answers with `wanted`.
pub async fn get_until(port: u16, host: &str, wanted: &str) {
    until(
        &format!("{wanted} answers at {port}"),
        async || match get(port, "/", host).await {
            Ok((200, body)) if body == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
}

/// A steady stream of requests, about 300 a second.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(BTreeMap<String, usize>, Vec<String>, Duration)>,
}

impl Traffic {
    pub fn start(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let (mut answers, mut failures) = (BTreeMap::new(), Vec::new());
            let mut slowest = Duration::ZERO;
            let mut pace = tokio::time::interval(Duration::from_millis(3));
            while !stopped.load(Ordering::SeqCst) {
                pace.tick().await;
                let started = Instant::now();
                match get(port, "/", "x").await {
                    Ok((200, body)) => *answers.entry(body).or_default() += 1,
                    other => failures.push(format!("{other:?}")),
                }
                slowest = slowest.max(started.elapsed());
            }
            (answers, failures, slowest)
        });
        Self { stop, task }
    }

    /// Answers by replica; panics if any request failed.
    pub async fn stop_without_failure(self) -> (BTreeMap<String, usize>, Duration) {
        self.stop.store(true, Ordering::SeqCst);
        let (answers, failures, slowest) = self.task.await.unwrap();
        assert!(
            failures.is_empty(),
            "{} requests failed: {:?}",
            failures.len(),
            &failures[0]
        );
        (answers, slowest)
    }
}

pub fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

/// A way in with an HTTP check at `/healthz`.
pub fn http(service: &str, listen_port: u16, servers: Vec<Server>) -> Backend {
    Backend {
        service: key(service),
        route: RouteSpec {
            check_path: Some("/healthz".to_owned()),
            ..RouteSpec::new(listen_port, 80)
        },
        servers,
        holds: false,
    }
}

pub fn routes(generation: u64, backends: Vec<Backend>) -> Routes {
    Routes {
        generation,
        backends,
        ..Routes::default()
    }
}

/// Waits until `count` slow requests are with the replicas.
pub async fn slow_arrived(replicas: &[&Replica], count: usize) {
    until(&format!("{count} slow requests arrive"), async || {
        let arrived = replicas.iter().map(|r| r.slow.load(Ordering::SeqCst));
        match arrived.sum::<usize>() {
            arrived if arrived >= count => Ok(()),
            arrived => Err(format!("{arrived} of them did")),
        }
    })
    .await;
}

/// A client that keeps its connection.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub async fn connect(port: u16) -> Self {
        Self {
            stream: TcpStream::connect((loopback(), port)).await.unwrap(),
        }
    }

    /// The body of the answer; none where the connection was closed.
    pub async fn get(&mut self, path: &str) -> Option<String> {
        let text = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.stream.write_all(text.as_bytes()).await.ok()?;
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains("\r\n\r\nr") {
            if self.stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Some(text.split_once("\r\n\r\n")?.1.to_owned())
    }
}

/// Listens on every address of this host and is well.
pub async fn everywhere() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let well = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                let _ = stream.write_all(well).await;
            });
        }
    });
    port
}
