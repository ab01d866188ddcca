//! Two edges (`EDGES=2 make lab`; docs/edges.md): each serves, and the virtual address moves.
//!
//! In a lab with one edge these tests have nothing to do.
#![allow(clippy::unwrap_used, clippy::expect_used)] // tests: a panic is their answer

use std::time::{Duration, Instant};

use longshore_lab::{
    Load, ctl_json, edges, fault, get_with, restore, scale, scale_and_wait, try_on, until, users,
    wait_for,
};

const REQUESTS: u64 = 6_000;
/// Longest pause of the virtual address: three adverts unheard, or two bad answers of HAProxy's.
const MOVES: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(30);

fn pair() -> Option<[(&'static str, String); 2]> {
    let pair = edges().try_into().ok();
    if pair.is_none() {
        eprintln!("one edge only: nothing to see here (EDGES=2 make lab)");
    }
    pair
}

fn app(ip: &str) -> String {
    format!("{ip}:8080")
}

/// Has the edge the virtual address now?
fn holds(edge: &str) -> bool {
    let show = ["ip", "-o", "-4", "addr", "show", "to", &users()];
    !try_on(edge, &show).stdout.trim().is_empty()
}

/// The edge that has the virtual address, and the other one.
fn active(pair: [(&'static str, String); 2]) -> ((&'static str, String), (&'static str, String)) {
    let (first, _) = until("one edge has the address", SOON, || {
        match (holds(pair[0].0), holds(pair[1].0)) {
            (true, false) => Ok(true),
            (false, true) => Ok(false),
            other => Err(other),
        }
    });
    let [a, b] = pair;
    if first { (a, b) } else { (b, a) }
}

/// Waits until the app answers well there.
fn answers(what: &str, ip: &str, limit: Duration) {
    until(what, limit, || {
        match get_with(&app(ip), "/", Duration::from_millis(500)) {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(other),
        }
    });
}

/// Replicas of the app that the edge's HAProxy gives requests.
fn serving_at(ip: &str) -> usize {
    let page = get_with(&format!("{ip}:8404"), "/stats;csv", SOON);
    let page = page.expect("HAProxy's statistics").body;
    let servers = page.lines().filter(|line| line.contains("hello"));
    let cells = servers.map(|line| line.split(',').collect::<Vec<_>>());
    cells
        .filter(|cells| cells.get(1).is_some_and(|name| name.starts_with("slot")))
        .filter(|cells| cells.get(17).is_some_and(|state| state.starts_with("UP")))
        .count()
}

#[test]
fn scaling_under_load_through_both_edges_loses_no_request() {
    let Some(pair) = pair() else { return };
    restore();
    let mut loads = pair.map(|(_, ip)| Load::start_at(&app(&ip), REQUESTS, 8, "/"));
    scale_and_wait(6);
    scale_and_wait(1);
    while loads.iter_mut().any(Load::runs) {
        scale_and_wait(4);
        scale_and_wait(2);
    }
    for load in loads {
        load.finish().assert_no_failure(REQUESTS);
    }
}

#[test]
fn the_virtual_address_leaves_an_edge_whose_haproxy_is_gone_and_stays_where_it_is() {
    let Some(pair) = pair() else { return };
    restore();
    let ((first, first_ip), (second, second_ip)) = active(pair);
    let load = Load::start_at(&app(&second_ip), REQUESTS, 4, "/");
    let start = Instant::now();
    fault(&["stop", first, "haproxy"]);
    answers("the other edge answers for both", &users(), MOVES);
    let took = start.elapsed();
    eprintln!("HAProxy of {first} stopped: the address answers again {took:?} after the order");
    until("the address moved", MOVES, || match holds(second) {
        true => Ok(()),
        false => Err(start.elapsed()),
    });
    load.finish().assert_no_failure(REQUESTS);
    fault(&["run", first, "haproxy"]);
    answers("the edge serves again by itself", &first_ip, SOON);
    restore();
    assert!(holds(second) && !holds(first), "nothing takes it back");
}

#[test]
fn the_virtual_address_leaves_a_host_that_lost_its_power() {
    let Some(pair) = pair() else { return };
    restore();
    let ((first, first_ip), _) = active(pair);
    let start = Instant::now();
    fault(&["kill", first]);
    answers("the other edge answers for both", &users(), MOVES);
    let took = start.elapsed();
    eprintln!("{first} killed: the address answers again {took:?} after the order");
    fault(&["start", first]);
    restore();
    answers("the edge serves again by itself", &first_ip, SOON);
}

#[test]
fn an_edge_that_loses_the_controller_goes_on_and_gets_a_whole_list_on_return() {
    let Some([(_, first_ip), (cut, cut_ip)]) = pair() else {
        return;
    };
    restore();
    scale_and_wait(6);
    until("both edges have all six", SOON, || {
        let seen = [serving_at(&first_ip), serving_at(&cut_ip)];
        if seen == [6, 6] { Ok(()) } else { Err(seen) }
    });
    let load = Load::start_at(&app(&first_ip), REQUESTS, 8, "/");
    fault(&["part", cut]);
    // Its lease must end before anything stops that it may still send requests to.
    scale(2);
    while serving_at(&first_ip) > 2 {
        answers("the edge without a controller serves on", &cut_ip, SOON);
    }
    wait_for(2);
    for _ in 0..20 {
        // What it still has is gone: its checks and its second tries see to that.
        answers("so it does past its lease", &cut_ip, SOON);
    }
    load.finish().assert_no_failure(REQUESTS);
    fault(&["rejoin", cut]);
    until("it has the list of now", SOON, || {
        let seen = serving_at(&cut_ip);
        if seen == 2 { Ok(()) } else { Err(seen) }
    });
    until("and is ready", SOON, || {
        let nodes = ctl_json(&["node", "ls"]);
        let list = nodes.as_array().cloned().unwrap_or_default();
        let ready = list
            .iter()
            .any(|node| node["name"] == cut && node["state"] == "ready");
        if ready { Ok(()) } else { Err(nodes) }
    });
}
