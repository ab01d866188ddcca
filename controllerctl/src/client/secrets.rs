//! Secrets apart from apps, and credentials for registries.

use longshore_proto::secrets::v1 as pb;
use tonic::Request;

use super::{CALL_TIMEOUT, Client, bounded};
use crate::failure::Failure;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ident) -> $answer:ident, $attempt:literal;)*) => {
        impl Client {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// The refusal or the failed connection, in words.
                pub async fn $name(&mut self, message: pb::$request) -> Result<pb::$answer, Failure> {
                    let mut request = Request::new(message);
                    request.set_timeout(CALL_TIMEOUT);
                    let answer = bounded(self.secrets.$name(request)).await;
                    Ok(answer.map_err(|s| Failure::call($attempt, s))?.into_inner())
                }
            )*
        }
    };
}

calls! {
    /// Keeps a secret.
    put_secret(PutSecretRequest) -> PutSecretResponse, "keep the secret";
    /// Forgets a secret.
    remove_secret(RemoveSecretRequest) -> RemoveSecretResponse, "remove the secret";
    /// Keeps credentials.
    put_registry(PutRegistryRequest) -> PutRegistryResponse, "keep the credentials";
    /// Registries that there are credentials for.
    list_registries(ListRegistriesRequest) -> ListRegistriesResponse, "list registries";
    /// Forgets credentials.
    remove_registry(RemoveRegistryRequest) -> RemoveRegistryResponse, "remove the credentials";
}
