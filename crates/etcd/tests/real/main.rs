//! The client and the election against real etcd processes (`apt-get install etcd-server`).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod calls;
mod election;
mod faults;
mod tls;
