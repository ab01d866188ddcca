//! The controller's store on a disk so small that it can be filled.

use crate::{on, try_on};

/// Where the lab's controller keeps its store.
const STORE: &str = "/var/lib/longshore/controller";
/// What fills the disk.
const FILLER: &str = "/var/lib/longshore/controller/filler";

/// As long as it lives; then the store is on its own disk again, with what the small one has by then,
/// also after a panic.
pub struct SmallStore(());

impl SmallStore {
    /// Moves the store there; the controller is restarted.
    ///
    /// # Panics
    /// If it cannot be done.
    #[must_use]
    pub fn mount() -> Self {
        let small = format!(
            "sv -w 15 down controller && cp -a {STORE} {STORE}.kept && mount -t tmpfs -o size=24m,mode=700 none {STORE} \
             && chown longshore:longshore {STORE} && cp -a {STORE}.kept/. {STORE}/ && sv -w 15 up controller"
        );
        on("edge", &["sh", "-c", &small]);
        Self(())
    }

    /// The one that is mounted already.
    ///
    /// # Panics
    /// If none is.
    #[must_use]
    pub fn mounted() -> Self {
        on("edge", &["mountpoint", "-q", STORE]);
        Self(())
    }

    /// Leaves no room.
    pub fn fill(&self) {
        try_on("edge", &["sh", "-c", &format!("cat /dev/zero > {FILLER}")]);
    }

    /// Gives it back.
    ///
    /// # Panics
    /// If it cannot be done.
    pub fn free(&self) {
        on("edge", &["rm", FILLER]);
    }
}

impl Drop for SmallStore {
    fn drop(&mut self) {
        let script = format!(
            "sv -w 15 down controller; rm -f {FILLER}; mkdir {STORE}.now && cp -a {STORE}/. {STORE}.now/; \
             umount {STORE} && cp -a {STORE}.now/. {STORE}/ && rm -rf {STORE}.now {STORE}.kept; sv -w 15 up controller"
        );
        try_on("edge", &["sh", "-c", &script]);
    }
}
