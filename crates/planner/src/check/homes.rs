//! What the check knows of volumes whose data is on one node.

use longshore_model::plan::{Replica, ServicePlan};
use longshore_model::spec::Mount;
use longshore_model::{NodeId, ServiceSpec};

use super::terms::{Terms, in_force};
use super::{Pair, Verdict, View, demand};

/// Is the data of any volume of the service there?
pub(super) fn is_home(view: &View<'_>, spec: &ServiceSpec, node: &NodeId) -> bool {
    let homes = &view.outcome.plan.homes;
    let spec = Some(spec).filter(|spec| !spec.is_global());
    let Some(spec) = spec else { return false };
    let mut mounts = spec.container.mounts.iter();
    mounts.any(|mount| {
        let home = homes.get(&mount.source).filter(|_| mount.is_of_one_node());
        home.is_some_and(|home| home.node == *node)
    })
}

/// A replica is placed where the data of its volumes is, and not while those of which one writes to
/// the same volume there make up the count.
pub(super) fn hold(view: &View<'_>, pair: &Pair<'_>) -> Verdict {
    if pair.same() {
        return Ok(());
    }
    let (Some(new), Some(spec)) = (pair.new, in_force(view.input, pair)) else {
        return Ok(());
    };
    let homes = &view.outcome.plan.homes;
    let terms = Terms::of(pair, spec);
    for now in pair.after().filter(|now| pair.was(now).is_none()) {
        let mounts = new.templates.get(&now.template);
        let mounts = mounts.into_iter().flat_map(|template| &template.mounts);
        let local: Vec<&Mount> = mounts.filter(|mount| mount.is_of_one_node()).collect();
        for mount in &local {
            let home = homes.get(&mount.source).map(|home| &home.node);
            let right = spec.is_global() || home == Some(&now.node);
            demand(right, 10, || {
                let (id, volume) = (now.id, &mount.source);
                format!(
                    "{id} is placed on {}, its volume {volume} is on {home:?}",
                    now.node
                )
            })?;
        }
        let written: Vec<&str> = written(new, now).collect();
        let beside = pair.after().filter(|other| {
            let shares = written_too(new, other, &written);
            other.node == now.node && !other.rests() && shares
        });
        let beside = beside.count();
        // One on each node writes to that node's own.
        let wanted = match spec.is_global() {
            true => 1,
            false => new.target,
        };
        let fine = written.is_empty() || !terms.sole_writer || beside <= wanted as usize;
        demand(fine, 10, || {
            let id = now.id;
            format!("{id} is one of {beside} that write to {written:?}, {wanted} are wanted")
        })?;
    }
    Ok(())
}

/// Volumes of one node that the replica writes to.
fn written<'p>(plan: &'p ServicePlan, replica: &Replica) -> impl Iterator<Item = &'p str> {
    let template = plan.templates.get(&replica.template);
    let mounts = template.into_iter().flat_map(|template| &template.mounts);
    let mounts = mounts.filter(|mount| mount.is_of_one_node() && !mount.read_only);
    mounts.map(|mount| mount.source.as_str())
}

fn written_too(plan: &ServicePlan, replica: &Replica, volumes: &[&str]) -> bool {
    written(plan, replica).any(|volume| volumes.contains(&volume))
}
