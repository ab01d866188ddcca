//! The doors of this node's replicas: which of them take new connections by name, where, and how
//! many each has. Every connection to a replica by name goes through its door here, whichever
//! node it comes from, so that a door that is shut and shows none has none.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_model::{ReplicaId, ServiceKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Most connections to all replicas of this node at a time.
pub const SERVED_MAX: u32 = 4_096;

/// One replica of this node, as its door sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// What it is a replica of; none: what nobody wants any more.
    pub service: Option<ServiceKey>,
    /// Where its container is reached from this host; none: not known (yet).
    pub address: Option<IpAddr>,
    /// It takes new connections.
    pub accepts: bool,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// It takes no new connections: it is about to stop, or the node has too many.
    Closed,
    /// It is not on this node, or not running.
    NotHere,
}

#[derive(Debug)]
struct Door {
    local: Local,
    live: u32,
    /// Ends those that are left.
    cut: CancellationToken,
    /// Its replica is gone; kept until the last connection has noticed.
    gone: bool,
}

/// All doors.
#[derive(Debug)]
pub struct Doors {
    doors: Mutex<BTreeMap<ReplicaId, Door>>,
    changed: watch::Sender<()>,
}

impl Default for Doors {
    fn default() -> Self {
        Self {
            doors: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }
}

impl Doors {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, Door>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are the replicas of this node. When it returns, nobody gets in any more where it is
    /// not allowed, and [`Self::counts`] knows all that got in before. Connections of replicas
    /// that are not named any more are cut.
    pub fn set(&self, locals: &BTreeMap<ReplicaId, Local>) {
        let mut doors = self.lock();
        let mut shut = false;
        for (id, local) in locals {
            let door = doors.entry(*id).or_insert_with(|| Door::new(local.clone()));
            if door.gone {
                (door.gone, door.cut) = (false, CancellationToken::new());
            }
            shut |= door.local.accepts && !local.accepts;
            door.local = local.clone();
        }
        doors.retain(|id, door| {
            if !locals.contains_key(id) {
                shut |= !door.gone;
                door.gone = true;
                door.cut.cancel();
            }
            !door.gone || door.live > 0
        });
        drop(doors);
        if shut {
            self.changed.send_replace(());
        }
    }

    /// Lets one connection in, or says why not.
    ///
    /// # Errors
    /// [`Shut`].
    pub fn enter(self: &Arc<Self>, replica: ReplicaId) -> Result<Guest, Shut> {
        let mut doors = self.lock();
        let live: u32 = doors.values().map(|door| door.live).sum();
        let door = doors.get_mut(&replica).filter(|door| !door.gone);
        let door = door.ok_or(Shut::NotHere)?;
        if !door.local.accepts || live >= SERVED_MAX {
            return Err(Shut::Closed);
        }
        let address = door.local.address.ok_or(Shut::NotHere)?;
        door.live += 1;
        Ok(Guest {
            address,
            service: door.local.service.clone(),
            cut: door.cut.clone(),
            replica,
            doors: Arc::clone(self),
        })
    }

    /// How many connections a replica has.
    #[must_use]
    pub fn connections(&self, replica: ReplicaId) -> u32 {
        self.lock().get(&replica).map_or(0, |door| door.live)
    }

    /// Connections of all replicas that have any.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<ReplicaId, u32> {
        let doors = self.lock();
        let busy = doors.iter().filter(|(_, door)| door.live > 0);
        busy.map(|(id, door)| (*id, door.live)).collect()
    }

    /// Told whenever a door was shut and whenever one that is has lost a connection; not of
    /// those that come and go at open doors, which are too many.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    fn left(&self, replica: ReplicaId) {
        let mut doors = self.lock();
        let Some(door) = doors.get_mut(&replica) else {
            return;
        };
        door.live = door.live.saturating_sub(1);
        let waited_for = !door.local.accepts || door.gone;
        if door.gone && door.live == 0 {
            doors.remove(&replica);
        }
        drop(doors);
        if waited_for {
            self.changed.send_replace(());
        }
    }
}

impl Door {
    fn new(local: Local) -> Self {
        Self {
            local,
            live: 0,
            cut: CancellationToken::new(),
            gone: false,
        }
    }
}

/// One connection that was let in; it counts until it is dropped.
#[derive(Debug)]
pub struct Guest {
    /// Where to dial.
    pub address: IpAddr,
    /// What it is a replica of.
    pub service: Option<ServiceKey>,
    /// It shall end.
    pub cut: CancellationToken,
    replica: ReplicaId,
    doors: Arc<Doors>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.doors.left(self.replica);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ID: ReplicaId = ReplicaId(7);

    fn set(doors: &Doors, accepts: bool) {
        let address = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let local = Local {
            service: None,
            address,
            accepts,
        };
        doors.set(&[(ID, local)].into());
    }

    #[test]
    fn a_shut_door_lets_nobody_in_and_tells_of_each_that_leaves() {
        let doors = Arc::new(Doors::default());
        assert_eq!(doors.enter(ID).unwrap_err(), Shut::NotHere);
        set(&doors, true);
        let (first, second) = (doors.enter(ID).unwrap(), doors.enter(ID).unwrap());
        let mut changes = doors.changes();
        drop(doors.enter(ID).unwrap());
        assert!(!changes.has_changed().unwrap(), "too many at open doors");
        set(&doors, false);
        assert!(changes.has_changed().unwrap());
        assert_eq!(doors.enter(ID).unwrap_err(), Shut::Closed);
        for (guest, left) in [(first, 1), (second, 0)] {
            changes.mark_unchanged();
            drop(guest);
            assert!(changes.has_changed().unwrap());
            assert_eq!(doors.connections(ID), left);
        }
    }

    #[test]
    fn connections_of_a_replica_that_is_gone_are_cut_and_not_counted_on() {
        let doors = Arc::new(Doors::default());
        set(&doors, true);
        let guest = doors.enter(ID).unwrap();
        doors.set(&BTreeMap::new());
        assert!(guest.cut.is_cancelled());
        assert_eq!(doors.enter(ID).unwrap_err(), Shut::NotHere);
        set(&doors, true);
        let next = doors.enter(ID).unwrap();
        assert!(!next.cut.is_cancelled());
        drop((guest, next));
        assert_eq!(doors.counts(), BTreeMap::new());
    }

    #[test]
    fn a_node_has_a_bound() {
        let doors = Arc::new(Doors::default());
        set(&doors, true);
        let guests: Vec<_> = (0..SERVED_MAX).map(|_| doors.enter(ID).unwrap()).collect();
        assert_eq!(doors.enter(ID).unwrap_err(), Shut::Closed);
        drop(guests);
        assert!(doors.enter(ID).is_ok());
    }
}
