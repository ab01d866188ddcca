//! Containers that run once, for a stream: what the engine is asked for them. They carry no
//! replica's label, so nobody takes them for one.

use std::sync::Arc;

use bollard::models::ContainerCreateBody;
use longshore_model::plan::AssignedReplica;
use longshore_model::{ReplicaId, TemplateId};
use longshore_proto::agent::v1 as pb;
use longshore_wire::run_from_pb;

use super::create::{LABEL_REPLICA, create_body};
use super::terminal::Size;
use super::{ContainerId, ExecRun, Launch, RuntimeError};

/// Label with the id of the run.
pub const LABEL_RUN: &str = "longshore.run";
/// Labels of replicas that such a container has not.
const LABELS_OF_REPLICAS: [&str; 4] = [
    LABEL_REPLICA,
    "longshore.slot",
    "longshore.revision",
    "longshore.template",
];
/// It is of none.
const NO_TEMPLATE: &str = "0000000000000000";
/// Longest host name.
const HOSTNAME_BYTES_MAX: usize = 63;

/// Everything that makes such a container.
#[derive(Debug, Clone)]
pub struct RunOrder {
    /// Its id: letters and digits.
    pub id: String,
    /// As of a replica without ports.
    pub launch: Launch,
    /// With a terminal.
    pub tty: bool,
    /// With standard input.
    pub stdin: bool,
    /// Of its terminal.
    pub size: Option<Size>,
}

impl RunOrder {
    /// As the controller sent it.
    ///
    /// # Errors
    /// The field and the rule, in words.
    pub fn from_pb(message: pb::RunStream, cluster: Arc<str>) -> Result<Self, String> {
        let size = message.size.and_then(Size::from_pb);
        let run = run_from_pb(message).map_err(|error| error.to_string())?;
        let template = TemplateId::new(NO_TEMPLATE).map_err(|error| error.to_string())?;
        let replica = AssignedReplica {
            id: ReplicaId(0),
            service: run.service,
            slot: 0,
            revision: 0,
            template,
            ports: Vec::new(),
            stop: false,
            paused: false,
            ended: false,
        };
        let launch = Launch {
            cluster,
            replica,
            spec: run.container,
            hosts: run.hosts,
            files: run.files,
            ipv6: false,
        };
        let (id, tty, stdin) = (run.id, run.tty, run.stdin);
        Ok(Self {
            id,
            launch,
            tty,
            stdin,
            size,
        })
    }

    /// `longshore-<app>-<service>-run-<id>`
    #[must_use]
    pub fn container_name(&self) -> String {
        let service = &self.launch.replica.service;
        let (app, service) = (&service.app, &service.service);
        format!("longshore-{app}-{service}-run-{}", self.id)
    }

    /// The engine's request.
    #[must_use]
    pub fn body(&self) -> ContainerCreateBody {
        let mut body = create_body(&self.launch);
        let labels = body.labels.get_or_insert_default();
        for label in LABELS_OF_REPLICAS {
            labels.remove(label);
        }
        labels.insert(LABEL_RUN.to_owned(), self.id.clone());
        if self.launch.spec.hostname.is_none() && body.hostname.is_some() {
            let mut name = format!("{}-run-{}", self.launch.replica.service.service, self.id);
            if name.len() > HOSTNAME_BYTES_MAX {
                name = format!("run-{}", self.id);
            }
            body.hostname = Some(name);
        }
        let on = |on: bool| Some(on);
        (body.tty, body.open_stdin, body.stdin_once) =
            (on(self.tty), on(self.stdin), on(self.stdin));
        (body.attach_stdin, body.attach_stdout, body.attach_stderr) =
            (on(self.stdin), on(true), on(true));
        if let Some(host) = &mut body.host_config {
            host.console_size = self.size.map(Size::console);
        }
        body
    }
}

/// Calls of the engine for such containers.
pub trait Runs: Send + Sync + 'static {
    /// Makes one. Deadline 30 s.
    fn create_run(
        &self,
        order: &RunOrder,
    ) -> impl Future<Output = Result<ContainerId, RuntimeError>> + Send;

    /// What it will write, and what it will read: before its start, so that nothing is lost.
    /// Deadline 30 s.
    fn attach(
        &self,
        id: &str,
        stdin: bool,
    ) -> impl Future<Output = Result<ExecRun, RuntimeError>> + Send;

    /// Returns when it has ended, with its exit code. No deadline.
    fn wait(&self, id: &str) -> impl Future<Output = Result<i64, RuntimeError>> + Send;

    /// All of this cluster that are here, with the ids of their runs. Deadline 5 s.
    fn list_runs(
        &self,
    ) -> impl Future<Output = Result<Vec<(ContainerId, String)>, RuntimeError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;

    #[test]
    fn it_is_no_replica_and_publishes_nothing() {
        let message = pb::RunStream {
            run_id: "ab12".into(),
            service: "demo/web".into(),
            container: Some(longshore_wire::container_spec_to_pb(&spec("hello:1"))),
            tty: true,
            size: Some(longshore_proto::spec::v1::TerminalSize {
                rows: 40,
                columns: 100,
            }),
            ..Default::default()
        };
        let order = RunOrder::from_pb(message, "test".into()).unwrap();
        assert_eq!(order.container_name(), "longshore-demo-web-run-ab12");
        let body = order.body();
        let labels = body.labels.unwrap();
        assert_eq!(labels[LABEL_RUN], "ab12");
        assert_eq!(labels["longshore.service"], "web");
        assert!(!labels.contains_key(LABEL_REPLICA), "{labels:?}");
        assert_eq!(body.hostname.as_deref(), Some("web-run-ab12"));
        assert_eq!((body.tty, body.open_stdin), (Some(true), Some(false)));
        let host = body.host_config.unwrap();
        assert!(host.port_bindings.unwrap().is_empty());
        assert_eq!(host.console_size, Some(vec![40, 100]));
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges:true"]);
    }
}
