//! Which secrets, configs and certificates the applied apps have, and which secrets stand apart from
//! them. Never what is in them.

use std::collections::{BTreeMap, BTreeSet};

use longshore_identity::site::digest;
use longshore_model::certificate::is_used;
use longshore_model::spec::FileKind;
use longshore_model::{App, SecretKey, SecretText};
use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::{external, find};
use crate::cluster::Cluster;

/// Most apps that one call names.
const APPS_MAX: usize = 256;
/// Digits of a digest that are shown.
const DIGITS: usize = 12;

/// Those of some apps, by app, kind and name; or of all, and before them those apart from apps.
pub(super) fn list(cluster: &Cluster, apps: &[String]) -> Result<Vec<pb::SecretInfo>, Status> {
    if apps.len() > APPS_MAX {
        return Err(Status::invalid_argument(format!(
            "at most {APPS_MAX} apps can be asked for at once"
        )));
    }
    let desired = cluster.desired();
    for app in apps {
        find::app(&desired, app)?;
    }
    let wanted = |app: &App| apps.is_empty() || apps.iter().any(|name| name == app.name.as_str());
    let mut listed = match apps.is_empty() {
        true => external::list(cluster),
        false => Vec::new(),
    };
    for app in desired.apps.values().filter(|app| wanted(app)) {
        listed.extend(certificates(cluster, app));
        listed.extend(files(app));
    }
    Ok(listed)
}

fn certificates(cluster: &Cluster, app: &App) -> Vec<pb::SecretInfo> {
    let secrets = cluster.secrets();
    let info = |(key, text): (&SecretKey, &SecretText)| {
        let users = app.services.iter().filter(|(_, spec)| is_used(spec, key));
        pb::SecretInfo {
            app: app.name.to_string(),
            kind: "certificate".into(),
            name: key.name.to_string(),
            bytes: text.expose().len() as u64,
            digest: digest(text).chars().take(DIGITS).collect(),
            services: users.map(|(service, _)| service.to_string()).collect(),
            until_ms: secrets.shown.get(key).map_or(0, |shown| shown.until_ms),
            ..pb::SecretInfo::default()
        }
    };
    let infos = secrets.of(&app.name).map(info);
    // Others are kept for revisions that can be undone.
    infos.filter(|info| !info.services.is_empty()).collect()
}

/// One name may have two contents: files of two services of one app are read at one time, but a
/// path may be bound by both.
fn files(app: &App) -> Vec<pb::SecretInfo> {
    let mut users: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for (service, spec) in app.services.iter() {
        for file in &spec.container.files {
            let kind = match file.kind {
                FileKind::Config => "config",
                FileKind::Secret => "secret",
            };
            let key = (kind, &file.name, &file.digest, file.bytes);
            users.entry(key).or_default().insert(service.to_string());
        }
    }
    let infos = users.into_iter();
    let infos = infos.map(|((kind, name, digest, bytes), services)| pb::SecretInfo {
        app: app.name.to_string(),
        kind: kind.into(),
        name: name.clone(),
        bytes,
        digest: digest.short().into(),
        services: services.into_iter().collect(),
        ..pb::SecretInfo::default()
    });
    infos.collect()
}
