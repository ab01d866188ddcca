//! What does not work at present, in words.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Most problems that are remembered; what is beyond is in the log only.
const PROBLEMS_MAX: usize = 64;

/// The present problems, by what they are about.
#[derive(Debug, Default)]
pub(super) struct Problems(Mutex<BTreeMap<String, String>>);

impl Problems {
    /// This does not work. Logged once, until it works again or fails in another way; what there is no
    /// room for, each time.
    pub(super) fn say(&self, about: &str, text: String) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(about) == Some(&text) {
            return;
        }
        tracing::warn!(about, "{text}");
        if all.len() < PROBLEMS_MAX || all.contains_key(about) {
            all.insert(about.to_owned(), text);
        }
    }

    /// It works now.
    pub(super) fn clear(&self, about: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.remove(about).is_some() {
            tracing::info!(about, "works again");
        }
    }

    pub(super) fn list(&self) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_bounded_and_go_away() {
        let problems = Problems::default();
        for n in 0..2 * PROBLEMS_MAX {
            problems.say(&format!("port {n}"), "taken".into());
        }
        assert_eq!(problems.list().len(), PROBLEMS_MAX);
        problems.say("port 0", "refused".into());
        problems.clear("port 1");
        let list = problems.list();
        assert_eq!(list.len(), PROBLEMS_MAX - 1);
        assert!(list.contains(&"refused".to_owned()));
    }
}
