//! Users: they apply revisions good and bad, scale, take down, drain, remove and join nodes, and
//! bring load. All of it goes through the controller's one door for writes.

use std::collections::BTreeSet;

use controller::store::{Repository, StoreError, StoredEvent};
use longshore_haproxy_driver::name::BackendName;
use longshore_model::autoscale::Signal;
use longshore_model::spec::FailureAction;
use longshore_model::{
    App, AppName, Desired, Event as Said, EventKind, ManualScale, ServiceKey, ServiceName,
};

use crate::adapter::Wish;
use crate::event::Event;
use crate::policies::Policies;
use crate::world::World;

/// Target of every autoscaled service; load at it asks for nothing.
pub const TARGET: f64 = 0.6;
/// Most replicas that a user asks for.
const COUNT_MAX: u64 = 6;

/// What users want.
#[derive(Debug, Default)]
pub struct Users {
    /// Services, in a fixed order.
    pub services: Vec<Service>,
    /// Counts revisions.
    tags: u32,
}

/// One service, as its users see it.
#[derive(Debug)]
pub struct Service {
    /// Its key.
    pub key: ServiceKey,
    /// What is applied now; none: it is down.
    pub wish: Option<Wish>,
    /// What was applied before.
    pub earlier: Option<Wish>,
    /// What was last asked for, acknowledged or not.
    asked: Option<Wish>,
    /// What it is like when it is up.
    pub usual: Wish,
    /// Since when users may expect an answer.
    pub promised_at: u64,
}

impl Users {
    /// Name of a service's backend, if it has one.
    #[must_use]
    pub fn backend(&self, service: usize) -> Option<String> {
        let service = self.services.get(service)?;
        let port = service.usual.listen_port?;
        Some(BackendName::of(&service.key, port).to_string())
    }

    /// The service of a key.
    #[must_use]
    pub fn of(&self, key: &ServiceKey) -> Option<&Service> {
        self.services.iter().find(|service| service.key == *key)
    }

    /// May users expect an answer now?
    #[must_use]
    pub fn promised(&self, service: usize, now_ms: u64) -> bool {
        self.services.get(service).is_some_and(|service| {
            let wish = service.wish.as_ref();
            let whole = |wish: &Wish| {
                // Of one that has no room beside it the old one stops first.
                let tight = wish.policies.per_node().is_some() || wish.policies.to_zero;
                // One on each node: a drain takes it away, and nobody comes for it.
                let each = wish.policies.global;
                let alone = wish.job.is_none();
                let writes = wish.volume.is_some();
                !wish.stop_first && !tight && !each && !writes && alone && wish.max_unavailable == 0
            };
            wish.is_some_and(whole) && now_ms >= service.promised_at
        })
    }
}

impl World {
    /// Services of this seed.
    pub(crate) fn invent_services(&mut self) {
        for number in 0..self.scenario.services {
            let app = AppName::new(format!("a{number}"));
            let service = ServiceName::new("web");
            let (Ok(app), Ok(service)) = (app, service) else {
                continue;
            };
            let routed = !self.dice.one_in(6);
            let listen_port = u16::try_from(8_000 + number).ok().filter(|_| routed);
            let signal = match self.dice.one_in(2) {
                true => Signal::Cpu,
                false => Signal::NodeCpu,
            };
            let scales = self.dice.one_in(3);
            let usual = Wish {
                image: self.good_image(),
                replicas: u32::try_from(self.dice.between(1, COUNT_MAX)).unwrap_or(1),
                listen_port,
                stop_first: self.dice.one_in(8),
                parallelism: u32::try_from(self.dice.between(1, 3)).unwrap_or(1),
                max_unavailable: u32::from(self.dice.one_in(6)),
                drain_ms: self.dice.between(1_000, 6_000),
                scaling: scales.then_some((signal, 6)),
                impossible: false,
                warm: 0,
                failure_action: FailureAction::default(),
                delay_ms: 0,
                policies: Policies::default(),
                job: None,
                volume: None,
            };
            let usual = match self.scenario.rich {
                true => self.enrich(usual),
                false => usual,
            };
            let usual = match self.scenario.jobs {
                true => self.enrich_jobs(usual),
                false => usual,
            };
            let usual = match self.scenario.policies {
                true => self.enrich_policies(number, usual),
                false => usual,
            };
            let usual = match self.scenario.limits {
                true => self.enrich_limits(usual),
                false => usual,
            };
            let usual = match self.scenario.global {
                true => self.enrich_global(usual),
                false => usual,
            };
            let usual = match self.scenario.volumes {
                true => self.enrich_volumes(app.as_str(), usual),
                false => usual,
            };
            self.users.services.push(Service {
                key: ServiceKey::new(app, service),
                wish: None,
                earlier: None,
                asked: None,
                usual,
                promised_at: u64::MAX,
            });
        }
    }

