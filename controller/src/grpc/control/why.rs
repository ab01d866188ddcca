//! `why`: gathers what was recorded about a service, a replica or a node, now or at another time.

use std::collections::BTreeSet;
use std::time::SystemTime;

use longshore_identity::Identity;
use longshore_identity::tls::CertificateRefusal;
use longshore_model::observe::{EdgeObserved, NodeObserved, ServerAdmin};
use longshore_model::plan::{Replica, Traffic};
use longshore_model::reason::Refusal as NodeRefusal;
use longshore_model::weight::WeightLook;
use longshore_model::{
    AppName, Decision, DecisionKind, Event, NodeId, Reason, Recorded, ReplicaId, ServiceKey, TimeMs,
};
use longshore_proto::control::v1 as pb;
use longshore_wire::{event_to_pb, to_struct};
use tonic::Status;

use super::decisions;
use super::events::is_about;
use super::find::{self, Target};
use super::jobs;
use super::leavers;
use super::lists::word;
use super::nodes::availability_word;
use crate::cluster::{Cluster, View};
use crate::explain::{self, Clock, NodeStory, ReplicaStory, ServiceStory};
use crate::grpc::Refusal;
use crate::store::StoredEvent;

mod then;

/// Events shown.
const RECENT_MAX: usize = 8;
/// Decisions of each kind that are looked through.
const LOOK_MAX: usize = 512;

/// So far the clock of who asks may be ahead of this one.
const AHEAD_MS_MAX: u64 = 60_000;

/// What is asked about.
enum About {
    /// All services of it.
    App(AppName),
    Service(ServiceKey),
    /// A slot that is wanted and that no replica has.
    Slot(ServiceKey, u32),
    Replica(ReplicaId, ServiceKey),
    Node(NodeId),
}

/// What everything below looks at.
struct Scene<'a> {
    cluster: &'a Cluster,
    view: &'a View,
    /// Asked about the past.
    past: bool,
    clock: Clock,
    /// Oldest first, none later than the clock.
    events: Vec<StoredEvent>,
}

/// What is known of a service now, and only now.
fn present(scene: &Scene<'_>, key: &ServiceKey, response: &mut pb::WhyResponse) {
    let (plan, observed) = (&scene.view.plan, scene.cluster.fleet.snapshot());
    let leavers = leavers::leavers(plan, &observed, key, scene.clock).into_iter();
    let leavers = leavers.map(|said| format!("waits: {said}"));
    let job = jobs::line(plan, key, scene.clock);
    response.lines.extend(leavers.chain(job));
    let certificates = super::certificates::Scene::of(scene.cluster);
    response.lines.extend(certificates.lines(key));
}

/// Serves `Why`.
pub(super) fn why(cluster: &Cluster, request: &pb::WhyRequest) -> Result<pb::WhyResponse, Refusal> {
    let (view, now_ms) = (cluster.view(), cluster.now_ms());
    if request.at_ms > now_ms.saturating_add(AHEAD_MS_MAX) {
        let clock = Clock { now_ms };
        return Err(Refusal(Status::invalid_argument(format!(
            "{} UTC is still to come (here it is {} UTC): why explains what was decided; leave the \
             time away for what holds now",
            clock.at(request.at_ms),
            clock.at(now_ms)
        ))));
    }
    let past = request.at_ms > 0 && request.at_ms < now_ms;
    let clock = Clock {
        now_ms: if past { request.at_ms } else { now_ms },
    };
    let mut events = cluster.past_events()?;
    events.retain(|stored| stored.event.at_ms <= clock.now_ms);
    let scene = Scene {
        cluster,
        view: &view,
        past,
        clock,
        events,
    };
    let about = about(&scene, &request.target).map_err(Refusal)?;
    let mut response = pb::WhyResponse {
        decided_ms: view.decided_ms,
        ..Default::default()
    };
    let wanted = tell(&scene, &about, &mut response)?;
    let recent = wanted.iter().skip(wanted.len().saturating_sub(RECENT_MAX));
    response.recent = recent
        .map(|stored| event_to_pb(&stored.event, stored.sequence))
        .collect();
    Ok(response)
}

