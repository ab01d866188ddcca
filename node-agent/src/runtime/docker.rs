//! The Docker Engine over its socket. Works with 20.10 and later: the version of the API is
//! negotiated at the first call after each loss of the socket.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerState, ContainerSummary, ContainerSummaryStateEnum, EndpointSettings, ExecConfig,
    PortSummaryTypeEnum,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::StreamExt;
use longshore_model::ImageRef;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::archive::archives;
use super::create::{LABEL_CLUSTER, LABEL_MANAGED, LABEL_REPLICA, container_name, create_body};
use super::terminal::Size;
use super::words::{sort, stuck, unless_said};
use super::{
    Channel, Condition, Container, ContainerId, EXPOSED_MAX, EngineInfo, ErrorKind, ExecHealth,
    ExecOptions, ExecRun, Held, Inspection, Launch, LogOptions, Output, Runtime, RuntimeError,
};
use crate::images::local_name;

pub(super) const LOOK_DEADLINE: Duration = Duration::from_secs(5);
pub(super) const CHANGE_DEADLINE: Duration = Duration::from_secs(30);
pub(super) const PULL_SILENCE: Duration = Duration::from_secs(60);
/// The library's own timeout; ours are shorter, but a stop waits for its grace.
const LIBRARY_TIMEOUT_S: u64 = 24 * 3600;
/// Longest last line that a report carries.
const LAST_LINE_CHARS_MAX: usize = 200;

/// One engine.
pub struct DockerRuntime {
    socket: PathBuf,
    cluster: String,
    client: Mutex<Option<Docker>>,
    held: Option<Arc<Held>>,
}

impl DockerRuntime {
    /// For the containers of `cluster`. Does not connect yet.
    #[must_use]
    pub fn new(socket: &Path, cluster: &str) -> Self {
        let (socket, cluster) = (socket.to_owned(), cluster.to_owned());
        Self {
            socket,
            cluster,
            client: Mutex::new(None),
            held: None,
        }
    }

    /// Fetches images of the controller, too.
    #[must_use]
    pub fn with_images(mut self, held: Held) -> Self {
        self.held = Some(Arc::new(held));
        self
    }

    pub(super) fn held(&self) -> Option<&Arc<Held>> {
        self.held.as_ref()
    }

    /// The cluster whose containers these are.
    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The client; made and its version negotiated where there is none.
    async fn client(&self) -> Result<Docker, Error> {
        let kept = self
            .client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(client) = kept {
            return Ok(client);
        }
        let path = self.socket.to_string_lossy();
        let client = Docker::connect_with_unix(&path, LIBRARY_TIMEOUT_S, API_DEFAULT_VERSION)?
            .negotiate_version()
            .await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    /// One call with a deadline.
    pub(super) async fn call<T, F>(
        &self,
        attempted: impl Into<String>,
        deadline: Duration,
        call: impl FnOnce(Docker) -> F,
    ) -> Result<T, RuntimeError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let attempted = attempted.into();
        let work = async { call(self.client().await?).await };
        match timeout(deadline, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.sort(attempted, &error)),
            Err(_) => Err(stuck(attempted, deadline)),
        }
    }

    pub(super) fn sort(&self, attempted: String, error: &Error) -> RuntimeError {
        let error = sort(attempted, error);
        if error.kind == ErrorKind::Down {
            // The engine may come back as another version.
            *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        error
    }

    pub(super) fn filters(&self) -> HashMap<String, Vec<String>> {
        let labels = vec![
            format!("{LABEL_MANAGED}=true"),
            format!("{LABEL_CLUSTER}={}", self.cluster),
        ];
        HashMap::from([("label".to_owned(), labels)])
    }

    async fn last_line(&self, id: &str) -> String {
        let options = LogOptions {
            tail: Some(1),
            ..LogOptions::default()
        };
        let read = async {
            let mut output = self.logs(id, &options).await.ok()?;
            output.next().await?.ok()
        };
        // Only for people: a container without readable logs has no last line.
        let line = timeout(LOOK_DEADLINE, read).await.ok().flatten();
        line.map_or_else(String::new, |(_, bytes)| {
            String::from_utf8_lossy(&bytes)
                .trim_end()
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(LAST_LINE_CHARS_MAX)
                .collect()
        })
    }
}

