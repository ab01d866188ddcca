//! What somebody else applied or took down while it was followed: waiting on would be for ever.

use longshore_proto::control::v1 as pb;

use super::settle::Goal;
use crate::failure::{Exit, Failure};

/// What the goal is about, in a word.
fn subject(goal: &Goal) -> String {
    match &goal.app {
        Some(app) => app.clone(),
        None => goal.services.join(", "),
    }
}

fn failure(goal: &Goal, message: &str) -> Failure {
    let subject = subject(goal);
    let name = goal.app.as_ref().or(goal.services.first());
    Failure::new(format!("{subject}: overtaken: {message}"))
        .exit(Exit::Overtaken)
        .hint(match name {
            Some(name) => format!("controllerctl ls, controllerctl wait {name} --for stable"),
            None => "controllerctl ls".to_owned(),
        })
}

/// The latest revision that is wanted by now, if it is later than the one that is followed.
pub(super) fn by_later(goal: &Goal, services: &[pb::Service]) -> Option<u64> {
    let latest = services.iter().map(|service| service.revision).max()?;
    (goal.revision > 0 && latest > goal.revision).then_some(latest)
}

/// Says what is wanted in place of the goal, if something is. Services that only leave have no
/// revision; an app that was taken down and applied again counts from 1.
pub(super) fn overtaken(goal: &Goal, services: &[pb::Service]) -> Option<Failure> {
    let latest = services.iter().map(|service| service.revision).max();
    let latest = latest.unwrap_or(0);
    if goal.leaves {
        return (latest > 0).then(|| {
            failure(
                goal,
                &format!("it was applied again meanwhile (revision {latest}), and stays"),
            )
        });
    }
    if let Some(latest) = by_later(goal, services) {
        return Some(failure(
            goal,
            &format!(
                "revision {latest} was applied meanwhile, and revision {} is not wanted any more",
                goal.revision
            ),
        ));
    }
    // A count is asked for without a revision.
    let expected = match goal.counts.is_empty() {
        true => goal.revision,
        false => goal.revision.max(1),
    };
    if latest >= expected {
        return None;
    }
    Some(match latest {
        0 => failure(goal, "it was taken down meanwhile").hint("controllerctl ls"),
        _ => failure(
            goal,
            &format!("it was taken down and applied anew meanwhile (revision {latest})"),
        ),
    })
}
