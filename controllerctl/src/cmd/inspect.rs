//! `inspect`: all that is known of an app, a service, a replica, a node or an edge.

use longshore_proto::control::v1 as pb;

use super::Run;
use crate::cli::{Format, InspectArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::inspected::{Inspected, World};
use crate::output::{json, jsonl, print, yaml};
use crate::text::printable;

/// Most targets of one call.
const TARGETS_MAX: usize = 256;

pub(super) async fn inspect(run: &Run, args: &InspectArgs) -> Result<Exit, Failure> {
    if args.targets.len() > TARGETS_MAX {
        let message = format!("{} targets; at most {TARGETS_MAX}", args.targets.len());
        return Err(Failure::new(message).exit(Exit::Usage));
    }
    let mut client = run.connect(None).await?;
    let world = look(&mut client).await?;
    let mut found = Vec::new();
    for target in &args.targets {
        found.push(one(&world, target)?);
    }
    print(&match run.out.format {
        Format::Json => json(&found),
        Format::Jsonl => found.iter().map(jsonl).collect(),
        Format::Template => found.iter().map(|f| run.out.templated(f)).collect(),
        Format::Name => found.iter().map(|f| printable(&f.name()) + "\n").collect(),
        Format::Yaml => yaml(&found),
        // For people: a container's last words are in it.
        Format::Table | Format::Wide => {
            let text = yaml(&found);
            text.lines().map(|line| printable(line) + "\n").collect()
        }
    })?;
    Ok(Exit::Done)
}

/// Everything there is, asked for once.
pub(super) async fn look(client: &mut Client) -> Result<World, Failure> {
    let services = Vec::new();
    Ok(World {
        status: client.status(pb::GetStatusRequest {}).await?,
        nodes: client.nodes().await?,
        services: client.services().await?,
        replicas: client
            .replicas(pb::ListReplicasRequest { services })
            .await?
            .replicas,
    })
}

/// What a word means, if it means one thing.
pub(super) fn one<'w>(world: &'w World, target: &str) -> Result<Inspected<'w>, Failure> {
    let mut found = world.find(target);
    if found.len() > 1 {
        let names: Vec<String> = found.iter().map(Inspected::full_name).collect();
        return Err(
            Failure::new(format!("{target:?} is the name of several things"))
                .exit(Exit::Usage)
                .details(names)
                .hint("write one of them: KIND/NAME"),
        );
    }
    found.pop().ok_or_else(|| {
        let failure = Failure::new(format!("there is nothing called {target:?}"));
        match world.nearest(target) {
            Some(near) => failure.hint(format!("did you mean {near}?")),
            None => failure.hint("controllerctl ls, ps and node ls have all names"),
        }
    })
}
