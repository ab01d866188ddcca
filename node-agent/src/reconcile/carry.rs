//! Carries steps out on the engine.

use std::time::Duration;

use futures_util::StreamExt;
use longshore_model::ReplicaId;
use longshore_model::spec::ExecCheck;

use super::action::{Action, Done};
use crate::probe::probe;
use crate::runtime::disk::look_for_external;
use crate::runtime::{
    ContainerId, ErrorKind, ExecOptions, Inspection, Launch, Runtime, RuntimeError,
};

/// Carries one step out and tells what came of it.
pub(super) async fn carry_out<R: Runtime>(runtime: &R, action: Action) -> Done {
    match action {
        Action::Launch { launch, existing } => start(runtime, &launch, existing).await,
        Action::Pull { image } => {
            let result = runtime.pull(&image).await;
            Done::Pulled { image, result }
        }
        Action::Stop {
            replica,
            container,
            grace_ms,
            frozen,
        } => Done::Stopped {
            replica,
            result: stop(runtime, replica, &container, grace_ms, frozen).await,
        },
        Action::Pause { replica, container } => Done::Paused {
            replica,
            result: runtime.pause(&container).await,
        },
        Action::Unpause { replica, container } => Done::Unpaused {
            replica,
            result: runtime.unpause(&container).await,
        },
        Action::Inspect { replica, container } => Done::Inspected {
            replica,
            result: runtime.inspect(&container).await,
        },
        Action::Probe {
            replica,
            container,
            proof,
            target,
        } => Done::Probed {
            replica,
            container,
            proof,
            result: probe(&target).await,
        },
        Action::Recheck {
            replica,
            container,
            proof,
            check,
        } => Done::Probed {
            replica,
            result: recheck(runtime, &container, &check).await,
            container,
            proof,
        },
    }
}

async fn start<R: Runtime>(runtime: &R, launch: &Launch, existing: Option<ContainerId>) -> Done {
    let replica = launch.replica.id;
    let made = match existing {
        Some(container) => Ok(container),
        None => match look_for_external(runtime, &launch.spec).await {
            Ok(()) => runtime.create(launch).await,
            Err(error) => Err(error),
        },
    };
    let failed = |container, error| Done::LaunchFailed {
        replica,
        container,
        error,
    };
    match made {
        Err(error) => failed(None, error),
        Ok(container) => match fill_and_start(runtime, launch, &container).await {
            Ok(()) => Done::Launched { replica, container },
            Err(error) => failed(Some(container), error),
        },
    }
}

/// A container that the engine or this agent left between the two gets its files again.
async fn fill_and_start<R: Runtime>(
    runtime: &R,
    launch: &Launch,
    container: &str,
) -> Result<(), RuntimeError> {
    if !launch.files.is_empty() {
        runtime.put_files(container, launch).await?;
    }
    runtime.start(container).await
}

async fn stop<R: Runtime>(
    runtime: &R,
    replica: ReplicaId,
    container: &str,
    grace_ms: Option<u64>,
    frozen: bool,
) -> Result<Option<Inspection>, RuntimeError> {
    if frozen && let Err(error) = runtime.unpause(container).await {
        // The engine lets it go on itself once it has sent its signal.
        tracing::warn!(%replica, %error, "a paused container is stopped as it is");
    }
    match runtime.stop(container, grace_ms).await {
        Err(error) if error.kind != ErrorKind::Refused => Err(error),
        // An engine that cannot stop it may still be able to remove it.
        _ => {
            let ended = runtime.inspect(container).await.ok();
            runtime.remove(container).await?;
            Ok(ended.filter(|ended| ended.ended_ago_ms.is_some()))
        }
    }
}

/// Runs a health command once.
async fn recheck<R: Runtime>(runtime: &R, id: &str, check: &ExecCheck) -> Result<(), String> {
    let options = ExecOptions {
        command: check.command.clone(),
        ..ExecOptions::default()
    };
    let words = |error: RuntimeError| error.to_string();
    let run = async {
        let mut run = runtime.exec(id, &options).await.map_err(words)?;
        // It has ended once its output has; nobody reads that.
        while let Some(piece) = run.output.next().await {
            piece.map_err(words)?;
        }
        match runtime.exec_exit_code(&run.id).await.map_err(words)? {
            Some(0) => Ok(()),
            Some(code) => Err(format!("the health command ended with code {code}")),
            None => Err("the health command has closed its output and still runs".to_owned()),
        }
    };
    let deadline = Duration::from_millis(check.timeout_ms.max(1));
    tokio::time::timeout(deadline, run)
        .await
        .unwrap_or_else(|_| {
            let ms = check.timeout_ms;
            Err(format!("the health command did not end within {ms} ms"))
        })
}

/// Says what came of a step.
pub(super) fn log(done: &Done) {
    match done {
        Done::Launched { replica, container } => {
            tracing::info!(%replica, container = container.get(..12), "container started");
        }
        Done::LaunchFailed { replica, error, .. } => {
            tracing::warn!(%replica, %error, "container did not start");
        }
        Done::Pulled {
            image,
            result: Err(error),
        } => tracing::warn!(%image, %error, "pull failed"),
        Done::Pulled {
            image,
            result: Ok(()),
        } => tracing::info!(%image, "image pulled"),
        Done::Stopped {
            replica,
            result: Ok(ended),
        } => {
            let code = ended.as_ref().map(|ended| ended.exit_code);
            tracing::info!(%replica, code, "container removed");
        }
        Done::Stopped {
            replica,
            result: Err(error),
        } => {
            tracing::warn!(%replica, %error, "container was not removed");
        }
        Done::Paused {
            replica,
            result: Ok(()),
        } => tracing::info!(%replica, "container paused: warm standby"),
        Done::Unpaused {
            replica,
            result: Ok(()),
        } => tracing::info!(%replica, "container unpaused"),
        Done::Paused {
            replica,
            result: Err(error),
        }
        | Done::Unpaused {
            replica,
            result: Err(error),
        } => tracing::warn!(%replica, %error, "container was not paused or unpaused"),
        Done::Inspected { .. } | Done::Probed { .. } => {}
    }
}
