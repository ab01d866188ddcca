//! From signals to a count: recommendation, then clamps in a fixed order, each recorded.
//!
//! The order: missing data, bounds (as what is remembered), stabilisation, turning, observation,
//! outage, rollout, rate, bounds again (a count outside goes in at once), pause or hold, consent,
//! dry run. Every clamp is applied by [`crate::recompute::apply`], so that a record is what was done.

use longshore_model::autoscale::{Approval, AutoscaleControl, OnMissing};
use longshore_model::plan::Traffic;
use longshore_model::reason::ScaleCause;
use longshore_model::report::{
    BoundSource, Clamp, ClampRule, Direction, Proposal, ScaleReport, SignalReport, SignalRule,
    Trust,
};
use longshore_model::{AutoscaleMode, AutoscaleSpec, ManualScale, Reason, TimeMs};

use crate::bounds::Bounds;
use crate::draft::Draft;
use crate::{policy, recompute, signal};

/// A decision in the making.
struct Chain<'r> {
    report: &'r mut ScaleReport,
    count: u32,
    /// The last rate policy that bent it, in words.
    limited_by: Option<String>,
    /// Bounds alone made the count what it is, and which one.
    bound: Option<bool>,
}

impl Chain<'_> {
    /// Applies a clamp and records it. Says whether it changed anything.
    fn clamp(&mut self, rule: ClampRule, until_ms: Option<TimeMs>) -> bool {
        let before = self.count;
        self.count = recompute::apply(&rule, self.report.current, before);
        self.report.clamps.push(Clamp {
            rule,
            before,
            after: self.count,
            until_ms,
        });
        self.count != before
    }

    fn say(&mut self, reason: Reason) {
        self.report.reasons.push(reason);
    }

    fn direction(&self) -> Option<Direction> {
        match self.count.cmp(&self.report.current) {
            std::cmp::Ordering::Greater => Some(Direction::Up),
            std::cmp::Ordering::Less => Some(Direction::Down),
            std::cmp::Ordering::Equal => None,
        }
    }
}

/// Decides the count of a service with a policy and fills its record.
pub(super) fn run(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    bounds: &Bounds,
    manual: Option<&ManualScale>,
    report: &mut ScaleReport,
) {
    let (seasoned, next_ms) = crate::load::seasoned(draft, service, policy);
    if let Some(next_ms) = next_ms {
        draft.look_again(service, next_ms);
    }
    let counts = signal::Counts {
        current: report.current,
        seasoned,
    };
    let rolling = rolling(draft, service);
    report.seasoned = seasoned;
    report.signals = signal::read(draft, service, policy, counts, rolling);
    let best = best(&report.signals).cloned();
    report.recommendation = best.as_ref().and_then(|best| best.recommendation);
    let key = &draft.services[service].key;
    let control = draft.input.desired.autoscale.get(key).cloned();
    let control = control.unwrap_or_default();
    #[cfg(feature = "mutants")]
    if report.current == 0 && longshore_model::mutant::is(longshore_model::Mutant::NeverWakes) {
        report.recommendation = None;
    }
    let mut chain = Chain {
        count: report.recommendation.unwrap_or(report.current),
        report,
        limited_by: None,
        bound: None,
    };
    if let Some((rule, reason, until_ms)) = hands_off(draft, &control, manual) {
        policy::remember(draft, service, policy, chain.report.current);
        if let Some(until_ms) = until_ms {
            draft.look_again(service, until_ms);
        }
        chain.clamp(rule, until_ms);
        chain.report.reasons = vec![reason];
        return;
    }
    say_signals(&mut chain);
    match &best {
        Some(best) => follow(draft, service, policy, bounds, best, &mut chain, rolling),
        None => without_signal(draft, service, policy, &mut chain, rolling),
    }
    into_bounds(bounds, &mut chain);
    let cause = cause(&chain, bounds, best.as_ref());
    #[cfg(feature = "mutants")]
    let policy = &mutated(policy);
    let cause = match policy.mode {
        AutoscaleMode::On => cause,
        AutoscaleMode::DryRun => {
            dry_run(&mut chain);
            cause
        }
        AutoscaleMode::Approve => ask_first(draft, service, &control, cause, &mut chain),
    };
    chain.report.result = chain.count;
    if chain.count != chain.report.current {
        draft.change_target(service, chain.count, cause);
    }
}

