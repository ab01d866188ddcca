//! Completion: static words by clap, live names by the controller if it answers at once.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::time::Duration;

use clap::CommandFactory;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};

use longshore_proto::control::v1::{
    DiskUseRequest, ListReplicasRequest, ListSecretsRequest, ListTokensRequest, SecretInfo,
};
use longshore_proto::images::v1::{Image, ListImagesRequest};
use longshore_proto::operators::v1::ListOperatorsRequest;
use longshore_proto::secrets::v1::ListRegistriesRequest;

use crate::cli::{Cli, Shell};
use crate::client::Client;
use crate::cmd::environment;
use crate::compose::node::Node;
use crate::compose::{self, Request};
use crate::failure::Failure;
use crate::{client, context, schema};

/// The environment variable by which a shell asks.
const VARIABLE: &str = "COMPLETE";
/// A person has pressed a key and waits.
const PATIENCE: Duration = Duration::from_millis(700);
/// The same where the controller asks nodes, and these their engines.
const NODES_PATIENCE: Duration = Duration::from_secs(3);
/// More than anybody reads.
const CANDIDATES_MAX: usize = 1_000;

/// Answers a shell that asks for candidates and exits; does nothing otherwise.
pub fn answer() {
    if std::env::var_os(VARIABLE).is_some() {
        CompleteEnv::with_factory(Cli::command)
            .var(VARIABLE)
            .complete();
    }
}

/// The script that a shell sources.
///
/// # Errors
/// If it cannot be written.
pub fn script(shell: Shell) -> Result<String, Failure> {
    let name = match shell {
        Shell::Bash => "bash",
        Shell::Zsh => "zsh",
        Shell::Fish => "fish",
    };
    let mut script = Vec::new();
    if let Some(completer) = Shells::builtins().completer(name) {
        let program = "controllerctl";
        completer.write_registration(VARIABLE, program, program, program, &mut script)?;
    }
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// Names of contexts.
pub fn contexts() -> Vec<CompletionCandidate> {
    let contexts = context::read_or_empty(&context::path()).unwrap_or_default();
    contexts
        .context
        .into_keys()
        .map(CompletionCandidate::new)
        .collect()
}

/// Names of apps.
pub fn apps() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let list = client.services().await?;
        Ok(list.into_iter().map(|s| s.app).collect())
    })
}

/// Names of services.
pub fn services() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let list = client.services().await?;
        Ok(list.into_iter().map(|s| s.name).collect())
    })
}

/// Names of services in the Compose files here, those of all profiles.
pub fn in_files() -> Vec<CompletionCandidate> {
    let request = Request::default();
    let Ok(checked) = compose::check(&request, &environment()) else {
        return Vec::new();
    };
    let mut tree = checked.tree;
    let services = tree.as_mut().and_then(|tree| tree.get_mut("services"));
    let services = services.and_then(Node::entries_mut).into_iter().flatten();
    let left_out = checked.left_out.iter().map(|out| &out.service);
    let names = services.map(|(key, _)| &key.name).chain(left_out);
    names
        .take(CANDIDATES_MAX)
        .map(CompletionCandidate::new)
        .collect()
}

/// Profiles of the Compose files here.
pub fn profiles() -> Vec<CompletionCandidate> {
    let Ok(checked) = compose::check(&Request::default(), &environment()) else {
        return Vec::new();
    };
    let out = checked.left_out.into_iter().flat_map(|out| out.profiles);
    let names: BTreeSet<String> = out.collect();
    let names = names.into_iter().take(CANDIDATES_MAX);
    names.map(CompletionCandidate::new).collect()
}

/// Keys of Compose files, one level at a time.
pub fn keys(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let (way, last) = typed.rsplit_once('.').unwrap_or(("", &typed));
    let keys = schema::keys_below(way).into_iter();
    let keys = keys.filter(|key| key.starts_with(last));
    keys.map(|key| match way {
        "" => key.to_owned(),
        way => format!("{way}.{key}"),
    })
    .map(CompletionCandidate::new)
    .collect()
}

/// Names of services and of their replicas.
pub fn targets() -> Vec<CompletionCandidate> {
    live(names)
}

/// Names of apps, of their services, and of replicas.
pub fn in_apps() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let mut all = names(client).await?;
        all.extend(client.services().await?.into_iter().map(|s| s.app));
        Ok(all)
    })
}

