//! The agent of one node. It dials the controller, runs the containers that it is assigned, keeps
//! HAProxy in step on edges, and goes on with what it was told last when nobody answers.
//!
//! On workers it listens for connections between services (`mesh`) and, on the loopback address, for
//! its own engine that fetches images (`images`), and on nothing else. It never runs a shell, and never stops a container because somebody else is away.

pub mod advice;
pub mod agent;
pub mod backoff;
pub mod cli;
pub mod config;
pub mod controllers;
pub mod edge;
pub mod files;
pub mod identity;
pub mod images;
pub mod join;
pub mod ledger;
pub mod mesh;
pub mod policy;
pub mod probe;
pub mod reconcile;
pub mod renewal;
pub mod runs;
pub mod runtime;
pub mod said;
pub mod sampler;
pub mod session;
#[cfg(test)]
mod testing;
