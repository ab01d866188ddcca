//! Turns the routes into what this HAProxy can serve, and says of each service what it cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longshore_model::ServiceKey;
use tokio::time::Instant;

use crate::edge::Edge;
use crate::held::{TAKEN, is_taken};
use crate::intent::{BackendIntent, Intent, RouteError};
use crate::name::BackendName;
use crate::render::listen_ports;

/// Between two questions whether a port that another program held is free.
const LOOK_MS: u64 = 1_000;

/// Services that are left out, each with why.
type Refused = BTreeMap<ServiceKey, String>;

impl Edge {
    /// Turns the routes into an intent, without what breaks a rule and without ports that
    /// another program holds.
    pub(crate) fn compile(&mut self) {
        let asked = self.kept.as_ref().map(|kept| &kept.routes);
        let Some(routes) = asked.or(self.routes.as_ref()) else {
            return;
        };
        let served: BTreeSet<BackendName> = self
            .slots
            .backends
            .keys()
            .filter_map(|name| BackendName::parse(name))
            .map(|(service, port)| BackendName::of(&service, port))
            .collect();
        let lacking = Arc::new(self.certificates.lacking(routes));
        let reserved = self.settings.reserved_ports();
        let (intent, errors) = Intent::compile_lacking(routes, &served, &reserved, lacking);
        let mut refused = Refused::new();
        // Of certificates more is said below, also where a port has another one.
        let is_other = |error: &RouteError| !matches!(error, RouteError::Certificate { .. });
        for error in errors.into_iter().filter(is_other) {
            refuse(&mut refused, error.service(), &error.rule());
        }
        for (service, why) in self.certificates.says(routes) {
            refuse(&mut refused, &service, &why);
        }
        // Where somebody removed the file, HAProxy has its ports all the same.
        let loaded = self.slots.loaded.keys();
        let loaded = loaded.filter_map(|name| Some(BackendName::parse(name)?.1));
        let file = self.written.as_deref().map(listen_ports);
        let ours: BTreeSet<u16> = file.into_iter().flatten().chain(loaded).collect();
        let new = intent
            .frontends()
            .into_keys()
            .filter(|port| !ours.contains(port));
        let taken: Vec<u16> = new
            .filter(|port| is_taken(self.settings.bind_address, *port))
            .collect();
        self.refused = refused;
        self.wanted = intent;
        self.look_again = None;
        self.leave_out(&taken);
    }

    /// What is served of what is wanted: all but what HAProxy does not take.
    pub(crate) fn hold_back(&mut self) {
        let now = Instant::now();
        let (loaded, reserved) = (&self.slots.loaded, self.settings.reserved_ports());
        let intent = self
            .quarantine
            .hold_back(&self.wanted, loaded, &reserved, now);
        self.intent = Arc::new(intent);
    }

    /// Serves all but what comes in through these ports, which other programs hold.
    pub(crate) fn leave_out(&mut self, taken: &[u16]) {
        let refused = &mut self.refused;
        self.wanted.backends.retain(|_, backend| {
            let is_free = !taken.contains(&backend.listen_port);
            if !is_free {
                refuse_port(refused, backend);
            }
            is_free
        });
        self.hold_back();
        self.plan_look();
    }

    /// Says of the services behind these ports why nobody reaches them while HAProxy is down.
    pub(crate) fn note_taken(&mut self, taken: &[u16]) {
        for backend in self.intent.backends.values() {
            if taken.contains(&backend.listen_port) {
                refuse_port(&mut self.refused, backend);
            }
        }
        self.plan_look();
    }

    /// While anything is refused, ports are asked for again.
    fn plan_look(&mut self) {
        if !self.refused().is_empty() {
            let at = Instant::now() + Duration::from_millis(LOOK_MS);
            self.look_again.get_or_insert(at);
        }
    }

    /// Services that cannot be reached here as wanted, and why.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<ServiceKey, String> {
        let mut refused = self.refused.clone();
        for (service, why) in self.quarantine.says() {
            refuse(&mut refused, service, &why);
        }
        let kept = self.kept.as_ref().map(|kept| kept.says(Instant::now()));
        for (service, why) in kept.into_iter().flatten() {
            refuse(&mut refused, service, why);
        }
        for (service, why) in &self.waiting {
            refuse(&mut refused, service, why);
        }
        refused
    }

    /// While HAProxy is down: what it could not start with, in one line.
    pub(crate) fn kept_down_by(&self, taken: &[u16]) -> Option<String> {
        let backends = self.intent.backends.values();
        let mut held: Vec<_> = backends
            .filter(|backend| taken.contains(&backend.listen_port))
            .map(|backend| format!("{}: port {} {TAKEN}", backend.service, backend.listen_port))
            .collect();
        held.dedup();
        let address = self.settings.stats_address;
        let statistics = self.settings.reserved_ports().into_iter();
        for port in statistics.filter(|port| is_taken(address, *port)) {
            held.push(format!("its statistics: port {port} {TAKEN}"));
        }
        (!held.is_empty()).then(|| held.join("; "))
    }
}

fn refuse_port(refused: &mut Refused, backend: &BackendIntent) {
    let why = format!("port {} {TAKEN}", backend.listen_port);
    refuse(refused, &backend.service, &why);
}

/// Notes one more reason of a service; one that is noted already, as at the next look, is not
/// said twice.
pub(crate) fn refuse(refused: &mut Refused, service: &ServiceKey, why: &str) {
    let known = refused.entry(service.clone()).or_default();
    if known == why || known.split("; ").any(|said| said == why) {
        return;
    }
    if !known.is_empty() {
        known.push_str("; ");
    }
    known.push_str(why);
}