    /// With what only rich seeds have.
    fn enrich(&mut self, usual: Wish) -> Wish {
        use FailureAction::{Continue, Pause, Rollback};
        let action = self.dice.pick(&[Pause, Continue, Rollback]);
        Wish {
            warm: u32::try_from(self.dice.between(0, 2)).unwrap_or(0),
            failure_action: action.unwrap_or_default(),
            delay_ms: self.dice.pick(&[0, 0, 300, 1_000]).unwrap_or(0),
            ..usual
        }
    }

    fn good_image(&mut self) -> String {
        self.users.tags += 1;
        let after_ms = self.dice.pick(&[20, 100, 400, 1_500]).unwrap_or(20);
        format!("good-{after_ms}:{}", self.users.tags)
    }

    fn bad_image(&mut self) -> String {
        self.users.tags += 1;
        let kind = match self.scenario.shy && self.dice.one_in(2) {
            true => Some("shy"),
            false => self
                .dice
                .pick(&["crash-50", "crash-700", "deaf", "missing"]),
        };
        format!("{}:{}", kind.unwrap_or("deaf"), self.users.tags)
    }

    /// One write through the controller's door, and what came of it in the book of mutations.
    /// False: it was not acknowledged.
    pub(crate) fn change(
        &mut self,
        mean: impl Fn(&mut Desired),
        write: impl FnOnce(&mut Repository, &Desired) -> Result<Vec<StoredEvent>, StoreError>,
    ) -> bool {
        let Some(cluster) = self.cluster().cloned() else {
            return false;
        };
        if self.control.frozen_until > self.now {
            return false;
        }
        let before = cluster.desired();
        let mut meant = Desired::clone(&before);
        mean(&mut meant);
        let result = cluster.change::<(), StoreError>(|ledger, desired| {
            let events = write(&mut ledger.repository, &meant)?;
            mean(desired);
            Ok(((), events))
        });
        let acked = self.mutations.wrote(&result, &before, meant);
        self.judge_mutations();
        self.controller_ends_if_fatal();
        self.wake_controller();
        acked
    }

    /// Applies what a service is to be.
    pub(crate) fn apply(&mut self, service: usize, wish: Wish) -> bool {
        let Some(cluster) = self.cluster().cloned() else {
            return false;
        };
        let at_ms = cluster.now_ms();
        self.users.services[service].asked = Some(wish.clone());
        let key = self.users.services[service].key.clone();
        let services = wish.app(&key.service);
        let name = key.app.clone();
        let revision = cluster
            .desired()
            .apps
            .get(&name)
            .map_or(0, |app| app.revision)
            + 1;
        let app = App {
            name: name.clone(),
            revision,
            services,
            applied_ms: at_ms,
            applied_by: "sim".into(),
            numbers: Default::default(),
        };
        let kind = EventKind::AppApplied {
            app: name.clone(),
            revision,
            by: "sim".into(),
        };
        let acked = self.change(
            |desired| {
                desired.apps.insert(name.clone(), app.clone());
            },
            |repository, _| repository.put_app(&app, &[Said { at_ms, kind }]),
        );
        if acked {
            say!(
                self,
                "user applies {}: {} x{}",
                self.users.services[service].key,
                wish.image,
                wish.replicas
            );
            self.is_applied(service, wish);
        }
        acked
    }

