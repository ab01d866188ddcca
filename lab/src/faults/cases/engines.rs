//! Docker Engines: containers go on without them.

use std::time::Duration;

use super::super::app::{self, LIMIT, REPLICAS};
use super::super::strike::Strike;
use crate::{on, try_on, until};

/// How long it stands still.
const STILL: Duration = Duration::from_secs(30);

pub(super) fn killed(strike: &mut Strike) {
    strike.fault(&["kill9", "worker2", "dockerd"], &[]);
    is_back(strike);
}

pub(super) fn restarted(strike: &mut Strike) {
    strike.begin();
    on("worker2", &["sv", "-w", "30", "restart", "dockerd"]);
    is_back(strike);
}

pub(super) fn frozen(strike: &mut Strike) {
    strike.fault(
        &["halt", "worker2", "dockerd"],
        &["go", "worker2", "dockerd"],
    );
    // An engine that does not answer takes nothing new, and its node says so.
    app::node_says("worker2", "runtime_stuck");
    std::thread::sleep(STILL);
    strike.undo();
    strike.is_over();
    is_back(strike);
}

fn is_back(strike: &mut Strike) {
    until("the engine answers", LIMIT, || {
        let said = try_on("worker2", &["timeout", "5", "docker", "version"]);
        match said.code {
            Some(0) => Ok(()),
            _ => Err(said),
        }
    });
    app::node_is("worker2", true);
    app::full(REPLICAS, |_| true);
    strike.is_well();
}
