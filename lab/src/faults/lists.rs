//! The ledger of lists: what HAProxy sends requests to is what serves.

use std::collections::BTreeSet;
use std::time::Duration;

use super::app;
use crate::handover::statistics;
use crate::{ctl_json, edges, until};

/// Time for a list to follow the last change (G14 of the project's goals).
const FOLLOWS: Duration = Duration::from_secs(2);

/// Waits until each edge has exactly the serving replicas, for a moment only.
///
/// # Panics
/// With both lists, if it has not.
pub(super) fn agree() {
    for (name, host) in edges() {
        let what = format!("{name} sends requests to what serves");
        until(&what, FOLLOWS, || {
            let csv = statistics(&host, app::STATS_PORT);
            let (has, serves) = (up(&csv, &app::PORT.to_string()), serving());
            match has == serves {
                true => Ok(()),
                false => Err((has, serves)),
            }
        });
    }
}

/// Addresses of the replicas that serve.
fn serving() -> BTreeSet<String> {
    let list = ctl_json(&["ps", app::SERVICE]);
    let all = list.as_array().cloned().unwrap_or_default();
    let serves = all.iter().filter(|r| r["traffic"] == "serve");
    let addresses = serves.filter_map(|r| r["address"].as_str());
    addresses.map(str::to_owned).collect()
}

/// Addresses of the servers that are up, of the backends with `port` in their names.
pub(super) fn up(csv: &str, port: &str) -> BTreeSet<String> {
    let mut lines = csv.lines();
    let header = lines.next().unwrap_or_default();
    let names: Vec<&str> = header.trim_start_matches("# ").split(',').collect();
    let at = |name: &str| names.iter().position(|known| *known == name);
    let (Some(backend), Some(server), Some(status), Some(address)) =
        (at("pxname"), at("svname"), at("status"), at("addr"))
    else {
        return BTreeSet::new();
    };
    let lines = lines.map(|line| line.split(',').collect::<Vec<_>>());
    let is_up = |cells: &Vec<&str>| {
        let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
        cell(backend).contains(port)
            && !matches!(cell(server), "BACKEND" | "FRONTEND")
            && cell(status).starts_with("UP")
    };
    lines
        .filter(is_up)
        .filter_map(|cells| cells.get(address).map(|cell| (*cell).to_owned()))
        .collect()
}
