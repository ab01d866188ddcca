//! The classic way: containers by hand, HAProxy's file written anew and reloaded after each change.
//!
//! In the order of the tools that people use for it: the containers change first, the file follows
//! (`docker compose up --scale`, then a template and `systemctl reload haproxy`). HAProxy has the
//! same checks, retries and time-outs as Longshore's edge.

use std::fmt::Write;
use std::time::Duration;

use super::system::{REPLICAS, System, WORKERS};
use crate::{get_with, until};

/// Longest wait for a container to answer.
const LIMIT: Duration = Duration::from_secs(60);
/// Replicas of one batch of an update, as in the Compose file.
const BATCH: usize = 5;

/// Where containers and HAProxy run.
pub(super) trait Machines {
    /// Port of the app on the edge.
    fn port(&self) -> u16;
    /// Port of HAProxy's statistics.
    fn stats_port(&self) -> u16;
    /// Starts a replica; its port at [`Machines::address`]. `number` counts replicas from 1.
    fn start(&mut self, worker: &str, name: &str, number: u16, ledger_to: &str) -> u16;
    /// Stops replicas, all at the same time, as `docker stop` does: SIGTERM, 10 s, SIGKILL.
    fn stop(&mut self, replicas: &[(String, String)]);
    /// Address of a worker.
    fn address(&self, worker: &str) -> String;
    /// Writes HAProxy's file and reloads it; the first time starts it.
    fn configure(&mut self, file: &str);
    /// Ends HAProxy.
    fn end(&mut self);
}

#[derive(Debug, Clone)]
struct Member {
    name: String,
    worker: String,
    port: u16,
}

/// A replica in HAProxy's file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Server {
    pub(super) name: String,
    /// `host:port`
    pub(super) address: String,
}

/// HAProxy's file for these replicas.
pub(super) fn haproxy_file(port: u16, stats: u16, servers: &[Server]) -> String {
    let mut text = format!(
        "global\n    maxconn 4000\n    hard-stop-after 5m\n\
         defaults\n    mode http\n    timeout connect 1s\n    timeout client 60s\n    \
         timeout server 60s\n    timeout queue 30s\n    timeout tunnel 1h\n    \
         timeout http-request 10s\n    timeout http-keep-alive 60s\n    retries 50\n    \
         option redispatch 1\n    default-server inter 2s fastinter 500ms rise 2 fall 3\n\
         frontend stats\n    bind :{stats}\n    stats enable\n    stats uri /stats\n    \
         http-request use-service prometheus-exporter if {{ path /metrics }}\n\
         frontend fe_{port}\n    bind :{port}\n    default_backend be_{port}\n\
         backend be_{port}\n    balance roundrobin\n    option httpchk GET /healthz\n"
    );
    for Server { name, address } in servers {
        let _ = writeln!(text, "    server {name} {address} check");
    }
    text
}

/// The app in the classic way.
pub(super) struct Classic<M> {
    machines: M,
    members: Vec<Member>,
    made: u16,
    ledger_to: String,
    reloads: u64,
}

impl<M: Machines> Classic<M> {
    pub(super) fn new(machines: M) -> Self {
        Self {
            machines,
            members: Vec::new(),
            made: 0,
            ledger_to: String::new(),
            reloads: 0,
        }
    }

    /// Starts some more on the workers that have the fewest, and waits until they answer.
    fn start(&mut self, count: usize, not_on: &str) {
        let first = self.members.len();
        for _ in 0..count {
            let load = |worker: &&str| self.members.iter().filter(|m| m.worker == **worker).count();
            let allowed = WORKERS.into_iter().filter(|worker| *worker != not_on);
            let worker = allowed.min_by_key(load).unwrap_or(WORKERS[0]).to_owned();
            self.made += 1;
            let name = format!("classic-{}", self.made);
            let port = self
                .machines
                .start(&worker, &name, self.made, &self.ledger_to);
            self.members.push(Member { name, worker, port });
        }
        for member in &self.members[first..] {
            let address = format!("{}:{}", self.machines.address(&member.worker), member.port);
            until("a replica answers", LIMIT, || {
                get_with(&address, "/healthz", LIMIT)
            });
        }
    }

    /// Stops some; the file follows in [`Classic::reload`].
    fn stop(&mut self, leaving: impl Fn(usize, &Member) -> bool) {
        let mut kept = Vec::new();
        let mut gone = Vec::new();
        for (index, member) in self.members.drain(..).enumerate() {
            match leaving(index, &member) {
                true => gone.push((member.worker, member.name)),
                false => kept.push(member),
            }
        }
        self.members = kept;
        self.machines.stop(&gone);
    }

    fn reload(&mut self) {
        let members = self.members.iter().map(|member| Server {
            name: member.name.clone(),
            address: format!("{}:{}", self.machines.address(&member.worker), member.port),
        });
        let members: Vec<Server> = members.collect();
        let file = haproxy_file(self.machines.port(), self.machines.stats_port(), &members);
        self.machines.configure(&file);
        self.reloads += 1;
    }
}

impl<M: Machines> System for Classic<M> {
    fn name(&self) -> &'static str {
        "classic"
    }

    fn stats_port(&self) -> Option<u16> {
        Some(self.machines.stats_port())
    }

    fn port(&self) -> u16 {
        self.machines.port()
    }

    fn deploy(&mut self, ledger_to: &str) {
        ledger_to.clone_into(&mut self.ledger_to);
        self.start(1, "");
        self.reload();
        self.reloads = 0;
    }

    fn scale(&mut self, count: usize) {
        self.start(count.saturating_sub(self.members.len()), "");
        self.stop(|index, _| index >= count);
        self.reload();
    }

    fn update(&mut self) {
        for _ in 0..REPLICAS.div_ceil(BATCH) {
            self.start(BATCH, "");
            self.reload();
            self.stop(|index, _| index < BATCH);
            self.reload();
        }
    }

    fn drain_node(&mut self, worker: &str) {
        let here = self.members.iter().filter(|m| m.worker == worker).count();
        self.start(here, worker);
        self.reload();
        self.stop(|_, member| member.worker == worker);
        self.reload();
    }

    fn replicas_on(&self, worker: &str) -> Vec<String> {
        let here = self.members.iter().filter(|m| m.worker == worker);
        here.map(|member| member.name.clone()).collect()
    }

    fn forced(&self) -> Option<(u64, u64)> {
        None
    }

    fn reloads(&self) -> Option<u64> {
        Some(self.reloads)
    }

    fn down(&mut self) {
        self.stop(|_, _| true);
        self.machines.end();
    }
}
