//! What an `x-autoscale` may say. The Compose reader and the controller's API both ask here: a
//! client may be anything.

use super::{
    AutoscaleSpec, Behavior, Direction, Metric, RateAmount, ScheduleError, Signal, StepRule,
    TargetKind,
};
use crate::spec::Resources;

/// Which part of a policy is wrong; numbers count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoscalePart {
    /// `min`.
    Min,
    /// `max`.
    Max,
    /// An entry of `metrics`.
    Metric(usize),
    /// An entry of `steps`.
    Step(usize),
    /// `window`.
    Window,
    /// `warmup`.
    Warmup,
    /// `warm`.
    Warm,
    /// One direction of `behavior`.
    Behavior(Direction),
    /// An entry of `schedules`.
    Schedule(usize),
    /// All of it.
    Whole,
}

/// A time as files write it, exactly: `90s`, `2m`, `1500ms`.
fn written(ms: u64) -> String {
    match ms {
        0 => "0s".into(),
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1_000 == 0 => format!("{}s", ms / 1_000),
        ms => format!("{ms}ms"),
    }
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AutoscaleFault {
    /// Crosswise bounds.
    #[error("min {min} is above max {max}")]
    Crosswise {
        /// Lower bound.
        min: u32,
        /// Upper bound.
        max: u32,
    },
    /// No replica allowed at all.
    #[error("max must be at least 1")]
    MaxZero,
    /// More replicas than any service may have.
    #[error(
        "{count} replicas; at most {} are allowed",
        AutoscaleSpec::REPLICAS_MAX
    )]
    TooManyReplicas {
        /// As written.
        count: u32,
    },
    /// Nothing could bring the service back from 0.
    #[error("min 0 needs a signal that shows that somebody waits")]
    NeverWakes,
    /// Neither metrics nor steps.
    #[error("has neither metrics nor steps")]
    Nothing,
    /// A list that is too long.
    #[error("has {length} entries; at most {max} are allowed")]
    TooMany {
        /// Its length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A target of 0, below, or no number.
    #[error("target {target} must be a number above 0")]
    Target {
        /// As written.
        target: f64,
    },
    /// A share of all answers that cannot be.
    #[error("{:.0} % of all answers: a share is above 0 and at most 100 %", share * 100.0)]
    Share {
        /// As written, 1 is all.
        share: f64,
    },
    /// A kind of target that the signal does not have.
    #[error("{signal} cannot be compared as {kind:?}")]
    Kind {
        /// Signal.
        signal: &'static str,
        /// As written.
        kind: TargetKind,
    },
    /// A share of a limit that the service does not have.
    #[error("{signal} is a share of a limit or reservation, and the service has neither")]
    NoShare {
        /// Signal.
        signal: &'static str,
    },
    /// HAProxy knows nothing of the service.
    #[error("{signal} is measured by HAProxy, and the service has no route")]
    NoRoute {
        /// Signal.
        signal: &'static str,
    },
    /// An empty or huge query, or one query at two servers.
    #[error("query {why}")]
    Query {
        /// What is wrong.
        why: &'static str,
    },
    /// Thresholds that are no numbers or do not rise.
    #[error("thresholds must be numbers of 0 or more that rise")]
    Thresholds,
    /// A time outside of its limits.
    #[error("{} is outside of {} to {}", written(*ms), written(*least), written(*most))]
    Time {
        /// As written.
        ms: u64,
        /// Shortest.
        least: u64,
        /// Longest.
        most: u64,
    },
    /// A tolerance below 0, above 10, or no number.
    #[error("tolerance {tolerance} must be a number from 0 to 10")]
    Tolerance {
        /// As written.
        tolerance: f64,
    },
    /// A rate policy that never lets anything through, or has no period.
    #[error("policy {number} needs an amount and a period above 0")]
    Policy {
        /// Its number, from 0.
        number: usize,
    },
    /// A schedule that cannot be read.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A schedule without bounds.
    #[error("sets neither min nor max")]
    NoBounds,
    /// A name that is empty, too long or used twice.
    #[error("name {why}")]
    Name {
        /// What is wrong.
        why: &'static str,
    },
}

