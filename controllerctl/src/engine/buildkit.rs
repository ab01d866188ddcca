//! Builds by BuildKit, through docker's own client: it alone serves an engine's BuildKit what a
//! build asks for meanwhile (secrets, keys of ssh, accounts of registries). Decision 0066.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::build::Output;
use super::context::Context;
use crate::compose::build::{Build, BuildSecret, Dockerfile};
use crate::failure::Failure;

/// The first of docker's clients that needs a plugin for BuildKit.
const PLUGIN_SINCE: u32 = 23;
/// Longest wait for a client to say what it is.
const PROBE_MAX: Duration = Duration::from_secs(10);
/// Directories of `PATH` that are looked into.
const DIRECTORIES_MAX: usize = 64;
/// Lines of output that wait.
const LINES_MAX: usize = 64;

/// A client of docker's that can build with BuildKit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Client(PathBuf);

/// Finds one in `PATH`.
///
/// # Errors
/// Why there is none, in words.
pub(super) async fn find() -> Result<Client, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut why = String::from("there is no docker in PATH");
    for directory in std::env::split_paths(&path).take(DIRECTORIES_MAX) {
        let program = directory.join("docker");
        if !directory.is_absolute() || !program.is_file() {
            continue;
        }
        match can_build(&program).await {
            Ok(()) => return Ok(Client(program)),
            Err(reason) => why = format!("{} {reason}", program.display()),
        }
    }
    Err(why)
}

async fn can_build(program: &Path) -> Result<(), String> {
    if said(program, &["buildx", "version"]).await.is_some() {
        return Ok(());
    }
    // Without an engine, too: the client's part is said first.
    let version = said(program, &["--version"]).await;
    let version = version.ok_or_else(|| "does not say what it is".to_owned())?;
    match major(&version) {
        Some(major) if major < PLUGIN_SINCE => Ok(()),
        _ => Err(format!(
            "({}) has no buildx plugin",
            version.trim().split(',').next().unwrap_or_default()
        )),
    }
}

/// `Docker version 20.10.24+dfsg1, build 297e128` is 20.
fn major(version: &str) -> Option<u32> {
    let number = version.strip_prefix("Docker version ")?;
    number.split('.').next()?.parse().ok()
}

async fn said(program: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PROBE_MAX, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

/// Builds an image and gives it its name. `say` hears each line of the output.
///
/// # Errors
/// What is wrong with the directory, or that it failed, with the last lines.
pub(super) async fn build(
    client: &Client,
    host: &str,
    (image, build): (&str, &Build),
    mut say: impl FnMut(&str),
) -> Result<(), Failure> {
    // The same faults in the same words as without BuildKit.
    let steps = Context::new(build)?.steps;
    let cannot = |error: std::io::Error| {
        let program = client.0.display();
        Failure::new(format!("cannot build {image}: {program} cannot be run")).because(error)
    };
    let directory = std::path::absolute(&build.context).map_err(cannot)?;
    let mut command = Command::new(&client.0);
    command
        .args(arguments(image, build, &directory))
        .env("DOCKER_BUILDKIT", "1")
        .env("DOCKER_HOST", host)
        .env_remove("DOCKER_CONTEXT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for (index, secret) in build.secrets.values().enumerate() {
        if let BuildSecret::Text(text) = secret {
            command.env(variable(index), text);
        }
    }
    let mut child = command.spawn().map_err(cannot)?;
    let input = child.stdin.take();
    if let (Some(mut input), Dockerfile::Inline(_)) = (input, &build.dockerfile) {
        // Whoever does not read it says why.
        drop(input.write_all(steps.as_bytes()).await);
    }
    let (lines, mut heard) = mpsc::channel::<Vec<u8>>(LINES_MAX);
    if let Some(output) = child.stdout.take() {
        tokio::spawn(read(output, lines.clone()));
    }
    if let Some(output) = child.stderr.take() {
        tokio::spawn(read(output, lines));
    }
    let mut output = Output::default();
    while let Some(line) = heard.recv().await {
        output.take(&String::from_utf8_lossy(&line), &mut say);
    }
    let status = child.wait().await.map_err(cannot)?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(image, build, &output)),
    }
}

