//! `node` and `token`: machines.

use std::collections::HashMap;

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::{Run, millis};
use crate::cli::{
    DrainArgs, LabelArgs, NodeCommand, NodesArgs, RmArgs, Role, TokenArgs, TokenCommand,
};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::rows::Of;
use crate::output::views::time;
use crate::output::{note, now_ms, print};
use crate::progress::{Reporter, Stage};
use crate::text::printable;

/// `token create`
#[derive(Debug, Serialize)]
struct Token {
    token: String,
    join_command: String,
    expires: Option<String>,
}

pub(super) async fn token(run: &Run, command: &TokenCommand) -> Result<Exit, Failure> {
    let TokenCommand::Create(args) = command;
    let token = create_token(run, args).await?;
    print(&run.out.document(&token, || printable(&token.token) + "\n"))?;
    note(&printable(&format!("join with: {}", token.join_command)));
    Ok(Exit::Done)
}

async fn create_token(run: &Run, args: &TokenArgs) -> Result<Token, Failure> {
    let mut client = run.connect(None).await?;
    let request = pb::CreateTokenRequest {
        worker: args.role.contains(&Role::Worker),
        edge: args.role.contains(&Role::Edge),
        ttl_ms: millis(args.ttl),
        node_name: args.name.clone().unwrap_or_default(),
    };
    let answer = client.create_token(request).await?;
    let expires = time(answer.expires_ms);
    Ok(Token {
        token: answer.token,
        join_command: answer.join_command,
        expires,
    })
}

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
        NodeCommand::Join(args) => {
            let token = create_token(run, args).await?;
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

async fn set(
    run: &Run,
    args: &NodesArgs,
    availability: pb::NodeAvailability,
) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    for node in &args.nodes {
        set_one(&mut client, node, availability, &args.message).await?;
        let word = match availability {
            pb::NodeAvailability::Active => "takes replicas again",
            _ => "gets no new replicas",
        };
        note(&printable(&format!("{node}: {word}")));
    }
    Ok(Exit::Done)
}

async fn set_one(
    client: &mut Client,
    node: &str,
    availability: pb::NodeAvailability,
    message: &str,
) -> Result<(), Failure> {
    let request = pb::SetNodeAvailabilityRequest {
        node: node.to_owned(),
        availability: availability.into(),
        message: message.to_owned(),
        ..Default::default()
    };
    client.set_availability(request).await.map(drop)
}

async fn drain(run: &Run, args: &DrainArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let wanted = &args.nodes.nodes;
    let nodes = client.nodes().await?;
    for node in nodes.iter().filter(|node| wanted.contains(&node.id)) {
        note(&printable(&format!(
            "  {}  {} replicas move away",
            node.id, node.replicas
        )));
    }
    run.confirm(&format!("Drain {}?", wanted.join(", ")), &client.context)?;
    for node in wanted {
        let draining = pb::NodeAvailability::Draining;
        set_one(&mut client, node, draining, &args.nodes.message).await?;
    }
    if args.detach {
        return Ok(Exit::Done);
    }
    let again = "controllerctl node ls";
    let mut reporter = Reporter::new(run.out.progress, &format!("Draining {}", wanted.join(", ")));
    let end = tokio::select! {
        done = drained(&mut client, wanted, &mut reporter) => done.map(|()| Exit::Done),
        _ = tokio::signal::ctrl_c() => {
            note(&format!("detached; it goes on. Look again: {again}"));
            Ok(Exit::Interrupted)
        }
        () = tokio::time::sleep(args.deadline) => {
            let waited = humantime::format_duration(args.deadline);
            Err(Failure::new(format!("not drained after {waited}; it goes on"))
                .exit(Exit::TimedOut)
                .hint(format!("{again}, controllerctl status")))
        }
    };
    reporter.finish();
    end
}

async fn drained(
    client: &mut Client,
    wanted: &[String],
    reporter: &mut Reporter,
) -> Result<(), Failure> {
    let mut changes = client.changes();
    loop {
        match client.nodes().await {
            Ok(nodes) => {
                let mut left = 0;
                for node in nodes.iter().filter(|node| wanted.contains(&node.id)) {
                    left += node.replicas;
                    let (stage, text) = match node.replicas {
                        0 => (Stage::Done, "Drained".to_owned()),
                        n => (Stage::Working, format!("Draining, {n} replicas left")),
                    };
                    reporter.say(&node.id, None, stage, &text);
                }
                if left == 0 {
                    return Ok(());
                }
            }
            Err(failure) => changes.pause(failure).await?,
        }
        changes.next().await?;
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
    run.confirm(&format!("Remove node {}?", args.node), &client.context)?;
    let request = pb::RemoveNodeRequest {
        node: args.node.clone(),
        force: args.force,
    };
    client.remove_node(request).await?;
    note(&printable(&format!(
        "{}: removed; its certificate is refused from now on",
        args.node
    )));
    Ok(Exit::Done)
}
