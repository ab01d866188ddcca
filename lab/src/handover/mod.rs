//! The hand-over bench: planned changes under six kinds of traffic, three ledgers that must agree
//! (docs/bench-handover.md).

mod classic;
mod collector;
mod edge;
mod load;
mod machines;
mod ours;
mod queue;
mod report;
mod settings;
mod swarm;
mod system;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use collector::{Collector, Ledgers, Served};
pub(crate) use edge::{Counters, counters as edge_counters, statistics};
pub(crate) use load::Running;
pub use settings::{Peer, Settings};

use crate::traffic::{Plan, Target};
use crate::{ctl, get_with, restore, until};
use classic::Classic;
use machines::Lab;
use ours::Longshore;
use queue::{QueueReport, Watch};
use report::{Death, KillReport, PlannedReport};
use swarm::Swarm;
use system::{Mends, REPLICAS, System, WORKERS};

/// Load before the first change and after the last.
const CALM: Duration = Duration::from_secs(3);
/// Longest wait for the first answer.
const ANSWERS: Duration = Duration::from_secs(30);
/// Wait for the ledgers of replicas that have ended.
const LEDGERS: Duration = Duration::from_secs(20);

/// Runs what the settings ask for. 1: a planned change failed a request, the ledgers do not agree,
/// or (with the gate off) nothing failed.
#[must_use]
pub fn run(settings: &Settings) -> ExitCode {
    // The demo app scales by CPU use, of which there will be some.
    ctl(&["down", "hello", "-y"]);
    ctl(&["down", "bench", "-y"]);
    let collector = Collector::start(&format!("{}.1", crate::net()));
    let mut ours = Longshore::new();
    let report = planned(&mut ours, &collector, settings);
    print!("{}", report.text());
    let mut good = match settings.gate_off {
        // A test that cannot fail proves nothing.
        true => report.failed() > 0,
        false => report.is_good(),
    };
    if !settings.gate_off && settings.kills > 0 {
        let report = kills(&mut ours, &collector, settings);
        print!("{}", report.text());
        good &= report.is_good();
    }
    for peer in &settings.peers {
        // A peer's failures are what they are.
        match peer {
            Peer::Classic => {
                print!(
                    "{}",
                    planned(&mut Classic::new(Lab), &collector, settings).text()
                );
            }
            Peer::Swarm => swarm(&collector, settings),
        }
    }
    restore();
    match (good, settings.gate_off) {
        (true, true) => println!("gate off: requests failed, as they must"),
        (false, true) => println!("gate off: no request failed, so the bench proves nothing"),
        (true, false) => println!("passed"),
        (false, false) => println!("failed"),
    }
    ExitCode::from(u8::from(!good))
}

/// Swarm behind a HAProxy that follows it, and Swarm's own mesh where the kernel can.
fn swarm(collector: &Collector, settings: &Settings) {
    let report = planned(&mut Swarm::behind_haproxy(), collector, settings);
    print!("{}", report.text());
    match Swarm::through_mesh() {
        Some(mut mesh) => print!("{}", planned(&mut mesh, collector, settings).text()),
        None => println!("\nswarm-mesh: not run, this kernel has no IPVS"),
    }
}

/// The load, spread over all ways in.
fn standard(system: &dyn System) -> Vec<Plan> {
    let target = |host: &str, port| {
        let target = Target::parse(&format!("{host}:{port}"), &crate::net());
        target.expect("one of the lab's hosts")
    };
    let entries = system.entries();
    let targets = entries
        .iter()
        .map(|(name, host)| (*name, target(host, system.port())));
    let mut plans = Plan::shared_by(targets.collect());
    for (plan, (_, host)) in plans.iter_mut().zip(&entries) {
        plan.queue = system.queue_port().map(|port| target(host, port));
    }
    plans
}

/// Ports of the app at each way in.
fn ports(system: &dyn System) -> impl Iterator<Item = u16> {
    std::iter::once(system.port()).chain(system.queue_port())
}

/// Runs one replica, and waits until it answers at each way in. That it is to take traffic is a
/// decision; an edge opens a new port with a reload, which may have to wait for the one before.
fn deploy(system: &mut dyn System, collector: &Collector) {
    system.deploy(&collector.address.to_string());
    for (name, host) in system.entries() {
        for port in ports(system) {
            let (what, address) = (
                format!("the app answers at {name}, port {port}"),
                format!("{host}:{port}"),
            );
            until(&what, ANSWERS, || {
                match get_with(&address, "/healthz", ANSWERS) {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    other => Err(other),
                }
            });
        }
    }
}

