//! What files and operators can say of scaling beyond a signal and a count: schedules, dry runs,
//! consent, holds, pauses that end, gates, fixed host ports, numbers from outside. Seeds from three
//! million on.

use longshore_model::autoscale::{
    Approval, AutoscaleControl, ExternalQuery, Pause, Schedule, ScheduleEnd, Signal,
};
use longshore_model::spec::GateSpec;
use longshore_model::{AutoscaleMode, ServiceKey, TimeMs};

use crate::adapter::{self, Wish};
use crate::event::Event;
use crate::scenario::DAWN_MS;
use crate::world::World;

/// Between two questions to the Prometheus server.
const ASK_MS: u64 = 1_000;
const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
/// What one replica shall have of the number from outside.
const OUTSIDE_TARGET: f64 = 4.0;
/// Minutes that local clocks are ahead of UTC on the day of [`DAWN_MS`], in winter.
const ZONES: [(&str, i64); 5] = [
    ("UTC", 0),
    ("Europe/Brussels", 60),
    ("America/New_York", -300),
    ("Asia/Kolkata", 330),
    ("Pacific/Auckland", 780),
];
/// The hour of [`DAWN_MS`] in UTC, in minutes.
const DAWN_MIN: i64 = 8 * 60;

/// What only these seeds say of a service.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// Acts, says, or asks.
    pub mode: AutoscaleMode,
    /// Other bounds at certain times.
    pub shift: Option<Shift>,
    /// What HAProxy must see of a batch.
    pub gate: Option<GateSpec>,
    /// The host port that each replica needs.
    pub fixed_port: Option<u16>,
    /// It may have no replica at all.
    pub to_zero: bool,
    /// Without any samples it gives back what does not serve.
    pub gives_back: bool,
    /// What its autoscaler looks back over; none: three seconds.
    pub window_ms: Option<u64>,
    /// One replica on each node.
    pub global: bool,
    /// Most on one node; 0: no limit.
    pub max_per_node: u32,
    /// Fullest node first.
    pub packs: bool,
    /// Spread over racks first.
    pub racks: bool,
    /// Share of new replicas that may fail, thousandths; none: one may.
    pub failure_permille_max: Option<u32>,
}

impl Policies {
    /// Most that one node can hold, where that is bounded.
    #[must_use]
    pub fn per_node(&self) -> Option<u32> {
        match (self.fixed_port, self.max_per_node) {
            (Some(_), _) => Some(1),
            (None, 0) => None,
            (None, max) => Some(max),
        }
    }

    /// What its autoscaler looks back over.
    #[must_use]
    pub fn window_ms(&self) -> u64 {
        self.window_ms.unwrap_or(3_000)
    }

    /// Does its gate look at the response time?
    #[must_use]
    pub fn is_timed(&self) -> bool {
        let gate = self.gate.as_ref();
        gate.is_some_and(|gate| gate.latency_permille_max.is_some())
    }
}

/// A schedule that begins or ends at [`DAWN_MS`], which is inside the time of chaos.
#[derive(Debug, Clone, Copy)]
pub struct Shift {
    begins: bool,
    zone: usize,
    min: Option<u32>,
    max: Option<u32>,
}

impl Shift {
    /// As a file has it.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let (zone, ahead_min) = ZONES[self.zone % ZONES.len()];
        let cron = |ahead_h: i64| {
            let minute = (DAWN_MIN + ahead_min + ahead_h * 60).rem_euclid(24 * 60);
            format!("{} {} * * *", minute % 60, minute / 60)
        };
        let (start, end) = match (self.begins, self.zone.is_multiple_of(2)) {
            (true, true) => (cron(0), ScheduleEnd::After(3 * 3_600_000)),
            (true, false) => (cron(0), ScheduleEnd::At(cron(3))),
            (false, true) => (cron(-2), ScheduleEnd::After(2 * 3_600_000)),
            (false, false) => (cron(-2), ScheduleEnd::At(cron(0))),
        };
        Schedule {
            name: "shift".into(),
            start,
            end,
            time_zone: zone.into(),
            min: self.min,
            max: self.max,
        }
    }

    /// Is it in force, by the clock on the wall?
    #[must_use]
    pub fn in_force(&self, wall_ms: TimeMs) -> bool {
        let since_ms = (i64::try_from(wall_ms).unwrap_or(0) - i64::try_from(DAWN_MS).unwrap_or(0))
            .rem_euclid(DAY_MS);
        match self.begins {
            true => since_ms < 3 * HOUR_MS,
            false => since_ms >= DAY_MS - 2 * HOUR_MS,
        }
    }
}

