//! `secret`: those that stand apart from apps, and what apps have of secrets, configs and
//! certificates.

use std::fs::File;

use longshore_model::spec::ContentDigest;
use longshore_model::spec::file::SECRET_BYTES_MAX;
use longshore_proto::control::v1 as pb;
use longshore_proto::secrets::v1 as secrets;

use super::{Run, hidden};
use crate::cli::{SecretCommand, SecretCreateArgs, SecretLsArgs, SecretsArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::secrets::{Kept, Secret};
use crate::output::{note, now_ms, print, size, yaml};
use crate::text::printable;

pub(super) async fn secret(run: &Run, command: &SecretCommand) -> Result<Exit, Failure> {
    match command {
        SecretCommand::Create(args) => create(run, args).await,
        SecretCommand::Ls(args) => ls(run, args).await,
        SecretCommand::Inspect(args) => inspect(run, args).await,
        SecretCommand::Rm(args) => rm(run, args).await,
    }
}

async fn ls(run: &Run, args: &SecretLsArgs) -> Result<Exit, Failure> {
    run.watch(args.watch.watch, async |client: &mut Client| {
        let rows = listed(client, args.apps.clone()).await?;
        Ok(run.out.list(&rows, now_ms()))
    })
    .await
}

async fn listed(client: &mut Client, apps: Vec<String>) -> Result<Vec<Secret>, Failure> {
    let answer = client.list_secrets(pb::ListSecretsRequest { apps }).await?;
    Ok(answer.secrets.iter().map(Secret::from).collect())
}

/// Those of these names: `NAME` apart from apps, `app/NAME` of an app.
fn pick(all: Vec<Secret>, names: &[String]) -> Result<Vec<Secret>, Failure> {
    let called = |secret: &Secret, name: &str| crate::output::Row::name(secret) == name;
    for name in names {
        if !all.iter().any(|secret| called(secret, name)) {
            return Err(Failure::new(format!("there is no secret {name:?}"))
                .hint("controllerctl secret ls -q names them: those of apps are APP/NAME"));
        }
    }
    let named = all.into_iter();
    Ok(named
        .filter(|secret| names.iter().any(|name| called(secret, name)))
        .collect())
}

async fn inspect(run: &Run, args: &SecretsArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let all = listed(&mut client, Vec::new()).await?;
    let picked = pick(all, &args.secrets)?;
    print(&run.out.document(&picked, || yaml(&picked)))?;
    Ok(Exit::Done)
}

/// What is to be in it, and whether it came on stdin.
fn contents(args: &SecretCreateArgs) -> Result<(Vec<u8>, bool), Failure> {
    let unread = |path: &str, error: std::io::Error| {
        Failure::new(format!("cannot read {path}")).because(error)
    };
    match args.file.as_deref() {
        None if hidden::can_ask() => {
            let text = hidden::ask(&format!("Contents of secret {} (not shown)", args.name))?;
            Ok((text.into_bytes(), false))
        }
        None | Some("-") => {
            let read = hidden::read_all(std::io::stdin().lock(), SECRET_BYTES_MAX);
            Ok((read.map_err(|error| unread("stdin", error))?, true))
        }
        Some(path) => {
            let file = File::open(path);
            let read = file.and_then(|file| hidden::read_all(file, SECRET_BYTES_MAX));
            Ok((read.map_err(|error| unread(path, error))?, false))
        }
    }
}

async fn create(run: &Run, args: &SecretCreateArgs) -> Result<Exit, Failure> {
    let name = &args.name;
    let (contents, from_stdin) = contents(args)?;
    if contents.len() as u64 > SECRET_BYTES_MAX {
        let message = format!("a secret has at most {SECRET_BYTES_MAX} bytes");
        return Err(Failure::new(message).exit(Exit::Usage));
    }
    let mut client = run.connect(None).await?;
    let mut replace = args.replace;
    if !replace {
        let digest = ContentDigest::of(&contents);
        let all = listed(&mut client, Vec::new()).await?;
        let mut apart = all.iter().filter(|secret| secret.app.is_none());
        if let Some(before) = apart.find(|secret| secret.name == *name)
            && before.digest != digest.short()
        {
            may_replace(run, before, from_stdin, &client.context)?;
            replace = true;
        }
    }
    let request = secrets::PutSecretRequest {
        name: name.clone(),
        contents,
        replace,
    };
    let bytes = request.contents.len() as u64;
    let done = client.put_secret(request).await?;
    let what = match done.action.as_str() {
        "same" => "is so already",
        action => action,
    };
    let (size, digest) = (size(bytes), &done.digest);
    note(&printable(&format!(
        "secret {name} {what}: {size}, sha256:{digest}"
    )));
    if done.action == "replaced" && !done.services.is_empty() {
        note(&printable(&format!(
            "{} still have the one before, until their file is applied again: controllerctl up -f FILE",
            done.services.join(", ")
        )));
    }
    let kept = Kept {
        name: name.clone(),
        action: done.action,
        digest: done.digest,
        services: done.services,
    };
    print(&run.out.document(&kept, String::new))?;
    Ok(Exit::Done)
}

/// Who wrote the contents into stdin cannot answer there, too.
fn may_replace(run: &Run, before: &Secret, from_stdin: bool, context: &str) -> Result<(), Failure> {
    let name = &before.name;
    if run.global.yes {
        return Ok(());
    }
    if from_stdin || !hidden::can_ask() {
        let by = before.by.as_deref().unwrap_or_default();
        let message = format!("secret {name} is there already, with other contents (by {by})");
        return Err(Failure::new(message).hint("replace it: --replace"));
    }
    let users = match before.services.as_slice() {
        [] => "nobody has it".to_owned(),
        users => format!("{} will have it with their next up", users.join(", ")),
    };
    run.confirm(&format!("Replace secret {name}? ({users})"), context)
}

async fn rm(run: &Run, args: &SecretsArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let all = listed(&mut client, Vec::new()).await?;
    let picked = pick(all, &args.secrets)?;
    for secret in &picked {
        let name = &secret.name;
        if let Some(app) = &secret.app {
            let message = format!("{name} is of app {app}, and comes and goes with its file");
            return Err(
                Failure::new(message).hint("take it out of the file: controllerctl up -f FILE")
            );
        }
        if !secret.services.is_empty() {
            let users = secret.services.join(", ");
            let message = format!("secret {name} is used by {users}; nothing was removed");
            return Err(Failure::new(message)
                .hint("apply their files without it first: controllerctl up -f FILE"));
        }
        note(&printable(&format!("  - {name}  {}", size(secret.bytes))));
    }
    run.confirm("Remove these secrets?", &client.context)?;
    for secret in &picked {
        let name = secret.name.clone();
        client
            .remove_secret(secrets::RemoveSecretRequest { name })
            .await?;
        note(&printable(&format!("secret {}: removed", secret.name)));
    }
    print(&run.out.document(&picked, String::new))?;
    Ok(Exit::Done)
}
