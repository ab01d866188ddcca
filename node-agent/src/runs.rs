//! Containers that run once, each for one stream: made, fed, listened to, and removed with the stream.
//!
//! # Guarantees
//! A container lives no longer than its stream: whoever ends the stream (the command's own end, the
//! operator, the controller, a lost session) removes it. What an agent that was killed left behind, or
//! what could not be removed then, is removed by the next look of [`Runner::sweep`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_model::reason::FailReason;
use longshore_model::spec::PullPolicy;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::policy::Policy;
use crate::runtime::disk::look_for_external;
use crate::runtime::runs::RunOrder;
use crate::runtime::{ContainerId, ErrorKind, ExecRun, Runtime, RuntimeError};

/// Longest life of one.
pub const RUN_MAX: Duration = Duration::from_secs(24 * 3600);
/// Between two looks for those that nobody holds.
const SWEEP_SPACING: Duration = Duration::from_secs(30);
/// The shell's codes for a command that is not there, and for one that is no program.
const NOT_FOUND: i64 = 127;
const NOT_EXECUTABLE: i64 = 126;

/// What a node knows of its runs.
#[derive(Debug)]
pub struct Runner {
    cluster: Arc<str>,
    policy: Policy,
    live: Mutex<BTreeSet<String>>,
}

/// Why a run did not come to be.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The node's owner does not allow it.
    #[error("this node does not run it: {0}")]
    Policy(FailReason),
    /// One of that id runs.
    #[error("run {0} is here already")]
    Twice(String),
    /// The engine said no.
    #[error(transparent)]
    Engine(#[from] RuntimeError),
}

/// How a start went.
pub enum Begun<R: Runtime> {
    /// It runs.
    Running(Lease<R>, ExecRun),
    /// Its command cannot be run: the shell's code for that, and the engine's words.
    CannotRun(i64, String),
}

/// Holds a container; dropped, it stops and removes it.
pub struct Lease<R: Runtime> {
    runner: Arc<Runner>,
    runtime: Arc<R>,
    run: String,
    container: Option<ContainerId>,
}

impl Runner {
    /// For containers of `cluster`, as far as `policy` allows them.
    #[must_use]
    pub fn new(cluster: Arc<str>, policy: Policy) -> Self {
        let live = Mutex::default();
        Self {
            cluster,
            policy,
            live,
        }
    }

    /// Name of the cluster.
    #[must_use]
    pub fn cluster(&self) -> Arc<str> {
        Arc::clone(&self.cluster)
    }

    fn live(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // A set is whole after every change.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes, fills and starts a container, attached to before its start.
    ///
    /// # Errors
    /// [`RunError`]; nothing is left behind then.
    pub async fn begin<R: Runtime>(
        self: &Arc<Self>,
        runtime: &Arc<R>,
        order: &RunOrder,
    ) -> Result<Begun<R>, RunError> {
        self.policy
            .check(&order.launch.spec)
            .map_err(RunError::Policy)?;
        if !self.live().insert(order.id.clone()) {
            return Err(RunError::Twice(order.id.clone()));
        }
        let mut lease = Lease {
            runner: Arc::clone(self),
            runtime: Arc::clone(runtime),
            run: order.id.clone(),
            container: None,
        };
        look_for_external(&**runtime, &order.launch.spec).await?;
        let container = create(&**runtime, order).await?;
        lease.container = Some(container.clone());
        runtime.put_files(&container, &order.launch).await?;
        let attached = runtime.attach(&container, order.stdin).await?;
        match runtime.start(&container).await {
            Ok(()) => Ok(Begun::Running(lease, attached)),
            Err(error) => {
                lease.end().await;
                let code = code_of(&error).ok_or_else(|| error.clone())?;
                Ok(Begun::CannotRun(code, error.to_string()))
            }
        }
    }

    /// Removes containers of runs that nobody holds, now and then until `stop`.
    pub async fn sweep<R: Runtime>(self: Arc<Self>, runtime: Arc<R>, stop: CancellationToken) {
        loop {
            self.sweep_once(&*runtime).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(SWEEP_SPACING) => {}
            }
        }
    }

    /// One look.
    pub(crate) async fn sweep_once<R: Runtime>(&self, runtime: &R) {
        // An engine that is away is told of elsewhere.
        let Ok(listed) = runtime.list_runs().await else {
            return;
        };
        for (container, run) in listed {
            if self.live().contains(&run) {
                continue;
            }
            match runtime.remove(&container).await {
                Ok(()) => tracing::info!(run, "removed the container of a run that is over"),
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(run, %error, "the container of a run stays for now"),
            }
        }
    }
}

impl<R: Runtime> Lease<R> {
    /// Waits for its end: its exit code.
    ///
    /// # Errors
    /// The engine's words.
    pub async fn wait(&self) -> Result<i64, RuntimeError> {
        let container = self.container.as_deref().unwrap_or_default();
        self.runtime.wait(container).await
    }

    /// Removes the container of a run that has ended.
    pub async fn end(mut self) {
        if let Some(container) = self.container.take()
            && let Err(error) = self.runtime.remove(&container).await
        {
            // The next sweep finds it.
            tracing::warn!(run = self.run, %error, "the container of a run stays for now");
        }
    }
}

impl<R: Runtime> Drop for Lease<R> {
    fn drop(&mut self) {
        self.runner.live().remove(&self.run);
        let Some(container) = self.container.take() else {
            return;
        };
        let runtime = Arc::clone(&self.runtime);
        // Not within a runtime any more: the next start sweeps.
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(async move {
                // It may be told to go before it is removed; removing it is what counts.
                let _ = runtime.stop(&container, None).await;
                let _ = runtime.remove(&container).await;
            });
        }
    }
}

/// With its image, as its file says when that is fetched.
async fn create<R: Runtime>(runtime: &R, order: &RunOrder) -> Result<ContainerId, RuntimeError> {
    let image = &order.launch.spec.image_ref();
    if order.launch.spec.pull_policy == PullPolicy::Always {
        runtime.pull(image).await?;
    }
    match runtime.create_run(order).await {
        Err(error)
            if error.kind == ErrorKind::ImageAbsent
                && order.launch.spec.pull_policy == PullPolicy::Missing =>
        {
            runtime.pull(image).await?;
            runtime.create_run(order).await
        }
        made => made,
    }
}

/// The shell's code, if it is the command that is to blame.
pub(crate) fn code_of(error: &RuntimeError) -> Option<i64> {
    if error.kind != ErrorKind::Refused && error.kind != ErrorKind::NotFound {
        return None;
    }
    code_of_words(&error.detail)
}

/// The same of an engine's words.
pub(crate) fn code_of_words(detail: &str) -> Option<i64> {
    let says = |words: &str| detail.contains(words);
    if says("executable file not found") || says("no such file or directory") {
        return Some(NOT_FOUND);
    }
    (says("permission denied") || says("is a directory")).then_some(NOT_EXECUTABLE)
}
