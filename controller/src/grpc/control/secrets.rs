//! Certificates that come with an app.
//!
//! They are no part of its spec, which names them only: a new one is no new revision. One that is
//! no longer named stays as long as a kept revision names it, so that `undo` finds it.

use std::collections::{BTreeMap, BTreeSet};

use longshore_identity::site::{SiteCertificate, digest};
use longshore_model::event::day;
use longshore_model::secret::{SECRETS_ALL_MAX, SECRETS_MAX};
use longshore_model::{
    AppName, Desired, Event, EventKind, SecretKey, SecretName, SecretText, ServiceKey, ServiceSpec,
    span,
};
use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::apply::Services;
use crate::cluster::Cluster;
use crate::grpc::store_status;
use crate::secrets::{Secrets, Shown};
use crate::store::{SecretChanges, StoreError, revisions};

/// A certificate with less left than this is a problem.
const SOON_MS: u64 = 14 * 86_400_000;

/// What an app brings: each secret's digest, and its contents where they were sent.
pub(super) type Sent = BTreeMap<SecretName, (String, Option<SecretText>)>;

/// Names that services go by. Their rule was checked with the services.
fn named(services: &Services) -> BTreeSet<SecretName> {
    let routes = services.values().flat_map(|spec| &spec.routes);
    let texts = routes.flat_map(|route| &route.tls);
    texts
        .filter_map(|text| SecretName::new(text).ok())
        .collect()
}

/// Checks what was sent; `with_contents`: contents, else digests.
pub(super) fn read(
    sent: Vec<pb::Secret>,
    app: &AppName,
    services: &Services,
    with_contents: bool,
) -> Result<Sent, Status> {
    let invalid = |why: String| Status::invalid_argument(format!("{app}: {why}"));
    if sent.len() > SECRETS_MAX {
        return Err(invalid(format!(
            "{} secrets; at most {SECRETS_MAX} are allowed",
            sent.len()
        )));
    }
    let named = named(services);
    let mut read = Sent::new();
    for secret in sent {
        let name = SecretName::new(&secret.name).map_err(|error| invalid(error.to_string()))?;
        if !named.contains(&name) {
            return Err(invalid(format!(
                "secret {name}: no service names it in x-haproxy.tls"
            )));
        }
        let value = match with_contents {
            false => (secret.digest, None),
            true => {
                let site = SiteCertificate::read_new(secret.pem.as_bytes());
                let site = site.map_err(|problem| {
                    invalid(format!("secret {name}: {problem}; {}", problem.help()))
                })?;
                (site.digest(), Some(site.pem))
            }
        };
        if read.insert(name.clone(), value).is_some() {
            return Err(invalid(format!("secret {name} is sent twice")));
        }
    }
    Ok(read)
}

/// What an apply changes.
#[derive(Default)]
pub(super) struct Next {
    /// For the answer.
    pub(super) said: Vec<pb::SecretChange>,
    /// For the store; without contents where none were sent.
    pub(super) changes: SecretChanges,
}

/// Compares what was sent with what is there.
pub(super) fn next(
    cluster: &Cluster,
    app: &AppName,
    services: &Services,
    sent: &Sent,
) -> Result<Next, Status> {
    let secrets = cluster.secrets();
    let present: BTreeMap<&SecretName, &SecretText> = secrets
        .of(app)
        .map(|(key, text)| (&key.name, text))
        .collect();
    let mut next = Next::default();
    let named = named(services);
    for name in &named {
        let action = match (present.get(name), sent.get(name)) {
            (None, None) => return Err(missing(app, name)),
            (Some(_), None) => "same",
            (Some(text), Some((found, _))) if digest(text) == *found => "same",
            (before, Some((_, text))) => {
                let key = SecretKey::new(app.clone(), name.clone());
                next.changes.insert(key, text.clone());
                if before.is_some() { "renew" } else { "add" }
            }
        };
        next.say(action, name);
    }
    let kept = match present.keys().all(|name| named.contains(*name)) {
        true => BTreeSet::new(),
        false => kept(cluster, app).map_err(store_status)?,
    };
    for name in present.into_keys() {
        if !named.contains(name) && !kept.contains(name) {
            let key = SecretKey::new(app.clone(), name.clone());
            next.changes.insert(key, None);
            next.say("remove", name);
        }
    }
    let added = next.said.iter().filter(|said| said.action == "add").count();
    if secrets.all.len() + added > SECRETS_ALL_MAX {
        return Err(Status::resource_exhausted(format!(
            "a cluster keeps at most {SECRETS_ALL_MAX} certificates; one with several names serves \
             several services"
        )));
    }
    Ok(next)
}

impl Next {
    /// Makes what was stored known.
    pub(super) fn publish(&self, cluster: &Cluster) {
        if !self.changes.is_empty() {
            cluster.set_secrets(cluster.secrets().with(&self.changes));
        }
    }

