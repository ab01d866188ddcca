//! `context create`: a context from files, or from another one of the same cluster.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use longshore_identity::{Token, TokenKind};

use super::Run;
use crate::certificate;
use crate::cli::CreateContextArgs;
use crate::context::{self, Context, Contexts};
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::text::printable;

/// Longest file of a certificate or key.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Makes a context of what is given.
pub(super) fn create(
    run: &Run,
    args: &CreateContextArgs,
    contexts: &mut Contexts,
) -> Result<(), Failure> {
    let servers = servers(run.global.server.as_deref())?;
    if args.token.is_some() || args.token_command.is_some() {
        let made = with_token(args, servers)?;
        return keep(args, contexts, made, "with a token");
    }
    let given = |file: &Option<PathBuf>| file.as_deref().map(read).transpose();
    let (ca, cert, key) = (given(&args.ca)?, given(&args.cert)?, given(&args.key)?);
    let from = match (&args.from, ca.is_some() && cert.is_some()) {
        (_, true) => None,
        (from, false) => Some(base(
            contexts,
            from.as_deref(),
            ca.as_deref(),
            cert.is_some(),
        )?),
    };
    let or = |given: Option<String>, of: fn(&Context) -> &String| {
        given.unwrap_or_else(|| {
            from.as_ref()
                .map_or_else(String::new, |(_, c)| of(c).clone())
        })
    };
    let made = Context {
        servers,
        ca: or(ca, |from| &from.ca),
        cert: or(cert, |from| &from.cert),
        key: or(key, |from| &from.key),
        ..Context::default()
    };
    if !made.ca.contains("-----BEGIN CERTIFICATE-----") {
        let file = args.ca.as_deref().unwrap_or(Path::new("the CA"));
        let message = format!("{} holds no certificate in PEM", file.display());
        return Err(Failure::new(message).exit(Exit::Usage));
    }
    let certificate = certificate::describe(&made.ca, &made.cert, &made.key)?;
    let by = match &from {
        Some((from, _)) => format!(" (with what context {from} has)"),
        None => String::new(),
    };
    let what = format!("as {}{by}", certificate.identity);
    keep(args, contexts, made, &what)
}

/// A context whose operator shows a token.
fn with_token(args: &CreateContextArgs, servers: Vec<String>) -> Result<Context, Failure> {
    let ca = args.ca.as_deref().map(read).transpose()?;
    let mut made = Context {
        servers,
        ca: ca.unwrap_or_default(),
        ..Context::default()
    };
    if let Some(file) = &args.token {
        let text = match file.to_str() {
            Some("-") => std::io::read_to_string(std::io::stdin().lock().take(PEM_BYTES_MAX))
                .map_err(|e| Failure::new("cannot read stdin").because(e))?,
            _ => read(file)?,
        };
        let token = Token::parse(TokenKind::Bearer, &text);
        let unusable = |why| Failure::new("the token cannot be used").because(why);
        made.token = Some(
            token
                .map_err(|why| unusable(why).exit(Exit::Usage))?
                .to_string(),
        );
    }
    if let Some(line) = &args.token_command {
        let words = shell_words::split(line).unwrap_or_default();
        if words.is_empty() {
            let message = format!("--token-command {line:?} is no command");
            return Err(Failure::new(message).exit(Exit::Usage));
        }
        made.token_command = words;
    }
    Ok(made)
}

/// Adds it; the first that is added becomes current.
fn keep(
    args: &CreateContextArgs,
    contexts: &mut Contexts,
    made: Context,
    what: &str,
) -> Result<(), Failure> {
    let name = &args.name;
    let there = contexts.context.get(name);
    if there.is_some_and(|there| *there != made && !args.force) {
        let message = format!("there is another context {name:?} already");
        return Err(Failure::new(message).hint("choose another name, or replace it: --force"));
    }
    contexts.context.insert(name.clone(), made);
    let current = contexts.current.get_or_insert_with(|| name.clone());
    let how = match current == name {
        true => "; it is current",
        false => "",
    };
    let said = format!("context {name}: created, {what}{how}");
    context::write(&context::path(), contexts)?;
    note(&printable(&said));
    Ok(())
}

/// The context that has what is not given: operators have a certificate and its key, and nothing else
/// lets them in.
fn base(
    contexts: &Contexts,
    named: Option<&str>,
    ca: Option<&str>,
    has_cert: bool,
) -> Result<(String, Context), Failure> {
    if named.is_some() {
        return context::pick(contexts, named);
    }
    let missing = match (ca, has_cert) {
        (Some(_), _) => "--cert and --key",
        (None, true) => "--ca",
        (None, false) => "--ca, --cert and --key",
    };
    let lacks = |why: &str| {
        Failure::new(format!("{missing} are missing, and {why}").replace("--ca are", "--ca is"))
            .exit(Exit::Usage)
            .hint(
                "they come with a context: controllerctl context import FILE, of what controller init \
                 --context-out wrote or an admin exported; --from CONTEXT takes them from one",
            )
    };
    match ca {
        None if contexts.context.is_empty() => Err(lacks("there is no context to take them from")),
        None => context::pick(contexts, None),
        Some(ca) => {
            let is_same = |(_, context): &(&String, &Context)| context.ca.trim() == ca.trim();
            let current = contexts.current.as_ref();
            // Of several for one cluster, the one that is used.
            let mut same = contexts.context.iter().filter(is_same);
            let first = same.clone().find(|(name, _)| Some(*name) == current);
            let found = first.or_else(|| same.next());
            let found = found.map(|(name, context)| (name.clone(), context.clone()));
            found.ok_or_else(|| lacks("no context here has this CA"))
        }
    }
}

/// `https://HOST:PORT`, several with commas.
pub(super) fn servers(given: Option<&str>) -> Result<Vec<String>, Failure> {
    let usage = |message: String| {
        let failure = Failure::new(message).exit(Exit::Usage);
        failure.hint("controllerctl context create NAME --server https://10.0.0.5:7443 …")
    };
    let given = given.ok_or_else(|| usage("--server URL says where the controller is".into()))?;
    let all: Vec<String> = given.split(',').map(|one| one.trim().to_owned()).collect();
    for server in &all {
        let rest = server.strip_prefix("https://").unwrap_or_default();
        let port = rest.trim_end_matches('/').rsplit_once(':');
        let fine = port.is_some_and(|(host, port)| {
            !host.is_empty()
                && !host.contains('/')
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !fine {
            return Err(usage(format!(
                "--server {server:?} is no https://HOST:PORT"
            )));
        }
    }
    Ok(all)
}

fn read(path: &Path) -> Result<String, Failure> {
    let cannot = || format!("cannot read {}", path.display());
    let size = std::fs::metadata(path).map_err(|e| Failure::new(cannot()).because(e))?;
    if size.len() > PEM_BYTES_MAX {
        return Err(Failure::new(format!("{}: it is too long", cannot())).exit(Exit::Usage));
    }
    std::fs::read_to_string(path).map_err(|e| Failure::new(cannot()).because(e))
}
