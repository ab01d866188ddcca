//! Generated protobuf types and services of Longshore. Nothing here is written by hand but the
//! module tree; conversions to the model live in `longshore-wire`.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

pub mod spec {
    pub mod v1 {
        tonic::include_proto!("longshore.spec.v1");
    }
}
pub mod agent {
    pub mod v1 {
        tonic::include_proto!("longshore.agent.v1");
    }
}
pub mod control {
    pub mod v1 {
        tonic::include_proto!("longshore.control.v1");
    }
}

/// Encoded `FileDescriptorSet` of all of them: for reflection, and for the table that must name a
/// rule for every method.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
