//! CPU load on the workers scales the app out, its end scales it in, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::expect_used)] // tests: a panic is their answer

use std::process::{Command, Stdio};
use std::time::Duration;

use longshore_lab::{Load, ctl_json, ctl_ok, restore, root, serving, until};

#[test]
fn node_cpu_scales_out_and_in_without_a_lost_request() {
    restore();
    // A short hold ends the one that `restore` set: the autoscaler owns the count again.
    ctl_ok(&["scale", "hello=2", "--hold", "1s", "-d", "-y"]);
    let mut stress = Command::new(root().join("lab/stress.sh"))
        .args(["cpu", "40"])
        .stdout(Stdio::null())
        .spawn()
        .expect("stress.sh can be run");
    let (_, took) = until(
        "more than two replicas serve",
        Duration::from_secs(60),
        || {
            let now = serving();
            if now.len() > 2 {
                Ok(())
            } else {
                Err(ctl_json(&["ls"]))
            }
        },
    );
    println!("load to first new serving replica: {took:?}");
    stress.wait().expect("stress.sh ends");

    const REQUESTS: u64 = 5_000;
    let load = Load::start(REQUESTS, 4, "/slow?ms=5");
    until(
        "two replicas or fewer again",
        Duration::from_secs(150),
        || {
            let now = serving();
            if now.len() <= 2 {
                Ok(())
            } else {
                Err(ctl_json(&["ls"]))
            }
        },
    );
    load.finish().assert_no_failure(REQUESTS);
    restore();
}
