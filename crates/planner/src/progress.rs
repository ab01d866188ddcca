//! Where each rollout is: it begins, goes from batch to batch, stops, goes back, ends.
//!
//! A batch lets so many more replicas of the new template exist. It passes once all replicas of
//! that template have served for the monitoring time and HAProxy's gate has nothing against them.
//! Which replicas come and go for it is the business of [`crate::rollout`].

mod decide;
mod end;
mod waits;

use std::sync::Arc;

use longshore_model::depends::Until;
use longshore_model::record::{RolloutAnswer, RolloutRecord, RolloutStage, Setback};
use longshore_model::rollout::{Direction, PauseCause, Phase, Rollout, RolloutNews, Said};
use longshore_model::spec::{FailureAction, UpdateOrder, UpdateSpec};
use longshore_model::{Decision, EventKind, Reason, ServiceName, ServiceSpec, TemplateId};

use crate::draft::{Draft, same_spec};
use crate::{each_node, gate, jobs, place, record, verdict};

pub use decide::recompute_rollout;
use end::{finish, keep_good};
pub(crate) use waits::say_waits;

/// Steps that one run can take for one service: it begins, fails, goes back, is held, opens a
/// batch. Each is taken once; the bound only keeps a mistake from becoming an endless loop.
const STEPS_MAX: usize = 8;

/// Takes every rollout as far as it may go now.
pub(crate) fn run(draft: &mut Draft<'_>) {
    for service in 0..draft.services.len() {
        settle(draft, service);
    }
}

/// Advances it as far as it goes.
pub(crate) fn settle(draft: &mut Draft<'_>, service: usize) {
    for _ in 0..STEPS_MAX {
        if !advance(draft, service) {
            break;
        }
    }
}

/// The present or last rollout of a service.
pub(crate) fn of<'d>(draft: &'d Draft<'_>, service: usize) -> Option<&'d Rollout> {
    draft.planned(service)?.rollout.as_ref()
}

/// How replicas are exchanged now: as for an update, or as for the way back.
pub(crate) fn update(draft: &Draft<'_>, service: usize, spec: &ServiceSpec) -> UpdateSpec {
    let direction = of(draft, service).map(|rollout| rollout.direction);
    let update = spec.exchange(direction == Some(Direction::Back));
    #[cfg(feature = "mutants")]
    let update = match longshore_model::mutant::is(longshore_model::Mutant::VolumeWrittenTwice) {
        true => UpdateSpec {
            order: longshore_model::spec::UpdateOrder::StartFirst,
            ..update
        },
        false => update,
    };
    update
}

/// It failed and waits for a person: the old template is what the service shall run meanwhile.
pub(crate) fn stopped(draft: &Draft<'_>, service: usize) -> bool {
    of(draft, service).is_some_and(|rollout| rollout.phase == Phase::Failed)
}

/// Is there something else to run than what the rollout goes to? Else it cannot fail: it is tried
/// on.
pub(crate) fn has_way_back(draft: &Draft<'_>, service: usize) -> bool {
    let Some(rollout) = of(draft, service) else {
        return false;
    };
    let good = draft.planned(service).and_then(|entry| entry.good.as_ref());
    rollout.from.is_some() || good.is_some_and(|good| good.template != rollout.to)
}

/// It is over, and no replica of what it went to was ever proved: none was wanted.
fn is_unproved(draft: &Draft<'_>, service: usize) -> bool {
    let Some(rollout) = of(draft, service) else {
        return false;
    };
    let good = draft.planned(service).and_then(|entry| entry.good.as_ref());
    let over = rollout.direction == Direction::Forward && rollout.phase == Phase::Done;
    over && good.is_none_or(|good| good.template != rollout.to)
}

/// App revision whose spec the service runs.
pub(crate) fn revision(draft: &Draft<'_>, service: usize) -> u64 {
    let entry = draft.planned(service);
    let back = entry.and_then(|entry| entry.refused.as_ref().and(entry.good.as_ref()));
    let app = draft.services[service].app;
    back.map_or_else(|| app.map_or(0, |app| app.revision), |good| good.revision)
}

pub(crate) fn change(draft: &mut Draft<'_>, service: usize, change: impl FnOnce(&mut Rollout)) {
    if let Some(rollout) = &mut draft.entry(service).rollout {
        change(rollout);
    }
}

