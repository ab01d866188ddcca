//! What the end-to-end tests share: the lab's hosts, the CLI, requests, load, waiting.
//!
//! The lab must be up (`make lab`). Tests run one at a time and leave it as they found it: app
//! `hello` deployed, every host and program running.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test library: a panic is its answer

mod app;
pub mod bench_app;
pub mod faults;
pub mod handover;
mod http;
pub mod kind;
mod load;
pub mod readme;
mod small_store;
mod stranger;
pub mod swarm;
pub mod traffic;
mod wait;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub use app::{
    Replica, join_again, replicas, replicas_of, restore, scale, scale_and_wait, serving,
    try_replicas_of, wait_for, wait_for_nodes,
};
pub use http::{Answer, get, get_with};
pub use load::{Load, LoadReport};
pub use small_store::SmallStore;
pub use stranger::Stranger;
pub use wait::until;

/// Folder of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The lab's network: its first three numbers.
#[must_use]
pub fn net() -> String {
    setting("LAB_NET").unwrap_or_else(|| "192.168.56".to_owned())
}

/// Address of the first edge, which has the controller.
#[must_use]
pub fn edge() -> String {
    format!("{}.10", net())
}

/// Names and addresses of all edges.
#[must_use]
pub fn edges() -> Vec<(&'static str, String)> {
    let mut edges = vec![("edge", edge())];
    if has_pair() {
        edges.push(("edge2", format!("{}.8", net())));
    }
    edges
}

/// Names of all hosts that have an agent.
#[must_use]
pub fn hosts() -> Vec<String> {
    let others = hosts_with(" controller ");
    let mut hosts = hosts_with("");
    hosts.retain(|host| !others.contains(host));
    hosts
}

/// Names of the hosts that have a controller, the first one's first.
#[must_use]
pub fn controllers() -> Vec<String> {
    let mut hosts = vec!["edge".to_owned()];
    hosts.extend(hosts_with(" controller "));
    hosts
}

/// The host whose controller leads; none: it cannot be said just now.
#[must_use]
pub fn leader() -> Option<String> {
    let said = ctl(&["system", "info", "-o", "json"]);
    let info: Value = serde_json::from_str(&said.stdout).ok()?;
    let server = info["server"].as_str()?.to_owned();
    let lines = script("lab/hosts.sh", &[]).stdout;
    let mut hosts = lines
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let found = hosts.find(|words| {
        let address = words.get(2).map(|ip| format!("https://{ip}:7443"));
        address.is_some_and(|address| address == server)
    });
    Some((*found?.first()?).to_owned())
}

/// Names of the workers.
#[must_use]
pub fn workers() -> Vec<String> {
    hosts_with(" worker ")
}

fn hosts_with(word: &str) -> Vec<String> {
    let said = script("lab/hosts.sh", &[]).stdout;
    let lines = said.lines().filter(|line| line.contains(word));
    let names = lines.filter_map(|line| line.split(' ').next());
    names.map(str::to_owned).collect()
}

/// Are there two edges, with a virtual address between them?
fn has_pair() -> bool {
    setting("EDGES").as_deref() == Some("2")
}

/// Address that users know: the edge's, or the virtual one of two.
#[must_use]
pub fn users() -> String {
    match has_pair() {
        true => format!("{}.9", net()),
        false => edge(),
    }
}

/// The app's address, `host:port`.
#[must_use]
pub fn app_address() -> String {
    format!("{}:8080", users())
}

/// One of the lab's settings, as the running lab has it.
fn setting(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(root().join(".lab/env")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name}=")))?;
    Some(line.to_owned())
}

/// What a program said.
#[derive(Debug)]
pub struct Said {
    /// Exit code; none: killed.
    pub code: Option<i32>,
    /// Its data.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs `controllerctl` in the lab's context.
pub fn ctl(args: &[&str]) -> Said {
    let mut command = ctl_command();
    command
        .args(args)
        .output()
        .expect("controllerctl can be run")
        .into()
}

/// `controllerctl` in the lab's context, to be given arguments and run by the caller.
#[must_use]
pub fn ctl_command() -> Command {
    let mut command = Command::new(root().join(".lab/bin/controllerctl"));
    command.args(["--context", "lab"]).current_dir(root());
    command
}

/// Runs `controllerctl`, which must succeed.
pub fn ctl_ok(args: &[&str]) -> String {
    let said = ctl(args);
    assert_eq!(said.code, Some(0), "controllerctl {args:?}: {said:?}");
    said.stdout
}

/// Runs `controllerctl … -o json`, which must succeed.
pub fn ctl_json(args: &[&str]) -> Value {
    let text = ctl_ok(&[args, &["-o", "json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
}

/// Runs a command as root on a host, which must succeed.
pub fn on(host: &str, command: &[&str]) -> String {
    let said = try_on(host, command);
    assert_eq!(said.code, Some(0), "{host}: {command:?}: {said:?}");
    said.stdout
}

/// Runs a command as root on a host.
pub fn try_on(host: &str, command: &[&str]) -> Said {
    script("lab/hosts.sh", &[&["exec", host], command].concat())
}

/// Does one of `lab/fault.sh`'s faults, which must succeed.
pub fn fault(args: &[&str]) {
    let said = script("lab/fault.sh", args);
    assert_eq!(said.code, Some(0), "fault {args:?}: {said:?}");
}

fn script(path: &str, args: &[&str]) -> Said {
    let output = Command::new(root().join(path))
        .args(args)
        .current_dir(root())
        .output();
    output.expect("a script of the lab can be run").into()
}
