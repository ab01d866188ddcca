//! The controller behind its API, in one program: each further one costs seconds of linking.

// Helpers of tests fail a test by a panic, too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ahead;
mod apart;
mod aside;
mod backup;
mod cluster;
mod disk;
mod durability;
mod each_node;
mod enrolment;
mod explain;
mod files;
mod forecast;
mod hostile;
mod images;
mod jobs;
mod metrics;
mod names;
mod neighbours;
mod node_logs;
mod operators;
mod parts;
mod runs;
mod secrets;
mod shared;
mod support;
mod targets;
