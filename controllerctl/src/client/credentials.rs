//! What is shown to the controller, and whom it is shown to: a certificate, or a token.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use longshore_identity::tls::{CertHolder, ServerTrust};
use longshore_identity::{Token, TokenKind};
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use crate::certificate;
use crate::context::{self, Context, Contexts};
use crate::failure::{Exit, Failure};

/// A token for this run, before that of the context.
pub(crate) const TOKEN_VARIABLE: &str = "CONTROLLERCTL_TOKEN";
/// Longest wait for a command that prints a token: somebody may have to type a password.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest token that is read.
const TOKEN_BYTES_MAX: u64 = 4 << 10;

/// See the module.
pub(super) struct Credentials {
    /// A certificate with its key.
    pub(super) certs: Option<Arc<CertHolder>>,
    /// Whom to speak to.
    pub(super) trust: ServerTrust,
    /// `Bearer TOKEN`.
    pub(super) bearer: Option<HeaderValue>,
}

/// The token of this run.
fn of_run() -> Option<Zeroizing<String>> {
    let token = std::env::var(TOKEN_VARIABLE).ok();
    token.filter(|token| !token.is_empty()).map(Zeroizing::new)
}

/// The context; a token and a server of this run need none.
pub(super) fn pick(
    contexts: &Contexts,
    name: Option<&str>,
    server: Option<&str>,
) -> Result<(String, Context), Failure> {
    let picked = context::pick(contexts, name);
    if picked.is_err() && name.is_none() && server.is_some() && of_run().is_some() {
        return Ok((TOKEN_VARIABLE.into(), Context::default()));
    }
    picked
}

impl Credentials {
    /// Of a context, or of this run.
    pub(super) async fn of(name: &str, context: &Context) -> Result<Self, Failure> {
        let token = match of_run() {
            Some(token) => Some(token),
            None => of_context(name, context).await?,
        };
        match token {
            Some(token) => by_token(&token, &context.ca),
            None => by_certificate(name, context),
        }
    }
}

async fn of_context(name: &str, context: &Context) -> Result<Option<Zeroizing<String>>, Failure> {
    match (&context.token, context.token_command.as_slice()) {
        (Some(token), _) => Ok(Some(Zeroizing::new(token.clone()))),
        (None, [program, words @ ..]) => printed(name, program, words).await.map(Some),
        (None, []) => Ok(None),
    }
}

fn by_certificate(name: &str, context: &Context) -> Result<Credentials, Failure> {
    let certs = CertHolder::from_pem(&context.cert, &context.key).map_err(|error| {
        Failure::new(format!(
            "the certificate of context {name:?} cannot be used"
        ))
        .because(error)
        .exit(Exit::Unreachable)
        .hint("import the context again: controllerctl context import FILE")
    })?;
    certificate::still_valid(&certs, name)?;
    Ok(Credentials {
        certs: Some(certs),
        trust: ServerTrust::Ca(context.ca.clone()),
        bearer: None,
    })
}

fn by_token(text: &str, ca: &str) -> Result<Credentials, Failure> {
    // The text itself stays out of messages.
    let unusable = || Failure::new("the operator's token cannot be used").exit(Exit::Unreachable);
    let token = Token::parse(TokenKind::Bearer, text).map_err(|why| unusable().because(why))?;
    let bearer = Zeroizing::new(format!("Bearer {token}"));
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|why| unusable().because(why))?;
    bearer.set_sensitive(true);
    Ok(Credentials {
        certs: None,
        trust: match ca {
            "" => ServerTrust::Digest(token.ca),
            ca => ServerTrust::Ca(ca.to_owned()),
        },
        bearer: Some(bearer),
    })
}

/// What a command prints.
async fn printed(
    context: &str,
    program: &str,
    words: &[String],
) -> Result<Zeroizing<String>, Failure> {
    let failed = |why: String| {
        Failure::new(format!(
            "token_command of context {context:?} ({program}): {why}"
        ))
        .exit(Exit::Unreachable)
    };
    let run = async {
        let mut child = tokio::process::Command::new(program)
            .args(words)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut text = Zeroizing::new(String::new());
        if let Some(out) = child.stdout.take() {
            let mut out = out.take(TOKEN_BYTES_MAX);
            let read = out.read_to_string(&mut text).await;
            read.map_err(|error| error.to_string())?;
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        match status.success() {
            true => Ok(text),
            false => Err(format!("it ended with {status}")),
        }
    };
    match tokio::time::timeout(COMMAND_TIMEOUT, run).await {
        Ok(printed) => printed.map_err(failed),
        Err(_) => Err(failed(format!(
            "nothing within {} s",
            COMMAND_TIMEOUT.as_secs()
        ))),
    }
}