/// With a seeded mistake: who shall not act, or ask first, acts.
#[cfg(feature = "mutants")]
fn mutated(policy: &AutoscaleSpec) -> AutoscaleSpec {
    use longshore_model::Mutant::{ApprovalNotAsked, DryRunActs};
    use longshore_model::mutant::is;
    let acts = match policy.mode {
        AutoscaleMode::On => true,
        AutoscaleMode::DryRun => is(DryRunActs),
        AutoscaleMode::Approve => is(ApprovalNotAsked),
    };
    let mut policy = policy.clone();
    if acts {
        policy.mode = AutoscaleMode::On;
    }
    policy
}

/// Does a rollout lock the count? One that ends is seen to end after counts were decided: it
/// locks until the next look, or planning once more at the same time would find another count.
fn rolling(draft: &mut Draft<'_>, service: usize) -> bool {
    if crate::rollout::runs(draft, service) {
        return true;
    }
    let now_ms = draft.input.now_ms;
    let rollout = crate::progress::of(draft, service);
    let ended = rollout.is_some_and(|r| r.from.is_some() && r.phase_ms == now_ms);
    if ended {
        draft.look_again(service, now_ms.saturating_add(1));
    }
    ended
}

/// The signal that asks for most.
fn best(signals: &[SignalReport]) -> Option<&SignalReport> {
    let asking = signals.iter().filter(|s| s.recommendation.is_some());
    asking.max_by_key(|s| s.recommendation)
}

/// Why the autoscaler does nothing at all: a person holds the count, or paused it.
fn hands_off(
    draft: &Draft<'_>,
    control: &AutoscaleControl,
    manual: Option<&ManualScale>,
) -> Option<(ClampRule, Reason, Option<TimeMs>)> {
    let now_ms = draft.input.now_ms;
    let held = |manual| Some((manual, super::held_until(manual, now_ms)?));
    if let Some((manual, until_ms)) = manual.and_then(held) {
        let by = manual.by.clone();
        let until_ms = Some(until_ms);
        return Some((ClampRule::Held { by }, Reason::Held { until_ms }, until_ms));
    }
    let paused = control.paused.as_ref()?;
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::PauseIgnored) {
        return None;
    }
    let over = paused.until_ms.is_some_and(|until_ms| until_ms <= now_ms);
    #[cfg(feature = "mutants")]
    let over = over && !longshore_model::mutant::is(longshore_model::Mutant::PauseIsForEver);
    if over {
        return None;
    }
    let (by, until_ms) = (paused.by.clone(), paused.until_ms);
    let rule = ClampRule::Paused { by: by.clone() };
    Some((rule, Reason::Paused { by, until_ms }, until_ms))
}

fn say_signals(chain: &mut Chain<'_>) {
    let reason = |report: &SignalReport| {
        let signal = report.signal.clone();
        Some(match report.trust {
            Trust::Good => return None,
            Trust::Partial | Trust::Missing => Reason::MissingSamples {
                signal,
                // The last try gave nothing.
                good: report.problem.as_ref().map_or(report.good, |_| 0),
                all: report.all,
            },
            Trust::Idle => Reason::Idle { signal },
            Trust::Undefined => Reason::Undefined { signal },
        })
    };
    let reasons: Vec<_> = chain.report.signals.iter().filter_map(reason).collect();
    chain.report.reasons.extend(reasons);
}

/// Signals that know too little to take capacity away.
fn blind(report: &ScaleReport) -> Vec<String> {
    let blind = report
        .signals
        .iter()
        .filter(|signal| !matches!(signal.trust, Trust::Good | Trust::Idle));
    blind.map(|signal| signal.signal.clone()).collect()
}

fn follow(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    bounds: &Bounds,
    best: &SignalReport,
    chain: &mut Chain<'_>,
    rolling: bool,
) {
    let (asked, current) = (chain.count, chain.report.current);
    if let (
        SignalRule::Target {
            tolerance_up,
            tolerance_down,
            ..
        },
        Some(raw),
    ) = (&best.rule, best.raw)
        && raw != asked
        && !best.capped
    {
        let tolerance = if raw > current {
            *tolerance_up
        } else {
            *tolerance_down
        };
        let signal = best.signal.clone();
        let rule = ClampRule::Tolerance {
            signal,
            tolerance,
            raw,
        };
        chain.clamp(rule, None);
    }
    let signals = blind(chain.report);
    if !signals.is_empty() {
        chain.clamp(ClampRule::MissingData { signals }, None);
    }
    let (min, max) = (bounds.min, bounds.max);
    chain.clamp(ClampRule::Bounds { min, max }, None);
    policy::remember(draft, service, policy, chain.count);
    // A count on its way to a bound is not at it.
    let there = chain.count == current;
    if asked > max && there {
        chain.say(Reason::AtMax);
    } else if asked < min && there {
        chain.say(Reason::AtMin);
    } else if asked == current {
        chain.say(stays(best, current));
    }
    if let Some(direction) = chain.direction() {
        stabilize(draft, service, policy, direction, chain);
    }
    if let Some(direction) = chain.direction() {
        locks(draft, service, policy, direction, chain, rolling);
    }
    if let Some(direction) = chain.direction() {
        slow_down(draft, service, policy, direction, chain);
    }
}

