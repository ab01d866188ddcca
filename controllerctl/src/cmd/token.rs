//! `token`: with what nodes join.

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::{Run, millis};
use crate::cli::{Format, RevokeArgs, Role, TokenArgs, TokenCommand};
use crate::failure::{Exit, Failure};
use crate::output::tokens::Token as Listed;
use crate::output::views::time;
use crate::output::{note, now_ms, print};
use crate::text::printable;

/// `token create`
#[derive(Debug, Serialize)]
pub(super) struct Token {
    pub(super) token: String,
    pub(super) join_command: String,
    pub(super) expires: Option<String>,
}

pub(super) async fn token(run: &Run, command: &TokenCommand) -> Result<Exit, Failure> {
    match command {
        TokenCommand::Create(args) => {
            let token = create(run, args).await?;
            print(&run.out.document(&token, || printable(&token.token) + "\n"))?;
            // Documents hold the line already; a secret is not said once more than asked for.
            if !matches!(run.out.format, Format::Json | Format::Jsonl | Format::Yaml) {
                note(&printable(&format!("join with: {}", token.join_command)));
            }
        }
        TokenCommand::Ls => {
            let mut client = run.connect(None).await?;
            let answer = client.list_tokens(pb::ListTokensRequest {}).await?;
            let rows: Vec<_> = answer.tokens.iter().map(Listed::from).collect();
            print(&run.out.list(&rows, now_ms()))?;
        }
        TokenCommand::Revoke(args) => revoke(run, args).await?,
    }
    Ok(Exit::Done)
}

pub(super) async fn create(run: &Run, args: &TokenArgs) -> Result<Token, Failure> {
    let mut client = run.connect(None).await?;
    let request = pb::CreateTokenRequest {
        worker: args.role.contains(&Role::Worker),
        edge: args.role.contains(&Role::Edge),
        ttl_ms: millis(args.ttl),
        node_name: args.name.clone().unwrap_or_default(),
        from: args.from.clone().unwrap_or_default(),
    };
    let answer = client.create_token(request).await?;
    let expires = time(answer.expires_ms);
    Ok(Token {
        token: answer.token,
        join_command: answer.join_command,
        expires,
    })
}

async fn revoke(run: &Run, args: &RevokeArgs) -> Result<(), Failure> {
    let mut client = run.connect(None).await?;
    let mut revoked = Vec::new();
    for word in &args.tokens {
        let id = id(word).to_owned();
        let answer = client.revoke_token(pb::RevokeTokenRequest { id }).await;
        let answer = answer.map_err(|failure| failure.hint("controllerctl token ls"))?;
        let Some(token) = answer.token else { continue };
        let (id, user) = (&token.id, &token.used_by);
        note(&printable(&match user.as_str() {
            "" => format!("{id}: nobody joins with it any more"),
            user => format!(
                "{id}: forgotten; {user}, which joined with it, stays (controllerctl node rm {user})"
            ),
        }));
        revoked.push(Listed::from(&token));
    }
    match run.out.format {
        // People have read it already.
        Format::Table | Format::Wide | Format::Name => Ok(()),
        _ => print(&run.out.list(&revoked, now_ms())),
    }
}

/// The id of a whole token; its secret goes nowhere.
fn id(word: &str) -> &str {
    match word.split('.').collect::<Vec<_>>().as_slice() {
        [_, _, id, _] => id,
        _ => word,
    }
}
