//! Drives the HAProxy of one host.

pub mod edge;
pub mod error;
pub mod settings;
pub mod slots;

pub use edge::{Applied, Edge, EdgeSnapshot, Ticked};
pub use error::EdgeError;
pub use settings::{CheckSettings, ProcessSettings, Settings};
pub use slots::SlotMap;
