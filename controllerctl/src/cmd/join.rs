//! `context join`: an invite for a certificate. The key is made here and goes nowhere.

use std::time::Duration;

use longshore_identity::ca::pem_of_certificates;
use longshore_identity::key::KeyPair;
use longshore_identity::tls::ServerTrust;
use longshore_identity::{CaDigest, Token, TokenKind};
use longshore_proto::agent::v1 as pb;
use longshore_proto::agent::v1::enrollment_service_client::EnrollmentServiceClient;
use longshore_reach::{Reached, reach};
use tonic::Request;
use zeroize::Zeroizing;

use super::{Run, create, hidden};
use crate::certificate;
use crate::cli::JoinContextArgs;
use crate::context::{self, Context, Contexts};
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::text::printable;

const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const INVITE_BYTES_MAX: u64 = 4 << 10;

pub(super) async fn join(run: &Run, args: &JoinContextArgs) -> Result<Exit, Failure> {
    let path = context::path();
    let contexts = context::read_or_empty(&path)?;
    context::close_to_others(&path);
    // Nothing is used up for a name that is taken.
    if let Some(name) = &args.name {
        free(&contexts, name, args.force)?;
    }
    let servers = create::servers(run.global.server.as_deref())?;
    let invite = Token::parse(TokenKind::Invite, &text(args)?).map_err(|why| {
        Failure::new("the invite cannot be used")
            .because(why)
            .exit(Exit::Usage)
    })?;
    let key = KeyPair::generate().map_err(|why| Failure::new("no key can be made").because(why))?;
    let reached = reach(&servers, None, &ServerTrust::Digest(invite.ca)).await?;
    let joined = trade(&reached, &invite, &key).await?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => first_free(&contexts, &joined.cluster, args.force),
    };
    let context = context_of(&joined, &invite, &key, &reached)?;
    let identity = certificate::describe(&context.ca, &context.cert, &context.key)?.identity;
    // Others may have written meanwhile.
    let mut contexts = context::read_or_empty(&path)?;
    contexts.context.insert(name.clone(), context);
    let current = contexts.current.get_or_insert_with(|| name.clone());
    let how = match *current == name {
        true => "; it is current",
        false => "",
    };
    context::write(&path, &contexts)?;
    note(&printable(&format!(
        "context {name}: joined, as {identity}{how}"
    )));
    Ok(Exit::Done)
}

fn text(args: &JoinContextArgs) -> Result<Zeroizing<String>, Failure> {
    if args.invite != "-" {
        return Ok(Zeroizing::new(args.invite.clone()));
    }
    let read = hidden::read_all(std::io::stdin().lock(), INVITE_BYTES_MAX);
    let bytes = read.map_err(|error| Failure::new("cannot read stdin").because(error))?;
    let text = String::from_utf8(bytes);
    Ok(Zeroizing::new(text.map_err(|error| {
        Failure::new("the invite on stdin is no text").because(error)
    })?))
}

fn free(contexts: &Contexts, name: &str, force: bool) -> Result<(), Failure> {
    if force || !contexts.context.contains_key(name) {
        return Ok(());
    }
    let message = format!("there is a context {name:?} already");
    Err(Failure::new(message).hint("choose another --name, or replace it: --force"))
}

/// The cluster's name, or with a number: the invite is used up, and the certificate must not be lost.
fn first_free(contexts: &Contexts, cluster: &str, force: bool) -> String {
    let numbered = (2..).map(|number| format!("{cluster}-{number}"));
    let mut names = std::iter::once(cluster.to_owned()).chain(numbered);
    let free = names.find(|name| force || !contexts.context.contains_key(name));
    free.unwrap_or_else(|| cluster.to_owned())
}

async fn trade(
    reached: &Reached,
    invite: &Token,
    key: &KeyPair,
) -> Result<pb::JoinOperatorResponse, Failure> {
    let csr_der = key.csr_der("operator");
    let csr_der =
        csr_der.map_err(|why| Failure::new("no signing request can be made").because(why))?;
    let mut request = Request::new(pb::JoinOperatorRequest {
        invite: invite.secret.to_string(),
        csr_der,
    });
    request.set_timeout(CALL_TIMEOUT);
    let mut client = EnrollmentServiceClient::new(reached.channel.clone());
    let answer = client.join_operator(request).await;
    let answer = answer.map_err(|status| Failure::call("fetch the certificate", status))?;
    Ok(answer.into_inner())
}

fn context_of(
    joined: &pb::JoinOperatorResponse,
    invite: &Token,
    key: &KeyPair,
    reached: &Reached,
) -> Result<Context, Failure> {
    let mut cas = joined.ca_der.iter();
    let ca = cas.find(|der| CaDigest::of_der(der) == invite.ca);
    let ca =
        ca.ok_or_else(|| Failure::new("the answer does not hold the CA that the invite names"))?;
    let chain = joined.certificate_chain_der.iter().map(Vec::as_slice);
    let mut servers = vec![reached.server.clone()];
    let others = reached.controllers.iter();
    servers.extend(others.filter(|other| **other != reached.server).cloned());
    Ok(Context {
        servers,
        ca: pem_of_certificates([ca.as_slice()]),
        cert: pem_of_certificates(chain),
        key: key.pem().to_string(),
        ..Context::default()
    })
}
