//! Drives the law of the file (`tests/file/readback`) by coverage: what the fuzzer finds interesting
//! becomes a list of ways in, and whatever it asks for, the file and the commands must say what was
//! meant of it and nothing else.

#![no_main]
// Helpers of tests fail a test by a panic, too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/haproxy-driver/tests/file/bytes.rs"]
mod bytes;
#[path = "../../crates/haproxy-driver/tests/file/common.rs"]
mod common;
#[path = "../../crates/haproxy-driver/tests/file/readback.rs"]
mod readback;

fuzz_target!(|input: &[u8]| readback::holds(bytes::backends(input)));
