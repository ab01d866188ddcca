//! `proxy`: the edges, and what is behind them.

use longshore_proto::control::v1 as pb;
use serde::Serialize;
use tokio_stream::StreamExt;

use super::{Run, aside};
use crate::cli::{BackendsArgs, ProxyCommand, ProxyConfigArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::aside::Aside;
use crate::output::inspected::Route;
use crate::output::usage::Backend;
use crate::output::{now_ms, print, views};
use crate::text::printable;

mod diff;

pub(super) async fn proxy(run: &Run, command: &ProxyCommand) -> Result<Exit, Failure> {
    match command {
        ProxyCommand::Status(args) => {
            run.watch(args.watch, async |client: &mut Client| {
                let answer = client.status(pb::GetStatusRequest {}).await?;
                let status = views::Status::new(&client.context, &answer);
                let rows: Vec<_> = status.edges.iter().collect();
                Ok(run.out.list(&rows, now_ms()))
            })
            .await
        }
        ProxyCommand::Drain(args) => aside::drain(run, args).await,
        ProxyCommand::Ready(args) => aside::ready(run, args).await,
        ProxyCommand::Config(args) => config(run, args).await,
        ProxyCommand::Backends(args) => {
            run.watch(args.watch.watch, async |client: &mut Client| {
                let rows = backends(client, args).await?;
                Ok(run.out.list(&rows, now_ms()))
            })
            .await
        }
    }
}

/// Longer is no configuration of ours.
const CONFIG_BYTES_MAX: usize = 32 << 20;

#[derive(Debug, Serialize)]
struct Shown {
    /// What was asked for; none: the only edge.
    node: Option<String>,
    config: String,
}

/// The file that an edge is loaded with, or as it would be written now.
async fn file(
    client: &mut Client,
    args: &ProxyConfigArgs,
    wanted: bool,
) -> Result<String, Failure> {
    const ATTEMPT: &str = "read the edge's configuration";
    let node = args.node.clone().unwrap_or_default();
    let request = pb::ProxyConfigRequest { node, wanted };
    let mut stream = client.proxy_config(request).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|status| Failure::call(ATTEMPT, status))?;
        if bytes.len() + piece.data.len() > CONFIG_BYTES_MAX {
            return Err(Failure::new(format!("cannot {ATTEMPT}: it does not end")));
        }
        bytes.extend(piece.data);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

async fn config(run: &Run, args: &ProxyConfigArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let loaded = file(&mut client, args, false).await?;
    if args.diff {
        let wanted = file(&mut client, args, true).await?;
        return diff::print(run, args, &loaded, &wanted);
    }
    let shown = Shown {
        node: args.node.clone(),
        config: loaded,
    };
    let lines = || {
        shown
            .config
            .lines()
            .map(|line| printable(line) + "\n")
            .collect()
    };
    print(&run.out.document(&shown, lines))?;
    Ok(Exit::Done)
}

async fn backends(client: &mut Client, args: &BackendsArgs) -> Result<Vec<Backend>, Failure> {
    let services = client.services().await?;
    let request = pb::ListReplicasRequest {
        services: args.services.clone(),
    };
    let replicas = client.replicas(request).await?.replicas;
    let mut rows = Vec::new();
    for service in &services {
        for route in service.routes.iter().map(Route::from) {
            let of = replicas.iter().filter(|r| r.service == service.key);
            rows.extend(of.map(|replica| backend(service, &route, replica)));
        }
    }
    Ok(rows)
}

fn backend(service: &pb::Service, route: &Route, replica: &pb::Replica) -> Backend {
    Backend {
        service: service.key.clone(),
        listen_port: route.listen_port,
        mode: route.mode,
        domains: route.domains.clone(),
        path: route.path.clone(),
        replica: replica.name.clone(),
        address: (!replica.address.is_empty()).then(|| replica.address.clone()),
        traffic: replica.traffic.clone(),
        checks: replica.checks.clone().into_iter().collect(),
        sessions: replica.sessions,
        aside: replica.aside.as_ref().map(Aside::from),
    }
}
