//! What people and scripts see of the CLI, in one program: each further one costs seconds of
//! linking.

// Helpers of tests fail a test by a panic, too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod build;
mod cli;
mod compose;
mod compose_all;
mod compose_api;
mod compose_autoscale;
mod compose_corpus;
mod compose_env;
mod compose_files;
mod compose_merge;
mod compose_modes;
mod compose_odd;
mod compose_support;
mod depends;
mod engine_keys;
mod files;
mod jobs;
mod misplaced;
mod networks;
mod output;
mod placement;
mod ports;
mod said;
mod schema;
mod secrets;
mod tree;
mod volumes;

/// Files that are already in memory have no directory; certificates are judged by a time of their
/// own.
fn here() -> controllerctl::compose::Here {
    controllerctl::compose::Here {
        directory: ".".into(),
        now: std::time::SystemTime::UNIX_EPOCH,
    }
}
