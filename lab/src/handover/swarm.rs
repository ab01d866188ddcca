//! Docker Swarm on the lab's engines: behind a HAProxy whose file follows it, or by its own mesh.
//!
//! HAProxy's file is written anew from what the engines run, at each start and end of a container
//! that they tell of, as tools do that follow the engine's events. The same file, checks, retries
//! and time-outs as the classic way.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::classic::{Machines, Server, haproxy_file};
use super::machines::Lab;
use super::system::{REPLICAS, System, WORKERS};
use crate::{on, root, swarm, try_on, until};

const SERVICE: &str = "bench-swarm";
const MANAGER: &str = WORKERS[0];
/// The app's port on every worker, through the mesh.
const MESH_PORT: u16 = 8092;
/// Longest wait for a change.
const LIMIT: Duration = Duration::from_secs(240);
/// An event that was missed costs no more than this.
const LOOKS_AGAIN: Duration = Duration::from_secs(2);
/// Process id of an engine's events, on its worker.
const EVENTS_PID: &str = "/run/bench-events.pid";

/// The app as a service of Swarm's.
pub(super) struct Swarm {
    /// None: users go through the mesh.
    follower: Option<Follower>,
    mesh: bool,
    formed: bool,
}

impl Swarm {
    pub(super) fn behind_haproxy() -> Self {
        Self {
            follower: None,
            mesh: false,
            formed: false,
        }
    }

    /// The mesh needs IPVS in the workers' kernel; none: it has none.
    pub(super) fn through_mesh() -> Option<Self> {
        let look = "test -e /proc/net/ip_vs || modprobe -q ip_vs";
        let has_ipvs = try_on(MANAGER, &["sh", "-c", look]).code == Some(0);
        has_ipvs.then_some(Self {
            follower: None,
            mesh: true,
            formed: false,
        })
    }

    /// Waits until the workers run as many, and HAProxy's file has them.
    fn settle(&self, what: &str, good: impl Fn(&[Running]) -> bool) {
        until(what, LIMIT, || {
            let all = running();
            let known = self.follower.as_ref().is_none_or(|f| f.knows(&all));
            if good(&all) && known {
                Ok(())
            } else {
                Err(all)
            }
        });
    }

    fn clean_up(&mut self) {
        try_on(MANAGER, &["docker", "service", "rm", SERVICE]);
        if let Some(follower) = self.follower.take() {
            follower.end();
        }
        if self.formed {
            swarm::dissolve(&WORKERS);
            self.formed = false;
        }
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        if self.formed {
            self.clean_up();
        }
    }
}

impl System for Swarm {
    fn name(&self) -> &'static str {
        if self.mesh { "swarm-mesh" } else { "swarm" }
    }

    fn entries(&self) -> Vec<(&'static str, String)> {
        match self.mesh {
            true => vec![(MANAGER, Lab.address(MANAGER))],
            false => vec![("edge", crate::edge())],
        }
    }

    fn stats_port(&self) -> Option<u16> {
        (!self.mesh).then(|| Lab.stats_port())
    }

    fn port(&self) -> u16 {
        if self.mesh { MESH_PORT } else { Lab.port() }
    }

    fn deploy(&mut self, ledger_to: &str) {
        self.formed = true;
        swarm::form(&WORKERS);
        let publish = match self.mesh {
            true => format!("published={MESH_PORT},target=8000"),
            false => "mode=host,target=8000".to_owned(),
        };
        let ledger_to = format!("LEDGER_TO={ledger_to}");
        // What the Compose file says to Longshore: batches of 5, new ones first, 10 s to end.
        let args = [
            &["docker", "service", "create", "-q", "--detach=true"][..],
            &["--no-resolve-image", "--name", SERVICE],
            &["--container-label", "bench=swarm", "--publish", &publish],
            &["--env", &ledger_to, "--env", "GRACE_S=9"],
            &[
                "--stop-grace-period",
                "10s",
                "--update-order",
                "start-first",
            ],
            &["--update-parallelism", "5", "longshore/bench:1"],
        ];
        on(MANAGER, &args.concat());
        if !self.mesh {
            self.follower = Some(Follower::start());
        }
        self.settle("one replica", |all| all.len() == 1);
        if let Some(follower) = &self.follower {
            follower.shared.reloads.store(0, Ordering::Relaxed);
        }
    }

    fn scale(&mut self, count: usize) {
        let wanted = format!("{SERVICE}={count}");
        on(
            MANAGER,
            &["docker", "service", "scale", "--detach=true", &wanted],
        );
        self.settle(&format!("{count} replicas"), |all| all.len() == count);
    }

    fn update(&mut self) {
        let before: Vec<String> = running().into_iter().map(|r| r.server.name).collect();
        let update = [
            "docker",
            "service",
            "update",
            "-q",
            "--force",
            "--detach=true",
            SERVICE,
        ];
        on(MANAGER, &update);
        self.settle("all replicas are new", |all| {
            all.len() == REPLICAS && all.iter().all(|r| !before.contains(&r.server.name))
        });
    }

    fn drain_node(&mut self, worker: &str) {
        let set = |availability| {
            on(
                MANAGER,
                &[
                    "docker",
                    "node",
                    "update",
                    "--availability",
                    availability,
                    worker,
                ],
            );
        };
        set("drain");
        self.settle("the node is empty", |all| {
            all.len() == REPLICAS && all.iter().all(|r| r.worker != worker)
        });
        set("active");
    }

    fn replicas_on(&self, worker: &str) -> Vec<String> {
        let here = running().into_iter().filter(|r| r.worker == worker);
        here.map(|replica| replica.server.name).collect()
    }

    fn forced(&self) -> Option<(u64, u64)> {
        None
    }

    fn reloads(&self) -> Option<u64> {
        let follower = self.follower.as_ref()?;
        Some(follower.shared.reloads.load(Ordering::Relaxed))
    }

    fn down(&mut self) {
        self.clean_up();
    }
}

