//! Which replica holds which slot of which backend.
//!
//! HAProxy knows slots, the controller knows replicas; this map is the only link between them.
//! It is written to disk before a command that depends on it is sent.

use std::collections::BTreeMap;

use longshore_model::ReplicaId;
use longshore_model::spec::RouteSpec;
use serde::{Deserialize, Serialize};

/// Number of a slot; its server is called `slotN`.
pub type SlotNumber = u32;

/// Who holds a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// A replica. `proven` once HAProxy's own check has passed and it was made ready; only such
    /// a server is enabled in the file.
    Replica {
        /// Which one.
        id: ReplicaId,
        /// Its check passed.
        proven: bool,
    },
    /// Nobody, but sessions of the last holder may still be there: not to be given away.
    Leaving,
    /// Nobody, and no session: free.
    Free,
}

/// The map, with what must survive a restart of its owner.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SlotMap {
    /// Slots by backend name.
    pub backends: BTreeMap<String, BTreeMap<SlotNumber, Holder>>,
    /// A new file was put in place and the reload that loads it was not yet seen to succeed.
    #[serde(default)]
    pub reload_owed: bool,
    /// Ways in of the file that HAProxy was last seen to take, by backend name: what a service is
    /// served with while HAProxy does not take what it should be served with.
    #[serde(default)]
    pub loaded: BTreeMap<String, RouteSpec>,
}