/// Why a signal asks for what there is.
fn stays(best: &SignalReport, current: u32) -> Reason {
    let (
        SignalRule::Target {
            tolerance_up,
            tolerance_down,
            ..
        },
        Some(value),
    ) = (&best.rule, best.value)
    else {
        return Reason::AsAsked;
    };
    let ratio = value / best.target;
    if signal::is_tolerated(ratio, (*tolerance_up, *tolerance_down)) {
        return Reason::InsideTolerance;
    }
    match ratio > 1.0 && best.carriers < current {
        true => Reason::Unseasoned {
            carriers: best.carriers,
            replicas: current,
        },
        false => Reason::AsAsked,
    }
}

fn stabilize(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    direction: Direction,
    chain: &mut Chain<'_>,
) {
    let wanted = chain.count;
    let (rule, until_ms) = policy::stabilization(draft, service, policy, direction, wanted);
    let ClampRule::Stabilization { recommendation, .. } = rule else {
        return;
    };
    if chain.clamp(rule, until_ms)
        && let Some(until_ms) = until_ms
    {
        chain.say(Reason::Stabilizing {
            recommendation,
            until_ms,
        });
    }
}

/// What forbids a direction altogether. Nothing is taken away too early, in an outage, or while a
/// rollout runs; the count turns at most once per window.
fn locks(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    direction: Direction,
    chain: &mut Chain<'_>,
    rolling: bool,
) {
    let turned = policy::turned(draft, service, policy, direction);
    if let Some(until_ms) = turned {
        chain.clamp(ClampRule::Turned { direction }, Some(until_ms));
        chain.say(Reason::Turned { until_ms });
    }
    if direction == Direction::Up {
        return;
    }
    if let Some(until_ms) = policy::observing(draft, service, policy) {
        chain.clamp(ClampRule::Observing, Some(until_ms));
        chain.say(Reason::Observing { until_ms });
    }
    if draft.brake {
        chain.clamp(ClampRule::Outage, None);
        if let Some(problem) = draft.report.problems.first().cloned() {
            chain.say(problem);
        }
    }
    if rolling {
        chain.clamp(ClampRule::Rollout, None);
        chain.say(Reason::RolloutRuns);
    }
}

fn slow_down(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    direction: Direction,
    chain: &mut Chain<'_>,
) {
    let Some((rule, until_ms)) = policy::rate(draft, service, policy, direction) else {
        return;
    };
    let ClampRule::Rate { policy: number, .. } = rule else {
        return;
    };
    if chain.clamp(rule, Some(until_ms)) {
        let direction = match direction {
            Direction::Up => "scale_up",
            Direction::Down => "scale_down",
        };
        chain.limited_by = Some(format!("{direction}.policies[{number}]"));
        draft.look_again(service, until_ms);
        chain.say(Reason::RateLimited { until_ms });
    }
}

/// No signal asks for anything: the count stays. Where the policy says so and nothing at all can
/// be seen, what does not serve anyway is given back.
fn without_signal(
    draft: &mut Draft<'_>,
    service: usize,
    policy: &AutoscaleSpec,
    chain: &mut Chain<'_>,
    rolling: bool,
) {
    policy::remember(draft, service, policy, chain.report.current);
    let unseen = |s: &SignalReport| matches!(s.trust, Trust::Missing | Trust::Undefined);
    let gives_back =
        policy.on_missing == OnMissing::ScaleToMin && chain.report.signals.iter().all(unseen);
    let serving = gives_back.then(|| {
        let serves = |row: &usize| {
            let replica = draft.replica(*row);
            replica.is_some_and(|replica| replica.traffic == Traffic::Serve)
        };
        let serving = draft.active(service).into_iter().filter(serves).count();
        u32::try_from(serving).unwrap_or(u32::MAX)
    });
    #[cfg(feature = "mutants")]
    let serving = match longshore_model::mutant::is(longshore_model::Mutant::GivesBackServing) {
        true => serving.map(|_| 0),
        false => serving,
    };
    chain.clamp(ClampRule::NoSignal { serving }, None);
    if chain.direction() == Some(Direction::Down) {
        locks(draft, service, policy, Direction::Down, chain, rolling);
    }
}

