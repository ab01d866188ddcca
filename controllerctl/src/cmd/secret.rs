//! `secret`: what apps have of secrets, configs and certificates.

use longshore_proto::control::v1 as pb;

use super::Run;
use crate::cli::SecretCommand;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::now_ms;
use crate::output::secrets::Secret;

pub(super) async fn secret(run: &Run, command: &SecretCommand) -> Result<Exit, Failure> {
    let SecretCommand::Ls(args) = command;
    run.watch(args.watch.watch, async |client: &mut Client| {
        let apps = args.apps.clone();
        let answer = client.list_secrets(pb::ListSecretsRequest { apps }).await?;
        let rows: Vec<_> = answer.secrets.iter().map(Secret::from).collect();
        Ok(run.out.list(&rows, now_ms()))
    })
    .await
}