fn container_of(summary: ContainerSummary) -> Option<Container> {
    let replica = summary.labels?.get(LABEL_REPLICA)?.parse().ok()?;
    let condition = match summary.state? {
        ContainerSummaryStateEnum::CREATED => Condition::Created,
        ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::RESTARTING => {
            Condition::Running
        }
        ContainerSummaryStateEnum::PAUSED => Condition::Paused,
        _ => Condition::Exited,
    };
    // `Up 3 seconds (healthy)`: the only place where old engines list it.
    let status = summary.status.unwrap_or_default();
    let health = [
        ("(unhealthy)", ExecHealth::Unhealthy),
        ("(healthy)", ExecHealth::Healthy),
        ("(health: starting)", ExecHealth::Starting),
    ];
    let health = health
        .into_iter()
        .find(|(words, _)| status.ends_with(words));
    let exposed = summary.ports.unwrap_or_default().into_iter();
    let exposed = exposed
        .filter(|port| port.typ == Some(PortSummaryTypeEnum::TCP) && port.private_port > 0)
        .map(|port| port.private_port);
    let networks = summary.network_settings.and_then(|all| all.networks);
    Some(Container {
        id: summary.id?,
        replica,
        condition,
        health: health.map(|(_, h)| h),
        address: address_of(networks.unwrap_or_default()),
        exposed: exposed
            .collect::<BTreeSet<u16>>()
            .into_iter()
            .take(EXPOSED_MAX)
            .collect(),
    })
}

/// Where the host reaches a container: on the engine's own bridge, else on the first network that
/// gave it an address.
fn address_of(networks: HashMap<String, EndpointSettings>) -> Option<IpAddr> {
    let mut found: Vec<(bool, String, IpAddr)> = networks
        .into_iter()
        .filter_map(|(name, at)| {
            let text = at.ip_address.filter(|text| !text.is_empty());
            let text = text.or(at.global_ipv6_address)?;
            Some((name != "bridge", name, text.parse().ok()?))
        })
        .collect();
    found.sort();
    found.first().map(|(.., address)| *address)
}

fn inspection_of(state: &ContainerState, now: SystemTime) -> Inspection {
    let at = |text: &Option<String>| {
        text.as_deref()
            .and_then(|text| humantime::parse_rfc3339(text).ok())
    };
    let running = state.running.unwrap_or(false);
    // Of a container that never ran the engine says year 1, which is no time here.
    let ended = at(&state.finished_at).filter(|_| !running);
    let span_ms = |from: SystemTime, until: SystemTime| {
        let span = until.duration_since(from).unwrap_or_default();
        u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
    };
    let until = if running { Some(now) } else { ended };
    let ran = at(&state.started_at).zip(until);
    Inspection {
        running,
        ran_ms: ran.map_or(0, |(from, until)| span_ms(from, until)),
        ended_ago_ms: ended.map(|ended| span_ms(ended, now)),
        exit_code: state.exit_code.unwrap_or(0),
        oom: state.oom_killed.unwrap_or(false),
        last_line: String::new(),
    }
}

pub(super) fn piece(output: LogOutput) -> (Channel, Vec<u8>) {
    match output {
        LogOutput::StdErr { message } => (Channel::Stderr, message.to_vec()),
        LogOutput::StdOut { message }
        | LogOutput::StdIn { message }
        | LogOutput::Console { message } => (Channel::Stdout, message.to_vec()),
    }
}

