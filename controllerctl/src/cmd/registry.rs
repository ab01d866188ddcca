//! `registry`: credentials with which nodes pull images.

use longshore_model::RegistryHost;
use longshore_model::registry::CREDENTIAL_BYTES_MAX;
use longshore_proto::secrets::v1 as pb;

use super::{Run, hidden};
use crate::cli::{RegistryCommand, RegistryLoginArgs, RegistryLogoutArgs};
use crate::failure::{Exit, Failure};
use crate::output::secrets::{LoggedIn, LoggedOut, Registry};
use crate::output::{note, now_ms, print};
use crate::text::printable;

pub(super) async fn registry(run: &Run, command: &RegistryCommand) -> Result<Exit, Failure> {
    match command {
        RegistryCommand::Login(args) => login(run, args).await,
        RegistryCommand::Ls => ls(run).await,
        RegistryCommand::Logout(args) => logout(run, args).await,
    }
}

async fn ls(run: &Run) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let answer = client.list_registries(pb::ListRegistriesRequest {}).await?;
    let rows: Vec<_> = answer.registries.iter().map(Registry::from).collect();
    print(&run.out.list(&rows, now_ms()))?;
    Ok(Exit::Done)
}

/// Without the line end that `echo` and editors put there, as docker's own client reads it.
fn password(args: &RegistryLoginArgs, server: &RegistryHost) -> Result<String, Failure> {
    if !args.password_stdin {
        if hidden::can_ask() {
            return hidden::ask(&format!("Password of {} for {server}", args.user));
        }
        return Err(Failure::new("there is no terminal to ask for the password")
            .exit(Exit::Usage)
            .hint("give it on stdin: --password-stdin < FILE"));
    }
    let bytes = hidden::read_all(std::io::stdin().lock(), CREDENTIAL_BYTES_MAX as u64)?;
    let not_text = || Failure::new("the password on stdin is no UTF-8").exit(Exit::Usage);
    let mut text = String::from_utf8(bytes).map_err(|_| not_text())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

async fn login(run: &Run, args: &RegistryLoginArgs) -> Result<Exit, Failure> {
    let server: RegistryHost =
        args.registry
            .parse()
            .map_err(|error: longshore_model::registry::NoRegistryHost| {
                Failure::new(error.to_string()).exit(Exit::Usage)
            })?;
    let password = password(args, &server)?;
    if password.is_empty() {
        return Err(Failure::new("the password is empty").exit(Exit::Usage));
    }
    let mut client = run.connect(None).await?;
    let request = pb::PutRegistryRequest {
        server: server.to_string(),
        user: args.user.clone(),
        password,
    };
    let done = client.put_registry(request).await?;
    let (server, user) = (done.server, args.user.clone());
    note(&printable(&format!(
        "images of {server} are pulled as {user}, from the next pull on"
    )));
    let logged_in = LoggedIn {
        server,
        user,
        replaced: done.replaced,
    };
    print(&run.out.document(&logged_in, String::new))?;
    Ok(Exit::Done)
}

async fn logout(run: &Run, args: &RegistryLogoutArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let mut servers = Vec::new();
    for server in &args.servers {
        let server = server.clone();
        let answer = client
            .remove_registry(pb::RemoveRegistryRequest { server })
            .await;
        let answer = answer.map_err(|failure| failure.hint("controllerctl registry ls"))?;
        note(&printable(&format!(
            "{}: credentials removed; what nodes have pulled stays there",
            answer.server
        )));
        servers.push(answer.server);
    }
    print(&run.out.document(&LoggedOut { servers }, String::new))?;
    Ok(Exit::Done)
}
