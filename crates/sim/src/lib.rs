//! The whole system in one process: virtual time, one thread, one seed.
//!
//! # What is real
//! The planner and its check; the controller's cluster, fleet, rows of the store and the halves of
//! its loop; the agent's reconciler core and the law of its ledger; the decisions of the HAProxy
//! driver, its slot map and its reading of what runs.
//!
//! # What is not
//! Containers and their engine, HAProxy, the wires, disks, clocks, users and their requests. All
//! of them fail. gRPC and protobuf are left out: a message arrives whole, in order, or not at all.
//!
//! # Guarantees
//! The same seed gives the same trace, and so the same hash. Judges look after every event; they
//! use their own logic, never the planner's.

macro_rules! say {
    ($world:expr, $($what:tt)*) => {{
        let now = $world.now;
        $world.trace.say(now, format_args!($($what)*));
    }};
}

pub mod adapter;
pub mod agent;
pub mod calm;
pub mod chaos;
pub mod cli;
pub mod control;
pub mod dice;
mod each_node;
pub mod edge;
pub mod engine;
pub mod event;
pub mod haproxy;
pub mod host;
pub mod jobs;
pub mod judge;
mod judge_limits;
pub mod judge_plan;
mod judge_policy;
mod limits;
mod loops;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod mutations;
mod nodes;
pub mod ops;
mod pauses;
pub mod policies;
pub mod queue;
pub mod run;
pub mod scenario;
pub mod store;
pub mod trace;
pub mod traffic;
pub mod truth;
pub mod users;
mod volumes;
pub mod wire;
pub mod world;