/// Says all of it, and gives the events that are about it.
fn tell<'s>(
    scene: &'s Scene<'_>,
    about: &About,
    response: &mut pb::WhyResponse,
) -> Result<Vec<&'s StoredEvent>, Refusal> {
    Ok(match about {
        About::App(name) => {
            app(scene, name, response)?;
            let events = scene.events.iter();
            let of = |s: &&StoredEvent| {
                let service = s.event.kind.service();
                service.is_some_and(|key| key.app == *name)
            };
            events.filter(of).collect()
        }
        About::Slot(key, slot) => {
            response.target = format!("{key}.{slot}");
            service(scene, key, Some(*slot), response)?;
            Vec::new()
        }
        About::Service(key) => {
            response.target = key.to_string();
            service(scene, key, None, response)?;
            if !scene.past {
                present(scene, key, response);
            }
            let name = key.to_string();
            let events = scene.events.iter();
            events.filter(|s| is_about(&s.event.kind, &name)).collect()
        }
        About::Node(id) => {
            response.target = id.to_string();
            match scene.past {
                true => then::node(scene, id, response)?,
                false => node(scene, id, response),
            }
            let events = scene.events.iter();
            let of = |s: &&StoredEvent| s.event.kind.node() == Some(id);
            events.filter(of).collect()
        }
        About::Replica(id, key) => {
            response.target = id.to_string();
            replica(scene, *id, key, response)?;
            // Its steps say it all.
            Vec::new()
        }
    })
}

/// From the word to what is meant, the past included: what is gone is known from its events.
fn about(scene: &Scene<'_>, target: &str) -> Result<About, Status> {
    let desired = scene.cluster.desired();
    let plan = &scene.view.plan;
    let gone = || gone(scene, target);
    if scene.past
        && let Some(about) = gone()
    {
        return Ok(about);
    }
    let found = match find::with_apps(&desired, plan, target) {
        Ok(found) => found,
        Err(status) => {
            let waiting = || waiting(scene, target).filter(|_| !scene.past);
            return match (
                waiting().or_else(gone),
                find::one_of(&decisions::services(scene.cluster), target),
            ) {
                (Some(about), _) => Ok(about),
                (None, Ok(key)) => Ok(About::Service(key)),
                (None, Err(_)) => Err(status),
            };
        }
    };
    Ok(match found {
        Target::App(name) => About::App(name),
        Target::Service(key) => About::Service(key),
        Target::Node(id) => About::Node(id),
        Target::Replica(id) => match plan.replica(id) {
            Some(replica) => About::Replica(id, replica.service.clone()),
            None => return Err(Status::not_found(format!("{id} has just gone"))),
        },
    })
}

/// A slot that is wanted and that no replica has: the lowest free ones, as many as are missing.
fn waiting(scene: &Scene<'_>, target: &str) -> Option<About> {
    let (name, slot) = target.rsplit_once('.')?;
    let slot: u32 = slot.parse().ok().filter(|slot| *slot > 0)?;
    let plan = &scene.view.plan;
    let key = find::service(&scene.cluster.desired(), plan, name).ok()?;
    let wanted = scene.view.report.services.get(&key)?.wanted as usize;
    let staying = plan.replicas_of(&key);
    let staying = staying.filter(|replica| replica.leaving.is_none() && !replica.rests());
    let taken: BTreeSet<u32> = staying.map(|replica| replica.slot).collect();
    let missing = wanted.saturating_sub(taken.len());
    let free = (1..=slot)
        .filter(|slot| !taken.contains(slot))
        .take(missing);
    (free.last() == Some(slot)).then_some(About::Slot(key, slot))
}

/// A replica by its events: `r17`, or the last one that had the slot.
fn gone(scene: &Scene<'_>, target: &str) -> Option<About> {
    let mut events = scene.events.iter().rev().map(|stored| &stored.event.kind);
    if let Ok(id) = target.parse::<ReplicaId>() {
        let event = events.find(|kind| kind.replica() == Some(id))?;
        return Some(About::Replica(id, event.service()?.clone()));
    }
    let (name, slot) = target.rsplit_once('.')?;
    let slot: u32 = slot.parse().ok()?;
    let key = find::one_of(&decisions::services(scene.cluster), name).ok()?;
    let event = events.find(|kind| kind.slot() == Some(slot) && kind.service() == Some(&key))?;
    Some(About::Replica(event.replica()?, key))
}

/// All that is kept of a service, oldest first by kind.
fn kept(scene: &Scene<'_>, key: &ServiceKey) -> Result<Vec<Recorded>, Refusal> {
    let kept = scene
        .cluster
        .decisions(|group| group.service == *key, LOOK_MAX)?;
    Ok(kept)
}

/// Service by service, the decisions of all of them.
fn app(scene: &Scene<'_>, name: &AppName, response: &mut pb::WhyResponse) -> Result<(), Refusal> {
    response.target = name.to_string();
    let keys = find::known(&scene.cluster.desired(), &scene.view.plan);
    for key in keys.iter().filter(|key| key.app == *name) {
        let mut one = pb::WhyResponse::default();
        service(scene, key, None, &mut one)?;
        if !scene.past {
            present(scene, key, &mut one);
        }
        response.lines.extend(one.lines);
        response.decisions.extend(one.decisions);
    }
    Ok(())
}

