//! The generator, beside whatever the harness does.

use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::traffic::{Plan, Tally, run};

/// A running generator.
pub(super) struct Running {
    /// What it counts.
    pub(super) tally: Arc<Tally>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    runtime: Runtime,
}

impl Running {
    /// Starts it on threads of its own.
    ///
    /// # Panics
    /// If they cannot be had.
    #[must_use]
    pub(super) fn start(plan: Plan) -> Self {
        let runtime = Runtime::new().expect("threads");
        let (tally, stop) = (Arc::new(Tally::default()), CancellationToken::new());
        let task = runtime.spawn(run(plan, Arc::clone(&tally), stop.clone()));
        Self {
            tally,
            stop,
            task,
            runtime,
        }
    }

    /// Sends no more, and waits for what is in flight.
    ///
    /// # Panics
    /// If the generator panicked.
    #[must_use]
    pub(super) fn finish(self) -> Arc<Tally> {
        self.stop.cancel();
        self.runtime
            .block_on(self.task)
            .expect("the generator ends");
        self.tally
    }
}
