//! The app serves, evenly, through every planned change, without losing a request.
#![allow(clippy::unwrap_used, clippy::expect_used)] // tests: a panic is their answer

use std::collections::BTreeMap;

use longshore_lab::{Load, ctl_ok, get, restore, scale_and_wait, serving};

fn host(path: &str) -> String {
    let answer = get(path).expect("the app answers");
    assert_eq!(answer.status, 200, "{answer:?}");
    let json: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    json["host"].as_str().expect("a host").to_owned()
}

#[test]
fn round_robin_over_two_replicas_is_even() {
    restore();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..100 {
        *counts.entry(host("/")).or_default() += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [50, 50]);
}

#[test]
fn scaling_out_and_in_under_load_loses_no_request() {
    restore();
    const REQUESTS: u64 = 10_000;
    let mut load = Load::start(REQUESTS, 20, "/");
    scale_and_wait(6);
    let nodes: Vec<String> = serving().into_iter().map(|replica| replica.node).collect();
    for node in ["worker1", "worker2", "worker3"] {
        assert_eq!(
            nodes.iter().filter(|n| *n == node).count(),
            2,
            "spread: {nodes:?}"
        );
    }
    scale_and_wait(1);
    while load.runs() {
        scale_and_wait(4);
        scale_and_wait(2);
    }
    load.finish().assert_no_failure(REQUESTS);
}

#[test]
fn an_app_goes_down_and_comes_up_again() {
    restore();
    ctl_ok(&["down", "hello", "-y"]);
    longshore_lab::until(
        "nothing is left",
        std::time::Duration::from_secs(60),
        || {
            let left = longshore_lab::ctl_json(&["ps"]);
            if left == serde_json::json!([]) {
                Ok(())
            } else {
                Err(left)
            }
        },
    );
    for worker in ["worker1", "worker2", "worker3"] {
        let left = longshore_lab::on(
            worker,
            &[
                "docker",
                "ps",
                "-aq",
                "--filter",
                "label=longshore.managed=true",
            ],
        );
        assert_eq!(left, "", "{worker} still has containers");
    }
    restore();
}
