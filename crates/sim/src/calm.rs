//! After the storm: with all faults over, the cluster must be as desired within a minute, stay
//! so, and answer every request. What crash-loops whatever is done may be tried on.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use longshore_model::Plan;
use longshore_model::job::Job;
use longshore_model::plan::Traffic;
use longshore_model::reason::LeaveReason;
use longshore_model::rollout::Direction;
use longshore_model::spec::FailureAction;

use crate::adapter::{self, Wish};
use crate::each_node;
use crate::event::Event;
use crate::scenario::DAWN_MS;
use crate::truth::Life;
use crate::world::World;

/// Longest time to converge.
pub const CONVERGE_MS_MAX: u64 = 60_000;
/// So long nothing may be planned after that.
pub const STILL_MS: u64 = 10_000;
/// So long where something crash-loops: its back-off is watched until it has reached its cap.
pub const STILL_LOOPING_MS: u64 = 40_000;
/// So long an agent lets what never answers try to start before it says so.
const START_MS_MAX: u64 = 60_000;
/// Lists follow the last change within this.
const LISTS_MS: u64 = 2_000;
const WATCH_MS: u64 = 250;

/// How the calm phase goes.
#[derive(Debug, Default)]
pub struct Calm {
    /// When it began.
    began_at: u64,
    /// Since when it has been as desired, and the plan then.
    still: Option<(u64, Arc<Plan>)>,
    /// What was last not as desired.
    last: Option<String>,
    /// It is over.
    pub over: bool,
    /// From its beginning to rest.
    pub took_ms: u64,
}

impl World {
    pub(crate) fn begin_calm(&mut self) {
        say!(self, "calm");
        self.calm = true;
        self.heal_all();
        if self.control.process.is_none() {
            self.queue.push(self.now + 100, Event::ControllerUp);
        }
        self.rest.began_at = self.now;
        self.queue.push(self.now + 200, Event::Watch);
    }

    /// Milliseconds since everything was last seen to be as desired, in the calm phase.
    #[must_use]
    pub fn quiet_for_ms(&self) -> u64 {
        let since = self.rest.still.as_ref().map(|(since, _)| *since);
        since.map_or(0, |since| self.now - since)
    }

    pub(crate) fn watch(&mut self) {
        if !self.put_right {
            self.put_right_when_up();
            return;
        }
        self.wait_for_dawn();
        let plan = self.plan_now();
        let unrest = self.unrest();
        self.rest.last.clone_from(&unrest);
        let rests = |was: &Arc<Plan>| self.rests(was, &plan);
        let since = match (&unrest, &self.rest.still) {
            (Some(_), _) => None,
            (None, Some((since, was))) if rests(was) => Some(*since),
            (None, _) => Some(self.now),
        };
        let loops = plan.services.keys().any(|key| self.crash_loops(&plan, key));
        let still_ms = if loops { STILL_LOOPING_MS } else { STILL_MS };
        self.rest.still = since.map(|since| (since, plan));
        if self.quiet_for_ms() >= still_ms {
            self.rest.over = true;
            self.rest.took_ms = self.now - still_ms - self.rest.began_at;
            return;
        }
        let most_ms = CONVERGE_MS_MAX + self.in_vain_ms() + still_ms;
        if self.now - self.rest.began_at > most_ms {
            self.rest.over = true;
            let still = "the plan does not come to rest".to_owned();
            let why = self.rest.last.take().unwrap_or(still);
            self.describe();
            self.violation(&format!("not as desired after a minute of calm: {why}"));
            return;
        }
        self.queue.push(self.now + WATCH_MS, Event::Watch);
    }

    /// What never answers fails only when the time for its start is over, however well the rest is;
    /// what follows from that (the way back, another count) has the minute from then on.
    fn in_vain_ms(&self) -> u64 {
        let wishes = self.users.services.iter();
        let mut wishes = wishes.filter_map(|service| service.wish.as_ref());
        let deaf = |image: &str| image.starts_with("deaf") || image.starts_with("shy");
        let deaf = wishes.any(|wish| deaf(&wish.image) && !wish.impossible);
        if deaf { START_MS_MAX } else { 0 }
    }