/// Labels as the engine lists them: `key=value`, or a key alone.
fn labels_of(listed: Vec<String>) -> BTreeMap<String, String> {
    let split = |label: String| match label.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (label, String::new()),
    };
    longshore_wire::engine_labels(listed.into_iter().map(split))
}

impl Runtime for DockerRuntime {
    async fn info(&self) -> Result<EngineInfo, RuntimeError> {
        let ask = |docker: Docker| async move {
            let version = docker.version().await?;
            Ok((version, docker.info().await?))
        };
        let (version, info) = self.call("asking the engine", LOOK_DEADLINE, ask).await?;
        let loads_images = self.held().and_then(|held| held.advice(&info));
        Ok(EngineInfo {
            version: version.version.unwrap_or_default(),
            os: info.os_type.unwrap_or_default(),
            arch: version.arch.unwrap_or_default(),
            labels: labels_of(info.labels.unwrap_or_default()),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            root: info.docker_root_dir.unwrap_or_default().into(),
            disk_free_percent: None,
            volumes: None,
            loads_images,
        })
    }

    async fn list(&self) -> Result<Vec<Container>, RuntimeError> {
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&self.filters())
            .build();
        let list = |docker: Docker| async move { docker.list_containers(Some(options)).await };
        let listed = self.call("listing containers", LOOK_DEADLINE, list).await?;
        Ok(listed.into_iter().filter_map(container_of).collect())
    }

    async fn inspect(&self, id: &str) -> Result<Inspection, RuntimeError> {
        let look = |docker: Docker| async move {
            docker
                .inspect_container(id, None::<InspectContainerOptions>)
                .await
        };
        let answer = self
            .call("inspecting the container", LOOK_DEADLINE, look)
            .await?;
        let now = SystemTime::now();
        let state = answer.state.as_ref();
        let mut inspection = state
            .map(|state| inspection_of(state, now))
            .unwrap_or_default();
        if !inspection.running {
            inspection.last_line = self.last_line(id).await;
        }
        Ok(inspection)
    }

    async fn create(&self, launch: &Launch) -> Result<ContainerId, RuntimeError> {
        let options = CreateContainerOptionsBuilder::new()
            .name(&container_name(launch))
            .build();
        let make = |docker: Docker| async move {
            docker
                .create_container(Some(options), create_body(launch))
                .await
        };
        let made = self
            .call("creating the container", CHANGE_DEADLINE, make)
            .await?;
        Ok(made.id)
    }

    async fn put_files(&self, id: &str, launch: &Launch) -> Result<(), RuntimeError> {
        for archive in archives(&launch.spec, &launch.files) {
            // A directory in the image is no place for a file.
            let options = UploadToContainerOptionsBuilder::new()
                .path(archive.directory)
                .no_overwrite_dir_non_dir("true")
                .build();
            let body = bollard::body_full(archive.tar.into());
            let put = |docker: Docker| async move {
                docker.upload_to_container(id, Some(options), body).await
            };
            let attempted = "putting secrets and configs into the container";
            self.call(attempted, CHANGE_DEADLINE, put).await?;
        }
        Ok(())
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let start = |docker: Docker| async move {
            docker
                .start_container(id, None::<StartContainerOptions>)
                .await
        };
        self.call("starting the container", CHANGE_DEADLINE, start)
            .await
    }

    async fn pause(&self, id: &str) -> Result<(), RuntimeError> {
        let pause = |docker: Docker| async move { docker.pause_container(id).await };
        let attempted = "pausing the container";
        unless_said(
            self.call(attempted, CHANGE_DEADLINE, pause).await,
            "is already paused",
        )
    }

    async fn unpause(&self, id: &str) -> Result<(), RuntimeError> {
        let unpause = |docker: Docker| async move { docker.unpause_container(id).await };
        let attempted = "unpausing the container";
        unless_said(
            self.call(attempted, CHANGE_DEADLINE, unpause).await,
            "is not paused",
        )
    }

    async fn stop(&self, id: &str, grace_ms: Option<u64>) -> Result<(), RuntimeError> {
        let options = grace_ms.map(|ms| {
            let seconds = i32::try_from(ms.div_ceil(1000)).unwrap_or(i32::MAX);
            StopContainerOptionsBuilder::new().t(seconds).build()
        });
        // Without a word of ours the engine uses the grace that the container was made with.
        let grace = Duration::from_millis(grace_ms.unwrap_or(300_000));
        let deadline = grace.saturating_add(CHANGE_DEADLINE);
        let stop = |docker: Docker| async move { docker.stop_container(id, options).await };
        self.call("stopping the container", deadline, stop).await
    }

    async fn remove(&self, id: &str) -> Result<(), RuntimeError> {
        let options = RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        let remove =
            |docker: Docker| async move { docker.remove_container(id, Some(options)).await };
        self.call("removing the container", CHANGE_DEADLINE, remove)
            .await
    }

    async fn pull(&self, image: &ImageRef) -> Result<(), RuntimeError> {
        if let Some(digest) = &image.digest {
            return self.pull_held(image, digest).await;
        }
        self.pull_public(&image.name).await
    }

    async fn has_image(&self, image: &ImageRef) -> Result<bool, RuntimeError> {
        let name = local_name(image);
        let look = |docker: Docker| async move { docker.inspect_image(&name).await.map(drop) };
        let found = self.call("looking for an image", LOOK_DEADLINE, look).await;
        match found {
            Err(error) if error.kind == ErrorKind::ImageAbsent => Ok(false),
            other => other.map(|()| true),
        }
    }

    async fn watch(&self, changed: &Notify) -> RuntimeError {
        let attempted = || "listening to the engine's events".to_owned();
        let client = self
            .call(attempted(), LOOK_DEADLINE, |docker| async { Ok(docker) })
            .await;
        let docker = match client {
            Ok(docker) => docker,
            Err(error) => return error,
        };
        let mut filters = self.filters();
        let words = [
            "start",
            "die",
            "destroy",
            "health_status",
            "oom",
            "pause",
            "unpause",
        ];
        filters.insert("event".into(), words.map(str::to_owned).into());
        filters.insert("type".into(), vec!["container".into()]);
        let mut events = docker.events(Some(EventsOptionsBuilder::new().filters(&filters).build()));
        loop {
            match events.next().await {
                Some(Ok(_)) => changed.notify_one(),
                Some(Err(error)) => return self.sort(attempted(), &error),
                None => {
                    let (kind, detail) = (ErrorKind::Down, "the engine hung up".to_owned());
                    return RuntimeError {
                        kind,
                        attempted: attempted(),
                        detail,
                    };
                }
            }
        }
    }

    async fn logs(&self, id: &str, options: &LogOptions) -> Result<Output, RuntimeError> {
        let attempted = "reading the container's logs";
        let docker = self
            .call(attempted, LOOK_DEADLINE, |docker| async { Ok(docker) })
            .await?;
        let tail = options
            .tail
            .map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let wanted = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .follow(options.follow)
            .tail(&tail)
            .since(i32::try_from(options.since_s).unwrap_or(i32::MAX))
            .timestamps(options.timestamps)
            .build();
        let lines = docker.logs(id, Some(wanted));
        Ok(Box::pin(lines.map(move |line| {
            line.map(piece).map_err(|e| sort(attempted.to_owned(), &e))
        })))
    }

    async fn exec(&self, id: &str, options: &ExecOptions) -> Result<ExecRun, RuntimeError> {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let wanted = ExecConfig {
            attach_stdin: Some(options.stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(options.tty),
            env: Some(options.env.clone()),
            cmd: Some(options.command.clone()),
            user: text(&options.user),
            working_dir: text(&options.working_dir),
            console_size: options.size.map(Size::console),
            ..ExecConfig::default()
        };
        let start = StartExecOptions {
            detach: false,
            tty: options.tty,
            output_capacity: None,
        };
        let run = |docker: Docker| async move {
            let made = docker.create_exec(id, wanted).await?;
            let started = docker.start_exec(&made.id, Some(start)).await?;
            Ok((made.id, started))
        };
        let attempted = "running a command in the container";
        match self.call(attempted, CHANGE_DEADLINE, run).await? {
            (id, StartExecResults::Attached { output, input }) => {
                let output = output
                    .map(move |line| line.map(piece).map_err(|e| sort(attempted.to_owned(), &e)));
                Ok(ExecRun {
                    id,
                    output: Box::pin(output),
                    input,
                })
            }
            (_, StartExecResults::Detached) => {
                let detail = "the engine gave no connection to it".to_owned();
                Err(RuntimeError {
                    kind: ErrorKind::Refused,
                    attempted: attempted.into(),
                    detail,
                })
            }
        }
    }

    async fn exec_exit_code(&self, exec: &str) -> Result<Option<i64>, RuntimeError> {
        let look = |docker: Docker| async move { docker.inspect_exec(exec).await };
        let answer = self
            .call("inspecting the command", LOOK_DEADLINE, look)
            .await?;
        Ok(answer.exit_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_split_at_the_first_sign() {
        let listed = ["storage=ssd", "note=a=b", "fast", "=nobody"];
        let labels = labels_of(listed.map(str::to_owned).to_vec());
        let expected = [("fast", ""), ("note", "a=b"), ("storage", "ssd")];
        assert_eq!(
            labels,
            expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
    }

    #[test]
    fn where_a_container_is_reached_and_what_it_exposes() {
        let listed = r#"{"Id": "c1", "State": "running", "Status": "Up 3 seconds",
            "Labels": {"longshore.replica": "r7"},
            "Ports": [{"PrivatePort": 6379, "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"},
                {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 30001, "Type": "tcp"}],
            "NetworkSettings": {"Networks": {"aaa": {"IPAddress": "172.18.0.9"},
                "bridge": {"IPAddress": "172.17.0.5"}, "none": {"IPAddress": ""}}}}"#;
        let summary: ContainerSummary = serde_json::from_str(listed).unwrap();
        let container = container_of(summary.clone()).unwrap();
        assert_eq!(container.address, Some("172.17.0.5".parse().unwrap()));
        assert_eq!(container.exposed, [80, 6379].into());
        let stopped = ContainerSummary {
            network_settings: None,
            ports: None,
            ..summary
        };
        let stopped = container_of(stopped).unwrap();
        assert_eq!((stopped.address, stopped.exposed.len()), (None, 0));
    }

    #[test]
    fn an_end_is_as_old_as_the_engine_says() {
        let at = |text: &str| Some(text.to_owned());
        let mut state = ContainerState {
            running: Some(false),
            exit_code: Some(143),
            started_at: at("2026-01-01T00:00:00.25Z"),
            finished_at: at("2026-01-01T00:00:10.5Z"),
            ..ContainerState::default()
        };
        let now = humantime::parse_rfc3339("2026-01-01T00:00:12Z").unwrap();
        let seen = inspection_of(&state, now);
        let said = (seen.ran_ms, seen.ended_ago_ms, seen.exit_code);
        assert_eq!(said, (10_250, Some(1_500), 143));
        // One that was started again has an older end.
        state.running = Some(true);
        let seen = inspection_of(&state, now);
        assert_eq!((seen.ran_ms, seen.ended_ago_ms), (11_750, None));
        let never = || at("0001-01-01T00:00:00Z");
        (state.running, state.started_at) = (Some(false), never());
        state.finished_at = never();
        assert_eq!(inspection_of(&state, now).ended_ago_ms, None);
    }

    #[tokio::test]
    async fn no_socket_is_an_engine_that_is_down() {
        let runtime = DockerRuntime::new(Path::new("/nonexistent/docker.sock"), "c");
        let error = runtime.list().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Down, "{error}");
    }
}
