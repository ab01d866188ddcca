//! `proxy`: the edges, and what is behind them.

use longshore_proto::control::v1 as pb;

use super::Run;
use crate::cli::{BackendsArgs, ProxyCommand};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::inspected::Route;
use crate::output::usage::Backend;
use crate::output::{now_ms, views};

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
        ProxyCommand::Backends(args) => {
            run.watch(args.watch.watch, async |client: &mut Client| {
                let rows = backends(client, args).await?;
                Ok(run.out.list(&rows, now_ms()))
            })
            .await
        }
    }
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
    }
}