impl AutoscaleFault {
    /// A way out, where there is a usual one.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            Self::NeverWakes => "add requests, queue, concurrency or prometheus, or set min: 1",
            Self::Nothing => "for example: node_cpu: 60%",
            Self::Share { .. } => "for example: errors: 5%",
            Self::NoShare { .. } => {
                "set deploy.resources.reservations (cpus for cpu, memory for memory), or use \
                 node_cpu"
            }
            Self::NoRoute { .. } => "publish a port, or use node_cpu, cpu or prometheus",
            Self::Schedule(ScheduleError::Cron { .. }) => {
                "minute hour day-of-month month day-of-week, for example: 0 7 * * MON-FRI"
            }
            Self::Schedule(ScheduleError::TimeZone { .. }) => {
                "IANA names are known, for example Europe/Brussels or UTC"
            }
            Self::NoBounds => "set min, max or both",
            _ => return None,
        })
    }
}

/// Something wrong with a policy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}: {fault}", place(.part))]
pub struct AutoscaleError {
    /// Where.
    pub part: AutoscalePart,
    /// What.
    pub fault: AutoscaleFault,
}

fn place(part: &AutoscalePart) -> String {
    match part {
        AutoscalePart::Min => "x-autoscale.min".into(),
        AutoscalePart::Max => "x-autoscale.max".into(),
        AutoscalePart::Metric(n) => format!("x-autoscale.metrics[{n}]"),
        AutoscalePart::Step(n) => format!("x-autoscale.steps[{n}]"),
        AutoscalePart::Window => "x-autoscale.window".into(),
        AutoscalePart::Warmup => "x-autoscale.warmup".into(),
        AutoscalePart::Warm => "x-autoscale.warm".into(),
        AutoscalePart::Behavior(Direction::Up) => "x-autoscale.behavior.scale_up".into(),
        AutoscalePart::Behavior(Direction::Down) => "x-autoscale.behavior.scale_down".into(),
        AutoscalePart::Schedule(n) => format!("x-autoscale.schedules[{n}]"),
        AutoscalePart::Whole => "x-autoscale".into(),
    }
}

struct Faults(Vec<AutoscaleError>);

impl Faults {
    fn add(&mut self, part: AutoscalePart, fault: AutoscaleFault) {
        self.0.push(AutoscaleError { part, fault });
    }

    /// Adds the fault if `bad`.
    fn when(&mut self, bad: bool, part: AutoscalePart, fault: AutoscaleFault) {
        if bad {
            self.add(part, fault);
        }
    }

    fn length(&mut self, part: AutoscalePart, length: usize, max: usize) {
        self.when(length > max, part, AutoscaleFault::TooMany { length, max });
    }

    fn time(&mut self, part: AutoscalePart, ms: u64, least: u64, most: u64) {
        let outside = !(least..=most).contains(&ms);
        self.when(outside, part, AutoscaleFault::Time { ms, least, most });
    }
}

