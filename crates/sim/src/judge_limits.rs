//! Judges of what is given back for want of samples and of how many share a node: seeds from four
//! million on.

use longshore_model::ServiceKey;
use longshore_model::plan::{Replica, Traffic};
use longshore_model::reason::LeaveReason;

use crate::adapter;
use crate::judge_plan::Commit;
use crate::world::World;

/// On silence only what does not serve may be given back, and nothing while the controller watches.
pub(crate) fn judge_given_back(
    world: &World,
    commit: &Commit<'_>,
    key: &ServiceKey,
    is: u32,
    found: &mut Vec<String>,
) {
    // One that starts again after a crash may still be in the routes.
    let served = |was: &&Replica| {
        was.leaving.is_none() && was.traffic == Traffic::Serve && world.serves(was)
    };
    // What went out of the routes with this very run for another reason did not serve.
    let goes_on = |was: &&Replica| {
        let now = adapter::replica(commit.after, was.id);
        now.is_some_and(|now| match &now.leaving {
            None => now.traffic == Traffic::Serve,
            Some(leaving) => leaving.reason == LeaveReason::ScaleIn,
        })
    };
    let before = adapter::of_service(commit.before, key);
    let serving = before.filter(served).filter(goes_on).count();
    if (is as usize) < serving {
        found.push(format!(
            "{key}: {serving} serve, {is} are left for want of samples"
        ));
    }
    if commit.observing() {
        found.push(format!("{key}: given back while observing"));
    }
}

impl World {
    /// 8: what is new makes no more on its node than its file allows. Standbys take places too.
    pub(crate) fn judge_crowding(
        &self,
        commit: &Commit<'_>,
        fresh: &[&Replica],
        found: &mut Vec<String>,
    ) {
        for new in fresh {
            let service = self.users.of(&new.service);
            let most = service.map_or(0, |service| service.usual.policies.max_per_node);
            let there = adapter::of_service(commit.after, &new.service)
                .filter(|other| other.node == new.node && other.leaving.is_none())
                .count();
            if most > 0 && there > most as usize {
                found.push(format!(
                    "{}: {there} on {}, {most} may be",
                    new.service, new.node
                ));
            }
        }
    }
}
