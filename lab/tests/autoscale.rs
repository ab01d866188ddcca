//! CPU load scales the app out, its end scales it in, and nothing is lost on the way.
#![allow(clippy::unwrap_used, clippy::expect_used)] // tests: a panic is their answer

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use longshore_lab::{Load, ctl_json, ctl_ok, restore, root, scale_and_wait, serving, until};

const REQUESTS: u64 = 10_000;
const CLIENTS: u64 = 100;
/// At 20 a second and replica, this many take about a quarter of a minute.
const CALM_REQUESTS: u64 = 500;

/// Runs `ab -c 100` again and again while `work` runs, at least once; none may fail.
fn under_load<T>(requests: u64, path: &str, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut rounds = 0;
            while rounds == 0 || !done.load(Ordering::Relaxed) {
                let load = Load::start(requests, CLIENTS, path);
                load.finish().assert_no_failure(requests);
                rounds += 1;
            }
            rounds
        });
        // Also if `work` panics: the load must end for the scope to end.
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        let rounds = load.join().expect("no request fails");
        println!("{rounds} rounds of ab -n {requests} -c {CLIENTS}: 0 failed");
        work.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn stress(kind: &str, seconds: &str) -> std::process::Child {
    let mut command = Command::new(root().join("lab/stress.sh"));
    command.args([kind, seconds]).stdout(Stdio::null());
    command.spawn().expect("stress.sh can be run")
}

/// Waits until so many replicas serve as `enough` says.
fn count(what: &str, limit_s: u64, enough: impl Fn(usize) -> bool) -> Duration {
    let (_, took) = until(what, Duration::from_secs(limit_s), || {
        match enough(serving().len()) {
            true => Ok(()),
            false => Err(ctl_json(&["ls"])),
        }
    });
    took
}

#[test]
fn a_hundred_clients_are_no_fault() {
    restore();
    for replicas in [1, 2, 5] {
        scale_and_wait(replicas);
        for clients in [CLIENTS, 2 * CLIENTS] {
            let load = Load::start(REQUESTS, clients, "/");
            load.finish().assert_no_failure(REQUESTS);
        }
    }
    restore();
}

#[test]
fn node_cpu_scales_out_and_in_without_a_lost_request() {
    restore();
    // A short hold ends the one that `restore` set: the autoscaler owns the count again.
    ctl_ok(&["scale", "hello=2", "--hold", "1s", "-d", "-y"]);
    under_load(REQUESTS, "/slow?ms=50", || {
        let mut stress = stress("cpu", "60");
        let took = count("more than two replicas serve", 90, |n| n > 2);
        println!("load to first new serving replica: {took:?}");
        assert!(stress.wait().expect("stress.sh ends").success());
    });
    // As many clients, but few requests a second: 600 of them on two cores are by themselves a
    // reason to keep the replicas, and how much of one depends on the machine.
    under_load(CALM_REQUESTS, "/slow?ms=200", || {
        count("two replicas or fewer again", 240, |n| n <= 2);
    });
    restore();
}

#[test]
fn the_apps_own_load_scales_it_out_and_no_request_fails() {
    restore();
    ctl_ok(&["scale", "hello=1", "--hold", "1s", "-y"]);
    let mut stress = stress("http", "60");
    let took = count("more than one replica serves", 90, |n| n > 1);
    println!("load to second serving replica: {took:?}");
    let ended = stress.wait().expect("stress.sh ends");
    assert!(ended.success(), "requests failed");
    restore();
}