impl Wish {
    /// Bounds that must hold, by the clock on the wall and by what a user said; none: its count is
    /// fixed.
    #[must_use]
    pub fn bounds(
        &self,
        wall_ms: TimeMs,
        control: Option<&AutoscaleControl>,
    ) -> Option<(u32, u32)> {
        let (_, most) = self.scaling.as_ref()?;
        let shift = self.policies.shift.filter(|shift| shift.in_force(wall_ms));
        let least = u32::from(!self.policies.to_zero);
        let min = shift.and_then(|shift| shift.min).unwrap_or(least);
        let max = shift.and_then(|shift| shift.max).unwrap_or(*most);
        let said = control.and_then(|control| control.bounds.as_ref());
        // What a user says goes before all else, and drags the other bound along.
        let (min, max) = match said.map(|said| (said.min, said.max)) {
            None | Some((None, None)) => (min, max.max(min)),
            Some((Some(min), Some(max))) => (min, max.max(min)),
            Some((Some(said), None)) => (said, max.max(min).max(said)),
            Some((None, Some(said))) => (min.min(said), said),
        };
        Some((min, max))
    }
}

/// How the Prometheus server answers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Outside {
    /// With the number.
    #[default]
    Well,
    /// It is away.
    Away,
    /// With something that is no number, or cannot be.
    Nonsense(f64),
    /// Not at all: nobody is told anything.
    Hangs,
}

/// The target of a signal, chosen so that calm traffic asks for one replica.
#[must_use]
pub fn target(signal: &Signal) -> f64 {
    match signal {
        Signal::NodeCpu | Signal::Cpu | Signal::Memory => crate::users::TARGET,
        Signal::Requests | Signal::Concurrency => 10.0,
        Signal::Queue | Signal::Prometheus(_) => OUTSIDE_TARGET,
        Signal::Latency => 500.0,
        Signal::Errors => 0.2,
    }
}

fn query() -> ExternalQuery {
    ExternalQuery {
        url: None,
        query: "sum(waiting)".into(),
    }
}

impl World {
    /// With what only these seeds have.
    pub(crate) fn enrich_policies(&mut self, number: usize, usual: Wish) -> Wish {
        let routed = usual.listen_port.is_some();
        let scales = usual.scaling.is_some() || self.dice.one_in(2);
        let scaling = scales.then(|| (self.any_signal(routed), 6));
        let modes = [
            AutoscaleMode::On,
            AutoscaleMode::On,
            AutoscaleMode::On,
            AutoscaleMode::DryRun,
            AutoscaleMode::Approve,
        ];
        let shifts = scales && self.dice.one_in(2);
        let gated = routed && self.dice.one_in(2);
        let fixed = self.dice.one_in(4);
        let policies = Policies {
            mode: self
                .dice
                .pick(&modes)
                .filter(|_| scales)
                .unwrap_or_default(),
            shift: shifts.then(|| self.any_shift()),
            gate: gated.then_some(GateSpec {
                requests_min: 3,
                error_increase_permille_max: Some(200),
                latency_permille_max: None,
                latency_ms_min: 0,
            }),
            fixed_port: u16::try_from(9_000 + number).ok().filter(|_| fixed),
            ..Policies::default()
        };
        Wish {
            scaling,
            policies,
            ..usual
        }
    }

    fn any_signal(&mut self, routed: bool) -> Signal {
        let number = match routed {
            true => self.dice.below(9),
            false => 5 + self.dice.below(4),
        };
        match number {
            0 => Signal::Requests,
            1 => Signal::Queue,
            2 => Signal::Concurrency,
            3 => Signal::Latency,
            4 => Signal::Errors,
            5 => Signal::NodeCpu,
            6 => Signal::Cpu,
            _ => Signal::Prometheus(query()),
        }
    }

    fn any_shift(&mut self) -> Shift {
        let low = u32::try_from(self.dice.between(2, 5)).unwrap_or(2);
        let high = u32::try_from(self.dice.between(1, 3)).unwrap_or(3);
        let (min, max) = match self.dice.below(3) {
            0 => (Some(low), None),
            1 => (None, Some(high)),
            _ => (Some(low), Some(low + high)),
        };
        Shift {
            begins: self.dice.one_in(2),
            zone: self.dice.below(ZONES.len()),
            min,
            max,
        }
    }

