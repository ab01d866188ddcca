//! Secrets that services name in `x-haproxy.tls`: certificates that the edges end TLS with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use longshore_identity::site::{SITE_TEXT_BYTES_MAX, SiteCertificate, Validity};
use longshore_model::secret::SECRETS_MAX;
use longshore_model::spec::FileKind;
use longshore_model::{SecretName, SecretText, ServiceName, ServiceSpec};

use super::super::problem::Problems;
use super::files::{Files, Source, read_file};
use super::item::Item;
use super::keys;

/// Certificates by name.
type Sites = BTreeMap<SecretName, SiteCertificate>;

/// Reads those secrets that services name in `x-haproxy.tls`, and checks that they fit.
pub(super) fn read(
    root: &Item<'_>,
    services: &BTreeMap<ServiceName, ServiceSpec>,
    (files, now): (&Files<'_>, SystemTime),
    p: &mut Problems,
) -> BTreeMap<SecretName, SecretText> {
    let named = named(services);
    if named.len() > SECRETS_MAX {
        let message = format!("{} certificates; at most {SECRETS_MAX}", named.len());
        root.invalid(p, message);
        return BTreeMap::new();
    }
    let mut sites = Sites::new();
    let mut known = BTreeSet::new();
    for (text, top) in files.tops(FileKind::Secret) {
        known.insert(text.to_owned());
        let name = SecretName::new(text).ok();
        if let Some(name) = name.filter(|name| named.contains(name))
            && let Some(source) = &top.source
            && is_here(&top.item, source, p)
            && let Some(site) = site(source, now, p)
        {
            sites.insert(name, site);
        }
    }
    let in_tls = named.iter().map(ToString::to_string).collect();
    files.unused(&in_tls, p);
    for (service, spec) in services {
        let at = root.at("services").at(service.as_str()).at("x-haproxy");
        undefined(&at.at("tls"), spec, &known, p);
        covered(&at, spec, &sites, p);
    }
    sites.into_iter().map(|(name, s)| (name, s.pem)).collect()
}

/// A certificate comes with its app: its edges need it before the routes that name it.
fn is_here(item: &Item<'_>, source: &Source<'_>, p: &mut Problems) -> bool {
    let is_external = matches!(source, Source::External(_));
    if is_external {
        let message = "a certificate for x-haproxy.tls cannot be external";
        item.invalid_help(
            p,
            message,
            "write file or environment, and renew it with up",
        );
    }
    !is_external
}

fn site(source: &Source<'_>, now: SystemTime, p: &mut Problems) -> Option<SiteCertificate> {
    let (item, what, bytes) = match source {
        Source::External(_) => return None,
        Source::Text(item, text) => (item, "its value", text.clone().into_bytes()),
        Source::File(item, path) => {
            let bytes_max = SITE_TEXT_BYTES_MAX as u64;
            match read_file(Path::new(path), bytes_max) {
                Ok((bytes, _)) => (item, path.as_str(), bytes),
                Err(error) => {
                    item.invalid(p, format!("cannot read {path}: {error}"));
                    return None;
                }
            }
        }
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
