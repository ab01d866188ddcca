//! `system support-bundle`: what `status`, `why`, `events` and their like say, in one file to hand on.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use longshore_proto::control::v1 as pb;
use serde::Serialize;
use tokio_stream::StreamExt;

use super::{Run, doctor};
use crate::cli::BundleArgs;
use crate::client::Client;
use crate::doctor::{Patient, diagnose};
use crate::failure::{Exit, Failure};
use crate::output::explained::Autoscale;
use crate::output::rollouts::Rollout;
use crate::output::{json, jsonl, note, now_ms, print, views};
use crate::text::printable;

/// Events: the last of them.
const EVENTS_MAX: u32 = 10_000;
/// Services and nodes of which it is asked why they are as they are.
const WHY_MAX: usize = 256;
const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");
const ABOUT: &str = "\
What controllerctl could read of a cluster of Longshore, for somebody who looks into a problem.

versions.json     releases, and when this was written
status.json       the cluster at a glance, problems first; nodes.json, services.json, replicas.json,
                  rollouts.json and autoscale.json: the lists of that time
doctor.json       the usual faults
events.jsonl      what happened, oldest first
why/              the recorded reasons, a file for each service and node
missing.txt       what could not be read, if anything

It has names of services and nodes, addresses, labels, and what failed replicas said last. It has no
logs, no environment, no secrets and no credentials.
";

/// What is in the file.
#[derive(Debug, Serialize)]
struct Bundle {
    file: String,
    parts: Vec<String>,
    missing: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Versions<'a> {
    client: &'a str,
    controller: &'a str,
    cluster: &'a str,
    written: Option<String>,
}

/// Name and text of each part, and what could not be read.
#[derive(Default)]
struct Parts {
    files: Vec<(String, String)>,
    missing: Vec<String>,
}

impl Parts {
    fn add(&mut self, name: impl Into<String>, text: String) {
        self.files.push((name.into(), text));
    }

    /// One that may fail: the others are worth having all the same.
    fn take<T>(&mut self, what: &str, read: Result<T, Failure>) -> Option<T> {
        let miss = |failure: Failure| self.missing.push(format!("{what}: {failure}"));
        read.map_err(miss).ok()
    }
}

pub(super) async fn bundle(run: &Run, args: &BundleArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let (cluster, parts) = gather(&mut client).await?;
    write(&args.file, &archive(&cluster, &parts)?)?;
    let bundle = Bundle {
        file: args.file.display().to_string(),
        parts: parts.files.into_iter().map(|(name, _)| name).collect(),
        missing: parts.missing,
    };
    print(&run.out.document(&bundle, || printable(&bundle.file) + "\n"))?;
    for missing in &bundle.missing {
        note(&printable(&format!("! not in it: {missing}")));
    }
    note("It has names, addresses and last words of failed replicas; no logs, no secrets.");
    Ok(Exit::Done)
}

async fn gather(client: &mut Client) -> Result<(String, Parts), Failure> {
    let asked_ms = now_ms();
    let status = client.status(pb::GetStatusRequest {}).await?;
    let answered_ms = now_ms();
    let mut world = doctor::look(client, status).await?;
    let mut parts = Parts::default();
    let every = pb::ListReplicasRequest::default();
    let replicas = client.replicas(every).await;
    if let Some(answer) = parts.take("replicas.json", replicas) {
        world.replicas = answer.replicas;
    }
    let status = &world.status;
    parts.add("README.txt", ABOUT.to_owned());
    let versions = Versions {
        client: OWN_VERSION,
        controller: &status.controller_version,
        cluster: &status.cluster,
        written: views::time(answered_ms),
    };
    parts.add("versions.json", json(&versions));
    parts.add(
        "status.json",
        json(&views::Status::new(&client.context, status)),
    );
    let nodes: Vec<_> = world.nodes.iter().map(views::Node::from).collect();
    parts.add("nodes.json", json(&nodes));
    let services: Vec<_> = world.services.iter().map(views::Service::from).collect();
    parts.add("services.json", json(&services));
    let replicas: Vec<_> = world.replicas.iter().map(views::Replica::from).collect();
    parts.add("replicas.json", json(&replicas));
    let findings = diagnose(&Patient {
        world: &world,
        own_version: OWN_VERSION,
        asked_ms,
        answered_ms,
        nodes: &[],
    });
    parts.add("doctor.json", json(&findings));
    lists(client, &mut parts).await;
    let services = world.services.iter().map(|service| service.key.clone());
    let nodes = world.nodes.iter().map(|node| node.id.clone());
    let all: Vec<String> = services.chain(nodes).collect();
    if all.len() > WHY_MAX {
        let left_out = all.len() - WHY_MAX;
        parts
            .missing
            .push(format!("why/: {left_out} more of {}", all.len()));
    }
    for target in all.into_iter().take(WHY_MAX) {
        reasons(client, &mut parts, target).await;
    }
    if !parts.missing.is_empty() {
        let missing = parts.missing.join("\n") + "\n";
        parts.add("missing.txt", missing);
    }
    Ok((world.status.cluster, parts))
}

async fn lists(client: &mut Client, parts: &mut Parts) {
    let every = pb::ListRolloutsRequest::default();
    let rollouts = client.list_rollouts(every).await;
    if let Some(answer) = parts.take("rollouts.json", rollouts) {
        let rows: Vec<_> = answer.rollouts.iter().map(Rollout::from).collect();
        parts.add("rollouts.json", json(&rows));
    }
    let every = pb::ListAutoscaleRequest::default();
    let scalers = client.list_autoscale(every).await;
    if let Some(answer) = parts.take("autoscale.json", scalers) {
        let rows: Vec<_> = answer.services.iter().map(Autoscale::from).collect();
        parts.add("autoscale.json", json(&rows));
    }
    let events = happened(client).await;
    if let Some(lines) = parts.take("events.jsonl", events) {
        parts.add("events.jsonl", lines);
    }
}

async fn happened(client: &mut Client) -> Result<String, Failure> {
    let request = pb::EventsRequest {
        tail: EVENTS_MAX,
        ..pb::EventsRequest::default()
    };
    let mut stream = client.events(request).await?;
    let mut lines = String::new();
    while let Some(event) = stream.next().await {
        let event = event.map_err(|status| Failure::call("read events", status))?;
        lines.push_str(&jsonl(&views::EventLine::from(&event)));
    }
    Ok(lines)
}

async fn reasons(client: &mut Client, parts: &mut Parts, target: String) {
    let name = format!("why/{}.txt", target.replace('/', "."));
    let request = pb::WhyRequest { target, at_ms: 0 };
    let why = client.why(request).await;
    if let Some(why) = parts.take(&name, why) {
        parts.add(name, why.lines.join("\n") + "\n");
    }
}

/// All parts in one directory, so that unpacking litters nothing.
fn archive(cluster: &str, parts: &Parts) -> Result<Vec<u8>, Failure> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let cluster: String = cluster.chars().filter(|c| is_plain(*c)).collect();
    let broken = |error| Failure::new("cannot make the archive").because(error);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, text) in &parts.files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now_ms() / 1000);
        let path = format!("longshore-support-{cluster}/{name}");
        let added = archive.append_data(&mut header, path, text.as_bytes());
        added.map_err(broken)?;
    }
    archive.into_inner().map_err(broken)
}

/// A new file that only its owner reads.
pub(super) fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(file);
    let written = opened.and_then(|mut to| to.write_all(bytes));
    written.map_err(|error| {
        Failure::new(format!("cannot write {}", file.display()))
            .because(error)
            .hint("name a file that is not there yet")
    })
}
