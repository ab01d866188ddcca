//! Secrets apart from apps and registries of the fake controller.

use std::collections::BTreeMap;

use longshore_model::spec::ContentDigest;
use longshore_proto::secrets::v1 as pb;
use pb::secret_service_server::SecretService;

use super::*;

/// What it holds.
#[derive(Default)]
pub(crate) struct Apart {
    pub(crate) secrets: BTreeMap<String, Vec<u8>>,
    /// User and password by server.
    pub(crate) logins: BTreeMap<String, (String, String)>,
}

/// Services that have a secret: `used` is.
pub(super) fn users(name: &str) -> Vec<String> {
    let is_used = name == "used";
    is_used.then(|| "shop/api".to_owned()).into_iter().collect()
}

#[tonic::async_trait]
impl SecretService for Fake {
    async fn put_secret(
        &self,
        request: Request<pb::PutSecretRequest>,
    ) -> Answer<pb::PutSecretResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        let request = request.into_inner();
        let secrets = &mut self.world().apart.secrets;
        let action = match secrets.get(&request.name) {
            None => "created",
            Some(before) if *before == request.contents => "same",
            Some(_) if request.replace => "replaced",
            Some(_) => return Err(Status::already_exists("it is there already")),
        };
        let answer = pb::PutSecretResponse {
            action: action.into(),
            digest: ContentDigest::of(&request.contents).short().into(),
            services: users(&request.name),
        };
        secrets.insert(request.name, request.contents);
        Ok(Response::new(answer))
    }

    async fn remove_secret(
        &self,
        request: Request<pb::RemoveSecretRequest>,
    ) -> Answer<pb::RemoveSecretResponse> {
        self.world()
            .apart
            .secrets
            .remove(&request.into_inner().name);
        Ok(Response::new(pb::RemoveSecretResponse {}))
    }

    async fn put_registry(
        &self,
        request: Request<pb::PutRegistryRequest>,
    ) -> Answer<pb::PutRegistryResponse> {
        Self::needs(&request, OperatorRole::Deployer)?;
        let pb::PutRegistryRequest {
            server,
            user,
            password,
        } = request.into_inner();
        let logins = &mut self.world().apart.logins;
        let replaced = logins.insert(server.clone(), (user, password)).is_some();
        Ok(Response::new(pb::PutRegistryResponse { server, replaced }))
    }

    async fn list_registries(
        &self,
        _: Request<pb::ListRegistriesRequest>,
    ) -> Answer<pb::ListRegistriesResponse> {
        let world = self.world();
        let registry = |(server, (user, _)): (&String, &(String, String))| pb::Registry {
            server: server.clone(),
            user: user.clone(),
            since_ms: NOW_MS,
            by: "ana".into(),
            services: vec!["shop/api".into()],
        };
        let registries = world.apart.logins.iter().map(registry).collect();
        Ok(Response::new(pb::ListRegistriesResponse { registries }))
    }

    async fn remove_registry(
        &self,
        request: Request<pb::RemoveRegistryRequest>,
    ) -> Answer<pb::RemoveRegistryResponse> {
        let server = request.into_inner().server;
        match self.world().apart.logins.remove(&server) {
            Some(_) => Ok(Response::new(pb::RemoveRegistryResponse { server })),
            None => Err(Status::not_found(format!(
                "there are no credentials for {server}"
            ))),
        }
    }
}