fn service(
    scene: &Scene<'_>,
    key: &ServiceKey,
    slot: Option<u32>,
    response: &mut pb::WhyResponse,
) -> Result<(), Refusal> {
    let mut kept = kept(scene, key)?;
    // None of that time is kept, or there was none: silence would say the latter.
    let is_rollout = |r: &&Recorded| r.record.decision.kind() == DecisionKind::Rollout;
    let rollouts_from_ms = kept.iter().find(is_rollout).map(|r| r.first_ms);
    kept.retain(|recorded| recorded.first_ms <= scene.clock.now_ms);
    let last = |kind: DecisionKind| {
        let of_kind = |r: &&Recorded| r.record.decision.kind() == kind;
        kept.iter().rev().find(of_kind)
    };
    let changed = |r: &&Recorded| match &r.record.decision {
        Decision::Scale(report) => report.current != report.result,
        _ => false,
    };
    let scale = last(DecisionKind::Scale);
    let report = scene.view.report.services.get(key);
    let plan = scene.view.plan.services.get(key).filter(|_| !scene.past);
    // A service that was taken down and came back has nothing to do with its former life.
    let since_ms = plan.map(|plan| plan.last_change.as_ref().map_or(TimeMs::MAX, |c| c.at_ms));
    let lives = |r: &&Recorded| since_ms.is_none_or(|since_ms| r.last_ms >= since_ms);
    let change = kept.iter().rev().filter(lives).find(changed);
    let failures = plan.and_then(|service| service.failures.as_ref());
    let story = ServiceStory {
        key,
        report: report.filter(|_| !scene.past).map(|report| &**report),
        scale,
        change: change.filter(|change| scale.is_none_or(|scale| *change != scale)),
        placement: last(DecisionKind::Placement),
        rollout: last(DecisionKind::Rollout).filter(lives),
        rollouts_from_ms: rollouts_from_ms.filter(|_| scene.past),
        moved: kept
            .iter()
            .rev()
            .filter(lives)
            .find(|r| match &r.record.decision {
                Decision::Move(look) => look.moved.is_some(),
                _ => false,
            }),
        failures: failures.map(|said| match said.count {
            0 | 1 => format!("failed: {}", said.last),
            count => format!("failed {count} times in a row: {}", said.last),
        }),
    };
    response.lines = match slot {
        None => explain::service(&story, scene.clock),
        Some(slot) => explain::slot(&story, slot, scene.clock),
    };
    response.report = story.report.map(to_struct);
    let shown = [
        story.change,
        story.placement,
        story.rollout,
        story.moved,
        story.scale,
    ];
    response.decisions = shown
        .into_iter()
        .flatten()
        .map(decisions::convert)
        .collect();
    Ok(())
}

fn replica(
    scene: &Scene<'_>,
    id: ReplicaId,
    key: &ServiceKey,
    response: &mut pb::WhyResponse,
) -> Result<(), Refusal> {
    let mut kept = kept(scene, key)?;
    kept.retain(|recorded| recorded.first_ms <= scene.clock.now_ms);
    let placed = kept.iter().find(|r| match &r.record.decision {
        Decision::Placement(record) => record.choices.iter().any(|c| c.replica == id),
        _ => false,
    });
    let drained = kept.iter().rev().find(|r| match &r.record.decision {
        Decision::Drain(drain) => drain.replica == id,
        _ => false,
    });
    let chosen = kept.iter().rev().find(|r| match &r.record.decision {
        Decision::Victims(victims) => victims.chosen.contains(&id),
        _ => false,
    });
    let events: Vec<Event> = scene
        .events
        .iter()
        .filter(|stored| stored.event.kind.replica() == Some(id))
        .map(|stored| stored.event.clone())
        .collect();
    let observed = scene.cluster.fleet.snapshot();
    let planned: Option<&Replica> = scene.view.plan.replica(id).map(|replica| &**replica);
    let planned = planned.filter(|_| !scene.past);
    let node = planned.and_then(|replica| observed.nodes.get(&replica.node));
    let edges = observed.edges.iter().filter(|_| planned.is_some());
    let drains = planned.is_some_and(|planned| planned.traffic == Traffic::Drain);
    let edges = edges.filter_map(|(edge, seen)| {
        let said = edge_says(seen, key, id, drains)?;
        Some((edge.clone(), said))
    });
    let desired = scene.cluster.desired();
    let aside = desired.aside.get(key).and_then(|aside| aside.get(&id));
    let story = ReplicaStory {
        id,
        service: key,
        planned,
        aside,
        shut_out: super::lists::is_shut_out(key, id, &observed),
        not_by: super::lists::blind_edges(key, id, &observed),
        status: node.and_then(|node| node.replicas.get(&id)),
        connected: node.is_some_and(|node| node.session.connected),
        edges: edges.collect(),
        weight: planned.and_then(|_| weight(scene, key, id)),
        placement: placed.and_then(|r| match &r.record.decision {
            Decision::Placement(record) => Some(&**record),
            _ => None,
        }),
        victims: chosen.and_then(|r| match &r.record.decision {
            Decision::Victims(victims) => Some(&**victims),
            _ => None,
        }),
        drain: drained.and_then(|r| match &r.record.decision {
            Decision::Drain(drain) => Some(&**drain),
            _ => None,
        }),
        events: &events,
    };
    response.lines = explain::replica(&story, scene.clock);
    response.report = planned.map(to_struct);
    let shown = [placed, chosen, drained];
    response.decisions = shown
        .into_iter()
        .flatten()
        .map(decisions::convert)
        .collect();
    Ok(())
}

