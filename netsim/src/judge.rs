//! What must hold: nothing is restarted, nothing runs twice, what was acknowledged is there in the end.

use std::collections::BTreeMap;

use controller::store::{Repository, Store};
use longshore_model::ServiceKey;
use node_agent::runtime::Condition;

use crate::world::{APP, SERVICES, World, lock};

/// Of the file.
const FIRST_COUNT: u32 = 2;
/// Counts whose effects may still be under way.
const COUNTS_LATELY: usize = 6;

/// Containers of a host: replica and condition.
type Seen = Vec<(u64, Condition)>;

/// See the module.
#[derive(Default)]
pub struct Judge {
    seen: BTreeMap<String, Seen>,
    /// Which service each replica was planned for: one that was given up runs on until its node is heard again.
    planned: BTreeMap<u64, ServiceKey>,
    /// All services ran whole once.
    began: bool,
    /// What happened, with its time.
    pub trace: Vec<String>,
}

impl Judge {
    pub fn say(&mut self, now_ms: u64, words: &str) {
        self.trace.push(format!("{now_ms:>6} {words}"));
    }

    /// Looks at all engines.
    ///
    /// # Errors
    /// What must never be.
    pub fn look(&mut self, world: &World, now_ms: u64) -> Result<(), String> {
        let mut at: BTreeMap<u64, &str> = BTreeMap::new();
        for host in &world.hosts {
            let state = host.engine.state();
            let mut seen: Seen = Vec::new();
            for container in state.containers.values() {
                let replica = container.replica.0;
                if container.starts > 1 {
                    return Err(format!("r{replica} on {} was restarted", host.name));
                }
                if let Some(other) = at.insert(replica, &host.name) {
                    return Err(format!("r{replica} is on {other} and on {}", host.name));
                }
                seen.push((replica, container.condition));
            }
            drop(state);
            seen.sort_unstable_by_key(|(replica, _)| *replica);
            if self.seen.get(&host.name) != Some(&seen) {
                self.nothing_ended_unasked(world, &host.name, &seen)?;
                let words: Vec<String> = seen.iter().map(|(r, c)| format!("r{r} {c:?}")).collect();
                self.trace
                    .push(format!("{now_ms:>6} {}: {}", host.name, words.join(", ")));
                self.seen.insert(host.name.clone(), seen);
            }
        }
        Ok(())
    }

    /// Of each service at least as many run as the least that was asked for lately: nothing is stopped before what
    /// comes in its place, whoever is cut off meanwhile.
    ///
    /// # Errors
    /// Too few run.
    pub fn enough(&mut self, world: &World) -> Result<(), String> {
        let loaded = Repository::read(&*world.store).map_err(|error| error.to_string())?;
        let told = lock(&world.told).clone();
        let mut whole = loaded.plan.services.len() == SERVICES.len();
        for (key, service) in &loaded.plan.services {
            let ids = service.replicas.keys().map(|id| (id.0, key.clone()));
            self.planned.extend(ids);
        }
        let running = self.seen.values().flatten();
        let running: Vec<&ServiceKey> = running
            .filter(|(_, condition)| *condition == Condition::Running)
            .filter_map(|(replica, _)| self.planned.get(replica))
            .collect();
        for key in loaded.plan.services.keys() {
            let asked = told.counts.get(key.service.as_str());
            let lately = asked
                .into_iter()
                .flatten()
                .rev()
                .take(COUNTS_LATELY)
                .copied();
            let least = lately.chain([FIRST_COUNT]).min().unwrap_or(0);
            let running = running.iter().filter(|of| **of == key).count();
            if self.began && running < least as usize {
                return Err(format!(
                    "{key}: {running} run, at least {least} were asked for lately"
                ));
            }
            whole &= running >= least as usize;
        }
        self.began |= whole;
        Ok(())
    }

    /// Containers end because the plan says so, and for no other reason.
    fn nothing_ended_unasked(&self, world: &World, host: &str, now: &Seen) -> Result<(), String> {
        let runs = |seen: &Seen, id: u64| {
            seen.iter()
                .any(|(replica, condition)| *replica == id && *condition == Condition::Running)
        };
        let before = self.seen.get(host).map_or(&[][..], Vec::as_slice);
        let ended = before.iter().map(|(id, _)| *id);
        let ended: Vec<u64> = ended
            .filter(|id| runs(&before.to_vec(), *id) && !runs(now, *id))
            .collect();
        if ended.is_empty() {
            return Ok(());
        }
        let loaded = Repository::read(&*world.store).map_err(|error| error.to_string())?;
        for service in loaded.plan.services.values() {
            for (id, replica) in &service.replicas {
                if ended.contains(&id.0) && replica.leaving.is_none() {
                    return Err(format!("{id} on {host} ended, and nobody wanted it to"));
                }
            }
        }
        Ok(())
    }

    /// Is all as it should be in the end? Else what is not.
    pub fn settled(&self, world: &World) -> Result<(), String> {
        let store: &dyn Store = &*world.store;
        let loaded = Repository::read(store).map_err(|error| error.to_string())?;
        let (desired, plan) = (loaded.desired, loaded.plan);
        let told = lock(&world.told).clone();
        for service in SERVICES {
            let key: ServiceKey = format!("{APP}/{service}").parse().map_err(|_| "a key")?;
            let counted = desired.manual.get(&key).map_or(2, |manual| manual.count);
            let mut may: Vec<u32> = told
                .acknowledged
                .get(service)
                .copied()
                .into_iter()
                .collect();
            if may.is_empty() {
                may.push(2);
            }
            may.extend(told.unanswered.get(service).into_iter().flatten());
            if !may.contains(&counted) {
                return Err(format!(
                    "{key}: {counted} are wanted, acknowledged was one of {may:?}"
                ));
            }
            let planned = plan.services.get(&key);
            let planned = planned.map_or(0, |planned| planned.replicas.len());
            if planned != counted as usize {
                return Err(format!("{key}: {counted} are wanted, {planned} planned"));
            }
        }
        let mut wanted: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for service in plan.services.values() {
            for (id, replica) in &service.replicas {
                wanted.entry(replica.node.as_str()).or_default().push(id.0);
            }
        }
        for host in &world.hosts {
            let mut wanted = wanted.remove(host.name.as_str()).unwrap_or_default();
            wanted.sort_unstable();
            let running = host.engine.running();
            let all = host.engine.state().containers.len();
            if running != wanted || all != wanted.len() {
                return Err(format!(
                    "{}: {running:?} run ({all} containers), {wanted:?} are planned",
                    host.name
                ));
            }
        }
        Ok(())
    }
}
