//! One command to HAProxy as data, and the only place where it becomes text.

use std::net::{IpAddr, SocketAddr};

use crate::name::{BackendName, slot_name};
use crate::render::PARKED;
use crate::slots::SlotNumber;

/// What is done to a slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make the slot, in maint.
    AddServer {
        /// Where it points to.
        at: SocketAddr,
        /// Check intervals and limits, from [`crate::render::server_options`].
        options: String,
    },
    /// Point it at a replica. Only in maint.
    SetAddr {
        /// Where to.
        address: IpAddr,
        /// Port there.
        port: u16,
    },
    /// Point it at nobody. Only in maint.
    Park,
    /// Let checks run; `add server` leaves them off.
    EnableHealth,
    /// No new requests. Leaves maint: checks run.
    Drain,
    /// Out, checks off, idle connections closed.
    Maint,
    /// Takes requests.
    Ready,
    /// Takes what waits for any server: see [`Action::opens`].
    Pull {
        /// Requests at a time, as before.
        maxconn: u32,
    },
    /// Its part of the traffic, beside the weights of the others.
    Weight(u32),
    /// Its check asks itself, at its own port.
    CheckAtPort,
    /// Its check asks itself, at its own address.
    CheckAtAddress,
    /// Requests that it takes at a time; 0 without a limit.
    Limit(u32),
    /// Out: a server of the backend that is no slot.
    Expel {
        /// Its name, as HAProxy says it.
        server: String,
    },
}

impl Action {
    /// Lets a server take requests. HAProxy has a server that leaves *drain* take nothing of its
    /// backend's queue, and with `roundrobin` new requests queue as well while that is not empty:
    /// under steady overload a newcomer would never get one (seen on 2.6.12), and a queue whose
    /// last other server leaves would wait for nobody. A limit that is set, to what it was, does
    /// look at the queue; from then on each request that ends does.
    #[must_use]
    pub fn opens(&self) -> bool {
        matches!(self, Self::Ready | Self::Pull { .. })
    }
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    /// Backend of the slot.
    pub backend: BackendName,
    /// The slot.
    pub slot: SlotNumber,
    /// What is done to it.
    pub action: Action,
}

impl Step {
    /// The command as HAProxy reads it, without the newline. All its words come from types that
    /// hold no syntax.
    #[must_use]
    pub fn wire(&self) -> String {
        let server = format!("{}/{}", self.backend, slot_name(self.slot));
        let set_addr =
            |address: IpAddr, port: u16| format!("set server {server} addr {address} port {port}");
        match &self.action {
            // Without the two pool options a server added at run time opens a connection per
            // request on releases before 2.6.18.
            Action::AddServer { at, options } => format!(
                "add server {server} {at} check {options} pool-purge-delay 5s pool-max-conn -1"
            ),
            Action::SetAddr { address, port } => set_addr(*address, *port),
            Action::Park => set_addr(PARKED.ip(), PARKED.port()),
            Action::EnableHealth => format!("enable health {server}"),
            Action::Drain => format!("set server {server} state drain"),
            Action::Maint => format!("set server {server} state maint"),
            Action::Ready => format!("set server {server} state ready"),
            Action::Pull { maxconn } => format!("set maxconn server {server} {maxconn}"),
            Action::CheckAtPort => format!("set server {server} check-port 0"),
            // The only word that takes one back.
            Action::CheckAtAddress => format!("set server {server} check-addr 0.0.0.0"),
            Action::Limit(limit) => format!("set maxconn server {server} {limit}"),
            Action::Expel { server } => {
                format!("set server {}/{server} state maint", self.backend)
            }
            Action::Weight(weight) => format!("set server {server} weight {weight}"),
        }
    }
}