pub(crate) fn enter(draft: &mut Draft<'_>, service: usize, phase: Phase) {
    let now_ms = draft.input.now_ms;
    change(draft, service, |rollout| {
        rollout.phase = phase;
        rollout.phase_ms = now_ms;
    });
}

pub(crate) fn say(draft: &mut Draft<'_>, service: usize, news: RolloutNews) {
    let revision = of(draft, service).map_or(0, |rollout| rollout.revision);
    let service = draft.services[service].key.clone();
    draft.report.events.push(EventKind::Rollout {
        service,
        revision,
        news,
    });
}

/// One step for one service. True: something changed, look again.
pub(crate) fn advance(draft: &mut Draft<'_>, service: usize) -> bool {
    if draft.services[service]
        .spec
        .is_none_or(|spec| spec.job.is_some())
    {
        return false;
    }
    forget_refused(draft, service)
        || obey(draft, service)
        || jobs::try_again(draft, service)
        || begin_if_new(draft, service)
        || verdict::judge(draft, service)
        || hold(draft, service)
        || step(draft, service)
        || keep_good(draft, service)
}

/// The file asks for something else by now: newest wins.
fn forget_refused(draft: &mut Draft<'_>, service: usize) -> bool {
    let entry = draft.planned(service);
    let refused = entry.and_then(|entry| entry.refused.as_ref());
    let wanted = draft.input.desired.service(&draft.services[service].key);
    let newer = refused
        .is_some_and(|refused| wanted.is_none_or(|(_, spec)| !same_spec(spec, &refused.spec)));
    if newer {
        draft.entry(service).refused = None;
        draft.use_desired(service);
    }
    newer
}

/// What operators said of the service.
fn said(draft: &Draft<'_>, service: usize) -> (Option<Said>, Option<Said>) {
    let control = draft
        .input
        .desired
        .rollout
        .get(&draft.services[service].key);
    control.map_or((None, None), |control| {
        (control.held.clone(), control.resumed.clone())
    })
}

/// `resume` is obeyed once: what failed is tried again.
fn obey(draft: &mut Draft<'_>, service: usize) -> bool {
    let (_, Some(resumed)) = said(draft, service) else {
        return false;
    };
    let Some(rollout) = of(draft, service) else {
        return false;
    };
    if rollout.resume_obeyed_ms == Some(resumed.at_ms) {
        return false;
    }
    let failed = rollout.phase == Phase::Failed;
    let refused = draft.planned(service).is_some_and(|e| e.refused.is_some());
    let by = resumed.by.clone();
    if refused || failed {
        say(draft, service, RolloutNews::Resumed { by });
    }
    let entry = draft.entry(service);
    if refused || failed {
        entry.failures = None;
    }
    if entry.refused.take().is_some() {
        draft.use_desired(service);
    } else if failed {
        enter(draft, service, Phase::Running);
    }
    change(draft, service, |rollout| {
        rollout.resume_obeyed_ms = Some(resumed.at_ms);
        if failed {
            (rollout.failed, rollout.trouble) = (0, None);
            rollout.pause = PauseCause::default();
            rollout.serving_since_ms = None;
        }
    });
    true
}

fn begin_if_new(draft: &mut Draft<'_>, service: usize) -> bool {
    let wanted = draft.services[service].template.as_ref();
    let refused = draft.planned(service).is_some_and(|e| e.refused.is_some());
    let same = of(draft, service).is_some_and(|rollout| {
        Some(&rollout.to) == wanted && (rollout.direction == Direction::Back) == refused
    });
    // What was never proved is, once replicas of it are wanted.
    let proves = each_node::rollout_target(draft, service) > 0 && is_unproved(draft, service);
    if same && !proves {
        return false;
    }
    let Some(to) = wanted.cloned() else {
        return false;
    };
    begin(draft, service, to);
    true
}