/// The count that was decided lies inside the bounds, and one that does not yet goes in at once.
fn into_bounds(bounds: &Bounds, chain: &mut Chain<'_>) {
    let (min, max, current) = (bounds.min, bounds.max, chain.report.current);
    let above = chain.count > max;
    let pulled = chain.clamp(ClampRule::Bounds { min, max }, None);
    if pulled || (current < min && chain.count == min) || (current > max && chain.count == max) {
        let upper = if pulled { above } else { current > max };
        chain.bound = Some(upper);
        let reason = if upper { Reason::AtMax } else { Reason::AtMin };
        if !chain.report.reasons.contains(&reason) {
            chain.say(reason);
        }
    }
}

/// Why the count becomes what was decided.
fn cause(chain: &Chain<'_>, bounds: &Bounds, best: Option<&SignalReport>) -> ScaleCause {
    let (min, max) = (bounds.min, bounds.max);
    let best = match (chain.bound, best) {
        (None, Some(best)) => best,
        (Some(upper), _) => {
            return match bounds.source(upper) {
                BoundSource::File => ScaleCause::Bounds { min, max },
                BoundSource::Schedule { name } => ScaleCause::Schedule {
                    name: name.clone(),
                    min,
                    max,
                },
                BoundSource::Override { by } => ScaleCause::Override {
                    by: by.clone(),
                    min,
                    max,
                },
            };
        }
        (None, None) => return ScaleCause::Bounds { min, max },
    };
    ScaleCause::Metric {
        signal: best.signal.clone(),
        value: best.value.unwrap_or_default(),
        target: best.target,
        limited_by: chain.limited_by.clone(),
    }
}

fn dry_run(chain: &mut Chain<'_>) {
    let would_be = chain.count;
    if would_be != chain.report.current {
        chain.clamp(ClampRule::DryRun, None);
        chain.say(Reason::DryRun { would_be });
    }
}

/// A change waits until somebody agrees to exactly this count, no longer than a quarter of an hour
/// ago. An approval is obeyed once.
fn ask_first(
    draft: &mut Draft<'_>,
    service: usize,
    control: &AutoscaleControl,
    cause: ScaleCause,
    chain: &mut Chain<'_>,
) -> ScaleCause {
    let (now_ms, count) = (draft.input.now_ms, chain.count);
    let obeyed_ms = draft.planned(service).and_then(|e| e.approval_obeyed_ms);
    let approval = control.approved.as_ref();
    #[cfg(feature = "mutants")]
    let obeyed_ms = obeyed_ms
        .filter(|_| !longshore_model::mutant::is(longshore_model::Mutant::ApprovalObeyedTwice));
    let unused = approval.filter(|approval| obeyed_ms != Some(approval.at_ms));
    if count == chain.report.current {
        if draft.memory(service).proposed.is_some() {
            draft.memory_mut(service).proposed = None;
        }
        return cause;
    }
    let stale = |approval: &Approval| now_ms.saturating_sub(approval.at_ms) > Approval::FRESH_MS;
    if let Some(approval) = unused.filter(|a| a.count == count && !stale(a)) {
        draft.entry(service).approval_obeyed_ms = Some(approval.at_ms);
        draft.memory_mut(service).proposed = None;
        let by = approval.by.clone();
        let approved_by = Some(by.clone());
        chain.clamp(ClampRule::Approve { approved_by }, None);
        let why = Box::new(cause);
        return ScaleCause::Approved { by, why };
    }
    let known = draft.memory(service).proposed;
    let known = known.filter(|proposed| proposed.count == count && proposed.at_ms <= now_ms);
    let since_ms = known.map_or(now_ms, |proposed| proposed.at_ms);
    if known.is_none() {
        let proposed = longshore_model::memory::Recommendation {
            at_ms: since_ms,
            count,
        };
        draft.memory_mut(service).proposed = Some(proposed);
    }
    chain.clamp(ClampRule::Approve { approved_by: None }, None);
    chain.report.proposal = Some(Proposal {
        count,
        why: cause.clone(),
        since_ms,
    });
    chain.say(Reason::AwaitsApproval { count, since_ms });
    if let Some(approval) = unused {
        // Fresh ones may still match until they grow stale.
        let fresh_ms = approval.at_ms.saturating_add(Approval::FRESH_MS);
        draft.look_again(service, fresh_ms.saturating_add(1));
        chain.say(Reason::ApprovalUnused {
            approved: approval.count,
            stale: stale(approval),
        });
    }
    cause
}
