//! Certificates of an old balancer, as secrets.

use std::path::{Path, PathBuf};

use super::balancer::Behind;
use super::vars::Var;
use super::{Work, entry, key, map, plain, words};
use crate::compose::node::{Node, Value};
use crate::compose::tame_name;

/// Most files of one folder.
const FILES_MAX: usize = 64;

/// Where a certificate is.
enum Source {
    Variable(String),
    File(PathBuf),
}

/// Names certificates in `x.tls`; true if there are any.
pub(super) fn take(balancer: &Node, behind: &Behind, x: &mut Node, work: &mut Work) -> bool {
    let mut names = Vec::new();
    for name in ["DEFAULT_SSL_CERT", "SSL_CERT"] {
        if let Some(var) = behind.var(name).cloned()
            && let Some(secret) = variable(&var, work)
        {
            names.push(Node::text(secret, var.place));
        }
    }
    if let Some(var) = behind.var("CERT_FOLDER").cloned() {
        for secret in folder(balancer, &var, work) {
            names.push(Node::text(secret, var.place));
        }
    }
    let has_any = !names.is_empty();
    if let Some(first) = names.first()
        && let place = first.place
        && let Some(tls) = entry(x, "tls", Value::Null, place)
    {
        *tls = Node::new(Value::List(names), place);
    }
    let Some(var) = behind.var("FORCE_SSL").cloned() else {
        return has_any;
    };
    match has_any {
        true => {
            if let Some(entry) = entry(x, "redirect_https", Value::Null, var.place) {
                *entry = plain(true, var.place);
            }
            let now = "x-haproxy.redirect_https: true";
            work.now(
                var.place,
                var.was(),
                now,
                "a key of x-haproxy stands for it",
            );
        }
        false => {
            let help = "name one: SSL_CERT=${SSL_CERT}, or drop the variable";
            work.refuse(var.place, &var.path(), "there is no certificate", help);
        }
    }
    has_any
}

/// `SSL_CERT=${NAME}`: the secret is the variable where `up` runs.
fn variable(var: &Var, work: &mut Work) -> Option<String> {
    let text = var.text();
    let inner = match &var.value {
        None => Some(var.name.as_str()),
        Some(_) => text
            .strip_prefix("${")
            .map_or_else(|| text.strip_prefix('$'), |text| text.strip_suffix('}')),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let Some(name) = inner.filter(|name| !name.is_empty() && name.chars().all(word)) else {
        let why = "a private key in a Compose file is read by everybody who reads the file";
        let help = "write certificate and key into a file in PEM, then name it: secrets: { cert: { file: \
                    ./cert.pem } } and x-haproxy: { tls: cert }; make a new key, this one is known";
        // The value is not to be shown.
        work.refuse(var.place, &var.path(), why, help);
        return None;
    };
    let name = name.to_owned();
    let secret = secret(work, &name, &Source::Variable(name.clone()), var)?;
    let was = var.named();
    let now = format!("secrets.{secret} from the variable {name}, x-haproxy.tls: {secret}");
    let why = "line ends must be line ends there, no longer \\n: the text of a PEM file as it is";
    work.look(var.place, was, Some(now), why);
    Some(secret)
}

/// `CERT_FOLDER=/certs/` with `./certs:/certs`: each .pem file there.
fn folder(balancer: &Node, var: &Var, work: &mut Work) -> Vec<String> {
    let Some(host) = mounted(balancer, var.text()) else {
        let help = "bind it in the old file: volumes: [\"./certs:/certs\"]";
        work.refuse(var.place, &var.path(), "no directory is bound there", help);
        return Vec::new();
    };
    let files = pem_files(&work.directory.join(&host));
    if files.is_empty() {
        let why = format!("there are no .pem files in {host}");
        let help = "put certificates there (certificate, chain and key in one file), then again";
        work.refuse(var.place, &var.path(), &why, help);
    }
    if files.len() > FILES_MAX {
        let why = format!(
            "there are {} .pem files in {host}; {FILES_MAX} are taken at most",
            files.len()
        );
        let help = "take out those that are not in use, or put several names into one certificate";
        work.refuse(var.place, &var.path(), &why, help);
        return Vec::new();
    }
    let mut secrets = Vec::new();
    for file in files {
        let stem = Path::new(&file).file_stem().unwrap_or_default();
        let path = Path::new(&host).join(&file);
        let shown = path.display().to_string();
        let source = Source::File(path);
        let Some(secret) = secret(work, &stem.to_string_lossy(), &source, var) else {
            continue;
        };
        let now = format!("secrets.{secret} from {shown}, x-haproxy.tls: {secret}");
        work.now(var.place, var.was(), now, "certificates are secrets");
        secrets.push(secret);
    }
    secrets
}

/// The directory of the host behind one of the container.
fn mounted(balancer: &Node, inside: &str) -> Option<String> {
    let inside = inside.trim_end_matches('/');
    let volumes = words(balancer.get("volumes")?);
    volumes.iter().find_map(|(text, _)| {
        let mut parts = text.split(':');
        let (host, container) = (parts.next()?, parts.next()?);
        let is_it = container.trim_end_matches('/') == inside && host.starts_with(['.', '/']);
        is_it.then(|| host.to_owned())
    })
}

/// Names of its .pem files, in order.
fn pem_files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".pem")).collect();
    names.sort();
    names
}

/// Adds a secret, unless it is there; its name. Another one of that name stays as it is.
fn secret(work: &mut Work, name: &str, source: &Source, var: &Var) -> Option<String> {
    let (name, place) = (tame_name(name), var.place);
    let (word, text) = match source {
        Source::Variable(name) => ("environment", name.clone()),
        Source::File(path) => ("file", path.display().to_string()),
    };
    let secrets = entry(&mut work.tree, "secrets", Value::Map(Vec::new()), place)?;
    if let Some(known) = secrets.get(&name) {
        if known.get(word).and_then(Node::as_text) == Some(&text) {
            return Some(name);
        }
        let why =
            format!("{text} would be the secret {name:?}, and there is another one of that name");
        work.refuse(place, &var.path(), &why, "give one of them another name");
        return None;
    }
    let node = map(vec![(key(word, place), Node::text(text, place))], place);
    *entry(secrets, &name, Value::Null, place)? = node;
    Some(name)
}