    /// The load on what only these seeds measure.
    pub(crate) fn load_policies(&mut self) {
        self.pace_ms = self.dice.pick(&[400, 120, 40, 15]).unwrap_or(120);
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -7.0];
        self.outside = match self.dice.below(8) {
            0 => Outside::Away,
            1 => Outside::Nonsense(self.dice.pick(&odd).unwrap_or(-7.0)),
            2 => Outside::Hangs,
            _ => Outside::Well,
        };
        let numbers = [0.0, 2.0, 6.0, 11.0, 19.0, 23.0, 40.0];
        self.waiting = self.dice.pick(&numbers).unwrap_or(6.0);
        for host in &mut self.hosts {
            host.haproxy.waiting = self.dice.pick(&[0, 0, 5, 13, 30]).unwrap_or(0);
        }
    }

    /// Faults are over: the load is one that asks for the same from now on.
    pub(crate) fn calm_policies(&mut self) {
        self.pace_ms = 400;
        self.outside = Outside::Well;
        self.waiting = self.dice.pick(&[2.0, 7.0, 15.0, 23.0]).unwrap_or(2.0);
        for host in &mut self.hosts {
            host.haproxy.waiting = 0;
        }
        if self.scenario.limits {
            self.calm_limits();
        }
    }

    /// How many replicas the number from outside asks for.
    #[must_use]
    pub(crate) fn asked_from_outside(&self, wish: &Wish) -> Option<u32> {
        let outside = matches!(wish.scaling, Some((Signal::Prometheus(_), _)));
        let acts = wish.policies.mode == AutoscaleMode::On;
        // What may have nothing has it only where nothing waits.
        let count = (0..=6).find(|count| f64::from(*count) * OUTSIDE_TARGET >= self.waiting);
        (outside && acts).then(|| count.unwrap_or(6))
    }

    /// The controller asks the Prometheus server, and again later.
    pub(crate) fn ask_outside(&mut self) {
        self.queue.push(self.now + ASK_MS, Event::Ask);
        let Some(cluster) = self.cluster().cloned() else {
            return;
        };
        if self.control.frozen_until > self.now || self.outside == Outside::Hangs {
            return;
        }
        let query = query().query;
        let wanted: Vec<ServiceKey> = self
            .users
            .services
            .iter()
            .filter(|service| {
                let scaling = service.wish.as_ref().and_then(|wish| wish.scaling.as_ref());
                matches!(scaling, Some((Signal::Prometheus(_), _)))
            })
            .map(|service| service.key.clone())
            .collect();
        let now_ms = cluster.now_ms();
        cluster.fleet.keep_external(|key, _| wanted.contains(key));
        for key in wanted {
            let answer = match self.outside {
                Outside::Well => Ok(self.waiting),
                Outside::Away => Err("connection refused".to_owned()),
                Outside::Nonsense(value) => Ok(value),
                Outside::Hangs => continue,
            };
            if self.outside == Outside::Well {
                self.truth.outside.insert(key.clone(), self.now);
            }
            cluster.fleet.external(&key, &query, answer, now_ms);
        }
    }

    /// Until when a user who scales holds the count.
    pub(crate) fn any_hold(&mut self, now_ms: TimeMs) -> Option<TimeMs> {
        let hold_ms = self.dice.between(2_000, 15_000);
        let holds = self.scenario.policies && self.dice.one_in(2);
        holds.then_some(now_ms + hold_ms)
    }

    /// Agrees to what an autoscaler proposes, or to something near it; or pauses it for a while.
    pub(crate) fn agree_or_pause(&mut self, service: usize) {
        let Some(cluster) = self.cluster().cloned() else {
            return;
        };
        let key = self.users.services[service].key.clone();
        let at_ms = cluster.now_ms();
        let view = cluster.view();
        let report = adapter::service_report(&view.report, &key);
        let proposal = report.and_then(|report| report.scale.proposal.as_ref());
        let by = String::from("sim");
        let known = cluster.desired().autoscale.get(&key).cloned();
        let mut control: AutoscaleControl = known.unwrap_or_default();
        if let Some(proposal) = proposal {
            let other = u32::from(self.dice.one_in(4));
            let count = proposal.count + other;
            control.approved = Some(Approval { count, at_ms, by });
        } else {
            let for_ms = self.dice.between(2_000, 10_000);
            control.paused = Some(Pause {
                since_ms: at_ms,
                until_ms: Some(at_ms + for_ms),
                by,
            });
        }
        if self.tell_autoscaler(&key, &control) {
            say!(self, "user tells {key}: {control:?}");
        }
    }
}
