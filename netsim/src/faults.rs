//! What goes wrong, by the seed: links are cut in one or both directions, messages wait, programs are killed.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use turmoil::Sim;

use crate::world::{CONTROLLER, World};

/// How long one fault lasts, and the pause to the next, at most.
const LASTS_MS: u64 = 12_000;
const PAUSE_MS: u64 = 4_000;

/// A fault that is on.
#[derive(Debug)]
enum Fault {
    /// Nothing gets through, either way.
    Cut(String),
    /// Nothing gets from the first to the second.
    OneWay(String, String),
    /// Messages wait until it is over.
    Held(String),
    /// The program is dead.
    Dead(String),
    /// The controller is cut off from all nodes.
    Alone,
}

/// See the module.
pub struct Faults {
    random: StdRng,
    on: Option<(Fault, u64)>,
    next_ms: u64,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed ^ 0x6661_756c),
            on: None,
            // First all come together.
            next_ms: 15_000,
        }
    }

    /// Begins or ends what is due; what it was, in words.
    pub fn step(&mut self, sim: &mut Sim<'_>, world: &World, now_ms: u64) -> Option<String> {
        if let Some((fault, until_ms)) = &self.on {
            if now_ms < *until_ms {
                return None;
            }
            let words = format!("over: {fault:?}");
            self.end(sim, world);
            self.next_ms = now_ms + self.random.random_range(0..PAUSE_MS);
            return Some(words);
        }
        if now_ms < self.next_ms {
            return None;
        }
        let host = &world.hosts[self.random.random_range(0..world.hosts.len())].name;
        let fault = match self.random.random_range(0..10) {
            0 | 1 => Fault::Cut(host.clone()),
            2 => Fault::OneWay(host.clone(), CONTROLLER.to_owned()),
            3 => Fault::OneWay(CONTROLLER.to_owned(), host.clone()),
            4 | 5 => Fault::Held(host.clone()),
            6 => Fault::Alone,
            7 => Fault::Dead(host.clone()),
            _ => Fault::Dead(CONTROLLER.to_owned()),
        };
        match &fault {
            Fault::Cut(host) => sim.partition(host.as_str(), CONTROLLER),
            Fault::OneWay(from, to) => sim.partition_oneway(from.as_str(), to.as_str()),
            Fault::Held(host) => sim.hold(host.as_str(), CONTROLLER),
            Fault::Dead(host) => sim.crash(host.as_str()),
            Fault::Alone => {
                for host in &world.hosts {
                    sim.partition(host.name.as_str(), CONTROLLER);
                }
            }
        }
        let words = format!("{fault:?}");
        self.on = Some((fault, now_ms + self.random.random_range(50..LASTS_MS)));
        Some(words)
    }

    /// Ends what is on.
    pub fn end(&mut self, sim: &mut Sim<'_>, world: &World) {
        match self.on.take() {
            Some((Fault::Cut(host), _)) => sim.repair(host.as_str(), CONTROLLER),
            Some((Fault::OneWay(from, to), _)) => sim.repair_oneway(from.as_str(), to.as_str()),
            Some((Fault::Held(host), _)) => sim.release(host.as_str(), CONTROLLER),
            Some((Fault::Dead(host), _)) => sim.bounce(host.as_str()),
            Some((Fault::Alone, _)) => {
                for host in &world.hosts {
                    sim.repair(host.name.as_str(), CONTROLLER);
                }
            }
            None => {}
        }
    }
}
