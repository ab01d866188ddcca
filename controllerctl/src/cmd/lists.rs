//! `status`, `ls`, `ps`, `why`.

use longshore_proto::control::v1 as pb;

use super::Run;
use super::moment::since_ms;
use crate::cli::{Format, PsArgs, ReplicaKey, WatchArgs, WhyArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::rows::Of;
use crate::output::{age, now_ms, print, views};
use crate::text::printable;

/// So much of a container's id tells it from all others.
const ID_SHOWN: usize = 12;

pub(super) async fn status(run: &Run, args: WatchArgs) -> Result<Exit, Failure> {
    run.watch(args.watch, async |client: &mut Client| {
        let answer = client.status(pb::GetStatusRequest {}).await?;
        let view = views::Status::new(&client.context, &answer);
        Ok(run.out.document(&view, || status_text(&view, &answer)))
    })
    .await
}

fn status_text(view: &views::Status, s: &pb::GetStatusResponse) -> String {
    let mut lines = vec![format!(
        "cluster {}  context {}  controller {}  term {}  up {}",
        s.cluster,
        view.context,
        s.controller_version,
        s.term,
        age(s.started_ms, s.time_ms)
    )];
    lines.push(format!(
        "nodes    {} of {} ready",
        s.nodes_ready, s.nodes_total
    ));
    lines.push(format!(
        "services {}, replicas {} of {} serving",
        s.services_total, s.replicas_serving, s.replicas_wanted
    ));
    for edge in &view.edges {
        let state = edge.state();
        let version = edge.haproxy_version.as_deref().unwrap_or("?");
        lines.push(format!(
            "edge     {}  HAProxy {version}  {state}",
            edge.node
        ));
    }
    if s.observing_until_ms > s.time_ms {
        let seconds = (s.observing_until_ms - s.time_ms).div_ceil(1000);
        lines.push(format!(
            "observing: nothing is scaled in or moved for another {seconds} s"
        ));
    }
    for problem in &view.problems {
        let about = problem.about.as_deref().unwrap_or(&view.cluster);
        lines.push(format!("! {about}: {}", problem.message));
    }
    lines.iter().map(|line| printable(line) + "\n").collect()
}

pub(super) async fn services(run: &Run, args: WatchArgs) -> Result<Exit, Failure> {
    run.watch(args.watch, async |client: &mut Client| {
        let services = client.services().await?;
        let rows: Vec<_> = services.iter().map(Of).collect();
        let mut text = run.out.list(&rows, now_ms());
        if matches!(run.out.format, Format::Table | Format::Wide) {
            for service in &services {
                for wait in &service.waits {
                    text.push_str(&printable(&format!("! {}: {wait}", service.key)));
                    text.push('\n');
                }
            }
        }
        Ok(text)
    })
    .await
}

pub(super) async fn replicas(run: &Run, args: &PsArgs) -> Result<Exit, Failure> {
    run.watch(args.watch.watch, async |client: &mut Client| {
        let request = pb::ListReplicasRequest {
            services: args.services.clone(),
        };
        let mut replicas = client.replicas(request).await?.replicas;
        if !args.node.is_empty() {
            replicas.retain(|r| args.node.contains(&r.node));
        }
        replicas.retain(|r| passes(r, &args.filter));
        if run.out.format == Format::Wide && !args.no_trunc {
            for replica in &mut replicas {
                replica.container_id.truncate(ID_SHOWN);
            }
        }
        let rows: Vec<_> = replicas.iter().map(Of).collect();
        Ok(run.out.list(&rows, now_ms()))
    })
    .await
}

/// Of each key that is filtered by, one value holds.
fn passes(replica: &pb::Replica, filter: &[(ReplicaKey, String)]) -> bool {
    let holds = |key: ReplicaKey, value: &str| match key {
        ReplicaKey::Service => {
            let name = replica.service.split_once('/').map(|(_, name)| name);
            replica.service == value || name == Some(value)
        }
        ReplicaKey::App => replica.service.split_once('/').map(|(app, _)| app) == Some(value),
        ReplicaKey::Node => replica.node == value,
        ReplicaKey::State => replica.state == value,
        ReplicaKey::Traffic => replica.traffic == value,
        ReplicaKey::Image => replica.image == value,
    };
    filter.iter().all(|(key, _)| {
        let mut alike = filter.iter().filter(|(other, _)| other == key);
        alike.any(|(key, value)| holds(*key, value))
    })
}

pub(super) async fn why(run: &Run, args: &WhyArgs) -> Result<Exit, Failure> {
    let at_ms = args.at.as_deref().map(since_ms).transpose()?;
    if at_ms == Some(0) {
        let nothing = "--at is 1970-01-01 00:00:00 UTC: nothing is recorded of that time";
        return Err(Failure::new(nothing)
            .exit(Exit::Usage)
            .hint("leave --at away for what holds now"));
    }
    let at_ms = at_ms.unwrap_or(0);
    let mut client = run.connect(None).await?;
    let answer = client
        .why(pb::WhyRequest {
            target: args.target.clone(),
            at_ms,
        })
        .await?;
    let view = views::Why::from(&answer);
    let text = run.out.document(&view, || {
        let mut lines = view.lines.clone();
        if !view.recent.is_empty() {
            lines.push("recent:".into());
        }
        for event in &view.recent {
            let time = event.time.as_deref().unwrap_or("-");
            lines.push(format!("  {time}  {}", event.message));
        }
        lines.iter().map(|line| printable(line) + "\n").collect()
    });
    print(&text)?;
    Ok(Exit::Done)
}
