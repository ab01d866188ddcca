//! The driver against the installed HAProxy. Without HAProxy these tests fail and say so.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Helpers are outside of `#[test]`.

mod host;

mod disk;
mod faults;
mod guard;
mod hands;
mod limits;
mod looks;
mod membership;
mod quarantine;
mod queue;
mod retries;
mod sharers;
mod signals;
mod tls;
mod ways;
mod weights;
