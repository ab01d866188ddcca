//! HAProxy's own ledger, as its statistics page tells it.

use std::time::Duration;

use crate::get_with;

/// Longest wait for the statistics page.
const PATIENCE: Duration = Duration::from_secs(10);

/// HAProxy's counters for the bench's frontend and its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counters {
    /// Requests that the frontend read (`req_tot`).
    pub(crate) requests: u64,
    /// Connections to servers that were tried again (`wretr`).
    pub(super) retries: u64,
    /// Requests that went to another server instead (`wredis`).
    pub(super) redispatches: u64,
    /// Answers of 500 and above that it gave or passed on (`hrsp_5xx`).
    pub(super) answers_5xx: u64,
    /// Errors of connecting to servers (`econ`).
    pub(super) connect_errors: u64,
    /// Errors while a server answered (`eresp`).
    pub(super) response_errors: u64,
    /// When this worker process began: another value after a reload, and all counts from 0.
    pub(super) started_s: u64,
}

impl std::ops::Add for Counters {
    type Output = Self;

    /// Of several processes: one that begins anew changes the sum of their beginnings.
    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            retries: self.retries + other.retries,
            redispatches: self.redispatches + other.redispatches,
            answers_5xx: self.answers_5xx + other.answers_5xx,
            connect_errors: self.connect_errors + other.connect_errors,
            response_errors: self.response_errors + other.response_errors,
            started_s: self.started_s + other.started_s,
        }
    }
}

impl Counters {
    /// What happened since `before`; none if HAProxy was reloaded meanwhile, since its counters
    /// began anew.
    #[must_use]
    pub(crate) fn since(&self, before: &Self) -> Option<Self> {
        (self.started_s == before.started_s).then(|| Self {
            requests: self.requests - before.requests,
            retries: self.retries - before.retries,
            redispatches: self.redispatches - before.redispatches,
            answers_5xx: self.answers_5xx - before.answers_5xx,
            connect_errors: self.connect_errors - before.connect_errors,
            response_errors: self.response_errors - before.response_errors,
            started_s: self.started_s,
        })
    }
}

/// Reads them from the statistics port at `host`, for the frontend and backend with `port` in
/// their names.
///
/// # Panics
/// If the page cannot be read.
#[must_use]
pub(crate) fn counters(host: &str, stats_port: u16, port: u16) -> Counters {
    let metrics = page(host, stats_port, "/metrics");
    let started_s = metrics
        .lines()
        .find_map(|line| line.strip_prefix("haproxy_process_start_time_seconds "))
        .and_then(|text| text.trim().parse().ok())
        .expect("HAProxy's start time");
    Counters {
        started_s,
        ..read(&statistics(host, stats_port), &port.to_string())
    }
}

/// HAProxy's statistics at `host`, a line for each frontend, server and backend.
///
/// # Panics
/// If the page cannot be read.
#[must_use]
pub(crate) fn statistics(host: &str, stats_port: u16) -> String {
    page(host, stats_port, "/stats;csv")
}

fn page(host: &str, stats_port: u16, path: &str) -> String {
    let answer = get_with(&format!("{host}:{stats_port}"), path, PATIENCE);
    answer.expect("HAProxy's statistics answer").body
}

/// Requests that wait for a seat at `host`, in the backends with `port` in their names; none: the
/// page cannot be read.
pub(super) fn queued(host: &str, stats_port: u16, port: u16) -> Option<u64> {
    let answer = get_with(&format!("{host}:{stats_port}"), "/stats;csv", PATIENCE);
    Some(waiting(&answer.ok()?.body, &port.to_string()))
}

fn waiting(csv: &str, port: &str) -> u64 {
    let of_port = lines(csv).filter(|line| line.cell("pxname").contains(port));
    // A server's own queue has what waits for that one alone: cookies, and nothing else here.
    let backends = of_port.filter(|line| line.cell("svname") == "BACKEND");
    backends.map(|line| line.number("qcur")).sum()
}

/// A line of the statistics.
struct Line<'a> {
    names: Vec<&'a str>,
    cells: Vec<&'a str>,
}

fn lines(csv: &str) -> impl Iterator<Item = Line<'_>> {
    let mut lines = csv.lines();
    let header = lines.next().unwrap_or_default();
    let names: Vec<&str> = header.trim_start_matches("# ").split(',').collect();
    lines.map(move |line| Line {
        names: names.clone(),
        cells: line.split(',').collect(),
    })
}

impl Line<'_> {
    fn cell(&self, name: &str) -> &str {
        let at = self.names.iter().position(|known| *known == name);
        at.and_then(|at| self.cells.get(at))
            .copied()
            .unwrap_or_default()
    }

    fn number(&self, name: &str) -> u64 {
        self.cell(name).parse().unwrap_or(0)
    }
}

fn read(csv: &str, port: &str) -> Counters {
    let mut sum = Counters::default();
    for line in lines(csv).filter(|line| line.cell("pxname").contains(port)) {
        let number = |name: &str| line.number(name);
        match line.cell("svname") {
            "FRONTEND" => {
                sum.requests += number("req_tot");
                sum.answers_5xx += number("hrsp_5xx");
            }
            "BACKEND" => {
                sum.retries += number("wretr");
                sum.redispatches += number("wredis");
                sum.connect_errors += number("econ");
                sum.response_errors += number("eresp");
            }
            _ => {}
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_what_the_backend_of_the_port_says() {
        let csv = "# pxname,svname,qcur,qmax,\n\
            fe_8093,FRONTEND,,,\n\
            be_bench_queue_8093,slot1,1,9,\n\
            be_bench_queue_8093,BACKEND,12,40,\n\
            be_bench_bench_8090,BACKEND,7,40,\n";
        assert_eq!(waiting(csv, "8093"), 12);
    }

    #[test]
    fn counters_are_those_of_the_port_and_of_one_process() {
        let csv = "# pxname,svname,req_tot,econ,eresp,wretr,wredis,hrsp_5xx,\n\
            fe_8080,FRONTEND,99,,,,,9,\n\
            fe_8090,FRONTEND,12,,,,,3,\n\
            bench_8090,slot1,,7,7,7,7,,\n\
            bench_8090,BACKEND,,1,2,3,4,5,\n";
        let read = read(csv, "8090");
        let expected = Counters {
            requests: 12,
            retries: 3,
            redispatches: 4,
            answers_5xx: 3,
            connect_errors: 1,
            response_errors: 2,
            started_s: 0,
        };
        assert_eq!(read, expected);
        let reloaded = Counters {
            started_s: 5,
            ..read
        };
        assert_eq!(reloaded.since(&read), None);
        // Of two edges, one of which reloads.
        let (both, after) = (read + read, read + reloaded);
        assert_eq!((both.requests, after.since(&both)), (24, None));
        assert_eq!(read.since(&read), Some(Counters::default()));
    }
}
