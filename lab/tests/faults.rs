//! Programs, replicas and hosts die; the app goes on answering.
#![allow(clippy::unwrap_used, clippy::expect_used)] // tests: a panic is their answer

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use longshore_lab::{
    Load, Replica, ctl, ctl_json, ctl_ok, fault, get, join_again, on, replicas, restore,
    scale_and_wait, serving, until, wait_for, wait_for_nodes,
};

fn containers(replicas: &[Replica]) -> BTreeSet<String> {
    replicas
        .iter()
        .map(|replica| replica.container.clone())
        .collect()
}

/// Containers of ours that really run, over all workers.
fn running() -> BTreeSet<String> {
    let args = [
        "docker",
        "ps",
        "-q",
        "--no-trunc",
        "--filter",
        "label=longshore.managed=true",
    ];
    ["worker1", "worker2", "worker3"]
        .iter()
        .flat_map(|worker| {
            on(worker, &args)
                .lines()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_killed_controller_costs_no_request_and_adopts_what_runs() {
    restore();
    let before = containers(&scale_and_wait_for(3));
    const REQUESTS: u64 = 3_000;
    let load = Load::start(REQUESTS, 4, "/");
    fault(&["kill9", "edge", "controller"]);
    until(
        "the controller answers again",
        Duration::from_secs(30),
        || {
            let said = ctl(&["status"]);
            if said.code == Some(0) {
                Ok(())
            } else {
                Err(said)
            }
        },
    );
    wait_for(3);
    load.finish().assert_no_failure(REQUESTS);
    assert_eq!(containers(&serving()), before, "replicas were replaced");
    assert_eq!(running(), before, "containers were replaced");
}

#[test]
fn killed_agents_cost_no_request_and_adopt_what_runs() {
    restore();
    let before = containers(&scale_and_wait_for(3));
    const REQUESTS: u64 = 3_000;
    let load = Load::start(REQUESTS, 4, "/");
    for host in ["worker1", "worker2", "worker3", "edge"] {
        fault(&["kill9", host, "node-agent"]);
    }
    wait_for_nodes();
    wait_for(3);
    load.finish().assert_no_failure(REQUESTS);
    assert_eq!(running(), before, "containers were replaced");
}

fn scale_and_wait_for(count: usize) -> Vec<Replica> {
    scale_and_wait(count);
    serving()
}

#[test]
fn a_killed_replica_is_back_soon() {
    restore();
    let victim = serving().remove(0);
    on(&victim.node, &["docker", "kill", &victim.container]);
    let start = Instant::now();
    // The death must have been seen: the same replica again would prove nothing.
    until(
        "the victim was restarted or replaced",
        Duration::from_secs(30),
        || {
            let now = replicas();
            match now.iter().find(|r| r.id == victim.id) {
                Some(same) if same.restarts == victim.restarts => Err(now),
                _ => Ok(()),
            }
        },
    );
    wait_for(2);
    assert!(get("/").is_ok_and(|answer| answer.status == 200));
    println!("a killed replica: full again after {:?}", start.elapsed());
}

#[test]
fn a_worker_without_power_is_replaced_and_comes_back() {
    restore();
    scale_and_wait(3);
    // Before that the controller declares nothing lost, however long it takes to start tests.
    until(
        "the controller has watched long enough",
        Duration::from_secs(90),
        || {
            let status = ctl_json(&["status"]);
            if status["observing_until"].is_null() {
                Ok(())
            } else {
                Err(status)
            }
        },
    );
    fault(&["kill", "worker2"]);
    let elsewhere =
        |replicas: &[Replica]| replicas.iter().filter(|r| r.node != "worker2").count() == 3;
    let (_, took) = until("three replicas elsewhere", Duration::from_secs(60), || {
        let now = serving();
        if elsewhere(&now) { Ok(()) } else { Err(now) }
    });
    println!("worker power loss: full again after {took:?}");
    assert!(get("/").is_ok_and(|answer| answer.status == 200));
    fault(&["start", "worker2"]);
    // What worker2 still had is surplus: it goes, and nothing else does.
    wait_for(3);
    until(
        "worker2 runs nothing of ours",
        Duration::from_secs(60),
        || {
            let left = longshore_lab::try_on(
                "worker2",
                &[
                    "docker",
                    "ps",
                    "-aq",
                    "--filter",
                    "label=longshore.managed=true",
                ],
            );
            if left.code == Some(0) && left.stdout.is_empty() {
                Ok(())
            } else {
                Err(left)
            }
        },
    );
    restore();
}

#[test]
fn a_node_that_is_removed_and_joins_again_and_again_stops_nobody() {
    restore();
    // Twice is not once: the second revoked certificate stopped every other worker's agent once.
    for _ in 0..3 {
        ctl_ok(&["node", "rm", "worker3", "--force", "-y"]);
        join_again("worker3");
    }
    scale_and_wait(6);
    let nodes: BTreeSet<_> = serving().into_iter().map(|replica| replica.node).collect();
    assert_eq!(nodes.len(), 3, "not every worker runs replicas: {nodes:?}");
    restore();
}
