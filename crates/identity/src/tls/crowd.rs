//! How many connections each peer has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Identity;

/// Whose connections are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Peer {
    /// Of who shows a certificate.
    Named(String),
    /// Of who shows none.
    At(IpAddr),
}

/// Connections by peer.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<HashMap<Peer, usize>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    peer: Peer,
}

impl Crowd {
    fn counts(&self) -> MutexGuard<'_, HashMap<Peer, usize>> {
        // Counts are changed in one step each; a panic leaves them whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more; none: the peer has `max` already.
    pub(super) fn enter(
        self: &Arc<Self>,
        identity: Option<&Identity>,
        address: IpAddr,
        max: usize,
    ) -> Option<Place> {
        let peer = identity.map_or(Peer::At(address), |identity| {
            Peer::Named(identity.to_string())
        });
        let mut counts = self.counts();
        let count = counts.get(&peer).copied().unwrap_or(0);
        if count >= max {
            return None;
        }
        counts.insert(peer.clone(), count + 1);
        let crowd = Arc::clone(self);
        Some(Place { crowd, peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts();
        match counts.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.peer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_places_and_gets_them_back() {
        let crowd = Arc::new(Crowd::default());
        let [here, there] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(IpAddr::from);
        let node = Identity::Node("a".parse().unwrap());
        let enter = |identity, at| crowd.enter(identity, at, 2);
        let first = (enter(None, here), enter(None, here));
        assert!(first.0.is_some() && first.1.is_some());
        assert!(enter(None, here).is_none());
        // Others behind the same address, and the same elsewhere.
        let (_a, _b) = (enter(Some(&node), here), enter(Some(&node), there));
        assert!(enter(Some(&node), there).is_none());
        assert!(enter(None, there).is_some());
        drop(first);
        assert!(enter(None, here).is_some());
        assert_eq!(crowd.counts().len(), 1, "who is gone is forgotten");
    }
}