    /// Events of certificates that take the place of others.
    pub(super) fn events(
        &self,
        cluster: &Cluster,
        app: &AppName,
        services: &Services,
        by: &str,
    ) -> Vec<Event> {
        let secrets = cluster.secrets();
        let present = |(key, _): &(&SecretKey, _)| secrets.all.contains_key(key);
        let event = |(key, text): (&SecretKey, &Option<SecretText>)| {
            let shown = Shown::of(text.as_ref()?)?;
            let is_user = |spec: &ServiceSpec| uses(spec, &key.name);
            let users = services.iter().filter(|(_, spec)| is_user(spec));
            let kind = EventKind::CertificateRenewed {
                app: app.clone(),
                secret: key.name.clone(),
                names: shown.names,
                services: users
                    .map(|(service, _)| ServiceKey::new(app.clone(), service.clone()))
                    .collect(),
                until_ms: shown.until_ms,
                by: by.to_owned(),
            };
            let at_ms = cluster.now_ms();
            Some(Event { at_ms, kind })
        };
        self.changes
            .iter()
            .filter(present)
            .filter_map(event)
            .collect()
    }

    fn say(&mut self, action: &str, name: &SecretName) {
        let (action, name) = (action.to_owned(), name.to_string());
        self.said.push(pb::SecretChange { action, name });
    }
}

fn uses(spec: &ServiceSpec, name: &SecretName) -> bool {
    let mut names = spec.routes.iter().flat_map(|route| &route.tls);
    names.any(|text| text == name.as_str())
}

/// Certificates that services end TLS with, each with the first of them.
fn used<'c>(
    desired: &'c Desired,
    secrets: &'c Secrets,
) -> impl Iterator<Item = (ServiceKey, &'c SecretKey, &'c Shown)> {
    secrets.shown.iter().filter_map(|(key, shown)| {
        let services = &desired.apps.get(&key.app)?.services;
        let mut users = services.iter().filter(|(_, spec)| uses(spec, &key.name));
        let (service, _) = users.next()?;
        let service = ServiceKey::new(key.app.clone(), service.clone());
        Some((service, key, shown))
    })
}

/// Certificates whose time is over, or soon will be: a service that ends TLS with each, and what is
/// to be said.
pub(super) fn ending(cluster: &Cluster) -> Vec<(ServiceKey, String)> {
    let (secrets, desired) = (cluster.secrets(), cluster.desired());
    let now_ms = cluster.now_ms();
    let ending = used(&desired, &secrets).filter(|(_, _, s)| s.until_ms < now_ms + SOON_MS);
    let said = ending.map(|(service, key, shown)| {
        let what = match shown.until_ms < now_ms {
            true => "clients refuse it",
            false => "clients will refuse it then",
        };
        let certificate = in_words(key, shown, now_ms);
        let why = format!("{certificate}: {what}; renew it and run controllerctl up -f FILE");
        (service, why)
    });
    said.collect()
}

/// Each certificate that a service ends TLS with, in a line.
pub(super) fn lines(cluster: &Cluster, service: &ServiceKey) -> Vec<String> {
    let (secrets, desired) = (cluster.secrets(), cluster.desired());
    let app = desired.apps.get(&service.app);
    let Some(spec) = app.and_then(|app| app.services.get(&service.service)) else {
        return Vec::new();
    };
    let of_app = secrets
        .shown
        .iter()
        .filter(|(key, _)| key.app == service.app);
    let of_service = of_app.filter(|(key, _)| uses(spec, &key.name));
    let now_ms = cluster.now_ms();
    let lines = of_service.map(|(key, shown)| format!("TLS: {}", in_words(key, shown, now_ms)));
    lines.collect()
}

/// `certificate shop-cert (shop.org) ends in 9 d 3 h, on 2026-12-01`
fn in_words(key: &SecretKey, shown: &Shown, now_ms: u64) -> String {
    let (names, until_ms) = (shown.names.join(", "), shown.until_ms);
    let when = match until_ms < now_ms {
        true => format!("ended {} ago", span(now_ms - until_ms)),
        false => format!("ends in {}", span(until_ms - now_ms)),
    };
    format!(
        "certificate {} ({names}) {when}, on {}",
        key.name,
        day(until_ms)
    )
}

/// An app was removed, its secrets with it.
pub(super) fn forget(cluster: &Cluster, app: &AppName) {
    let secrets = cluster.secrets();
    let changes = secrets.of(app).map(|(key, _)| (key.clone(), None));
    let changes = changes.collect();
    Next {
        changes,
        ..Next::default()
    }
    .publish(cluster);
}

fn missing(app: &AppName, name: &SecretName) -> Status {
    Status::failed_precondition(format!(
        "{app}: certificate {name} is not here; bring it with the file that names it: controllerctl \
         up -f FILE"
    ))
}

/// Names in kept revisions.
fn kept(cluster: &Cluster, app: &AppName) -> Result<BTreeSet<SecretName>, StoreError> {
    let records = revisions(&*cluster.store(), app)?;
    let services = records.iter().map(|record| named(&record.app.services));
    Ok(services.flatten().collect())
}

/// Is everything here that these services name?
pub(super) fn check_present(
    cluster: &Cluster,
    app: &AppName,
    services: &Services,
) -> Result<(), Status> {
    let secrets = cluster.secrets();
    let lacks = |name: &SecretName| {
        let key = SecretKey::new(app.clone(), name.clone());
        !secrets.all.contains_key(&key)
    };
    match named(services).into_iter().find(lacks) {
        Some(name) => Err(missing(app, &name)),
        None => Ok(()),
    }
}
