//! How people talk to Longshore.

pub mod compose;
pub mod text;
