//! The generator, beside whatever the harness does.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::traffic::{Plan, Tally, run};

/// A running generator.
pub(crate) struct Running {
    /// What it counts.
    pub(crate) tally: Arc<Tally>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    runtime: Runtime,
}

impl Running {
    /// Starts generators on threads of their own; what they count is one tally.
    ///
    /// # Panics
    /// If they cannot be had.
    #[must_use]
    pub(crate) fn start(plans: Vec<Plan>) -> Self {
        let runtime = Runtime::new().expect("threads");
        let (tally, stop) = (Arc::new(Tally::default()), CancellationToken::new());
        let spawn = |plan| runtime.spawn(run(plan, Arc::clone(&tally), stop.clone()));
        Self {
            tasks: plans.into_iter().map(spawn).collect(),
            tally,
            stop,
            runtime,
        }
    }

    /// Sends no more, and waits for what is in flight.
    ///
    /// # Panics
    /// If the generator panicked.
    #[must_use]
    pub(crate) fn finish(self) -> Arc<Tally> {
        self.stop.cancel();
        for task in self.tasks {
            let ended = self.runtime.block_on(task);
            ended.expect("the generator ends");
        }
        self.tally
    }
}
