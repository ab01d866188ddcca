//! Judge of what is given back for want of samples: seeds from four million on.

use longshore_model::ServiceKey;
use longshore_model::plan::{Replica, Traffic};
use longshore_model::reason::LeaveReason;

use crate::adapter;
use crate::judge_plan::Commit;

/// On silence only what does not serve may be given back, and nothing while the controller watches.
pub(crate) fn judge_given_back(
    commit: &Commit<'_>,
    key: &ServiceKey,
    is: u32,
    found: &mut Vec<String>,
) {
    let served = |was: &&Replica| was.leaving.is_none() && was.traffic == Traffic::Serve;
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
