//! `doctor` and `system info`.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::Run;
use crate::cli::{DoctorArgs, Format};
use crate::client::Client;
use crate::doctor::{Finding, Level, Patient, awaits_report, diagnose};
use crate::failure::{Exit, Failure};
use crate::output::inspected::World;
use crate::output::{now_ms, print, views};
use crate::text::printable;

const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// A node that has just come back says what its engine is within so long.
const FIRST_REPORT: Duration = Duration::from_secs(5);

/// The world once no connected worker's first report is missing, or as it is after a while.
async fn reported(client: &mut Client, status: pb::GetStatusResponse) -> Result<World, Failure> {
    let mut world = look(client, status).await?;
    let mut changes = client.changes();
    let until = tokio::time::Instant::now() + FIRST_REPORT;
    while world.nodes.iter().any(awaits_report) {
        match tokio::time::timeout_at(until, changes.next()).await {
            Ok(next) => next?,
            Err(_) => break,
        }
        world.nodes = client.nodes().await?;
    }
    Ok(world)
}

pub(super) async fn doctor(run: &Run, args: &DoctorArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let asked_ms = now_ms();
    let status = client.status(pb::GetStatusRequest {}).await?;
    let answered_ms = now_ms();
    let world = reported(&mut client, status).await?;
    if let Some(unknown) = args
        .node
        .iter()
        .find(|name| !world.nodes.iter().any(|n| n.id == **name))
    {
        return Err(
            Failure::new(format!("there is no node {unknown:?}")).hint("controllerctl node ls")
        );
    }
    let findings = diagnose(&Patient {
        world: &world,
        own_version: OWN_VERSION,
        asked_ms,
        answered_ms,
        nodes: &args.node,
    });
    let text = match run.out.format {
        Format::Table => findings.iter().map(|f| lines(run, f)).collect(),
        _ => run.out.list(&findings, now_ms()),
    };
    print(&text)?;
    let fails = findings.iter().any(|f| f.level == Level::Fail);
    Ok(if fails { Exit::Failed } else { Exit::Done })
}

/// One line, and one with the way out below it.
fn lines(run: &Run, finding: &Finding) -> String {
    let (word, code) = match finding.level {
        Level::Ok => ("ok", "32"),
        Level::Warn => ("warn", "33"),
        Level::Fail => ("fail", "31"),
    };
    let word = format!("{word:<5}");
    let word = match run.out.colour {
        true => format!("\u{1b}[{code}m{word}\u{1b}[0m"),
        false => word,
    };
    let said = printable(&format!("{}: {}", finding.about, finding.message));
    let fix = finding
        .fix
        .as_deref()
        .map(|fix| format!("      fix: {}\n", printable(fix)));
    format!("{word} {said}\n{}", fix.unwrap_or_default())
}

pub(super) async fn look(
    client: &mut Client,
    status: pb::GetStatusResponse,
) -> Result<World, Failure> {
    Ok(World {
        status,
        nodes: client.nodes().await?,
        services: client.services().await?,
        replicas: Vec::new(),
    })
}

/// `system info`
#[derive(Debug, Serialize)]
struct Info {
    client_version: &'static str,
    /// Where the controller is that leads.
    server: String,
    /// All that are known.
    controllers: Vec<String>,
    #[serde(flatten)]
    status: views::Status,
    /// How many nodes have each release of the engine.
    engines: BTreeMap<String, usize>,
    /// And of the agent.
    agents: BTreeMap<String, usize>,
    apps: usize,
}

pub(super) async fn info(run: &Run) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let status = client.status(pb::GetStatusRequest {}).await?;
    let world = look(&mut client, status).await?;
    let count = |version: fn(&pb::Node) -> &str| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for node in world.nodes.iter().filter(|node| !version(node).is_empty()) {
            *counts.entry(version(node).to_owned()).or_default() += 1;
        }
        counts
    };
    let mut apps: Vec<&str> = world.services.iter().map(|s| s.app.as_str()).collect();
    apps.sort_unstable();
    apps.dedup();
    let info = Info {
        client_version: OWN_VERSION,
        server: client.server.clone(),
        controllers: client.controllers.clone(),
        status: views::Status::new(&client.context, &world.status),
        engines: count(|node| &node.engine_version),
        agents: count(|node| &node.agent_version),
        apps: apps.len(),
    };
    print(&run.out.document(&info, || people(&info)))?;
    Ok(Exit::Done)
}

fn people(info: &Info) -> String {
    let counts = |counts: &BTreeMap<String, usize>| {
        let each = counts
            .iter()
            .map(|(version, n)| format!("{version} on {n}"));
        each.collect::<Vec<_>>().join(", ")
    };
    let s = &info.status;
    let started = s.started.as_deref().unwrap_or("-");
    let lines = [
        format!("client      {}", info.client_version),
        format!("context     {}", s.context),
        format!("cluster     {}", s.cluster),
        format!(
            "controller  {} at {}, since {started}, term {}",
            s.controller_version, info.server, s.term
        ),
        format!("nodes       {} of {} ready", s.nodes_ready, s.nodes_total),
        format!("engines     {}", counts(&info.engines)),
        format!("agents      {}", counts(&info.agents)),
        format!("edges       {}", s.edges.len()),
        format!("apps        {}, services {}", info.apps, s.services_total),
        format!(
            "replicas    {} of {} serving",
            s.replicas_serving, s.replicas_wanted
        ),
    ];
    let several = (info.controllers.len() > 1)
        .then(|| format!("controllers {}", info.controllers.join(", ")));
    lines
        .iter()
        .chain(several.iter())
        .map(|line| printable(line.trim_end()) + "\n")
        .collect()
}
