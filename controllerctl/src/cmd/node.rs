//! `node`: machines.

use std::collections::HashMap;

use longshore_proto::control::v1 as pb;

use super::{Run, lists, millis, node_logs, token};
use crate::cli::{DrainArgs, LabelArgs, NodeCommand, NodesArgs, PsArgs, RmArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::images::NodeImage;
use crate::output::outcome::{GivenUp, NodeRemoved, NodeSet};
use crate::output::rows::Of;
use crate::output::{note, now_ms, print};
use crate::progress::{Reporter, Stage};
use crate::text::{printable, replicas as counted};

pub(super) async fn node(run: &Run, command: &NodeCommand) -> Result<Exit, Failure> {
    match command {
        NodeCommand::Ls(args) => {
            run.watch(args.watch, async |client: &mut Client| {
                let nodes = client.nodes().await?;
                let rows: Vec<_> = nodes.iter().map(Of).collect();
                Ok(run.out.list(&rows, now_ms()))
            })
            .await
        }
        NodeCommand::Ps(args) => {
            let args = PsArgs {
                services: Vec::new(),
                node: args.nodes.clone(),
                filter: Vec::new(),
                all: false,
                no_trunc: false,
                watch: args.watch,
            };
            lists::replicas(run, &args).await?;
            ahead(run, &args.node).await
        }
        NodeCommand::Logs(args) => node_logs::logs(run, args).await,
        NodeCommand::Join(args) => {
            let token = token::create(run, args).await?;
            print(
                &run.out
                    .document(&token, || printable(&token.join_command) + "\n"),
            )?;
            let until = token.expires.unwrap_or_default();
            note(&format!(
                "run it as root on the new machine; it works once, until {until}"
            ));
            Ok(Exit::Done)
        }
        NodeCommand::Cordon(args) => set(run, args, pb::NodeAvailability::Cordoned).await,
        NodeCommand::Uncordon(args) => set(run, args, pb::NodeAvailability::Active).await,
        NodeCommand::Drain(args) => drain(run, args).await,
        NodeCommand::Label(args) => label(run, args).await,
        NodeCommand::Rm(args) => remove(run, args).await,
    }
}

/// What these nodes fetch before it is needed there, for people.
async fn ahead(run: &Run, nodes: &[String]) -> Result<Exit, Failure> {
    use crate::cli::Format::{Table, Wide};
    if matches!(run.out.format, Table | Wide) {
        let mut client = run.connect(None).await?;
        let all = client.nodes().await?;
        for node in all.iter().filter(|node| nodes.contains(&node.id)) {
            for image in node.images_ahead.iter().map(NodeImage::from) {
                note(&printable(&format!("{}: {}", node.id, image.line())));
            }
        }
    }
    Ok(Exit::Done)
}

async fn set(
    run: &Run,
    args: &NodesArgs,
    availability: pb::NodeAvailability,
) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let nodes = all_known(&client.nodes().await?, &args.nodes)?;
    let mut set = Vec::new();
    for node in nodes {
        let request = pb::SetNodeAvailabilityRequest {
            node: node.clone(),
            availability: availability.into(),
            message: args.message.clone(),
            ..Default::default()
        };
        client.set_availability(request).await?;
        let (word, availability) = match availability {
            pb::NodeAvailability::Active => ("takes replicas again", "active"),
            _ => ("gets no new replicas", "cordoned"),
        };
        note(&printable(&format!("{node}: {word}")));
        set.push(NodeSet { node, availability });
    }
    print(&run.out.document(&set, String::new))?;
    Ok(Exit::Done)
}

/// Of several nodes either all are changed or none: names are checked first.
fn all_known(nodes: &[pb::Node], wanted: &[String]) -> Result<Vec<String>, Failure> {
    let bare = |name: &String| name.strip_prefix("node/").unwrap_or(name).to_owned();
    let wanted: Vec<String> = wanted.iter().map(bare).collect();
    let known = |name: &&String| nodes.iter().any(|node| node.id == **name);
    let unknown: Vec<&str> = wanted
        .iter()
        .filter(|name| !known(name))
        .map(String::as_str)
        .collect();
    if unknown.is_empty() {
        return Ok(wanted);
    }
    let names: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
    Err(Failure::new(format!(
        "there is no node {}; nothing was changed",
        unknown.join(", ")
    ))
    .hint(format!("nodes: {}", names.join(", "))))
}

