//! Other programs that listen on this HAProxy's ports.
//!
//! HAProxy opens its ports so that several processes may listen on them, which a second HAProxy
//! (started by hand, or left over from a master that was killed) does as well: both start, both
//! answer, and each gets a part of the requests. Nothing fails; only the kernel's table of sockets
//! shows it. What is found is said, and never ended: it is somebody else's.
//!
//! Who is ours is what the master says. A finding counts once two looks have had it, so a reload or
//! a restart under way is none; what cannot be read is not known, and changes nothing.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use longshore_model::event::ports_in_words;
use longshore_model::observe::PortsBySharer;
use tokio::time::Instant;

use crate::blocking::blocking;
use crate::edge::Edge;
use crate::readout::Processes;
use crate::render::listen_ports;
use table::{Inode, Listener};

/// Between two looks.
const LOOK_MS: u64 = 2_000;
/// What is known of them.
#[derive(Debug, Default)]
pub(crate) struct Sharers {
    due: Option<Instant>,
    known: Known,
}

/// What one look leaves for the next.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Pids of HAProxy's processes, by which the rest is known.
    pids: BTreeSet<u32>,
    /// Sockets that they have open.
    ours: BTreeSet<Inode>,
    /// Sockets of others that one look has found.
    suspects: BTreeMap<Inode, u16>,
    /// Those that more than one has, with their holders.
    found: BTreeMap<Inode, (u16, String)>,
}

impl Known {
    /// Takes what this look has found; names holders of what is not new any more.
    fn take(&mut self, foreign: BTreeMap<Inode, u16>, names: impl Fn(Inode) -> String) {
        self.found.retain(|inode, _| foreign.contains_key(inode));
        for (inode, port) in &foreign {
            if self.suspects.contains_key(inode) && !self.found.contains_key(inode) {
                self.found.insert(*inode, (*port, names(*inode)));
            }
        }
        self.suspects = foreign;
    }

    fn ports(&self) -> PortsBySharer {
        let mut ports = PortsBySharer::new();
        for (port, by) in self.found.values() {
            ports.entry(by.clone()).or_default().insert(*port);
        }
        ports
    }
}

/// Sockets of others that get connections meant for one of `binds`, with their ports. A port where
/// none of ours is seen (it waits for a reload, or these are not its pids) is not known.
fn foreign(
    binds: &[(IpAddr, u16)],
    listeners: &[Listener],
    ours: &BTreeSet<Inode>,
) -> BTreeMap<Inode, u16> {
    let mut found = BTreeMap::new();
    for (address, port) in binds {
        let there = |l: &&Listener| l.takes_from(*address, *port);
        let own = |l: &Listener| l.address == *address && ours.contains(&l.inode);
        if !listeners.iter().filter(there).any(own) {
            continue;
        }
        let others = listeners.iter().filter(there);
        let others = others.filter(|listener| !ours.contains(&listener.inode));
        found.extend(others.map(|listener| (listener.inode, *port)));
    }
    found
}

/// One look, in a thread that may block; none: something could not be read.
fn look(proc: &Path, mut known: Known, now: &Processes, binds: &[(IpAddr, u16)]) -> Option<Known> {
    let workers = now.workers.iter().chain(&now.old_workers);
    let pids: BTreeSet<u32> = workers.copied().chain([now.master]).collect();
    if pids != known.pids {
        // A process that lost its master keeps its sockets, and is somebody else from then on.
        known.ours.clear();
        known.found.clear();
        known.pids = pids;
    }
    let ports: BTreeSet<u16> = binds.iter().map(|(_, port)| *port).collect();
    // The one that HAProxy is in: elsewhere the same port is another one.
    let space = proc.join(now.master.to_string()).join("net");
    let mut listeners = table::listeners(&space)?;
    listeners.retain(|listener| ports.contains(&listener.port));
    let there: BTreeSet<Inode> = listeners.iter().map(|l| l.inode).collect();
    known.ours.retain(|inode| there.contains(inode));
    let is_known = |i: &Inode| known.ours.contains(i) || known.found.contains_key(i);
    let unknown: BTreeSet<Inode> = there.into_iter().filter(|i| !is_known(i)).collect();
    if !unknown.is_empty() {
        let mut left = unknown;
        for pid in &known.pids {
            for inode in table::held_by(proc, *pid, &left)? {
                left.remove(&inode);
                known.ours.insert(inode);
            }
        }
    }
    let foreign = foreign(binds, &listeners, &known.ours);
    known.take(foreign, |inode| table::holder(proc, inode));
    Some(known)
}