impl AutoscaleSpec {
    /// Everything that is wrong with it, for a service with these resources that HAProxy reaches
    /// or not. Empty: it is fine.
    #[must_use]
    pub fn faults(&self, resources: &Resources, routed: bool) -> Vec<AutoscaleError> {
        let mut faults = Faults(Vec::new());
        self.bounds(&mut faults);
        faults.length(AutoscalePart::Whole, self.metrics.len(), Self::LIST_MAX);
        faults.length(AutoscalePart::Whole, self.steps.len(), Self::LIST_MAX);
        faults.length(AutoscalePart::Whole, self.schedules.len(), Self::LIST_MAX);
        let nothing = self.metrics.is_empty() && self.steps.is_empty();
        faults.when(nothing, AutoscalePart::Whole, AutoscaleFault::Nothing);
        for (n, metric) in self.metrics.iter().enumerate() {
            let part = AutoscalePart::Metric(n);
            check_metric(&mut faults, part, metric);
            self.check_signal(&mut faults, part, &metric.signal, resources, routed);
        }
        for (n, rule) in self.steps.iter().enumerate() {
            let part = AutoscalePart::Step(n);
            check_steps(&mut faults, part, rule);
            self.check_signal(&mut faults, part, &rule.signal, resources, routed);
        }
        let (window, day) = (self.window_ms, Self::TIME_MS_MAX);
        let (least, most) = (Self::WINDOW_MS_MIN, Self::WINDOW_MS_MAX);
        faults.time(AutoscalePart::Window, window, least, most);
        faults.time(AutoscalePart::Warmup, self.warmup_ms, 0, day);
        let too_warm = AutoscaleFault::TooManyReplicas { count: self.warm };
        let most = Self::REPLICAS_MAX;
        faults.when(self.warm > most, AutoscalePart::Warm, too_warm);
        check_behavior(&mut faults, Direction::Up, &self.scale_up);
        check_behavior(&mut faults, Direction::Down, &self.scale_down);
        self.check_schedules(&mut faults);
        faults.0
    }

    fn bounds(&self, faults: &mut Faults) {
        let (min, max) = (self.min, self.max);
        let crosswise = AutoscaleFault::Crosswise { min, max };
        faults.when(max == 0, AutoscalePart::Max, AutoscaleFault::MaxZero);
        faults.when(min > max && max > 0, AutoscalePart::Min, crosswise);
        let many = AutoscaleFault::TooManyReplicas { count: max };
        faults.when(max > Self::REPLICAS_MAX, AutoscalePart::Max, many);
        let sleeps = min == 0 && !self.wakes() && self.signals().next().is_some();
        faults.when(sleeps, AutoscalePart::Min, AutoscaleFault::NeverWakes);
    }

    fn signals(&self) -> impl Iterator<Item = &Signal> {
        let metrics = self.metrics.iter().map(|metric| &metric.signal);
        metrics.chain(self.steps.iter().map(|rule| &rule.signal))
    }

    /// Could its signals bring the service back from 0?
    #[must_use]
    pub fn wakes(&self) -> bool {
        self.signals().any(Signal::wakes)
    }

    fn check_signal(
        &self,
        faults: &mut Faults,
        part: AutoscalePart,
        signal: &Signal,
        resources: &Resources,
        routed: bool,
    ) {
        let word = signal.as_str();
        let share = match signal {
            Signal::Cpu => resources.cpu_limit_milli.max(resources.cpu_reserved_milli),
            Signal::Memory => resources
                .memory_limit_bytes
                .max(resources.memory_reserved_bytes),
            _ => 1,
        };
        let no_share = AutoscaleFault::NoShare { signal: word };
        faults.when(share == 0, part, no_share);
        let no_route = AutoscaleFault::NoRoute { signal: word };
        faults.when(signal.of_edges() && !routed, part, no_route);
        let Signal::Prometheus(external) = signal else {
            return;
        };
        let wrong = |why| AutoscaleFault::Query { why };
        let query = &external.query;
        faults.when(query.trim().is_empty(), part, wrong("is empty"));
        let long = query.len() > Self::QUERY_MAX || query.contains('\0');
        faults.when(long, part, wrong("is longer than 2,048 bytes or holds NUL"));
        if let Some(url) = &external.url {
            let scheme = url.starts_with("http://") || url.starts_with("https://");
            let plain = url.len() <= 1_024 && url.bytes().all(|b| b.is_ascii_graphic());
            let bad = !(scheme && plain);
            faults.when(
                bad,
                part,
                wrong("has a url that is no http:// or https:// address"),
            );
        }
        // Answers are kept by the text of the query.
        let twice = self.signals().any(|other| match other {
            Signal::Prometheus(other) => other.query == *query && other.url != external.url,
            _ => false,
        });
        faults.when(
            twice,
            part,
            wrong("is asked of two servers; write them differently"),
        );
    }

