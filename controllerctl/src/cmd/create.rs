//! `context create`: a context from files, or from another one of the same cluster.

use std::path::{Path, PathBuf};

use super::Run;
use crate::certificate;
use crate::cli::CreateContextArgs;
use crate::context::{self, Context, Contexts};
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::text::printable;

/// Longest file of a certificate or key.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Adds it; the first that is added becomes current.
pub(super) fn create(
    run: &Run,
    args: &CreateContextArgs,
    contexts: &mut Contexts,
) -> Result<(), Failure> {
    let name = &args.name;
    let servers = servers(run.global.server.as_deref())?;
    let from = match &args.from {
        Some(from) => Some(context::pick(contexts, Some(from))?.1),
        None => None,
    };
    let text = |file: &Option<PathBuf>, of: fn(&Context) -> &String| match (file, &from) {
        (Some(file), _) => read(file),
        (None, Some(from)) => Ok(of(from).clone()),
        // The command line asks for one of them.
        (None, None) => Ok(String::new()),
    };
    let made = Context {
        servers,
        ca: text(&args.ca, |from| &from.ca)?,
        cert: text(&args.cert, |from| &from.cert)?,
        key: text(&args.key, |from| &from.key)?,
    };
    if !made.ca.contains("-----BEGIN CERTIFICATE-----") {
        let file = args.ca.as_deref().unwrap_or(Path::new("the CA"));
        let message = format!("{} holds no certificate in PEM", file.display());
        return Err(Failure::new(message).exit(Exit::Usage));
    }
    let certificate = certificate::describe(&made.cert, &made.key)?;
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
    let said = format!("context {name}: created, as {}{how}", certificate.identity);
    context::write(&context::path(), contexts)?;
    note(&printable(&said));
    Ok(())
}

/// `https://HOST:PORT`, several with commas.
fn servers(given: Option<&str>) -> Result<Vec<String>, Failure> {
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
