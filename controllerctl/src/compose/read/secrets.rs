//! `secrets` at the top, and who names them: certificates that the edges end TLS with.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::time::SystemTime;

use longshore_identity::site::{SITE_TEXT_BYTES_MAX, SiteCertificate, Validity};
use longshore_model::secret::SECRETS_MAX;
use longshore_model::{SecretName, SecretText, ServiceName, ServiceSpec};

use super::super::Here;
use super::super::interpolate::Variables;
use super::super::problem::Problems;
use super::item::Item;
use super::keys;

/// Certificates by name.
type Sites = BTreeMap<SecretName, SiteCertificate>;

/// Reads those secrets that services name in `x-haproxy.tls`, and checks that they fit.
pub(super) fn read(
    root: &Item<'_>,
    services: &BTreeMap<ServiceName, ServiceSpec>,
    (here, variables): (&Here, &Variables),
    p: &mut Problems,
) -> BTreeMap<SecretName, SecretText> {
    let top = root.at("secrets");
    let is_there = top.path == "secrets";
    let entries = is_there.then(|| top.entries(p)).flatten();
    let entries = entries.unwrap_or_default();
    let named = named(services);
    if named.len() > SECRETS_MAX {
        let message = format!("{} certificates; at most {SECRETS_MAX}", named.len());
        root.invalid(p, message);
        return BTreeMap::new();
    }
    let mut sites = Sites::new();
    let mut known = BTreeSet::new();
    for (key, item) in entries {
        known.insert(key.name.clone());
        let Ok(name) = SecretName::new(&key.name) else {
            let message = format!(
                "{:?}: a name may hold only a-z, 0-9 and '-', and must start with a letter",
                key.name
            );
            let help = format!(
                "rename it, for example to `{}`",
                super::super::tame_name(&key.name)
            );
            p.error("name", key.place, &item.path, message)
                .help(help)
                .file();
            continue;
        };
        let text = source(&item, here, variables, p);
        if !named.contains(&name) {
            let message = "no service uses it: only certificates are taken, in x-haproxy.tls";
            p.warn("secret_unused", key.place, &item.path, message)
                .file();
        } else if let Some(text) = text
            && let Some(site) = site(text, here.now, p)
        {
            sites.insert(name, site);
        }
    }
    for (service, spec) in services {
        let at = root.at("services").at(service.as_str()).at("x-haproxy");
        undefined(&at.at("tls"), spec, &known, p);
        covered(&at, spec, &sites, p);
    }
    sites.into_iter().map(|(name, s)| (name, s.pem)).collect()
}

/// Where the contents of a secret are.
enum Source<'a> {
    File(Item<'a>, String),
    Text(Item<'a>, String),
}

fn source<'a>(
    item: &Item<'a>,
    here: &Here,
    variables: &Variables,
    p: &mut Problems,
) -> Option<Source<'a>> {
    let mut fields = item.fields(p)?;
    let file = fields.take("file");
    let variable = fields.take("environment");
    fields.finish(p, keys::TOP_SECRET);
    match (file, variable) {
        (Some(item), None) => {
            let path = item.word(p)?;
            let path = path.strip_prefix("./").unwrap_or(&path);
            let path = match here.directory == Path::new(".") {
                true => path.to_owned(),
                false => here.directory.join(path).display().to_string(),
            };
            Some(Source::File(item, path))
        }
        (None, Some(item)) => {
            let name = item.word(p)?;
            match variables.get(&name) {
                Some(text) => Some(Source::Text(item, text.to_owned())),
                None => {
                    item.invalid(p, format!("the variable {name} is not set"));
                    None
                }
            }
        }
        _ => {
            let help = "write for example: shop-cert: { file: ./shop.pem }";
            item.invalid_help(p, "must have one of: file, environment", help);
            None
        }
    }
}

fn site(source: Source<'_>, now: SystemTime, p: &mut Problems) -> Option<SiteCertificate> {
    let (item, what, bytes) = match source {
        Source::Text(item, text) => (item, "its value".to_owned(), text.into_bytes()),
        Source::File(item, path) => match read_file(Path::new(&path)) {
            Ok(bytes) => (item, path, bytes),
            Err(error) => {
                item.invalid(p, format!("cannot read {path}: {error}"));
                return None;
            }
        },
    };
    let site = match SiteCertificate::read_new(&bytes) {
        Ok(site) => site,
        Err(problem) => {
            item.invalid_help(p, format!("{what}: {problem}"), problem.help());
            return None;
        }
    };
    let date = |at: SystemTime| humantime::format_rfc3339_seconds(at).to_string();
    let said = match site.validity(now) {
        Validity::Valid => return Some(site),
        Validity::NotYet(at) => format!("{what}: the certificate is valid only from {}", date(at)),
        Validity::Expired(at) => format!("{what}: the certificate expired at {}", date(at)),
        Validity::Ends(at) => format!("{what}: the certificate expires soon, at {}", date(at)),
    };
    p.warn("certificate_time", item.place(), &item.path, said)
        .help("clients refuse a certificate outside of its time")
        .file();
    Some(site)
}

/// Reads a little more than is allowed: the length is judged with the rest.
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    let limit = SITE_TEXT_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn names(spec: &ServiceSpec) -> BTreeSet<&str> {
    let routes = spec.routes.iter();
    routes
        .flat_map(|route| route.tls.iter().map(String::as_str))
        .collect()
}

fn named(services: &BTreeMap<ServiceName, ServiceSpec>) -> BTreeSet<SecretName> {
    let names = services.values().flat_map(names);
    names
        .filter_map(|name| SecretName::new(name).ok())
        .collect()
}

fn undefined(item: &Item<'_>, spec: &ServiceSpec, known: &BTreeSet<String>, p: &mut Problems) {
    for name in names(spec) {
        if known.contains(name) {
            continue;
        }
        let message = format!("there is no secret `{name}` in the file");
        let known = known.iter().map(String::as_str);
        let help = match keys::nearest(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add at the top: secrets: {{ {name}: {{ file: ./{name}.pem }} }}"),
        };
        item.invalid_help(p, message, help);
    }
}

/// Host names that clients would refuse.
fn covered(item: &Item<'_>, spec: &ServiceSpec, sites: &Sites, p: &mut Problems) {
    let sites: Option<Vec<&SiteCertificate>> = names(spec)
        .into_iter()
        .map(|name| sites.get(&SecretName::new(name).ok()?))
        .collect();
    // One that could not be read may be the one.
    let Some(sites) = sites.filter(|sites| !sites.is_empty()) else {
        return;
    };
    let routes = spec.routes.iter().filter(|route| !route.tls.is_empty());
    let domains: BTreeSet<&String> = routes.flat_map(|route| &route.domains).collect();
    for domain in domains {
        if !sites.iter().any(|site| site.covers(domain)) {
            let item = item.at("domains");
            let message = format!("no certificate in tls is for {domain}: clients will refuse it");
            p.warn("certificate_name", item.place(), &item.path, message)
                .file();
        }
    }
}
