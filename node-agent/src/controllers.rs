//! Where the controllers are that this node knows of: the one that it joined by, and those that a leader told it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_reach::CONTROLLERS_MAX;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::files::{read_optional, write_atomic};
use crate::identity::NodeIdentity;
use crate::join::dial;

/// `DATA/controllers.json`: the one that led last comes first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    controllers: Vec<String>,
}

/// See the module. Clones share what they know.
#[derive(Debug, Clone)]
pub struct Controllers {
    /// By which this node joined; it is never forgotten.
    joined: String,
    path: PathBuf,
    known: Arc<Mutex<Known>>,
}

impl Controllers {
    /// With what is in `path`. What cannot be read there is learned again.
    #[must_use]
    pub fn load(joined: &str, path: PathBuf) -> Self {
        let text = read_optional(&path).unwrap_or_else(|error| {
            tracing::warn!(%error, "which controllers there are is learned again");
            None
        });
        let known = text.and_then(|text| serde_json::from_str(&text).ok());
        Self {
            joined: joined.to_owned(),
            path,
            known: Arc::new(Mutex::new(known.unwrap_or_default())),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // It is replaced in one step.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to ask, in order.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        let mut list = self.known().controllers.clone();
        list.truncate(CONTROLLERS_MAX - 1);
        if !list.contains(&self.joined) {
            list.push(self.joined.clone());
        }
        list
    }

    /// `leader` leads, and says that there are `all`; none: it does not say.
    pub fn learn(&self, leader: &str, all: &[String]) {
        let mut known = self.known();
        let before = known.controllers.clone();
        let others: &[String] = if all.is_empty() { &before } else { all };
        let mut next = vec![leader.to_owned()];
        next.extend(others.iter().filter(|other| *other != leader).cloned());
        next.truncate(CONTROLLERS_MAX);
        if next == before {
            return;
        }
        known.controllers = next;
        let text = serde_json::to_vec(&*known).unwrap_or_default();
        if let Err(error) = write_atomic(&self.path, &text, 0o600) {
            tracing::warn!(%error, "the controllers are known until the agent ends");
        }
    }
}

/// The first look comes soon: controllers may have been added since this node was off.
const LOOK_FIRST: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(600);

/// Asks the leader where controllers are, now and then, until `stop`: a session may be older than they are.
pub async fn run(identity: NodeIdentity, stop: CancellationToken) {
    let mut wait = LOOK_FIRST;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait.mul_f64(rand::random_range(0.8..1.2))) => {}
        }
        if let Err(error) = dial(&identity).await {
            tracing::debug!(%error, "no controller says where others are");
        }
        wait = LOOK;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_leader_says_is_kept_and_the_first_one_never_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("controllers.json");
        let [a, b, c] = ["https://a:1", "https://b:1", "https://c:1"].map(String::from);
        let controllers = Controllers::load(&a, path.clone());
        assert_eq!(controllers.list(), std::slice::from_ref(&a));
        controllers.learn(&b, &[c.clone(), b.clone()]);
        let wanted = [b.clone(), c.clone(), a.clone()];
        assert_eq!(controllers.list(), wanted);
        let again = Controllers::load(&a, path.clone());
        assert_eq!(again.list(), wanted);
        // A controller of before, or one alone, says nothing of others.
        again.learn(&c, &[]);
        assert_eq!(again.list(), [c, b, a.clone()]);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Controllers::load(&a, path).list(), [a]);
    }
}