/// What HAProxy has counted at all ways in; none: there is none.
fn counters(system: &dyn System) -> Option<Counters> {
    let stats_port = system.stats_port()?;
    let hosts = system.entries().into_iter();
    let each = hosts.flat_map(|(_, host)| {
        ports(system).map(move |port| edge::counters(&host, stats_port, port))
    });
    each.reduce(std::ops::Add::add)
}

/// What it has counted since; none: it was reloaded, or is not there.
fn counted(system: &dyn System, before: Option<Counters>) -> Option<Counters> {
    counters(system)?.since(&before?)
}

/// `CYCLES` times: 1 -> 10, rolling update, node drain and uncordon, 10 -> 1.
fn planned(system: &mut dyn System, collector: &Collector, settings: &Settings) -> PlannedReport {
    deploy(system, collector);
    collector.forget();
    let before = counters(system);
    let load = Running::start(standard(system));
    std::thread::sleep(CALM);
    let watch = system.queue_port().zip(system.stats_port()).map(|ports| {
        let hosts = system.entries().into_iter().map(|(_, host)| host);
        Watch::start(hosts.collect(), ports.1, ports.0)
    });
    let start = Instant::now();
    let mut done = 0;
    let broken = catch_unwind(AssertUnwindSafe(|| {
        for cycle in 0..settings.cycles {
            let mut took = Vec::new();
            let mut step = |what, change: &mut dyn FnMut()| {
                let start = Instant::now();
                change();
                took.push(format!("{what} {:.0} s", start.elapsed().as_secs_f64()));
            };
            let worker = WORKERS[cycle % WORKERS.len()];
            step("out", &mut || system.scale(REPLICAS));
            step("update", &mut || system.update());
            step("drain", &mut || system.drain_node(worker));
            step("in", &mut || system.scale(1));
            done += 1;
            println!("{} cycle {done}: {}", system.name(), took.join(", "));
        }
    }));
    std::thread::sleep(CALM);
    let took = start.elapsed();
    let looks = watch.map(Watch::finish);
    let tally = load.finish();
    let edge = counted(system, before);
    let (forced, reloads) = (system.forced(), system.reloads());
    system.down();
    // Each edge gives a receipt; the last replica of each service gives none.
    let drained = forced.map_or(0, |(receipts, _)| receipts) / system.entries().len() as u64;
    let ledgers = collect(collector, drained + ports(system).count() as u64);
    PlannedReport {
        name: system.name(),
        has_haproxy: system.stats_port().is_some(),
        cycles: done,
        took,
        complete: broken.is_ok(),
        tally,
        edge,
        forced,
        reloads,
        replicas: ledgers.replicas,
        served: ledgers.served,
        queue: looks.map(|looks| QueueReport {
            looks,
            answered: ledgers.queued,
        }),
    }
}

/// The ledgers, once no more come: a replica sends its own as the last thing it does.
fn collect(collector: &Collector, expected: u64) -> Ledgers {
    let end = Instant::now() + LEDGERS;
    while Instant::now() < end && (collector.count() as u64) < expected {
        std::thread::sleep(Duration::from_millis(100));
    }
    collector.take()
}

/// `CYCLES` times: a worker loses its power and comes back.
fn kills(system: &mut dyn Mends, collector: &Collector, settings: &Settings) -> KillReport {
    deploy(system, collector);
    system.scale(REPLICAS);
    let before = counters(system);
    let load = Running::start(standard(system));
    std::thread::sleep(CALM);
    let mut deaths = Vec::new();
    let broken = catch_unwind(AssertUnwindSafe(|| {
        for cycle in 0..settings.kills {
            let worker = WORKERS[(cycle + 1) % WORKERS.len()];
            // What is in flight then has had time to be on all replicas.
            std::thread::sleep(CALM);
            let dead = system.replicas_on(worker);
            load.tally.open_window();
            let from = Instant::now();
            system.kill_worker(worker);
            let gone = Instant::now();
            deaths.push(Death { from, gone, dead });
            system.await_others(worker);
            system.revive_worker(worker);
            load.tally.close_window();
            println!("{} kill {}: {worker}", system.name(), cycle + 1);
        }
    }));
    std::thread::sleep(CALM);
    let tally = load.finish();
    let edge = counted(system, before);
    system.down();
    collector.forget();
    KillReport {
        name: system.name(),
        complete: broken.is_ok(),
        deaths,
        tally,
        edge,
    }
}