/// A container of the service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Running {
    worker: &'static str,
    server: Server,
}

/// Containers of the service that run, on all workers.
fn running() -> Vec<Running> {
    let list = |worker: &'static str| {
        let format = "{{.Names}} {{.Ports}}";
        let label = "label=bench=swarm";
        let args = ["docker", "ps", "--filter", label, "--format", format];
        let said = try_on(worker, &args).stdout;
        said.lines()
            .filter_map(|line| read(worker, &Lab.address(worker), line))
            .collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let lists = WORKERS.map(|worker| scope.spawn(move || list(worker)));
        let lists = lists.map(|list| list.join().expect("a list of containers"));
        lists.into_iter().flatten().collect()
    })
}

/// `bench-swarm.1.x2k 0.0.0.0:32768->8000/tcp, …`; through the mesh no port is the worker's own.
fn read(worker: &'static str, host: &str, line: &str) -> Option<Running> {
    let (name, ports) = line.split_once(' ').unwrap_or((line, ""));
    let published = ports.split("->8000/tcp").next()?;
    let port: u16 = published.rsplit(':').next()?.parse().unwrap_or(0);
    (!name.is_empty()).then(|| Running {
        worker,
        server: Server {
            name: name.to_owned(),
            address: format!("{host}:{port}"),
        },
    })
}

/// Keeps HAProxy's file in step with what the engines run.
struct Follower {
    shared: Arc<Shared>,
    /// One for each engine.
    events: Vec<(Child, JoinHandle<()>)>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    reloads: AtomicU64,
    /// What the file has.
    written: Mutex<Vec<Server>>,
}

impl Follower {
    fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let (news, heard) = channel();
        let events = WORKERS.map(|worker| follow(worker, news.clone()));
        let follows = Arc::clone(&shared);
        Self {
            thread: thread::spawn(move || keep_in_step(&follows, &heard)),
            events: events.into_iter().collect(),
            shared,
        }
    }

    fn knows(&self, all: &[Running]) -> bool {
        let written = self.shared.written.lock().expect("not poisoned");
        *written == servers(all)
    }

    fn end(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        for (worker, (mut child, reader)) in WORKERS.into_iter().zip(self.events) {
            let end = format!("kill $(cat {EVENTS_PID}); rm -f {EVENTS_PID}");
            try_on(worker, &["sh", "-c", &end]);
            let (_killed, _waited) = (child.kill(), child.wait());
            let _read = reader.join();
        }
        Lab.end();
        ended.expect("HAProxy's file could be kept in step");
    }
}

fn servers(all: &[Running]) -> Vec<Server> {
    let mut servers: Vec<Server> = all.iter().map(|r| r.server.clone()).collect();
    servers.sort();
    servers
}

/// Passes an engine's starts and ends of containers on.
fn follow(worker: &'static str, news: Sender<()>) -> (Child, JoinHandle<()>) {
    let script = format!(
        "echo $$ >{EVENTS_PID}; exec docker events --filter type=container \
         --filter label=bench=swarm --filter event=start --filter event=die"
    );
    let mut child = Command::new(root().join("lab/hosts.sh"))
        .args(["exec", worker, "sh", "-c", &script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("hosts.sh can be run");
    let output = child.stdout.take().expect("a pipe");
    let reader = thread::spawn(move || {
        for _line in BufReader::new(output).lines().map_while(Result::ok) {
            if news.send(()).is_err() {
                return;
            }
        }
    });
    (child, reader)
}

fn keep_in_step(shared: &Shared, heard: &Receiver<()>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let _heard_or_late = heard.recv_timeout(LOOKS_AGAIN);
        // One look for all that came meanwhile.
        while heard.try_recv().is_ok() {}
        let now = servers(&running());
        if *shared.written.lock().expect("not poisoned") == now {
            continue;
        }
        Lab.configure(&haproxy_file(Lab.port(), Lab.stats_port(), &now));
        *shared.written.lock().expect("not poisoned") = now;
        shared.reloads.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn a_container_is_read_with_the_port_of_its_worker() {
        let line = "bench-swarm.3.k2x 0.0.0.0:32769->8000/tcp, :::32769->8000/tcp";
        let found = read("worker2", "192.168.56.12", line).unwrap();
        assert_eq!(found.server.name, "bench-swarm.3.k2x");
        assert_eq!(found.server.address, "192.168.56.12:32769");
        // The mesh publishes nothing of the container's own.
        let found = read("worker2", "192.168.56.12", "bench-swarm.3.k2x 8000/tcp");
        assert!(found.is_some());
        assert_eq!(read("worker2", "192.168.56.12", ""), None);
    }
}