fn begin(draft: &mut Draft<'_>, service: usize, to: TemplateId) {
    let (_, resumed) = said(draft, service);
    let old = newest_old(draft, service, &to);
    let there = count(draft, service, &to);
    let app_revision = draft.services[service].app.map_or(0, |app| app.revision);
    let now_ms = draft.input.now_ms;
    say_superseded(draft, service, app_revision);
    let entry = draft.entry(service);
    let before = entry.rollout.as_ref();
    let again = before.filter(|r| r.to == to && r.direction == Direction::Forward);
    let (direction, revision) = match &entry.refused {
        Some(refused) => (Direction::Back, refused.revision),
        None => (
            Direction::Forward,
            again.map_or(app_revision, |r| r.revision),
        ),
    };
    let from_revision = match (&old, &entry.good) {
        (Some((template, _)), Some(good)) if good.template == *template => good.revision,
        (Some((_, revision)), _) => *revision,
        (None, Some(good)) if good.template != to => good.revision,
        // Nothing runs and nothing ever worked: this is a first rollout as the one before was.
        (None, None) => 0,
        (None, _) if again.is_some() => 0,
        (None, _) => before.map_or(0, |rollout| rollout.revision),
    };
    entry.rollout = Some(Rollout {
        revision,
        to,
        from: old.map(|(template, _)| template),
        from_revision,
        direction,
        started_ms: now_ms,
        phase: Phase::Running,
        phase_ms: now_ms,
        batches: 0,
        open: false,
        allowed: there.new,
        passed: there.new,
        serving_since_ms: None,
        passed_ms: None,
        stop_first: false,
        failed: 0,
        trouble: None,
        pause: PauseCause::default(),
        resume_obeyed_ms: resumed.map(|said| said.at_ms),
    });
    if direction == Direction::Forward {
        say(draft, service, RolloutNews::Started { from_revision });
    }
}

/// A rollout that another revision takes the place of before it is through.
fn say_superseded(draft: &mut Draft<'_>, service: usize, by_revision: u64) {
    let entry = draft.planned(service);
    let forward = entry.is_some_and(|entry| entry.refused.is_none());
    let going = of(draft, service).is_some_and(|rollout| {
        let goes = matches!(rollout.phase, Phase::Running | Phase::Held { .. });
        goes && rollout.revision != by_revision
    });
    if forward && going {
        say(draft, service, RolloutNews::Superseded { by_revision });
    }
}

/// Template and revision of the newest staying replica of another template.
fn newest_old(draft: &Draft<'_>, service: usize, to: &TemplateId) -> Option<(TemplateId, u64)> {
    let rows = draft.services[service].rows.iter().rev();
    let mut stay = rows
        .filter_map(|&row| draft.replica(row))
        .filter(|replica| replica.leaving.is_none() && replica.template != *to);
    stay.next().map(|r| (r.template.clone(), r.revision))
}

/// Staying replicas of a service.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Of the template that the rollout goes to.
    pub new: u32,
    /// Of these, serving.
    pub serving: u32,
    /// Of other templates, where their node is not lost, and does not keep them as they are.
    pub old: u32,
}

pub(crate) fn count(draft: &Draft<'_>, service: usize, to: &TemplateId) -> Counts {
    let mut counts = Counts::default();
    for row in draft.active(service) {
        let new = draft.replica(row).is_some_and(|r| r.template == *to);
        counts.new += u32::from(new);
        counts.serving += u32::from(new && draft.serves(row));
        let goes = !draft.on_lost_node(row) && !each_node::is_kept_old(draft, row);
        counts.old += u32::from(!new && goes);
    }
    counts
}

/// An operator holds it, or no longer does.
fn hold(draft: &mut Draft<'_>, service: usize) -> bool {
    let (held, resumed) = said(draft, service);
    let Some(rollout) = of(draft, service) else {
        return false;
    };
    match (&rollout.phase, held) {
        (Phase::Running, Some(said)) if rollout.from.is_some() => {
            let by = said.by;
            enter(draft, service, Phase::Held { by: by.clone() });
            self::say(draft, service, RolloutNews::Held { by });
            true
        }
        (Phase::Held { .. }, None) => {
            enter(draft, service, Phase::Running);
            let by = resumed.map_or_else(String::new, |said| said.by);
            self::say(draft, service, RolloutNews::Resumed { by });
            true
        }
        _ => false,
    }
}

