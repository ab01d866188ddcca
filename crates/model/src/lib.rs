//! The words of Longshore as types (see `docs/glossary.md`).
//!
//! This crate is data and small laws on data. It has no clock, no I/O, no async and no
//! randomness: every time is a number that a caller read, every id a value that a caller made.
//! Everybody may depend on it; it depends on nobody of ours.

pub mod app;
pub mod aside;
pub mod autoscale;
pub mod certificate;
pub mod depends;
pub mod event;
pub mod id;
pub mod image;
pub mod job;
pub mod memory;
#[cfg(feature = "mutants")]
pub mod mutant;
pub mod names;
pub mod networks;
pub mod node;
pub mod observe;
pub mod plan;
pub mod reason;
pub mod receipt;
pub mod record;
pub mod recording;
pub mod refusal;
pub mod registry;
pub mod repair;
pub mod replica;
pub mod report;
pub mod rollout;
pub mod route;
pub mod routes;
pub mod secret;
pub mod shared;
mod span;
pub mod spec;
mod update;
pub mod ways;
pub mod weight;

pub use app::{App, Desired, ManualScale};
pub use autoscale::{AutoscaleControl, AutoscaleMode, AutoscaleSpec};
pub use event::{Event, EventKind};
pub use id::{
    AppName, NameError, NodeId, ReplicaId, SecretName, ServiceKey, ServiceName, TemplateId,
};
pub use image::{ImageDigest, ImageName, ImageRef};
pub use memory::Memory;
#[cfg(feature = "mutants")]
pub use mutant::Mutant;
pub use names::Names;
pub use node::{Availability, Node, Roles};
pub use observe::Observed;
pub use plan::{Assignment, Plan, Replica};
pub use reason::Reason;
pub use record::{Decision, DecisionKind, DecisionRecord, Recorded};
pub use refusal::{HomeRefusal, Refusal, RefusalCount};
pub use registry::RegistryHost;
pub use replica::{ReplicaState, ReplicaStatus};
pub use report::Report;
pub use routes::Routes;
pub use secret::{SecretKey, SecretText};
pub use shared::SharedMap;
pub use span::span;
pub use spec::{ContainerSpec, ServiceSpec};

/// Milliseconds since the Unix epoch, as the controller counts them: wall time at its start plus
/// monotonic time since, so that it never runs backwards within one process.
pub type TimeMs = u64;