/// A replica's weight, if that goes by load.
fn weight<'a>(scene: &'a Scene<'_>, key: &ServiceKey, id: ReplicaId) -> Option<&'a WeightLook> {
    let report = scene.view.report.services.get(key)?;
    report.weights.iter().find(|look| look.replica == id)
}

/// What an edge says of a replica, if it says anything. `drains`: it is to finish what it has.
pub(super) fn edge_says(
    seen: &EdgeObserved,
    key: &ServiceKey,
    id: ReplicaId,
    drains: bool,
) -> Option<String> {
    let Some(server) = seen.server(key, id) else {
        let refused = seen
            .refused
            .get(key)
            .map(|why| format!("not served: {why}"));
        return refused.or_else(|| seen.silence().map(str::to_owned));
    };
    let check = word(&server.check);
    let refused = seen.refused.get(key);
    let refused = refused.map_or_else(String::new, |why| format!("; not served as wanted: {why}"));
    let held = match drains && server.admin == ServerAdmin::Ready {
        true => format!("; {}", explain::LET_IN),
        false => String::new(),
    };
    Some(format!(
        "check {check}, {} sessions, {} queued{held}{refused}",
        server.sessions, server.queued
    ))
}

fn node(scene: &Scene<'_>, id: &NodeId, response: &mut pb::WhyResponse) {
    let (desired, observed) = (scene.cluster.desired(), scene.cluster.fleet.snapshot());
    let none = longshore_model::report::NodeReport::default();
    let report = scene.view.report.nodes.get(id).unwrap_or(&none);
    let seen = observed.nodes.get(id);
    let node = desired.nodes.get(id);
    let seen_ms: TimeMs = seen.map_or(0, |seen| {
        seen.session.last_echo_ms.max(seen.session.since_ms)
    });
    let story = NodeStory {
        id,
        report,
        state: word(&report.state),
        availability: node.map_or_else(String::new, |node| {
            availability_word(node.availability).to_owned()
        }),
        node,
        seen_ms,
        connected: seen.is_some_and(|seen| seen.session.connected),
        refused: refused(scene.cluster, id, seen.map(AsRef::as_ref)),
        refuses: refuses(scene.view, id),
        problems: seen.map_or(&[], |seen| &seen.problems[..]),
    };
    response.lines = explain::node(&story, scene.clock);
    response.report = Some(to_struct(report));
}

/// The certificate of a node that stays away because it is not taken.
fn refused(
    cluster: &Cluster,
    id: &NodeId,
    seen: Option<&NodeObserved>,
) -> Option<(TimeMs, CertificateRefusal)> {
    let refused = cluster.trust.last_refusal(&Identity::Node(id.clone()))?;
    let at = refused.at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    // Whole seconds of the handshake's clock.
    let at_ms = TimeMs::try_from(at.as_millis()).ok()?.saturating_add(1_000);
    let heard =
        seen.is_some_and(|seen| seen.session.connected || seen.session.last_echo_ms > at_ms);
    (!heard).then_some((at_ms, refused.refusal))
}

/// Services that wait for a place and that this node refuses.
fn refuses<'v>(view: &'v View, id: &NodeId) -> Vec<(&'v ServiceKey, &'v NodeRefusal)> {
    let mut found = Vec::new();
    for (key, report) in view.report.services.iter() {
        for wait in &report.waits {
            if let Reason::Unplaceable { refusals, .. } = wait {
                let here = refusals.iter().find(|(node, _)| node == id);
                found.extend(here.map(|(_, why)| (key, why)));
            }
        }
    }
    found
}