/// Names of replicas.
pub fn replicas() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let all = ListReplicasRequest { services: vec![] };
        let replicas = client.replicas(all).await?.replicas;
        Ok(replicas.into_iter().map(|r| r.name).collect())
    })
}

/// Names of apps, services, replicas and nodes.
pub fn everything() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let mut all = names(client).await?;
        all.extend(client.services().await?.into_iter().map(|s| s.app));
        all.extend(client.nodes().await?.into_iter().map(|n| n.id));
        Ok(all)
    })
}

/// `SERVICE=`, for a count to follow.
pub fn counts() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let list = client.services().await?;
        Ok(list.into_iter().map(|s| s.name + "=").collect())
    })
}

async fn names(client: &mut Client) -> Result<Vec<String>, Failure> {
    let services = client.services().await?;
    let all = ListReplicasRequest { services: vec![] };
    let replicas = client.replicas(all).await?.replicas;
    let mut names: Vec<String> = services.into_iter().map(|s| s.name).collect();
    names.extend(replicas.into_iter().map(|r| r.name));
    Ok(names)
}

/// Names of nodes.
pub fn nodes() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| Ok(client.nodes().await?.into_iter().map(|n| n.id).collect()))
}

/// Names of edges.
pub fn edges() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let nodes = client.nodes().await?.into_iter();
        let edges = nodes.filter(|node| node.roles.iter().any(|role| role == "edge"));
        Ok(edges.map(|node| node.id).collect())
    })
}

/// Images that the controller holds.
pub fn images() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let list = client.list_images(ListImagesRequest {}).await?.images;
        let name = |image: Image| match image.tag.as_str() {
            "" => format!("{}@{}", image.repository, image.manifest_digest),
            tag => format!("{}:{tag}", image.repository),
        };
        Ok(list.into_iter().map(name).collect())
    })
}

/// Join tokens.
pub fn tokens() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let list = client.list_tokens(ListTokensRequest {}).await?.tokens;
        Ok(list.into_iter().map(|t| t.id).collect())
    })
}

/// Operators.
pub fn operators() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let list = client.list_operators(ListOperatorsRequest {}).await?;
        Ok(list.operators.into_iter().map(|o| o.name).collect())
    })
}

/// Secrets: NAME, or APP/NAME of an app.
pub fn secrets() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let all = ListSecretsRequest::default();
        let list = client.list_secrets(all).await?.secrets;
        let name = |secret: SecretInfo| match secret.app.as_str() {
            "" => secret.name,
            app => format!("{app}/{}", secret.name),
        };
        Ok(list.into_iter().map(name).collect())
    })
}

/// Registries that there are credentials for.
pub fn registries() -> Vec<CompletionCandidate> {
    live(async |client: &mut Client| {
        let all = ListRegistriesRequest {};
        let list = client.list_registries(all).await?.registries;
        Ok(list.into_iter().map(|registry| registry.server).collect())
    })
}

/// Named volumes of apps.
pub fn volumes() -> Vec<CompletionCandidate> {
    live_within(NODES_PATIENCE, async |client: &mut Client| {
        let nodes = client.disk_use(DiskUseRequest::default()).await?.nodes;
        let volumes = nodes.into_iter().flat_map(|node| node.named);
        Ok(volumes.map(|volume| volume.name).collect())
    })
}

/// Asks the controller of the current context; silence if it does not answer in time.
fn live<F>(ask: F) -> Vec<CompletionCandidate>
where
    F: AsyncFnOnce(&mut Client) -> Result<Vec<String>, Failure>,
{
    live_within(PATIENCE, ask)
}

fn live_within<F>(patience: Duration, ask: F) -> Vec<CompletionCandidate>
where
    F: AsyncFnOnce(&mut Client) -> Result<Vec<String>, Failure>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let names = runtime.block_on(async {
        let names = async {
            let mut client = client::connect(None, None).await.ok()?;
            ask(&mut client).await.ok()
        };
        tokio::time::timeout(patience, names).await.ok().flatten()
    });
    let mut names = names.unwrap_or_default();
    names.sort();
    names.dedup();
    names.truncate(CANDIDATES_MAX);
    names
        .iter()
        .map(|name| CompletionCandidate::new(OsStr::new(name)))
        .collect()
}
