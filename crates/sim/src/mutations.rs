//! The first ledger: what was acknowledged to users is in the store, exactly once, whatever the
//! controller goes through; what was not is there whole or not at all.

use controller::store::StoreError;
use longshore_model::Desired;

/// What the store may hold.
#[derive(Debug, Default)]
pub struct Mutations {
    /// Possible contents: one, unless a write ended without a word.
    possible: Vec<Desired>,
    /// Acknowledged.
    pub acked: u64,
    /// Refused or without a word.
    pub failed: u64,
    wrong: Option<String>,
}

impl Mutations {
    /// A write came back. True: it was acknowledged.
    pub fn wrote(
        &mut self,
        result: &Result<(), StoreError>,
        before: &Desired,
        meant: Desired,
    ) -> bool {
        match result {
            Ok(()) => {
                self.possible = vec![meant];
                self.acked += 1;
                return true;
            }
            Err(error) if error.is_fatal() => {
                self.possible = vec![before.clone(), meant];
            }
            Err(_) => {}
        }
        self.failed += 1;
        false
    }

    /// A new process has read the store.
    pub fn reopened(&mut self, now: &Desired) {
        if self.possible.is_empty() {
            self.possible.push(Desired::default());
        }
        if !self.possible.contains(now) {
            self.wrong = Some("the store does not hold what was acknowledged".to_owned());
        }
        self.possible = vec![now.clone()];
    }

    /// What the running process shows must be what was acknowledged.
    pub fn shown(&mut self, now: &Desired) -> Option<String> {
        if self.possible.len() == 1 && !self.possible.contains(now) {
            self.wrong = Some("what is desired is not what was acknowledged".to_owned());
        }
        self.wrong.take()
    }
}
