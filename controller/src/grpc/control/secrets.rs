//! Certificates that come with an app.
//!
//! They are no part of its spec, which names them only: a new one is no new revision. One that is
//! no longer named stays as long as a kept revision names it, so that `undo` finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_identity::site::{SiteCertificate, digest};
use longshore_model::certificate::is_used;
use longshore_model::secret::{SECRETS_ALL_MAX, SECRETS_MAX};
use longshore_model::{
    AppName, Desired, Event, EventKind, SecretKey, SecretName, SecretText, ServiceKey, ServiceSpec,
};
use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::apply::Services;
use crate::cluster::Cluster;
use crate::grpc::store_status;
use crate::secrets::shown;
use crate::store::{SecretChanges, StoreError, revisions};

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
    pub(super) fn publish(&self, cluster: &Cluster, desired: &mut Desired, by: &str) {
        if !self.changes.is_empty() {
            let next = cluster.secrets().with(&self.changes, by);
            desired.certificates = Arc::clone(&next.shown);
            cluster.set_secrets(next);
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
            let shown = shown(text.as_ref()?, by)?;
            let is_user = |spec: &ServiceSpec| is_used(spec, key);
            let users = services.iter().filter(|(_, spec)| is_user(spec));
            let kind = EventKind::CertificateBrought {
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

/// An app was removed, its secrets with it.
pub(super) fn forget(cluster: &Cluster, desired: &mut Desired, app: &AppName) {
    let secrets = cluster.secrets();
    let changes = secrets.of(app).map(|(key, _)| (key.clone(), None));
    let changes = changes.collect();
    Next {
        changes,
        ..Next::default()
    }
    .publish(cluster, desired, "");
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
