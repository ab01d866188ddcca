//! Contents of secrets and configs that come with an app.
//!
//! Its spec names them by digest, so new contents are a new template and a new revision. Those that
//! no kept revision and no running template names are forgotten.

use std::collections::BTreeSet;

use longshore_model::spec::file::{ALL_CONTENTS_BYTES_MAX, APP_CONTENTS_BYTES_MAX};
use longshore_model::spec::{ContentDigest, ContentMap, FileSpec};
use longshore_model::{AppName, ServiceName};
use longshore_proto::control::v1 as pb;
use longshore_wire::checked_contents;
use tonic::Status;

use super::apply::Services;
use super::external;
use crate::cluster::Cluster;
use crate::grpc::store_status;
use crate::store::{ContentChanges, revisions};

/// Most contents that one call brings.
const SENT_MAX: usize = 1_024;

fn files(services: &Services) -> impl Iterator<Item = (&ServiceName, &FileSpec)> {
    let services = services.iter();
    services.flat_map(|(name, spec)| spec.container.files.iter().map(move |file| (name, file)))
}

fn named(services: &Services) -> BTreeSet<ContentDigest> {
    files(services)
        .map(|(_, file)| file.digest.clone())
        .collect()
}

/// Checks what was sent.
pub(super) fn read(
    sent: Vec<pb::FileContents>,
    app: &AppName,
    services: &Services,
) -> Result<ContentMap, Status> {
    let invalid = |why: String| Status::invalid_argument(format!("{app}: {why}"));
    if sent.len() > SENT_MAX {
        let why = format!("{} contents of files; at most {SENT_MAX}", sent.len());
        return Err(invalid(why));
    }
    let named = named(services);
    let mut read = ContentMap::new();
    for contents in sent {
        let (digest, contents) = checked_contents(&contents.digest, contents.contents)
            .map_err(|error| invalid(error.to_string()))?;
        if !named.contains(&digest) {
            let short = digest.short();
            return Err(invalid(format!(
                "contents sha256:{short}: no service names them"
            )));
        }
        read.insert(digest, contents);
    }
    Ok(read)
}

/// What an apply changes.
pub(super) fn next(
    cluster: &Cluster,
    app: &AppName,
    services: &Services,
    sent: &ContentMap,
) -> Result<ContentChanges, Status> {
    let contents = cluster.contents();
    let present: ContentMap = contents
        .of(app)
        .map(|(d, c)| (d.clone(), c.clone()))
        .collect();
    let apart = cluster.apart.load();
    let mut changes = ContentChanges::new();
    let mut bytes = 0_u64;
    for (service, file) in files(services) {
        let found = present.get(&file.digest).or_else(|| sent.get(&file.digest));
        let found = found.cloned().or_else(|| external::contents(&apart, file));
        let Some(found) = found else {
            return Err(missing(app, service, file));
        };
        if found.bytes() != file.bytes {
            let has = found.bytes();
            let why = format!("{app}/{service}: {file} has {has} bytes");
            return Err(Status::invalid_argument(why));
        }
        let key = (app.clone(), file.digest.clone());
        if !present.contains_key(&file.digest) && changes.insert(key, Some(found.clone())).is_none()
        {
            bytes += found.bytes();
        }
    }
    let named = named(services);
    let of_named = present.iter().filter(|(digest, _)| named.contains(*digest));
    let whole = bytes + of_named.map(|(_, contents)| contents.bytes()).sum::<u64>();
    if whole > APP_CONTENTS_BYTES_MAX {
        return Err(Status::invalid_argument(format!(
            "{app}: its secrets and configs have {whole} bytes together; at most \
             {APP_CONTENTS_BYTES_MAX} are allowed: put large files into images, or into volumes"
        )));
    }
    if present.keys().any(|digest| !named.contains(digest)) {
        let kept = kept(cluster, app)?;
        let is_past = |digest: &&ContentDigest| !named.contains(*digest) && !kept.contains(*digest);
        for digest in present.keys().filter(is_past) {
            changes.insert((app.clone(), digest.clone()), None);
        }
    }
    if contents.with(&changes).bytes() > ALL_CONTENTS_BYTES_MAX {
        return Err(Status::resource_exhausted(format!(
            "a cluster keeps at most {ALL_CONTENTS_BYTES_MAX} bytes of secrets and configs, those of \
             revisions that can be undone among them; put large files into images, or take apps down"
        )));
    }
    Ok(changes)
}

/// What revisions and templates in the plan name.
fn kept(cluster: &Cluster, app: &AppName) -> Result<BTreeSet<ContentDigest>, Status> {
    let records = revisions(&*cluster.store(), app).map_err(store_status)?;
    let mut kept: BTreeSet<ContentDigest> = records
        .iter()
        .flat_map(|record| named(&record.app.services))
        .collect();
    let plan = &cluster.view().plan;
    let services = plan.services.iter().filter(|(key, _)| key.app == *app);
    let templates = services.flat_map(|(_, service)| service.templates.values());
    kept.extend(templates.flat_map(|spec| spec.files.iter().map(|file| file.digest.clone())));
    Ok(kept)
}

/// Makes what was stored known.
pub(super) fn publish(cluster: &Cluster, changes: &ContentChanges) {
    if !changes.is_empty() {
        cluster.set_contents(cluster.contents().with(changes));
    }
}

/// An app was removed, its contents with it.
pub(super) fn forget(cluster: &Cluster, app: &AppName) {
    let contents = cluster.contents();
    let changes = contents.of(app);
    let changes = changes.map(|(digest, _)| ((app.clone(), digest.clone()), None));
    publish(cluster, &changes.collect());
}

/// Is everything here that these services name?
pub(super) fn check_present(
    cluster: &Cluster,
    app: &AppName,
    services: &Services,
) -> Result<(), Status> {
    let contents = cluster.contents();
    let lacks = |file: &FileSpec| {
        let key = (app.clone(), file.digest.clone());
        !contents.all.contains_key(&key)
    };
    match files(services).find(|(_, file)| lacks(file)) {
        Some((service, file)) => Err(missing(app, service, file)),
        None => Ok(()),
    }
}

fn missing(app: &AppName, service: &ServiceName, file: &FileSpec) -> Status {
    Status::failed_precondition(format!(
        "{app}/{service}: what is in {file} is not here; bring it with the file that names it: \
         controllerctl up -f FILE"
    ))
}
