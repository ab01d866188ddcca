//! What may happen to a random cluster.

/// One thing that happens, and the ticks until the next.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Apply {
        service: usize,
        image: u8,
        replicas: u32,
        shape: u8,
    },
    Down {
        service: usize,
    },
    Scale {
        service: usize,
        count: u32,
    },
    Available {
        node: usize,
        to: u8,
    },
    Power {
        node: usize,
        on: bool,
    },
    Session {
        node: usize,
        on: bool,
    },
    EdgeSession {
        on: bool,
    },
    Reach {
        node: usize,
        on: bool,
    },
    Load {
        node: usize,
        bits: u64,
    },
    Fail {
        nth: usize,
    },
    Sick {
        nth: usize,
        sick: bool,
    },
    Break {
        image: u8,
        broken: bool,
    },
    Sticky {
        on: bool,
    },
    Commits {
        refused: bool,
    },
    Aside {
        nth: usize,
        aside: bool,
    },
    Restart,
    Rebalance {
        mode: u8,
    },
    Drain {
        node: usize,
        force: bool,
    },
}