async fn read(output: impl tokio::io::AsyncRead + Unpin, lines: mpsc::Sender<Vec<u8>>) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match output.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) if lines.send(line).await.is_err() => return,
            Ok(_) => {}
        }
    }
}

/// The variable that a secret is handed over by: neither lists of processes nor files have it.
fn variable(index: usize) -> String {
    format!("LONGSHORE_BUILD_SECRET_{index}")
}

/// Each value stands in one word with its option: none can be taken for another.
fn arguments(image: &str, build: &Build, directory: &Path) -> Vec<OsString> {
    let mut all: Vec<OsString> = ["build", "--progress=plain"].map(OsString::from).into();
    let mut option = |name: &str, value: &str| all.push(format!("--{name}={value}").into());
    option("tag", image);
    for tag in &build.tags {
        option("tag", tag);
    }
    for (name, value) in &build.args {
        option("build-arg", &format!("{name}={value}"));
    }
    for (name, value) in &build.labels {
        option("label", &format!("{name}={value}"));
    }
    for image in &build.cache_from {
        option("cache-from", image);
    }
    for ssh in &build.ssh {
        option("ssh", ssh);
    }
    for (index, (id, secret)) in build.secrets.iter().enumerate() {
        option(
            "secret",
            &match secret {
                BuildSecret::File(path) => {
                    let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                    format!("id={id},src={}", path.display())
                }
                BuildSecret::Text(_) => format!("id={id},env={}", variable(index)),
            },
        );
    }
    let words = [
        ("target", build.target.as_deref()),
        ("network", build.network.as_deref()),
        ("add-host", build.extra_host.as_deref()),
    ];
    for (name, value) in words {
        value.into_iter().for_each(|value| option(name, value));
    }
    if build.shm_bytes > 0 {
        option("shm-size", &build.shm_bytes.to_string());
    }
    if let Some(platform) = &build.platform {
        option("platform", &platform.to_string());
    }
    for (name, is_set) in [("no-cache", build.no_cache), ("pull", build.pull)] {
        if is_set {
            all.push(format!("--{name}").into());
        }
    }
    let mut file = OsString::from("--file=");
    match &build.dockerfile {
        Dockerfile::File(name) => file.push(directory.join(name)),
        Dockerfile::Inline(_) => file.push("-"),
    }
    all.push(file);
    // An absolute path is no option.
    all.push(directory.into());
    all
}

fn failed(image: &str, build: &Build, output: &Output) -> Failure {
    let file = match &build.dockerfile {
        Dockerfile::File(name) => build.context.join(name).display().to_string(),
        Dockerfile::Inline(_) => "dockerfile_inline".into(),
    };
    let lines = output.last.iter().cloned().collect();
    Failure::new(format!("cannot build {image} from {file}, with BuildKit")).details(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_bring_buildkit_themselves_are_known_by_their_version() {
        assert_eq!(
            major("Docker version 20.10.24+dfsg1, build 297e128\n"),
            Some(20)
        );
        assert_eq!(major("Docker version 28.2.2, build e6534b4"), Some(28));
        assert_eq!(major("podman version 4.3.1"), None);
    }

    #[test]
    fn no_value_can_be_taken_for_an_option() {
        let build = Build {
            dockerfile: Dockerfile::File("--evil".into()),
            args: [("A".into(), "--no-cache".into())].into(),
            target: Some("-x".into()),
            pull: true,
            ssh: vec!["default".into()],
            secrets: [
                ("a".into(), BuildSecret::File("/s/a".into())),
                ("b".into(), BuildSecret::Text("hunter2".into())),
            ]
            .into(),
            ..Build::default()
        };
        let all = arguments("shop/web", &build, Path::new("/app"));
        let all: Vec<&str> = all.iter().map(|word| word.to_str().unwrap()).collect();
        let expected = [
            "build",
            "--progress=plain",
            "--tag=shop/web",
            "--build-arg=A=--no-cache",
            "--ssh=default",
            "--secret=id=a,src=/s/a",
            "--secret=id=b,env=LONGSHORE_BUILD_SECRET_1",
            "--target=-x",
            "--pull",
            "--file=/app/--evil",
            "/app",
        ];
        assert_eq!(all, expected);
    }
}
