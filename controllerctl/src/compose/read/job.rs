//! Services that run once until they end: those whose end others wait for
//! (`service_completed_successfully`), and `deploy.mode: replicated-job`.

use std::collections::BTreeSet;

use longshore_model::ServiceSpec;
use longshore_model::job::{Thing, not_for_jobs};
use longshore_model::spec::JobSpec;

use super::super::node::{Node, Value};
use super::super::problem::Problems;
use super::item::{Fields, Item};

/// The condition in `depends_on` that makes a job of whom it names.
pub(super) const COMPLETED: &str = "service_completed_successfully";
/// The mode that makes one of the service itself.
pub(super) const MODE: &str = "replicated-job";

/// Services whose end others wait for, by the file alone: what is read of a service depends on it.
pub(super) fn awaited(services: Option<&Node>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let Some(Value::Map(services)) = services.map(|node| &node.value) else {
        return names;
    };
    for (_, service) in services {
        let Some(Value::Map(on)) = service.get("depends_on").map(|node| &node.value) else {
            continue;
        };
        let completed = |entry: &Node| {
            let condition = entry.get("condition").and_then(Node::as_text);
            condition == Some(COMPLETED)
        };
        let on = on.iter().filter(|(_, entry)| completed(entry));
        names.extend(on.map(|(name, _)| name.name.clone()));
    }
    names
}

/// Does the service run once until it ends?
pub(super) fn is_one(item: &Item<'_>, awaited: &BTreeSet<String>) -> bool {
    let name = item.path.rsplit('.').next().unwrap_or_default();
    let deploy = item.node.get("deploy");
    let mode = deploy.and_then(|deploy| deploy.get("mode"));
    awaited.contains(name) || mode.and_then(Node::as_text) == Some(MODE)
}

/// How often it is started, by `restart`.
pub(super) fn restart(word: &str, item: &Item<'_>, p: &mut Problems) -> u32 {
    match word.split_once(':') {
        Some(("on-failure", count)) => match count.parse::<u32>() {
            Ok(count) => count.saturating_add(1),
            Err(_) => {
                item.invalid(p, format!("{count:?} is no number of restarts"));
                1
            }
        },
        _ => match word {
            "on-failure" => 0,
            "always" | "unless-stopped" => {
                let message = "a job is not started again once it has ended with 0";
                p.warn("restart", item.place(), &item.path, message).file();
                0
            }
            _ => 1,
        },
    }
}

/// The same by `deploy.restart_policy`.
pub(super) fn policy(item: &Item<'_>, fields: &mut Fields<'_>, p: &mut Problems) -> u32 {
    let mut paced = false;
    for name in ["delay", "window"] {
        let time: Option<Item<'_>> = fields.take(name);
        paced |= time.and_then(|time| time.duration_ms(p)).is_some();
    }
    if paced {
        let message = "pauses between tries grow from 1 s to 5 min";
        p.warn("restart", item.key, &item.path, message).file();
    }
    let conditions = [("none", true), ("on-failure", false), ("any", false)];
    let once = fields
        .take("condition")
        .and_then(|item| item.choice(p, &conditions));
    let most = fields
        .take("max_attempts")
        .and_then(|item| item.number::<u32>(p, 0, u32::MAX));
    match (once, most) {
        (Some(true), _) => 1,
        (_, None | Some(0)) => 0,
        (_, Some(most)) => most.saturating_add(1),
    }
}

/// What a service that runs once cannot have.
pub(super) fn check(item: &Item<'_>, spec: &ServiceSpec, p: &mut Problems) {
    if spec.job.is_none() {
        return;
    }
    let (message, help) = match not_for_jobs(spec) {
        None => return,
        Some(Thing::Ports) => (
            "runs once until it ends, so it publishes no ports",
            "drop its ports; or, if it stays up, wait for service_healthy",
        ),
        Some(Thing::Autoscale) => (
            "runs once until it ends, so it does not follow the load",
            "drop x-autoscale; or, if it stays up, wait for service_healthy",
        ),
        Some(Thing::Replicas) => (
            "runs once until it ends, as one replica",
            "drop deploy.replicas and deploy.mode: global",
        ),
    };
    item.invalid_help(p, message, help);
}

/// What is said of it.
pub(super) fn spec(is_job: bool, tries_max: u32) -> Option<JobSpec> {
    is_job.then_some(JobSpec { tries_max })
}