    fn is_applied(&mut self, service: usize, wish: Wish) {
        let service_now = &mut self.users.services[service];
        let was_up = service_now.wish.is_some();
        let shrinks = service_now
            .wish
            .as_ref()
            .is_some_and(|was| was.stop_first || was.max_unavailable > 0);
        service_now.earlier = service_now.wish.replace(wish);
        if !was_up || shrinks || service_now.promised_at == u64::MAX {
            service_now.promised_at = self.now + crate::traffic::PARDON_MS;
            self.traffic.forget(service);
        }
    }

    /// A write that ended without a word may have taken effect: whoever asked for it looks what
    /// is there as soon as the controller is.
    pub(crate) fn users_look(&mut self) {
        let Some(desired) = self.cluster().map(|cluster| cluster.desired()) else {
            return;
        };
        for number in 0..self.users.services.len() {
            let service = &self.users.services[number];
            let key = &service.key;
            let app = desired.apps.get(&key.app);
            let there = app.and_then(|app| app.services.get(&key.service));
            let known = service.wish.as_ref().map(Wish::spec);
            let down = service.wish.is_some() && there.is_none();
            let changed = there.is_some() && there != known.as_ref();
            let asked = service.asked.clone();
            let asked = asked.filter(|asked| changed && there == Some(&asked.spec()));
            let count = desired.manual.get(key).map(|manual| manual.count);
            if let Some(wish) = asked {
                self.is_applied(number, wish);
            }
            if down || count == Some(0) {
                self.unpromise(number);
            }
            if down {
                self.users.services[number].wish = None;
            }
        }
    }

    fn down(&mut self, service: usize) {
        let key = self.users.services[service].key.clone();
        let manual: Vec<ServiceKey> = self.cluster().map_or_else(Vec::new, |cluster| {
            let desired = cluster.desired();
            let keys = desired.manual.keys().chain(desired.autoscale.keys());
            let keys: BTreeSet<_> = keys.filter(|k| k.app == key.app).cloned().collect();
            keys.into_iter().collect()
        });
        let acked = self.change(
            |desired| {
                desired.apps.remove(&key.app);
                desired.manual.retain(|k, _| k.app != key.app);
                desired.autoscale.retain(|k, _| k.app != key.app);
            },
            |repository, _| repository.remove_app(&key.app, &manual, &[]),
        );
        if acked {
            say!(self, "user takes {} down", self.users.services[service].key);
            self.unpromise(service);
            self.users.services[service].wish = None;
        }
    }

    fn unpromise(&mut self, service: usize) {
        self.users.services[service].promised_at = u64::MAX;
        self.traffic.forget(service);
    }

    fn scale(&mut self, service: usize, count: u32) {
        let Some(cluster) = self.cluster().cloned() else {
            return;
        };
        let at_ms = cluster.now_ms();
        let key = self.users.services[service].key.clone();
        let hold_until_ms = match self.scenario.policies {
            true => self.any_hold(at_ms),
            false => None,
        };
        let manual = ManualScale {
            count,
            at_ms,
            hold_until_ms,
            by: "sim".into(),
        };
        let acked = self.change(
            |desired| {
                desired.manual.insert(key.clone(), manual.clone());
            },
            |repository, _| repository.put_manual(&key, &manual).map(|()| Vec::new()),
        );
        if acked {
            say!(
                self,
                "user scales {} to {count} {hold_until_ms:?}",
                self.users.services[service].key
            );
            if count == 0 {
                self.unpromise(service);
            } else if self.users.services[service].promised_at == u64::MAX {
                self.users.services[service].promised_at = self.now + crate::traffic::PARDON_MS;
            }
        }
    }

