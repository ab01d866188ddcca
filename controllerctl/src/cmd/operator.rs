//! `operator`: who may tell the cluster what.

use longshore_proto::operators::v1 as pb;
use serde::Serialize;

use super::{Run, millis};
use crate::cli::{
    Format, OperatorAddArgs, OperatorCommand, OperatorRoleArgs, OperatorRotateArgs, OperatorsArgs,
};
use crate::failure::{Exit, Failure};
use crate::output::operators::Operator;
use crate::output::views::time;
use crate::output::{note, now_ms, print};
use crate::text::printable;

/// `operator add`, `operator rotate`
#[derive(Debug, Serialize)]
struct Given<'a> {
    name: &'a str,
    /// invite, token
    kind: &'static str,
    /// It is told once.
    secret: String,
    /// What the operator does with it.
    command: String,
    expires: Option<String>,
}

pub(super) async fn operator(run: &Run, command: &OperatorCommand) -> Result<Exit, Failure> {
    match command {
        OperatorCommand::Add(args) => add(run, args).await?,
        OperatorCommand::Ls => {
            let mut client = run.connect(None).await?;
            let answer = client.list_operators(pb::ListOperatorsRequest {}).await?;
            let rows: Vec<_> = answer.operators.iter().map(Operator::from).collect();
            print(&run.out.list(&rows, now_ms()))?;
        }
        OperatorCommand::Role(args) => role(run, args).await?,
        OperatorCommand::Rotate(args) => rotate(run, args).await?,
        OperatorCommand::Rm(args) => rm(run, args).await?,
    }
    Ok(Exit::Done)
}

async fn add(run: &Run, args: &OperatorAddArgs) -> Result<(), Failure> {
    let mut client = run.connect(None).await?;
    let request = pb::AddOperatorRequest {
        name: args.name.clone(),
        role: args.role.as_str().into(),
        token: args.token,
        ttl_ms: args.ttl.map_or(0, millis),
    };
    let answer = client.add_operator(request).await?;
    give(run, &args.name, answer.secret)
}

async fn rotate(run: &Run, args: &OperatorRotateArgs) -> Result<(), Failure> {
    let mut client = run.connect(None).await?;
    let request = pb::RotateOperatorRequest {
        name: args.name.clone(),
        ttl_ms: args.ttl.map_or(0, millis),
        now: args.now,
    };
    let answer = client.rotate_operator(request).await?;
    give(run, &args.name, answer.secret)
}

/// Prints what is told once.
fn give(run: &Run, name: &str, secret: Option<pb::Secret>) -> Result<(), Failure> {
    let Some(secret) = secret else {
        return Err(Failure::new("the controller made no secret"));
    };
    let server = &secret.server;
    let (kind, command) = match secret.token {
        true => (
            "token",
            format!("CONTROLLERCTL_SERVER={server} CONTROLLERCTL_TOKEN=… controllerctl status"),
        ),
        false => (
            "invite",
            format!(
                "controllerctl --server {server} context join {}",
                secret.text
            ),
        ),
    };
    let given = Given {
        name,
        kind,
        command,
        expires: time(secret.expires_ms),
        secret: secret.text.clone(),
    };
    let line = match secret.token {
        true => &given.secret,
        false => &given.command,
    };
    print(&run.out.document(&given, || printable(line) + "\n"))?;
    // Documents hold all of it.
    if !matches!(run.out.format, Format::Json | Format::Jsonl | Format::Yaml) {
        let until = given.expires.as_deref().unwrap_or_default();
        let words = match secret.token {
            true => format!(
                "{name} calls with it until {until}, as CONTROLLERCTL_TOKEN with CONTROLLERCTL_SERVER={server}, \
                 or in a context: controllerctl --server {server} context create NAME --token FILE"
            ),
            false => format!(
                "{name} runs that line once, until {until}; it makes their key where they are, and a context"
            ),
        };
        note(&printable(&words));
    }
    Ok(())
}

async fn role(run: &Run, args: &OperatorRoleArgs) -> Result<(), Failure> {
    let mut client = run.connect(None).await?;
    let (name, role) = (&args.name, args.role.as_str());
    let request = pb::SetOperatorRoleRequest {
        name: name.clone(),
        role: role.into(),
    };
    let before = client.set_operator_role(request).await?.before;
    note(&printable(&match before == role {
        true => format!("{name}: is {role} already"),
        false => format!("{name}: {before} -> {role}"),
    }));
    Ok(())
}

async fn rm(run: &Run, args: &OperatorsArgs) -> Result<(), Failure> {
    let mut client = run.connect(None).await?;
    for name in &args.names {
        let request = pb::RemoveOperatorRequest { name: name.clone() };
        client.remove_operator(request).await?;
        note(&printable(&format!(
            "{name}: removed; nothing of theirs is let in any more"
        )));
    }
    Ok(())
}
