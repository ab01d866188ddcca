//! The controller: decides placement and scale, keeps agents and edges in step.
//!
//! `store` keeps what must survive, `fleet` what was seen, `cluster` holds both; `reconcile` is
//! the loop, `grpc` the only way in. Nothing of protobuf is known outside `grpc` and the outgoing
//! side of `fleet`.

pub mod apart;
pub mod backup;
pub mod backups;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod contents;
pub mod damaged;
pub mod explain;
pub mod files;
pub mod fleet;
pub mod grpc;
pub mod guests;
pub mod history;
pub mod images;
pub mod init;
pub mod migrate;
pub mod operators;
pub mod prometheus;
pub mod reconcile;
pub mod recording;
pub mod rescue;
pub mod run;
pub mod seal;
pub mod secrets;
pub mod shared;
pub mod store;
mod waiting;

#[cfg(test)]
mod testing;

/// An error and its causes on one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
