//! `external: true`: secrets that stand apart from apps, as an app's services have them.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::spec::{FileContents, FileSpec};
use longshore_model::{AppName, Desired, ServiceKey, ServiceName};
use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::apply::Services;
use crate::apart::{Apart, ApartSecret};
use crate::cluster::Cluster;

/// The secret that a file is of. None: it is of none, or that is not here.
fn of<'a>(apart: &'a Apart, file: &FileSpec) -> Option<&'a ApartSecret> {
    apart.secrets.get(file.external.as_deref()?)
}

/// Each service with what its external secrets hold now.
pub(super) fn pinned(
    cluster: &Cluster,
    app: &AppName,
    mut services: Services,
) -> Result<Services, Status> {
    let has_any = |files: &[FileSpec]| files.iter().any(|file| file.external.is_some());
    let having = services.iter();
    let having = having.filter(|(_, spec)| has_any(&spec.container.files));
    let having: Vec<ServiceName> = having.map(|(name, _)| name.clone()).collect();
    let apart = cluster.apart.load();
    for service in having {
        let Some(spec) = services.get_mut(&service) else {
            continue;
        };
        let container = &mut Arc::make_mut(spec).container;
        for file in &mut container.files {
            let Some(name) = &file.external else { continue };
            let Some(secret) = apart.secrets.get(name) else {
                return Err(Status::failed_precondition(format!(
                    "{app}/{service}: there is no secret {name} (external, as {}); make it: \
                     controllerctl secret create {name} FILE",
                    file.name
                )));
            };
            file.digest = secret.digest.clone();
            file.bytes = secret.contents.bytes();
        }
        if let Some(fault) = container.file_fault() {
            let why = format!("{app}/{service}: {fault}");
            return Err(Status::invalid_argument(why));
        }
    }
    Ok(services)
}

/// What is in an external secret, if the file is of one that still is what it was pinned to.
pub(super) fn contents(apart: &Apart, file: &FileSpec) -> Option<FileContents> {
    let secret = of(apart, file)?;
    (secret.digest == file.digest).then(|| secret.contents.clone())
}

/// Services whose app, as it was applied last, has the secret.
pub(in crate::grpc) fn users(desired: &Desired, name: &str) -> BTreeSet<ServiceKey> {
    let has = |file: &FileSpec| file.external.as_deref() == Some(name);
    let services = desired.services();
    let users = services.filter(|(_, _, spec)| spec.container.files.iter().any(has));
    users.map(|(key, ..)| key).collect()
}

/// All of them, by name.
pub(super) fn list(cluster: &Cluster) -> Vec<pb::SecretInfo> {
    let (apart, desired) = (cluster.apart.load(), cluster.desired());
    let info = |(name, secret): (&String, &ApartSecret)| pb::SecretInfo {
        app: String::new(),
        kind: "secret".into(),
        name: name.clone(),
        bytes: secret.contents.bytes(),
        digest: secret.digest.short().into(),
        services: users(&desired, name)
            .iter()
            .map(ToString::to_string)
            .collect(),
        until_ms: 0,
        since_ms: secret.since_ms,
        by: secret.by.clone(),
    };
    apart.secrets.iter().map(info).collect()
}
