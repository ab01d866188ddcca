//! Which spec of a service is in force, and what it allows a change to take
//! away. By its own logic, like the rest of the check.

use std::collections::BTreeMap;

use longshore_model::rollout::Direction;
use longshore_model::spec::{UpdateOrder, UpdateSpec};
use longshore_model::{NodeId, ServiceSpec};

use super::Pair;
use crate::PlanInput;

/// What the file asks for, or the last good revision if exactly that was rolled back.
pub(super) fn in_force<'a>(input: &PlanInput<'a>, pair: &Pair<'a>) -> Option<&'a ServiceSpec> {
    let (_, wanted) = input.desired.service(pair.key)?;
    let good = pair.new.and_then(|plan| {
        let refused = plan.refused.as_ref()?;
        (refused.spec == *wanted).then_some(plan.good.as_ref()?)
    });
    Some(good.map_or(wanted, |good| &good.spec))
}

/// What a change of a service may take away.
pub(super) struct Terms {
    update: UpdateSpec,
    /// A replacement must be there before anything is given up.
    pub(super) starts_first: bool,
    /// No two replicas in a row may write to its volume at once.
    pub(super) sole_writer: bool,
    /// One at a time, because there is no room for one more.
    forced: bool,
    /// Where nodes can be full and old ones stop first, more may not fit than there are, those that
    /// leave just now included; elsewhere there is no such bound.
    fit: u32,
}

impl Terms {
    pub(super) fn of(pair: &Pair<'_>, spec: &ServiceSpec) -> Self {
        let rollout = pair.new.and_then(|plan| plan.rollout.as_ref());
        let back = rollout.is_some_and(|rollout| rollout.direction == Direction::Back);
        let mut update = match back {
            true => spec.rollback(),
            false => spec.update.clone(),
        };
        let mut mounts = spec.container.mounts.iter();
        let writes = mounts.any(|mount| mount.is_of_one_node() && !mount.read_only);
        if writes && update.order == UpdateOrder::Auto {
            (update.order, update.parallelism) = (UpdateOrder::StopFirst, 1);
        }
        // Nothing but these two can be in the way of one more replica.
        let tight = spec.placement.max_per_node > 0 || !spec.container.fixed_ports.is_empty();
        let forced = update.order == UpdateOrder::Auto
            && tight
            && rollout.is_some_and(|rollout| rollout.open && rollout.stop_first);
        let starts_first = update.order != UpdateOrder::StopFirst && !forced;
        Self {
            starts_first,
            sole_writer: writes && update.order == UpdateOrder::StopFirst,
            update,
            forced,
            fit: match tight && !starts_first {
                true => there(pair),
                false => u32::MAX,
            },
        }
    }

    /// Replicas that must serve after it.
    pub(super) fn least_serving(&self, target: u32) -> usize {
        let target = target.min(self.fit);
        let away = self.update.max_unavailable;
        let batch = if self.forced {
            1
        } else {
            self.update.batch(target)
        };
        let least = match (self.starts_first, target) {
            (_, 0) => 0,
            (true, target) => target.saturating_sub(away).max(1),
            (false, target) => target.saturating_sub(away.max(batch).max(1)),
        };
        least as usize
    }
}

/// Replicas that did not leave before this plan, standbys apart. One that takes the place of
/// another on the same node makes no more of them.
fn there(pair: &Pair<'_>) -> u32 {
    let mut nodes: BTreeMap<&NodeId, [u32; 2]> = BTreeMap::new();
    let before = pair.before().map(|was| (0, was));
    for (side, replica) in before.chain(pair.after().map(|now| (1, now))) {
        if replica.leaving.is_none() && !replica.rests() {
            nodes.entry(&replica.node).or_default()[side] += 1;
        }
    }
    nodes.values().map(|[was, is]| was.max(is)).sum()
}