/// What is said of them, with the way out.
fn say(by: &str, ports: &BTreeSet<u16>) -> String {
    format!(
        "{by} listens on {}, too, and gets a part of what is meant for this HAProxy: \
         stop that program (`systemctl status PID` shows what started it)",
        ports_in_words(ports)
    )
}

impl Edge {
    /// Looks for them, where it is time to.
    pub(crate) async fn look_for_sharers(&mut self) {
        let now = Instant::now();
        if self.sharers.due.is_some_and(|at| now < at) {
            return;
        }
        self.sharers.due = Some(now + Duration::from_millis(LOOK_MS));
        let Ok(processes) = self.processes().await else {
            return;
        };
        if processes.master == 0 {
            return;
        }
        let known = self.sharers.known.clone();
        let binds = self.binds();
        let looked = move || look(Path::new("/proc"), known, &processes, &binds);
        if let Some(known) = blocking(looked).await {
            self.sharers.known = known;
        }
    }

    /// Where its file has it listen.
    fn binds(&self) -> Vec<(IpAddr, u16)> {
        let ports = self.written.as_deref().map(listen_ports);
        let ports = ports.into_iter().flatten();
        let services = ports.map(|port| (self.settings.bind_address, port));
        let statistics = self.settings.reserved_ports().into_iter();
        let statistics = statistics.map(|port| (self.settings.stats_address, port));
        services.chain(statistics).collect()
    }

    /// Other programs that listen on ports of this HAProxy, as last seen, and on which.
    #[must_use]
    pub fn sharers(&self) -> PortsBySharer {
        self.sharers.known.ports()
    }

    pub(crate) fn say_sharers(&self) -> Vec<String> {
        let sharers = self.sharers();
        sharers.iter().map(|(by, ports)| say(by, ports)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn listener(address: IpAddr, port: u16, inode: Inode) -> Listener {
        Listener {
            address,
            port,
            inode,
        }
    }

    #[test]
    fn only_what_gets_our_connections_is_foreign_and_only_where_we_listen() {
        let ours = BTreeSet::from([1, 2]);
        let found = |binds: &[(IpAddr, u16)], listeners: &[Listener]| {
            foreign(binds, listeners, &ours)
                .into_iter()
                .collect::<Vec<_>>()
        };
        let own = listener(ANY, 80, 1);
        let more = listener(ANY, 80, 2);
        let other = listener(ANY, 80, 9);
        assert_eq!(found(&[(ANY, 80)], &[own, more]), []);
        assert_eq!(found(&[(ANY, 80)], &[own, more, other]), [(9, 80)]);
        // An address of its own gets all that is sent there.
        assert_eq!(
            found(&[(ANY, 80)], &[own, listener(HERE, 80, 9)]),
            [(9, 80)]
        );
        // One that is not ours gets nothing of it.
        let own_here = listener(HERE, 80, 1);
        assert_eq!(found(&[(HERE, 80)], &[own_here, other]), []);
        assert_eq!(found(&[(ANY, 80)], &[own, listener(ANY, 81, 9)]), []);
        let six = "::".parse().unwrap();
        assert_eq!(found(&[(ANY, 80)], &[own, listener(six, 80, 9)]), []);
        // Pids of another namespace: nobody is known to be ours.
        assert_eq!(found(&[(ANY, 80)], &[other, listener(ANY, 80, 8)]), []);
        // We have not opened it (yet).
        assert_eq!(
            found(&[(ANY, 81), (ANY, 80)], &[own, listener(ANY, 81, 9)]),
            []
        );
    }

    #[test]
    fn one_look_is_no_finding_and_what_is_gone_is_forgotten() {
        let mut known = Known::default();
        let by = |inode| format!("haproxy (pid {inode})");
        known.take([(9, 80)].into(), by);
        assert!(known.ports().is_empty());
        // Another socket each time: somebody who starts and fails.
        known.take([(8, 80)].into(), by);
        assert!(known.ports().is_empty());
        known.take([(8, 80), (7, 81)].into(), by);
        known.take([(8, 80), (7, 81)].into(), by);
        assert_eq!(known.ports().len(), 2);
        known.take(BTreeMap::new(), by);
        assert!(known.ports().is_empty());
    }

    #[test]
    fn many_ports_are_one_line() {
        let ports: BTreeSet<u16> = (80..90).collect();
        let said = say("haproxy (pid 7)", &ports);
        assert!(
            said.contains("port 80, 81, 82, 83, 84, 85, 86, 87 and 2 more"),
            "{said}"
        );
    }
}
