//! Containers that run once, on the Docker Engine.

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, ListContainersOptionsBuilder,
    WaitContainerOptions,
};
use futures_util::StreamExt;

use super::docker::{CHANGE_DEADLINE, DockerRuntime, LOOK_DEADLINE, piece};
use super::runs::{LABEL_RUN, RunOrder, Runs};
use super::words::sort;
use super::{ContainerId, ErrorKind, ExecRun, RuntimeError};

impl Runs for DockerRuntime {
    async fn create_run(&self, order: &RunOrder) -> Result<ContainerId, RuntimeError> {
        let attempted = "creating the container";
        let name = order.container_name();
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let body = order.body();
        let make =
            |docker: Docker| async move { docker.create_container(Some(options), body).await };
        Ok(self.call(attempted, CHANGE_DEADLINE, make).await?.id)
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<ExecRun, RuntimeError> {
        let attempted = "attaching to the container";
        let options = AttachContainerOptionsBuilder::new()
            .stream(true)
            .stdin(stdin)
            .stdout(true)
            .stderr(true)
            .build();
        let attach =
            |docker: Docker| async move { docker.attach_container(id, Some(options)).await };
        let attached = self.call(attempted, CHANGE_DEADLINE, attach).await?;
        let output = attached
            .output
            .map(move |line| line.map(piece).map_err(|e| sort(attempted.to_owned(), &e)));
        Ok(ExecRun {
            id: id.to_owned(),
            output: Box::pin(output),
            input: attached.input,
        })
    }

    async fn wait(&self, id: &str) -> Result<i64, RuntimeError> {
        let attempted = "waiting for the container";
        let docker = self
            .call(attempted, LOOK_DEADLINE, |docker| async { Ok(docker) })
            .await?;
        let mut ended = docker.wait_container(id, None::<WaitContainerOptions>);
        match ended.next().await {
            Some(Ok(ended)) => Ok(ended.status_code),
            // The library takes every code but 0 for an error.
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(sort(attempted.to_owned(), &error)),
            None => Err(RuntimeError {
                kind: ErrorKind::Down,
                attempted: attempted.into(),
                detail: "the engine hung up".into(),
            }),
        }
    }

    async fn list_runs(&self) -> Result<Vec<(ContainerId, String)>, RuntimeError> {
        let mut filters = self.filters();
        let labels = filters.entry("label".into()).or_default();
        labels.push(LABEL_RUN.to_owned());
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let list = |docker: Docker| async move { docker.list_containers(Some(options)).await };
        let listed = self.call("listing runs", LOOK_DEADLINE, list).await?;
        let run = |summary: bollard::models::ContainerSummary| {
            Some((summary.id?, summary.labels?.remove(LABEL_RUN)?))
        };
        Ok(listed.into_iter().filter_map(run).collect())
    }
}
