//! `proxy drain`, `proxy ready`: an operator's word about single replicas.

use longshore_proto::control::v1 as pb;

use super::Run;
use crate::cli::{ProxyDrainArgs, ProxyReadyArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::aside::TrafficSet;
use crate::output::{note, print};
use crate::progress::{Reporter, Stage};
use crate::text::printable;

pub(super) async fn drain(run: &Run, args: &ProxyDrainArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let request = pb::SetReplicaTrafficRequest {
        replicas: args.replicas.clone(),
        traffic: pb::ReplicaTraffic::Drain.into(),
        message: args.message.clone(),
        force: args.force,
    };
    let answer = client.set_replica_traffic(request).await?;
    let names = answer.replicas.join(" ");
    note(&printable(&format!(
        "{names}: no new requests; it stays so until: controllerctl proxy ready {names}"
    )));
    let mut exit = Exit::Done;
    if !args.detach {
        let mut reporter = Reporter::new(run.out.progress, &format!("Draining {names}"));
        let waiting = drained(&mut client, &answer.replicas, &mut reporter);
        let ended = tokio::select! {
            done = waiting => done.map(|()| Exit::Done),
            _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
            () = tokio::time::sleep(args.wait_timeout) => {
                let waited = humantime::format_duration(args.wait_timeout);
                let message = format!("{names}: still has sessions after {waited}; it gets no new ones");
                let look = format!("controllerctl why {names}");
                Err(Failure::new(message).exit(Exit::TimedOut).hint(look))
            }
        };
        reporter.finish();
        exit = ended?;
    }
    let document = TrafficSet {
        replicas: answer.replicas,
        traffic: "drain",
        done: !args.detach && exit == Exit::Done,
    };
    print(&run.out.document(&document, String::new))?;
    Ok(exit)
}

pub(super) async fn ready(run: &Run, args: &ProxyReadyArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let request = pb::SetReplicaTrafficRequest {
        replicas: args.replicas.clone(),
        traffic: pb::ReplicaTraffic::Serve.into(),
        ..pb::SetReplicaTrafficRequest::default()
    };
    let answer = client.set_replica_traffic(request).await?;
    let names = answer.replicas.join(" ");
    note(&printable(&match answer.changed {
        true => format!("{names}: takes requests again, once it is healthy"),
        false => format!("{names}: nobody kept it out of the routes"),
    }));
    let document = TrafficSet {
        replicas: answer.replicas,
        traffic: "serve",
        done: true,
    };
    print(&run.out.document(&document, String::new))?;
    Ok(Exit::Done)
}

/// Until every edge that is connected has heard of it and none has a session on them.
async fn drained(
    client: &mut Client,
    names: &[String],
    reporter: &mut Reporter,
) -> Result<(), Failure> {
    let mut changes = client.changes();
    loop {
        match left(client, names).await {
            Ok(left) => {
                for (name, sessions) in &left {
                    let (stage, text) = match sessions {
                        Some(0) => (Stage::Done, "Drained".to_owned()),
                        Some(_) => (Stage::Working, "Draining, has sessions".to_owned()),
                        None => (Stage::Working, "Draining".to_owned()),
                    };
                    reporter.say(name, None, stage, &text);
                }
                if left.iter().all(|(_, sessions)| *sessions == Some(0)) {
                    return Ok(());
                }
            }
            Err(failure) => changes.pause(failure).await?,
        }
        changes.next().await?;
    }
}

/// Sessions of each; none: not every edge has heard of it yet.
async fn left(
    client: &mut Client,
    names: &[String],
) -> Result<Vec<(String, Option<u32>)>, Failure> {
    let edges = client.status(pb::GetStatusRequest {}).await?.edges;
    let heard = edges
        .iter()
        .filter(|edge| edge.connected)
        .all(|edge| edge.routes_generation >= edge.routes_generation_wanted);
    let services: Vec<String> = names
        .iter()
        .filter_map(|name| Some(name.rsplit_once('.')?.0.to_owned()))
        .take(1)
        .collect();
    let replicas = client
        .replicas(pb::ListReplicasRequest { services })
        .await?;
    let sessions = |name: &String| {
        let mut all = replicas.replicas.iter();
        let found = all.find(|r| r.aside.is_some() && format!("{}.{}", r.service, r.slot) == *name);
        match found {
            // Replaced meanwhile: nobody waits for it.
            None => Some(0),
            Some(replica) => heard.then_some(replica.sessions),
        }
    };
    let left = names.iter().map(|name| (name.clone(), sessions(name)));
    Ok(left.collect())
}