    /// A user does something, and again later.
    pub(crate) fn user(&mut self) {
        if self.calm {
            return;
        }
        let wait_ms = self.dice.between(200, 2 * self.scenario.user_every_ms);
        self.queue.push(self.now + wait_ms, Event::User);
        let service = self.dice.below(self.users.services.len());
        let up = self.users.services[service].wish.is_some();
        let scales = up && self.users.services[service].usual.scaling.is_some();
        if self.scenario.pauses && scales && self.dice.one_in(6) {
            return self.pause_or_resume(service);
        }
        if self.scenario.policies && scales && self.dice.one_in(3) {
            return self.agree_or_pause(service);
        }
        if self.scenario.limits && scales && self.dice.one_in(3) {
            return self.set_bounds(service);
        }
        if self.scenario.volumes && !up && self.dice.one_in(2) {
            return self.remove_volume(service);
        }
        match self.dice.below(12) {
            _ if !up => {
                let usual = self.users.services[service].usual.clone();
                self.apply(service, usual);
            }
            0..=3 => self.new_revision(service),
            4..=6 => self.rescale(service),
            7 => self.down(service),
            8..=10 => self.node_verb(),
            _ => self.node_leaves(),
        }
    }

    fn new_revision(&mut self, service: usize) {
        if self.scenario.limits
            && self.dice.one_in(6)
            && let Some(earlier) = self.users.services[service].earlier.clone()
        {
            say!(self, "user undoes {}", self.users.services[service].key);
            self.apply(service, earlier);
            return;
        }
        let mut next = self.users.services[service].usual.clone();
        next.image = match self.dice.one_in(4) {
            true => self.bad_image(),
            false => self.good_image(),
        };
        if self.dice.one_in(4) && next.volume.is_none() {
            next.replicas = u32::try_from(self.dice.between(1, COUNT_MAX)).unwrap_or(1);
        }
        next.impossible = self.dice.one_in(12);
        if self.scenario.jobs {
            next.job = self.any_job();
        }
        if next.policies.gate.is_some() && self.dice.one_in(3) {
            next.image = format!("wrong:{}", self.users.tags);
        }
        if next.policies.is_timed() && self.dice.one_in(3) {
            next.image = format!("slow:{}", self.users.tags);
        }
        self.apply(service, next);
    }

    fn rescale(&mut self, service: usize) {
        // The controller's door refuses it.
        let usual = &self.users.services[service].usual;
        if usual.policies.global || usual.volume.is_some() {
            return;
        }
        let low = u64::from(self.users.services[service].usual.scaling.is_some());
        let count = match self.dice.one_in(8) {
            true => low,
            false => self.dice.between(1, COUNT_MAX),
        };
        self.scale(service, u32::try_from(count).unwrap_or(1));
    }

    /// The load changes, and again later.
    pub(crate) fn load(&mut self) {
        if self.calm {
            return;
        }
        let wait_ms = self.dice.between(500, 4_000);
        self.queue.push(self.now + wait_ms, Event::Load);
        let levels = [0.0, 0.1, 0.3, 0.6, 0.6, 0.9, 1.0];
        self.replica_load = self.dice.pick(&levels).unwrap_or(TARGET);
        let level = self.dice.pick(&levels).unwrap_or(TARGET);
        for host in &mut self.hosts {
            host.load = level;
        }
        if self.scenario.policies {
            self.load_policies();
        }
    }

    /// Faults are over: users put everything right that they can.
    pub(crate) fn users_put_right(&mut self) {
        self.replica_load = TARGET;
        if self.scenario.policies {
            self.calm_policies();
        }
        self.resume_all();
        for host in 0..self.hosts.len() {
            self.hosts[host].load = TARGET;
            self.join(host);
        }
        for service in 0..self.users.services.len() {
            if !self.dice.one_in(4) {
                let usual = self.users.services[service].usual.clone();
                self.apply(service, usual);
            }
        }
    }
}
