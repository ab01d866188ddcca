//! Where HAProxy lives on this host and how it is set up. Values of the host's owner, never of a
//! user of the cluster.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::name::StatsUri;

/// Everything that the driver must know of the local HAProxy. The defaults fit
/// `haproxy -W -S /run/haproxy-master.sock -f /var/lib/longshore/haproxy/haproxy.cfg`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The file that HAProxy is started with. Written by the driver alone.
    pub config_path: PathBuf,
    /// State of the servers, filled just before a reload and emptied after it.
    pub state_path: PathBuf,
    /// Which replica holds which slot, JSON.
    pub slots_path: PathBuf,
    /// Directory of the certificates, with their keys; written by the driver alone.
    pub certificates_path: PathBuf,
    /// Administration socket of the worker.
    pub admin_socket: PathBuf,
    /// Socket of the master (`-S`).
    pub master_socket: PathBuf,
    /// The program, for `haproxy -c`.
    pub binary: PathBuf,
    /// Address that the services' ports are bound to.
    pub bind_address: IpAddr,
    /// Address of the statistics page and the metrics.
    pub stats_address: IpAddr,
    /// Port of the statistics page and the metrics.
    pub stats_port: u16,
    /// The statistics page once more, where people are used to find it.
    pub stats_also: Option<StatsPage>,
    /// Who the worker runs as.
    pub process: ProcessSettings,
    /// How servers are checked.
    pub check: CheckSettings,
    /// Most client connections of the whole process.
    pub connections_max: u32,
    /// Slots of a new backend.
    pub slots_initial: u32,
    /// Most slots that one backend may grow to.
    pub slots_max: u32,
    /// Longest life of an old worker after a reload; it must exceed the longest normal request.
    pub hard_stop_after_ms: u64,
    /// Deadline of one conversation over a socket.
    pub socket_deadline_ms: u64,
    /// Longest wait for a joining server's answer to the driver's own first check, which lets it
    /// in without waiting for HAProxy's next interval; 0 leaves it to HAProxy alone.
    pub probe_deadline_ms: u64,
    /// Deadline of `haproxy -c`.
    pub check_deadline_ms: u64,
    /// Longest wait for the new worker after a reload.
    pub reload_deadline_ms: u64,
    /// Shortest time between two changes of structure: those that come meanwhile are loaded in
    /// one. Each reload leaves a worker behind until its last request is over.
    pub reload_spacing_ms: u64,
}

/// A further port at `stats_address` that has the statistics page, for reading, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsPage {
    /// The port; services cannot have it.
    pub port: u16,
    /// Where the page is; what begins otherwise is answered with 404.
    pub uri: StatsUri,
}

/// Who the worker runs as and who may talk to its socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessSettings {
    /// User of the worker; none keeps the master's user (tests).
    pub user: Option<String>,
    /// Group of the worker.
    pub group: Option<String>,
    /// Directory that the worker is locked into.
    pub chroot: Option<PathBuf>,
    /// Group of the administration socket, where it is not the worker's.
    pub socket_group: Option<String>,
}

/// How servers are checked. Law: `fall >= 2`, else a proven server cannot be told from one that
/// was never asked (both would stand at `rise`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckSettings {
    /// Between two checks of a healthy or parked server. It bounds how long a joining server
    /// waits for its first check.
    pub inter_ms: u32,
    /// Between two checks while a server is on its way up or down.
    pub fastinter_ms: u32,
    /// Between two checks of a server that is down.
    pub downinter_ms: u32,
    /// Passed checks in a row that bring a server back.
    pub rise: u32,
    /// Failed checks in a row that take a server out.
    pub fall: u32,
    /// Time for the answer, once connected, after which one check counts as failed.
    pub timeout_ms: u32,
}

impl Default for CheckSettings {
    fn default() -> Self {
        // rise 1: a joining server needs one passed check whatever `rise` says (it leaves maint
        // at health == rise), and one that failed its first check should not wait for two more.
        // fall 2: the smallest that the law above allows, and what the second witness expects.
        // timeout 3 s: a busy app that accepts and answers late is not ill. A host that is gone is
        // found by the connection, for which HAProxy waits `inter` at most.
        Self {
            inter_ms: 500,
            fastinter_ms: 100,
            downinter_ms: 500,
            rise: 1,
            fall: 2,
            timeout_ms: 3_000,
        }
    }
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            user: Some("haproxy".to_owned()),
            group: Some("haproxy".to_owned()),
            chroot: Some(PathBuf::from("/var/lib/haproxy")),
            socket_group: None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let home = PathBuf::from("/var/lib/longshore/haproxy");
        Self {
            config_path: home.join("haproxy.cfg"),
            state_path: home.join("haproxy.state"),
            slots_path: home.join("slots.json"),
            certificates_path: home.join("certificates"),
            admin_socket: PathBuf::from("/run/haproxy/admin.sock"),
            master_socket: PathBuf::from("/run/haproxy-master.sock"),
            binary: PathBuf::from("haproxy"),
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            stats_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            stats_port: 8404,
            stats_also: None,
            process: ProcessSettings::default(),
            check: CheckSettings::default(),
            connections_max: 20_000,
            slots_initial: 8,
            slots_max: 4_096,
            hard_stop_after_ms: 300_000,
            socket_deadline_ms: 2_000,
            probe_deadline_ms: 50,
            check_deadline_ms: 10_000,
            reload_deadline_ms: 5_000,
            reload_spacing_ms: 2_000,
        }
    }
}

impl Settings {
    /// Ports of the statistics, which no service can have.
    #[must_use]
    pub fn reserved_ports(&self) -> Vec<u16> {
        let also = self.stats_also.iter().map(|page| page.port);
        [self.stats_port].into_iter().chain(also).collect()
    }
}
