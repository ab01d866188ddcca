//! Which replica holds which slot of which backend.
//!
//! HAProxy knows slots, the controller knows replicas; this map is the only link between them.
//! It is written to disk before a command that depends on it is sent.

use std::collections::BTreeMap;

use longshore_model::ReplicaId;
use longshore_model::spec::RouteSpec;
use serde::{Deserialize, Serialize};

use crate::settings::Settings;

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

/// The first number from 1 that no slot has.
pub(crate) fn next_slot(slots: &BTreeMap<SlotNumber, Holder>) -> SlotNumber {
    slots
        .keys()
        .next_back()
        .map_or(1, |last| last.saturating_add(1))
}

/// Slots that a pool with `used` of them in use gets when it is written anew.
#[must_use]
pub fn pool_size(used: usize, settings: &Settings) -> usize {
    let twice = used.saturating_mul(2).next_power_of_two();
    twice
        .max(settings.slots_initial as usize)
        .min((settings.slots_max as usize).max(used))
}

/// The map as a reload should load it: pools with room, and nobody leaving (the new worker starts
/// without sessions; those of the old one are counted there).
#[must_use]
pub fn for_reload(decided: &SlotMap, settings: &Settings) -> SlotMap {
    let mut slots = decided.clone();
    for pool in slots.backends.values_mut() {
        for holder in pool.values_mut() {
            if *holder == Holder::Leaving {
                *holder = Holder::Free;
            }
        }
        let used = pool.values().filter(|h| **h != Holder::Free).count();
        let size = pool_size(used, settings);
        while pool.len() < size {
            pool.insert(next_slot(pool), Holder::Free);
        }
    }
    slots
}