/// Watches the batch that runs, lets it pass, begins the next, ends the rollout. True: something
/// changed, look again.
fn step(draft: &mut Draft<'_>, service: usize) -> bool {
    let Some(mut look) = look(draft, service) else {
        return false;
    };
    let turned = turn(draft, service, &look);
    if look.terms.failure_action == FailureAction::Continue
        && let Some(why) = decide::objection(&look)
        && verdict::goes_on(draft, service, &why)
    {
        look.setback = Some(Setback::Gate);
        look.answer = recompute_rollout(&look);
        record::note(draft, service, Decision::Rollout(Arc::new(look)));
        return true;
    }
    look.answer = recompute_rollout(&look);
    if matches!(look.answer, RolloutAnswer::Opens { .. }) && look.terms.order == UpdateOrder::Auto {
        look.no_room = place::must_stop_first(draft, service);
        look.answer = recompute_rollout(&look);
    }
    let look = Arc::new(look);
    if !look.answer.stays() || just_moved(draft, service) {
        record::note(draft, service, Decision::Rollout(Arc::clone(&look)));
    }
    go(draft, service, &look) || turned
}

/// A batch that finds no more room, because its nodes filled up or came back since it began: the
/// old ones stop first. True: so it is from now on.
fn turn(draft: &mut Draft<'_>, service: usize, look: &RolloutRecord) -> bool {
    // A gate lets pass what fits. Without one, of more than are wanted old ones go as new ones
    // serve, which makes the room.
    let stuck = |passed: u32| match look.gate.is_some() {
        true => look.new <= passed,
        false => look.new.saturating_add(look.old) <= look.target,
    };
    let turns = of(draft, service)
        .is_some_and(|rollout| rollout.open && !rollout.stop_first && stuck(rollout.passed));
    let turns = turns
        && look.old > 0
        && look.new < look.expected()
        && look.terms.order == UpdateOrder::Auto
        && place::must_stop_first(draft, service);
    if turns {
        change(draft, service, |rollout| rollout.stop_first = true);
    }
    turns
}

/// It went on in this run: where it rests then is worth a note, not at each look after that.
fn just_moved(draft: &Draft<'_>, service: usize) -> bool {
    let key = &draft.services[service].key;
    let mut last = draft.report.records.iter().rev();
    last.find(|record| record.service != *key || matches!(record.decision, Decision::Rollout(_)))
        .is_some_and(|record| record.service == *key)
}

/// What there is to see of a rollout that is not over; none: there is nothing to decide.
pub(crate) fn look(draft: &Draft<'_>, service: usize) -> Option<RolloutRecord> {
    let (rollout, spec) = (of(draft, service)?, draft.services[service].spec?);
    let target = each_node::rollout_target(draft, service);
    let counts = count(draft, service, &rollout.to);
    let stage = match rollout.phase {
        Phase::Running => RolloutStage::Running,
        Phase::Held { .. } => RolloutStage::Held,
        Phase::Done if counts.old > 0 && counts.new < target => RolloutStage::Done,
        Phase::Done | Phase::Failed => return None,
    };
    let gate = spec.gate.as_ref().filter(|_| rollout.from.is_some());
    let mut look = RolloutRecord {
        at_ms: draft.input.now_ms,
        revision: rollout.revision,
        direction: rollout.direction,
        stage,
        is_first: !has_way_back(draft, service),
        terms: update(draft, service, spec),
        target,
        new: counts.new,
        serving: counts.serving,
        old: counts.old,
        batches: rollout.batches,
        open: rollout.open,
        allowed: rollout.allowed,
        serving_since_ms: rollout.serving_since_ms,
        passed_ms: rollout.passed_ms,
        no_room: false,
        failed: rollout.failed,
        trouble: rollout.trouble.clone(),
        setback: None,
        gate: gate.map(|gate| gate::look(draft, service, &rollout.to, gate)),
        job: jobs::awaited(draft, service),
        refused_by: draft.cluster.refused_by(&draft.services[service].key),
        answer: RolloutAnswer::WaitsForReplicas,
    };
    // More may be wanted than fits. The old ones stay beside a batch that a gate watches: there
    // may be no room for all of it. One of which nothing came yet has nothing to pass with.
    let last = look.old == 0 && !look.is_first;
    let batch = look.open && look.gate.is_some() && look.new > rollout.passed;
    let short = (last || batch) && look.new < look.expected();
    look.no_room = short && place::no_room(draft, service);
    Some(look)
}

