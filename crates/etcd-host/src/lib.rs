//! Real etcd members as child processes on loopback, ended by their pids. For tests only: what
//! goes wrong here is a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use longshore_etcd::{Client, Credentials, Settings};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

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

/// A port that was free a moment ago, below those that the system gives to clients, out of a hundred that no other
/// test's process has, so that tests that run at the same time do not meet.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static HUNDRED: LazyLock<(u16, File)> = LazyLock::new(hundred);
    for _ in 0..10_000 {
        let port = 12_000 + HUNDRED.0 * 100 + NEXT.fetch_add(1, Ordering::SeqCst) % 100;
        if std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
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

/// One etcd process.
pub struct Member {
    process: Child,
    pub url: String,
}

impl Member {
    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).unwrap();
    }

    /// Holds it still: its connections stay open and say nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // SIGKILL ends a frozen process as well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A cluster of members in a temporary directory.
pub struct Cluster {
    pub members: Vec<Member>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts `count` members and waits until each of them serves.
    pub async fn start(count: usize) -> Self {
        Self::with(count, &[]).await
    }

    pub async fn with(count: usize, options: &[&str]) -> Self {
        Self::launch(count, options, None).await
    }

    /// With `credentials`, its clients speak TLS, by certificates that `options` name.
    pub async fn launch(count: usize, options: &[&str], credentials: Option<&Credentials>) -> Self {
        let scheme = credentials.map_or("http", |_| "https");
        let dir = tempfile::tempdir().unwrap();
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let initial: Vec<String> = ports
            .iter()
            .enumerate()
            .map(|(n, (_, peer))| format!("m{n}=http://127.0.0.1:{peer}"))
            .collect();
        let mut members = Vec::new();
        for (n, (client, peer)) in ports.iter().enumerate() {
            let url = format!("{scheme}://127.0.0.1:{client}");
            let peer = format!("http://127.0.0.1:{peer}");
            let log = std::fs::File::create(dir.path().join(format!("log{n}"))).unwrap();
            let process = Command::new("etcd")
                .args(["--name", &format!("m{n}")])
                .arg("--data-dir")
                .arg(dir.path().join(format!("m{n}")))
                .args([
                    "--listen-client-urls",
                    &url,
                    "--advertise-client-urls",
                    &url,
                ])
                .args(["--listen-peer-urls", &peer])
                .args(["--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &initial.join(",")])
                .args(["--unsafe-no-fsync", "--logger", "zap"])
                .args(options)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .expect("install etcd (apt-get install etcd-server)");
            members.push(Member { process, url });
        }
        let cluster = Self { members, _dir: dir };
        for member in &cluster.members {
            let client = patient_with(&[&member.url], credentials);
            until("a member serves", async || {
                client.status().await.map_err(|error| error.to_string())
            })
            .await;
        }
        cluster
    }

    pub fn urls(&self) -> Vec<&str> {
        self.members.iter().map(|member| &*member.url).collect()
    }

    /// A client of all members, with the deadlines of everyday use.
    pub fn client(&self) -> Client {
        Client::new(Settings::new(&self.urls(), None).unwrap())
    }

    /// The member that leads etcd, and its place among the members.
    pub async fn leader(&self) -> usize {
        for (n, member) in self.members.iter().enumerate() {
            let status = patient(&[&member.url]).status().await.unwrap();
            if status.leader_id == status.member_id {
                return n;
            }
        }
        panic!("no member leads");
    }

    pub fn place(&self, url: &str) -> usize {
        let found = self.members.iter().position(|member| member.url == url);
        found.unwrap()
    }
}

/// A client for what must succeed, however busy the machine is.
pub fn patient(urls: &[&str]) -> Client {
    patient_with(urls, None)
}

pub fn patient_with(urls: &[&str], credentials: Option<&Credentials>) -> Client {
    let mut settings = Settings::new(urls, credentials).unwrap();
    settings.race_deadline = PATIENCE;
    settings.call_deadline = PATIENCE;
    settings.patience = PATIENCE;
    Client::new(settings)
}

/// A way to a member that can be broken.
pub struct Way {
    pub url: String,
    state: watch::Sender<State>,
    task: tokio::task::JoinHandle<()>,
}

/// What gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Requests do, their answers do not.
    Mute,
    Cut,
}

impl Way {
    pub async fn to(url: &str) -> Self {
        let target: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
        let here = (IpAddr::V4(Ipv4Addr::LOCALHOST), free_port());
        let listener = TcpListener::bind(here).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (state, seen) = watch::channel(State::Open);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, target, seen.clone()));
            }
        });
        Self { url, state, task }
    }

    /// From now on nothing gets through; what is open stays open and silent.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// From now on new connections are as they should be. Of what was held back on each of the old
    /// ones, the first gets through, late, and nothing after it that would take it back.
    pub fn mend(&self) {
        self.state.send_replace(State::Open);
    }

    /// From now on requests get through, and no answers: what is asked for is done, unheard.
    pub fn mute(&self) {
        self.state.send_replace(State::Mute);
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, target: SocketAddr, state: watch::Receiver<State>) {
    let mut wait = state.clone();
    let _ = wait.wait_for(|state| *state != State::Cut).await;
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    // Small answers would wait for 40 ms each.
    for end in [&client, &server] {
        let _ = end.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Either end closes both; what is held back is held, and silent, until the test ends.
    tokio::select! {
        () = carry(from_client, to_server, state.clone(), &[State::Open, State::Mute]) => {}
        () = carry(from_server, to_client, state, &[State::Open]) => {}
    }
}

/// Carries bytes one way while the state is one of `open`.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    open: &[State],
) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut bytes).await else {
            return;
        };
        let late = !open.contains(&state.borrow());
        if state.wait_for(|state| open.contains(state)).await.is_err() {
            return std::future::pending().await;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
        if late {
            return std::future::pending().await;
        }
    }
}