async fn drain(run: &Run, args: &DrainArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let nodes = client.nodes().await?;
    let wanted = &all_known(&nodes, &args.nodes.nodes)?;
    for node in nodes.iter().filter(|node| wanted.contains(&node.id)) {
        note(&printable(&format!(
            "  {}  {} there",
            node.id,
            counted(node.replicas)
        )));
    }
    say_held(&nodes, wanted, args.force);
    let force = if args.force {
        ", by force at the deadline"
    } else {
        ""
    };
    let question = format!("Drain {}{force}?", wanted.join(", "));
    run.confirm(&question, &client.context)?;
    for node in wanted {
        let request = pb::SetNodeAvailabilityRequest {
            node: node.clone(),
            availability: pb::NodeAvailability::Draining.into(),
            message: args.nodes.message.clone(),
            deadline_ms: args.deadline.map_or(0, |time| millis(time).max(1)),
            force: args.force,
        };
        client.set_availability(request).await?;
    }
    if args.detach {
        return Ok(Exit::Done);
    }
    let mut reporter = Reporter::new(run.out.progress, &format!("Draining {}", wanted.join(", ")));
    let end = tokio::select! {
        end = drained(&mut client, wanted, args.force, &mut reporter) => end,
        _ = tokio::signal::ctrl_c() => {
            note("detached; it goes on. Look again: controllerctl node ls");
            Ok(Exit::Interrupted)
        }
    };
    reporter.finish();
    end
}

/// Says which services their data holds there, and what becomes of them.
fn say_held(nodes: &[pb::Node], wanted: &[String], force: bool) {
    for node in nodes.iter().filter(|node| wanted.contains(&node.id)) {
        for held in &node.held {
            let becomes = match force {
                true => "it stops, and waits until the node takes replicas again",
                false => "it stays and goes on serving; --force stops it",
            };
            note(&printable(&format!("  {}  {held}: {becomes}", node.id)));
        }
    }
}

/// All that is left is held by its data, and nobody said that it shall stop.
fn only_held(nodes: &[pb::Node], wanted: &[String], force: bool) -> Option<Failure> {
    let drained = nodes.iter().filter(|node| wanted.contains(&node.id));
    let left: Vec<&pb::Node> = drained.filter(|node| node.replicas > 0).collect();
    let all_held = left.iter().all(|node| node.replicas == node.held_replicas);
    if force || left.is_empty() || !all_held {
        return None;
    }
    let names: Vec<&str> = left.iter().map(|node| node.id.as_str()).collect();
    let held = left.iter().flat_map(|node| node.held.iter().cloned());
    let message = format!(
        "{} is drained but for what its data holds there, which goes on serving",
        names.join(", ")
    );
    Some(
        Failure::new(message)
            .exit(Exit::Unplaceable)
            .details(held.collect::<Vec<_>>())
            .hint(format!(
                "to stop it until the node takes replicas again: controllerctl node drain {} \
                 --force",
                names.join(" ")
            )),
    )
}

/// Follows drains until all nodes are empty, or until a deadline passed that is not forced: the
/// drain goes on, its follower says what it waits for.
async fn drained(
    client: &mut Client,
    wanted: &[String],
    force: bool,
    reporter: &mut Reporter,
) -> Result<Exit, Failure> {
    let mut changes = client.changes();
    loop {
        match client.nodes().await {
            Ok(nodes) => {
                let mut left = 0;
                let mut late = None;
                for node in nodes.iter().filter(|node| wanted.contains(&node.id)) {
                    left += node.replicas;
                    let (stage, text) = progress(node);
                    reporter.say(&node.id, None, stage, &text);
                    let drain = node.drain.as_ref();
                    let given_up = drain.filter(|d| d.late && !d.force && node.replicas > 0);
                    late = late.or(given_up.map(|drain| (node, drain)));
                }
                if left == 0 {
                    return Ok(Exit::Done);
                }
                if let Some(failure) = called_off(&nodes, wanted) {
                    return Err(failure);
                }
                if let Some(failure) = only_held(&nodes, wanted, force) {
                    return Err(failure);
                }
                if let Some((node, drain)) = late {
                    let message = format!(
                        "{} is past its deadline with {} left; the drain goes on",
                        node.id,
                        counted(node.replicas)
                    );
                    return Err(Failure::new(message)
                        .exit(Exit::TimedOut)
                        .details(drain.waits.clone())
                        .hint(format!(
                            "controllerctl why node/{0}; to stop what is left: controllerctl \
                             node drain {0} --deadline 1s --force",
                            node.id
                        )));
                }
            }
            Err(failure) => changes.pause(failure).await?,
        }
        changes.next().await?;
    }
}