    /// Where a clock was put back, a schedule begins or ends only now: the minute begins with it.
    fn wait_for_dawn(&mut self) {
        let clock_ms = self.cluster().map_or(0, |cluster| cluster.now_ms());
        let since_ms = clock_ms.checked_sub(DAWN_MS).filter(|ms| *ms < 1_000);
        if self.scenario.policies && since_ms.is_some() {
            self.rest.began_at = self.now;
        }
    }

    /// The plan, and why it waits, for whoever reads the trace.
    pub(crate) fn describe(&mut self) {
        let Some(cluster) = self.cluster().cloned() else {
            return;
        };
        let view = cluster.view();
        for line in adapter::describe(&view.plan, &view.report) {
            say!(self, "{line}");
        }
        for line in adapter::describe_observed(&cluster.fleet.snapshot(), &view.plan) {
            say!(self, "{line}");
        }
        say!(self, "problem {:?}", view.problem);
    }

    fn put_right_when_up(&mut self) {
        if self.control.process.is_some() {
            self.put_right = true;
            self.users_put_right();
            // The minute begins with the last word of a user.
            self.rest.began_at = self.now;
        }
        self.queue.push(self.now + WATCH_MS, Event::Watch);
    }

    /// What is not as desired.
    fn unrest(&self) -> Option<String> {
        let Some(cluster) = self.cluster() else {
            return Some("the controller is down".to_owned());
        };
        let view = cluster.view();
        let plan = &view.plan;
        for service in &self.users.services {
            let Some(wish) = &service.wish else {
                let left = adapter::of_service(plan, &service.key).count();
                if left > 0 {
                    return Some(format!("{}: {left} replicas are left of it", service.key));
                }
                continue;
            };
            if let Some(what) = self.waits_in_vain(plan, &service.key, wish) {
                return Some(what);
            }
            let good = wish.image.starts_with("good") && !wish.impossible;
            let stopped = adapter::job(plan, &service.key).is_some_and(Job::failed);
            if wish.job.is_some()
                && adapter::job(plan, &service.key).is_none_or(|j| j.end.is_none())
            {
                return Some(format!("{}: its job has not ended", service.key));
            }
            if !good || stopped {
                continue;
            }
            let target = adapter::target(plan, &service.key) as usize;
            let serving = adapter::of_service(plan, &service.key)
                .filter(|r| r.leaving.is_none() && r.traffic == Traffic::Serve)
                .count();
            let most = wish
                .policies
                .per_node()
                .map_or(target, |each| (self.workers() * each) as usize);
            let none = target == 0 && wish.scaling.is_some() && !wish.policies.to_zero;
            if serving != target.min(most) || none {
                return Some(format!("{}: {serving} of {target} serve", service.key));
            }
            if let Some(what) = each_node::uneven(self, plan, service, wish) {
                return Some(what);
            }
            if let Some(what) = self.count_is_off(plan, service, wish) {
                return Some(what);
            }
            if let Some(what) = self.outdated(plan, &service.key, &wish.image) {
                return Some(what);
            }
        }
        if let Some(leaving) = adapter::replicas(plan).find(|r| {
            r.leaving.is_some()
                && self.users.of(&r.service).is_none_or(|s| {
                    s.wish
                        .as_ref()
                        .is_none_or(|w| w.image.starts_with("good") && !w.impossible)
                })
        }) {
            return Some(format!("{} still leaves", leaving.id));
        }
        self.lists_differ(plan).filter(|_| self.plan_is_old())
    }

