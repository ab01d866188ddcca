//! Releases that do not come to run.

use super::super::app::{self, FILE, LIMIT, REPLICAS};
use super::super::strike::Strike;
use crate::{ctl_json, ctl_ok, until};

/// Over [`FILE`]: a release that ends at once.
const CRASHES: &str = "lab/faults/crashes.yaml";
/// Over [`FILE`]: one whose image is in a registry that does not answer.
const NO_REGISTRY: &str = "lab/faults/no-registry.yaml";

fn apply(over: &str) {
    ctl_ok(&["up", "-f", FILE, "-f", over, "-d", "-y"]);
}

/// Those that were there still serve; the file is theirs again.
fn back(before: &[String]) {
    ctl_ok(&["up", "-f", FILE, "-d", "-y"]);
    app::full(REPLICAS, |r| before.contains(&r.id));
}

fn ids() -> Vec<String> {
    app::all().into_iter().map(|r| r.id).collect()
}

pub(super) fn crashes(strike: &mut Strike) {
    let before = ids();
    strike.begin();
    apply(CRASHES);
    until("the release is rolled back", LIMIT, || {
        let rollout = ctl_json(&["rollout", "status", app::SERVICE]);
        match rollout.to_string().contains("rolled_back") {
            true => Ok(()),
            false => Err(rollout),
        }
    });
    app::full(REPLICAS, |r| before.contains(&r.id));
    strike.is_well();
    back(&before);
}

pub(super) fn no_registry(strike: &mut Strike) {
    let before = ids();
    strike.begin();
    apply(NO_REGISTRY);
    until("it is said why nothing comes of it", LIMIT, || {
        let said = ctl_ok(&["why", app::SERVICE]);
        match said.contains("192.0.2.1:5000") && said.contains("pull") {
            true => Ok(()),
            false => Err(said),
        }
    });
    strike.is_well();
    let serving = app::serving();
    let served = serving.iter().filter(|r| before.contains(&r.id)).count();
    assert!(served == REPLICAS, "the old ones went: {serving:?}");
    back(&before);
}