/// Does what was decided.
fn go(draft: &mut Draft<'_>, service: usize, look: &RolloutRecord) -> bool {
    match look.answer {
        RolloutAnswer::Fails { ref why } => verdict::fail(draft, service, why.clone()),
        RolloutAnswer::Reopens => reopen(draft, service),
        RolloutAnswer::Watches => watch(draft, service),
        RolloutAnswer::Interrupted => {
            gate::forget(draft, service);
            change(draft, service, |rollout| rollout.serving_since_ms = None);
            true
        }
        RolloutAnswer::WaitsForReplicas => {
            gate::forget(draft, service);
            false
        }
        RolloutAnswer::WaitsForJob { service: ref job } => wait_for(draft, service, job),
        RolloutAnswer::Holds | RolloutAnswer::GoesOn { .. } => false,
        RolloutAnswer::Monitors { until_ms } => {
            monitor(draft, service, until_ms);
            false
        }
        RolloutAnswer::Delays { until_ms } => {
            draft.wait(service, Reason::RolloutDelays { until_ms });
            draft.look_again(service, until_ms);
            false
        }
        RolloutAnswer::Passes => {
            let now_ms = draft.input.now_ms;
            change(draft, service, |rollout| {
                rollout.open = false;
                rollout.allowed = rollout.allowed.min(look.new);
                rollout.passed = look.new;
                rollout.passed_ms = Some(now_ms);
            });
            gate::forget(draft, service);
            true
        }
        RolloutAnswer::Opens {
            batch,
            allowed,
            stop_first,
        } => {
            change(draft, service, |rollout| {
                rollout.batches = batch;
                rollout.open = true;
                rollout.allowed = allowed;
                rollout.stop_first = stop_first;
                rollout.serving_since_ms = None;
            });
            let entry = draft.planned(service);
            let good = entry.and_then(|entry| entry.good.as_ref());
            let back_to = match look.direction {
                Direction::Forward => 0,
                Direction::Back => good.map_or(0, |good| good.revision),
            };
            let news = RolloutNews::Batch {
                batch,
                new: allowed.min(look.target),
                of: look.target,
                stop_first: look.no_room,
                back_to,
            };
            say(draft, service, news);
            true
        }
        RolloutAnswer::Finishes => finish(draft, service, look.target > 0),
    }
}

/// No new replica before the job has completed.
fn wait_for(draft: &mut Draft<'_>, service: usize, job: &ServiceName) -> bool {
    let (job, until) = (job.clone(), Until::Completed);
    let reason = Reason::WaitsForService {
        service: job,
        until,
    };
    draft.wait(service, reason);
    false
}

/// Old replicas came back with their node, and the count needs them: they are replaced as well.
fn reopen(draft: &mut Draft<'_>, service: usize) -> bool {
    let Some(rollout) = of(draft, service) else {
        return false;
    };
    let old = newest_old(draft, service, &rollout.to);
    let from_revision = old.as_ref().map_or(0, |(_, revision)| *revision);
    change(draft, service, |rollout| {
        rollout.from = old.map(|(template, _)| template);
        rollout.from_revision = from_revision;
        rollout.serving_since_ms = None;
    });
    enter(draft, service, Phase::Running);
    say(draft, service, RolloutNews::Started { from_revision });
    true
}

/// All new replicas serve: the monitoring begins, and the gate's.
fn watch(draft: &mut Draft<'_>, service: usize) -> bool {
    let now_ms = draft.input.now_ms;
    change(draft, service, |rollout| {
        rollout.serving_since_ms = Some(now_ms);
    });
    end::keep_first(draft, service);
    let spec = draft.services[service].spec;
    let replaces = of(draft, service).is_some_and(|rollout| rollout.from.is_some());
    if replaces && spec.is_some_and(|spec| spec.gate.is_some()) {
        gate::begin(draft, service);
    }
    true
}

/// The monitoring goes on.
fn monitor(draft: &mut Draft<'_>, service: usize, until_ms: u64) {
    draft.look_again(service, until_ms);
    let Some(rollout) = of(draft, service).filter(|rollout| rollout.open) else {
        return;
    };
    if rollout.from.is_some() {
        draft.wait(service, Reason::RolloutMonitors { until_ms });
    }
    if draft.memory(service).gate.is_some() {
        let look_ms = draft.input.now_ms.saturating_add(gate::LOOK_MS);
        draft.look_again(service, look_ms);
    }
}