    /// What no edge ever reaches fails its rollout, where there is something to go back to.
    fn waits_in_vain(
        &self,
        plan: &Plan,
        key: &longshore_model::ServiceKey,
        wish: &Wish,
    ) -> Option<String> {
        let shy = wish.image.starts_with("shy") && !wish.impossible;
        let routed = self.users.of(key)?.usual.listen_port.is_some();
        let rollout = adapter::rollout(plan, key).filter(|_| shy && routed)?;
        let runs = rollout.runs() && rollout.direction == Direction::Forward;
        let waits =
            runs && rollout.from.is_some() && wish.failure_action != FailureAction::Continue;
        waits.then(|| format!("{key}: its rollout waits for what no edge reaches"))
    }

    fn plan_is_old(&self) -> bool {
        let plan = self.plan_now();
        match &self.rest.still {
            Some((since, was)) => self.rests(was, &plan) && self.now - since > LISTS_MS,
            None => false,
        }
    }

    fn plan_now(&self) -> Arc<Plan> {
        let plan = self.cluster().map(|c| Arc::clone(&c.view().plan));
        plan.unwrap_or_default()
    }

    /// A rollout that stopped stays stopped: the file's template failed too often.
    fn outdated(
        &self,
        plan: &Plan,
        key: &longshore_model::ServiceKey,
        image: &str,
    ) -> Option<String> {
        // The failures may be forgiven by then: others of the template serve for long.
        if adapter::failures(plan, key).is_some()
            || adapter::rollout_stopped(plan, key)
            || self.was_given_up(plan, key)
        {
            return None;
        }
        let mut replicas = adapter::of_service(plan, key);
        let old = replicas.find(|r| r.leaving.is_none() && adapter::image(plan, r) != image)?;
        Some(format!("{key}: {} is outdated", old.id))
    }

    /// What failed and was rolled back is not tried again while the file asks for just that, also
    /// where its image is there by now: the last good one serves, and nobody else.
    fn was_given_up(&self, plan: &Plan, key: &longshore_model::ServiceKey) -> bool {
        let wish = self.users.of(key).and_then(|service| service.wish.as_ref());
        let asked = wish.is_some_and(|wish| wish.failure_action == FailureAction::Rollback);
        let failed = |life: &&Life| {
            let why = life.leaving.as_ref().map(|(why, _)| why);
            life.service == *key
                && matches!(
                    why,
                    Some(LeaveReason::Failed { .. } | LeaveReason::Unreachable)
                )
        };
        let stay = adapter::of_service(plan, key).filter(|r| r.leaving.is_none());
        let templates: BTreeSet<_> = stay.map(|replica| &replica.template).collect();
        asked
            && adapter::rolled_back(plan, key)
            && templates.len() == 1
            && self.truth.lives.values().any(|life| failed(&life))
    }

    /// Fourth ledger: what each edge sends requests to is what serves, exactly.
    fn lists_differ(&self, plan: &Plan) -> Option<String> {
        for (number, host) in self.hosts.iter().enumerate().filter(|(_, h)| h.edge) {
            for (index, service) in self.users.services.iter().enumerate() {
                let Some(backend) = self.users.backend(index).filter(|_| service.wish.is_some())
                else {
                    continue;
                };
                let mut wanted: Vec<SocketAddr> = adapter::of_service(plan, &service.key)
                    .filter(|r| r.traffic == Traffic::Serve)
                    .flat_map(|r| {
                        r.ports
                            .iter()
                            .map(|p| SocketAddr::new(r.address, p.host_port))
                    })
                    .filter(|address| self.answers(number, *address))
                    .collect();
                let pool = host.haproxy.worker.get(&backend);
                let servers = pool.into_iter().flat_map(|pool| pool.servers.values());
                let mut there: Vec<SocketAddr> = servers
                    .filter(|server| server.takes())
                    .map(|server| server.address)
                    .collect();
                wanted.sort();
                there.sort();
                if wanted != there {
                    return Some(format!(
                        "{}: {} sends requests to {there:?}, {wanted:?} serve",
                        service.key, host.id
                    ));
                }
            }
        }
        None
    }
}
