//! `SecretService`: secrets that stand apart from apps, and credentials for registries.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::event::SecretAct;
use longshore_model::registry::{CREDENTIAL_BYTES_MAX, REGISTRIES_MAX};
use longshore_model::spec::file::{
    EXTERNAL_BYTES_MAX, EXTERNAL_MAX, FILE_NAME_BYTES_MAX, SECRET_BYTES_MAX, is_name,
};
use longshore_model::spec::{ContentDigest, FileContents};
use longshore_model::{Event, EventKind, RegistryHost, SecretText};
use longshore_proto::secrets::v1 as pb;
use longshore_proto::secrets::v1::secret_service_server::SecretService;
use tonic::{Request, Response, Status};

use super::control::external;
use super::{Refusal, auth, blocking, quoted};
use crate::apart::{ApartChanges, ApartSecret, Login};
use crate::cluster::{ChangeError, Cluster};

/// See the module.
pub(super) struct Secrets {
    cluster: Arc<Cluster>,
}

impl Secrets {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }
}

fn invalid(why: String) -> Status {
    Status::invalid_argument(why)
}

fn checked_name(name: &str) -> Result<(), Status> {
    match is_name(name) {
        true => Ok(()),
        false => Err(invalid(format!(
            "{} is no name of a secret; write letters, digits, _ . - ({FILE_NAME_BYTES_MAX} at most)",
            quoted(name)
        ))),
    }
}

fn host(server: &str) -> Result<RegistryHost, Status> {
    server.parse().map_err(|_| {
        invalid(format!(
            "{} is no registry; write its host as images name it, such as registry.example.com:5000",
            quoted(server)
        ))
    })
}

/// Stores what changes, and makes it known.
fn write<T>(
    cluster: &Cluster,
    value: impl FnOnce() -> Result<(T, ApartChanges, Option<EventKind>), Status>,
) -> Result<T, Refusal> {
    cluster.change(|ledger, _| {
        let (value, changes, kind) =
            value().map_err(|status| ChangeError::Refused(Refusal(status)))?;
        let at_ms = cluster.now_ms();
        let events: Vec<Event> = kind.into_iter().map(|kind| Event { at_ms, kind }).collect();
        let stored = ledger.repository.put_apart(&changes, &events)?;
        let next = cluster.apart.load().with(&changes);
        cluster.apart.store(Arc::new(next));
        Ok((value, stored))
    })
}

fn put_secret(
    cluster: &Cluster,
    request: pb::PutSecretRequest,
    by: &str,
) -> Result<pb::PutSecretResponse, Refusal> {
    let pb::PutSecretRequest {
        name,
        contents,
        replace,
    } = request;
    write(cluster, || {
        checked_name(&name)?;
        let bytes = contents.len() as u64;
        if bytes == 0 || bytes > SECRET_BYTES_MAX {
            return Err(invalid(format!(
                "secret {name} has {bytes} bytes; 1 to {SECRET_BYTES_MAX} are allowed"
            )));
        }
        let apart = cluster.apart.load();
        let digest = ContentDigest::of(&contents);
        let before = apart.secrets.get(&name);
        let services = external::users(&cluster.desired(), &name);
        let mut answer = pb::PutSecretResponse {
            action: "same".into(),
            digest: digest.short().into(),
            services: services.iter().map(ToString::to_string).collect(),
        };
        let act = match before {
            Some(before) if before.digest == digest => {
                return Ok((answer, ApartChanges::default(), None));
            }
            Some(before) if !replace => {
                return Err(Status::already_exists(format!(
                    "secret {name} is there already, with other contents (by {}); replace it: \
                     --replace",
                    before.by
                )));
            }
            Some(_) => SecretAct::Replaced,
            None => SecretAct::Created,
        };
        if before.is_none() && apart.secrets.len() >= EXTERNAL_MAX {
            return Err(Status::resource_exhausted(format!(
                "at most {EXTERNAL_MAX} secrets stand apart from apps; remove some: controllerctl \
                 secret rm NAME"
            )));
        }
        let freed = before.map_or(0, |before| before.contents.bytes());
        if apart.bytes() - freed + bytes > EXTERNAL_BYTES_MAX {
            return Err(Status::resource_exhausted(format!(
                "secrets apart from apps have at most {EXTERNAL_BYTES_MAX} bytes together; remove \
                 some: controllerctl secret rm NAME"
            )));
        }
        answer.action = act.as_str().into();
        let secret = ApartSecret {
            contents: FileContents::new(contents),
            digest,
            since_ms: cluster.now_ms(),
            by: by.to_owned(),
        };
        let changes = ApartChanges {
            secrets: [(name.clone(), Some(secret))].into(),
            ..ApartChanges::default()
        };
        let by = by.to_owned();
        Ok((
            answer,
            changes,
            Some(EventKind::SecretKept { name, act, by }),
        ))
    })
}