/// Somebody wants the node to take replicas again, or gave it up: nothing empties it any more.
fn called_off(nodes: &[pb::Node], wanted: &[String]) -> Option<Failure> {
    wanted.iter().find_map(|name| {
        let node = nodes.iter().find(|node| node.id == *name);
        let what = match node.map(|node| node.availability.as_str()) {
            Some("draining") => return None,
            Some(other) => format!("is {other}"),
            None => "was removed".to_owned(),
        };
        let message = format!("{name} {what} by now: it is not drained any more");
        Some(Failure::new(message).exit(Exit::Overtaken))
    })
}

fn progress(node: &pb::Node) -> (Stage, String) {
    match (node.replicas, &node.drain) {
        (0, _) => (Stage::Done, "Drained".to_owned()),
        (left, Some(drain)) if drain.leaving < left && !drain.waits.is_empty() => {
            let waits = &drain.waits[0];
            (Stage::Working, format!("Draining, {left} left; {waits}"))
        }
        (left, _) => (Stage::Working, format!("Draining, {} left", counted(left))),
    }
}

async fn label(run: &Run, args: &LabelArgs) -> Result<Exit, Failure> {
    let mut set = HashMap::new();
    let mut remove = Vec::new();
    for label in &args.labels {
        if let Some((key, value)) = label.split_once('=') {
            set.insert(key.to_owned(), value.to_owned());
        } else if let Some(key) = label.strip_suffix('-') {
            remove.push(key.to_owned());
        } else {
            return Err(
                Failure::new(format!("{label:?} is neither KEY=VALUE nor KEY-")).exit(Exit::Usage),
            );
        }
    }
    let mut client = run.connect(None).await?;
    let request = pb::SetNodeLabelsRequest {
        node: args.node.clone(),
        set,
        remove,
    };
    client.set_labels(request).await?;
    note(&printable(&format!("{}: labelled", args.node)));
    Ok(Exit::Done)
}

async fn remove(run: &Run, args: &RmArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    if args.force {
        let bare = args.node.strip_prefix("node/").unwrap_or(&args.node);
        let nodes = client.nodes().await?;
        for node in nodes.iter().filter(|node| node.id == bare) {
            say_lost(node);
        }
    }
    run.confirm(&format!("Remove node {}?", args.node), &client.context)?;
    let request = pb::RemoveNodeRequest {
        node: args.node.clone(),
        force: args.force,
    };
    let answer = client.remove_node(request).await?;
    let removed = NodeRemoved {
        node: args.node.clone(),
        given_up: answer.given_up.iter().map(GivenUp::from).collect(),
    };
    note(&printable(&format!(
        "{}: removed; its certificate is refused from now on",
        args.node
    )));
    for volume in &removed.given_up {
        note(&printable(&format!("{}: {}", args.node, volume.line())));
    }
    print(&run.out.document(&removed, String::new))?;
    Ok(Exit::Done)
}

/// Says what goes with a node that is removed by force.
fn say_lost(node: &pb::Node) {
    if node.replicas > 0 {
        let left = counted(node.replicas);
        note(&printable(&format!("  {}  {left} there", node.id)));
    }
    for volume in node.volumes.iter().map(GivenUp::from) {
        note(&printable(&format!("  {}  {}", node.id, volume.line())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_somebody_calls_off_is_followed_no_further() {
        let node = |availability: &str| pb::Node {
            id: "a".into(),
            availability: availability.into(),
            replicas: 2,
            ..pb::Node::default()
        };
        let wanted = ["a".to_owned()];
        assert!(called_off(&[node("draining")], &wanted).is_none());
        for nodes in [vec![node("active")], vec![node("cordoned")], Vec::new()] {
            let failure = called_off(&nodes, &wanted).unwrap();
            assert_eq!(failure.exit, Exit::Overtaken, "{failure:?}");
        }
    }
}