    fn check_schedules(&self, faults: &mut Faults) {
        for (n, schedule) in self.schedules.iter().enumerate().take(Self::LIST_MAX) {
            let part = AutoscalePart::Schedule(n);
            if let Err(error) = schedule.calendar() {
                faults.add(part, error.into());
            }
            let name = &schedule.name;
            let wrong = |why| AutoscaleFault::Name { why };
            let bad = name.trim().is_empty() || name.len() > 64;
            faults.when(bad, part, wrong("must have 1 to 64 bytes"));
            let twice = self.schedules[..n].iter().any(|other| other.name == *name);
            faults.when(twice, part, wrong("is used twice"));
            let none = schedule.min.is_none() && schedule.max.is_none();
            faults.when(none, part, AutoscaleFault::NoBounds);
            let min = schedule.min.unwrap_or(self.min);
            let max = schedule.max.unwrap_or(self.max);
            let crosswise = AutoscaleFault::Crosswise { min, max };
            faults.when(min > max && !none, part, crosswise);
            faults.when(max == 0, part, AutoscaleFault::MaxZero);
            let many = AutoscaleFault::TooManyReplicas { count: max };
            let above = schedule.max.is_some() && max > Self::REPLICAS_MAX;
            faults.when(above, part, many);
            let sleeps = schedule.min == Some(0) && !self.wakes();
            faults.when(sleeps, part, AutoscaleFault::NeverWakes);
        }
    }
}

fn check_metric(faults: &mut Faults, part: AutoscalePart, metric: &Metric) {
    let target = metric.target;
    let good = target.is_finite() && target > 0.0;
    faults.when(!good, part, AutoscaleFault::Target { target });
    check_share(faults, part, &metric.signal, target);
    let own = metric.signal.default_kind();
    let external = matches!(metric.signal, Signal::Prometheus(_));
    let possible = metric.kind == own || (external && metric.kind == TargetKind::Value);
    let signal = metric.signal.as_str();
    let kind = metric.kind;
    faults.when(!possible, part, AutoscaleFault::Kind { signal, kind });
}

fn check_steps(faults: &mut Faults, part: AutoscalePart, rule: &StepRule) {
    faults.length(part, rule.steps.len(), AutoscaleSpec::STEPS_MAX);
    let numbers = rule.steps.iter().all(|s| s.at.is_finite() && s.at >= 0.0);
    let rise = rule.steps.is_sorted_by(|a, b| a.at < b.at);
    let bad = rule.steps.is_empty() || !numbers || !rise;
    faults.when(bad, part, AutoscaleFault::Thresholds);
    let highest = rule.steps.iter().map(|s| s.at).reduce(f64::max);
    check_share(faults, part, &rule.signal, highest.unwrap_or(0.0));
}

/// Of all answers no more than all are errors. (A replica may use more CPU than it reserved.)
fn check_share(faults: &mut Faults, part: AutoscalePart, signal: &Signal, share: f64) {
    let impossible = *signal == Signal::Errors && share.is_finite() && share > 1.0;
    faults.when(impossible, part, AutoscaleFault::Share { share });
}

fn check_behavior(faults: &mut Faults, direction: Direction, behavior: &Behavior) {
    let part = AutoscalePart::Behavior(direction);
    let (ms, day) = (behavior.stabilization_ms, AutoscaleSpec::TIME_MS_MAX);
    faults.time(part, ms, 0, day);
    let tolerance = behavior.tolerance;
    let good = (0.0..=10.0).contains(&tolerance);
    faults.when(!good, part, AutoscaleFault::Tolerance { tolerance });
    faults.length(part, behavior.policies.len(), AutoscaleSpec::LIST_MAX);
    for (number, policy) in behavior.policies.iter().enumerate() {
        let (RateAmount::Replicas(amount) | RateAmount::Percent(amount)) = policy.amount;
        let bad = amount == 0 || policy.period_ms == 0 || policy.period_ms > day;
        faults.when(bad, part, AutoscaleFault::Policy { number });
    }
}

#[cfg(test)]
mod tests;