fn remove_secret(cluster: &Cluster, name: String, by: &str) -> Result<(), Refusal> {
    write(cluster, || {
        if !cluster.apart.load().secrets.contains_key(&name) {
            let name = quoted(&name);
            return Err(Status::not_found(format!(
                "there is no secret {name} apart from apps; those of an app come and go with it"
            )));
        }
        let users = external::users(&cluster.desired(), &name);
        if !users.is_empty() {
            let users: Vec<String> = users.iter().map(ToString::to_string).collect();
            return Err(Status::failed_precondition(format!(
                "secret {name} is used by {}; apply their files without it, or take them down, first",
                users.join(", ")
            )));
        }
        let changes = ApartChanges {
            secrets: [(name.clone(), None)].into(),
            ..ApartChanges::default()
        };
        let (act, by) = (SecretAct::Removed, by.to_owned());
        Ok(((), changes, Some(EventKind::SecretKept { name, act, by })))
    })
}

fn put_registry(
    cluster: &Cluster,
    request: pb::PutRegistryRequest,
    by: &str,
) -> Result<pb::PutRegistryResponse, Refusal> {
    let pb::PutRegistryRequest {
        server,
        user,
        password,
    } = request;
    write(cluster, || {
        let server = host(&server)?;
        let fits = |text: &str| {
            !text.is_empty()
                && text.len() <= CREDENTIAL_BYTES_MAX
                && !text.contains(|c: char| c.is_control())
        };
        if !fits(&user) || user.contains(':') {
            return Err(invalid(format!(
                "{} is no user of a registry",
                quoted(&user)
            )));
        }
        if !fits(&password) {
            return Err(invalid(format!(
                "the password for {server} is empty, longer than {CREDENTIAL_BYTES_MAX} bytes, or of \
                 several lines"
            )));
        }
        let apart = cluster.apart.load();
        let replaced = apart.logins.contains_key(&server);
        if !replaced && apart.logins.len() >= REGISTRIES_MAX {
            return Err(Status::resource_exhausted(format!(
                "there are credentials for {REGISTRIES_MAX} registries; remove some: controllerctl \
                 registry logout SERVER"
            )));
        }
        let login = Login {
            user: user.clone(),
            password: SecretText::new(password),
            since_ms: cluster.now_ms(),
            by: by.to_owned(),
        };
        let answer = pb::PutRegistryResponse {
            server: server.to_string(),
            replaced,
        };
        let kind = EventKind::RegistryLogin {
            server: server.clone(),
            user,
            by: by.to_owned(),
        };
        let changes = ApartChanges {
            logins: [(server, Some(login))].into(),
            ..ApartChanges::default()
        };
        Ok((answer, changes, Some(kind)))
    })
}

fn remove_registry(
    cluster: &Cluster,
    server: &str,
    by: &str,
) -> Result<pb::RemoveRegistryResponse, Refusal> {
    write(cluster, || {
        let server = host(server)?;
        if !cluster.apart.load().logins.contains_key(&server) {
            return Err(Status::not_found(format!(
                "there are no credentials for {server}"
            )));
        }
        let kind = EventKind::RegistryLogout {
            server: server.clone(),
            by: by.to_owned(),
        };
        let answer = pb::RemoveRegistryResponse {
            server: server.to_string(),
        };
        let changes = ApartChanges {
            logins: [(server, None)].into(),
            ..ApartChanges::default()
        };
        Ok((answer, changes, Some(kind)))
    })
}

fn registries(cluster: &Cluster) -> Vec<pb::Registry> {
    let mut users: BTreeMap<RegistryHost, Vec<String>> = BTreeMap::new();
    for (key, _, spec) in cluster.desired().services() {
        let is_held = spec.container.image_digest.is_some();
        if let Some(host) = RegistryHost::of_image(&spec.container.image)
            && !is_held
        {
            users.entry(host).or_default().push(key.to_string());
        }
    }
    let apart = cluster.apart.load();
    let registry = |(host, login): (&RegistryHost, &Login)| pb::Registry {
        server: host.to_string(),
        user: login.user.clone(),
        since_ms: login.since_ms,
        by: login.by.clone(),
        services: users.remove(host).unwrap_or_default(),
    };
    apart.logins.iter().map(registry).collect()
}

#[tonic::async_trait]
impl SecretService for Secrets {
    async fn put_secret(
        &self,
        request: Request<pb::PutSecretRequest>,
    ) -> Result<Response<pb::PutSecretResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let done = blocking(move || put_secret(&cluster, request, &by)).await?;
        Ok(Response::new(done))
    }

    async fn remove_secret(
        &self,
        request: Request<pb::RemoveSecretRequest>,
    ) -> Result<Response<pb::RemoveSecretResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let name = request.into_inner().name;
        blocking(move || remove_secret(&cluster, name, &by)).await?;
        Ok(Response::new(pb::RemoveSecretResponse {}))
    }

    async fn put_registry(
        &self,
        request: Request<pb::PutRegistryRequest>,
    ) -> Result<Response<pb::PutRegistryResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let done = blocking(move || put_registry(&cluster, request, &by)).await?;
        Ok(Response::new(done))
    }

    async fn list_registries(
        &self,
        _: Request<pb::ListRegistriesRequest>,
    ) -> Result<Response<pb::ListRegistriesResponse>, Status> {
        let registries = registries(&self.cluster);
        Ok(Response::new(pb::ListRegistriesResponse { registries }))
    }

    async fn remove_registry(
        &self,
        request: Request<pb::RemoveRegistryRequest>,
    ) -> Result<Response<pb::RemoveRegistryResponse>, Status> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let server = request.into_inner().server;
        let done = blocking(move || remove_registry(&cluster, &server, &by)).await?;
        Ok(Response::new(done))
    }
}
