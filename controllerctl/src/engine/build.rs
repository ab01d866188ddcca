//! A build by the engine.

use std::collections::VecDeque;

use bollard::errors::Error;
use bollard::models::BuildInfo;
use bollard::query_parameters::{BuildImageOptions, BuildImageOptionsBuilder};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::context::{Context, ContextError};
use super::dockerfile::{line_of_step, needs_buildkit, step};
use super::{Engine, buildkit};
use crate::compose::build::{Build, Dockerfile};
use crate::failure::Failure;

/// Lines of output that are told of a build that failed.
const LAST_LINES: usize = 12;
/// A line longer than that is cut.
const LINE_CHARS_MAX: usize = 500;

impl From<ContextError> for Failure {
    fn from(error: ContextError) -> Self {
        let hint = match &error {
            ContextError::NoDockerfile(_) => Some("name it: build: { dockerfile: NAME }"),
            ContextError::NoDirectory(_) => Some("build.context starts from the Compose file"),
            _ => None,
        };
        let mut failure = Self::new(error.to_string());
        failure.hint = hint.map(str::to_owned);
        match error {
            ContextError::Io { source, .. } => failure.because(source),
            _ => failure,
        }
    }
}

/// What was said so far.
#[derive(Default)]
pub(super) struct Output {
    rest: String,
    pub(super) last: VecDeque<String>,
    step: Option<(usize, String)>,
}

impl Output {
    /// Takes what came, and says each line that is whole.
    pub(super) fn take(&mut self, text: &str, say: &mut impl FnMut(&str)) {
        self.rest.push_str(text);
        while let Some(end) = self.rest.find(['\n', '\r']) {
            let line: String = self.rest.drain(..=end).collect();
            self.line(line.trim_end(), say);
        }
        if self.rest.len() > 1 << 16 {
            let line = std::mem::take(&mut self.rest);
            self.line(&line, say);
        }
    }

    fn line(&mut self, line: &str, say: &mut impl FnMut(&str)) {
        if line.is_empty() {
            return;
        }
        let line: String = line.chars().take(LINE_CHARS_MAX).collect();
        if let Some((number, what)) = step(&line) {
            self.step = Some((number, what.to_owned()));
        }
        say(&line);
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

impl Engine {
    /// Builds an image and gives it its names. `say` hears each line of the output.
    ///
    /// # Errors
    /// What is wrong with the directory, or the step at which it failed with the last lines.
    pub async fn build(
        &self,
        image: &str,
        build: &Build,
        mut say: impl FnMut(&str),
    ) -> Result<(), Failure> {
        let context = Context::new(build)?;
        let steps = context.steps.clone();
        if let Some(need) = need(build, &steps) {
            let client = buildkit::find().await;
            let client = client.map_err(|why| no_buildkit(image, &need, &why))?;
            return buildkit::build(&client, &self.host, (image, build), say).await;
        }
        let (dockerfile, parts) = context.archive();
        let body = bollard::body_try_stream(ReceiverStream::new(parts));
        let options = options(image, build, &dockerfile);
        let mut stream = std::pin::pin!(self.docker.build_image(options, None, Some(body)));
        let mut output = Output::default();
        while let Some(info) = stream.next().await {
            let info = info.map_err(|error| failed(image, build, &steps, &output, error))?;
            if let Some(text) = words(&info) {
                output.take(&text, &mut say);
            }
            if let Some(detail) = info.error_detail {
                let error = Error::DockerStreamError {
                    error: detail.message.unwrap_or_default(),
                };
                return Err(failed(image, build, &steps, &output, error));
            }
        }
        for name in &build.tags {
            self.tag(image, name).await?;
        }
        Ok(())
    }
}

/// What in this build only BuildKit does; none: the engine's own builder does all of it.
fn need(build: &Build, steps: &str) -> Option<String> {
    if !build.secrets.is_empty() {
        return Some("build.secrets".into());
    }
    if !build.ssh.is_empty() {
        return Some("build.ssh".into());
    }
    let (line, what) = needs_buildkit(steps, &build.args)?;
    Some(match &build.dockerfile {
        Dockerfile::File(name) => format!("{what} ({}:{line})", build.context.join(name).display()),
        Dockerfile::Inline(_) => format!("{what} (dockerfile_inline, line {line})"),
    })
}

fn no_buildkit(image: &str, need: &str, why: &str) -> Failure {
    let message = format!("cannot build {image}: {need} needs BuildKit, and {why}");
    Failure::new(message).hint(format!(
        "install docker's client with its buildx plugin here (Debian: docker-cli, docker-buildx); \
         or build where they are: docker build -t {image} …, then: controllerctl push {image}"
    ))
}

fn words(info: &BuildInfo) -> Option<String> {
    if let Some(text) = &info.stream {
        return Some(text.clone());
    }
    // Pulls of base images; their bars are too much.
    let status = info.status.as_ref()?;
    info.progress_detail
        .is_none()
        .then(|| format!("{status}\n"))
}

fn options(image: &str, build: &Build, dockerfile: &str) -> BuildImageOptions {
    let pairs = |pairs: &std::collections::BTreeMap<String, String>| {
        pairs
            .clone()
            .into_iter()
            .collect::<std::collections::HashMap<String, String>>()
    };
    let mut options = BuildImageOptionsBuilder::default()
        .dockerfile(dockerfile)
        .t(image)
        .rm(true)
        .forcerm(true)
        .nocache(build.no_cache)
        .buildargs(&pairs(&build.args))
        .labels(&pairs(&build.labels));
    if build.pull {
        options = options.pull("1");
    }
    if !build.cache_from.is_empty() {
        options = options.cachefrom(&build.cache_from);
    }
    if let Some(target) = &build.target {
        options = options.target(target);
    }
    if let Some(network) = &build.network {
        options = options.networkmode(network);
    }
    if let Some(host) = &build.extra_host {
        options = options.extrahosts(host);
    }
    if let Ok(bytes @ 1..) = i32::try_from(build.shm_bytes) {
        options = options.shmsize(bytes);
    }
    if let Some(platform) = &build.platform {
        options = options.platform(&platform.to_string());
    }
    options.build()
}

/// Where it failed, why, and what was said last.
fn failed(image: &str, build: &Build, steps: &str, output: &Output, error: Error) -> Failure {
    let file = match &build.dockerfile {
        Dockerfile::File(name) => build.context.join(name).display().to_string(),
        Dockerfile::Inline(_) => "dockerfile_inline".into(),
    };
    let message = match &output.step {
        Some((number, what)) => match line_of_step(steps, *number) {
            Some(line) => format!("cannot build {image}: {file}:{line}: {what}"),
            None => format!("cannot build {image}: {file}: {what}"),
        },
        None => format!("cannot build {image} from {file}"),
    };
    let why = match &error {
        Error::DockerStreamError { error } => error.trim().to_owned(),
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        _ => String::new(),
    };
    let mut details: Vec<String> = output.last.iter().cloned().collect();
    let is_unknown = why.contains("BuildKit");
    details.extend((!why.is_empty()).then(|| why.clone()));
    let failure = Failure::new(message).details(details);
    let failure = match why.is_empty() {
        true => failure.because(error),
        false => failure,
    };
    // Something of BuildKit's that is not known here.
    match is_unknown {
        true => failure.hint(format!(
            "this needs BuildKit, which docker's own client brings: docker build -t {image} …, then: \
             controllerctl push {image}"
        )),
        false => failure,
    }
}
