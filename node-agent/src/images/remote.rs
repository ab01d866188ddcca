//! Images from the controller, on a connection of their own: a layer that comes in must not hold up
//! the session.

use std::time::Duration;

use futures_util::stream;
use longshore_model::{ImageDigest, ImageRef, RegistryHost, SecretText};
use longshore_proto::images::v1 as pb;
use longshore_proto::images::v1::image_source_service_client::ImageSourceServiceClient;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::{Blob, Credentials, ImageSource, Manifest, Pieces, Seen, SourceError, Stage, Wanted};
use crate::identity::NodeIdentity;
use crate::join::dial;

/// Longest wait for an answer, or for the next piece.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub struct Remote {
    identity: NodeIdentity,
    /// Dials again by itself once it was made.
    client: Mutex<Option<ImageSourceServiceClient<Channel>>>,
}

impl Remote {
    /// As this node. Does not connect yet.
    #[must_use]
    pub fn new(identity: NodeIdentity) -> Self {
        Self {
            identity,
            client: Mutex::new(None),
        }
    }

    async fn client(&self) -> Result<ImageSourceServiceClient<Channel>, SourceError> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let channel = dial(&self.identity).await;
        let channel = channel.map_err(|error| SourceError::Away(error.to_string()))?;
        let client = ImageSourceServiceClient::new(channel);
        *kept = Some(client.clone());
        Ok(client)
    }
}

fn failed(status: &Status) -> SourceError {
    match status.code() {
        Code::Unavailable | Code::Unknown => SourceError::Away(status.message().to_owned()),
        Code::OutOfRange => SourceError::Beyond(status.message().to_owned()),
        _ => SourceError::Refused(status.message().to_owned()),
    }
}

fn silent() -> SourceError {
    SourceError::Away(format!("nothing came for {} s", SILENCE_MAX.as_secs()))
}

/// An answer within its time; what is not found is none.
async fn ask<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<Option<T>, SourceError> {
    match timeout(SILENCE_MAX, call).await {
        Err(_) => Err(silent()),
        Ok(Ok(answer)) => Ok(Some(answer.into_inner())),
        Ok(Err(status)) if status.code() == Code::NotFound => Ok(None),
        Ok(Err(status)) => Err(failed(&status)),
    }
}

async fn next(
    stream: &mut Streaming<pb::GetBlobResponse>,
) -> Result<Option<pb::GetBlobResponse>, SourceError> {
    let message = timeout(SILENCE_MAX, stream.message()).await;
    let message = message.map_err(|_| silent())?;
    message.map_err(|status| failed(&status))
}

fn pieces(stream: Streaming<pb::GetBlobResponse>) -> Pieces {
    Box::pin(stream::unfold(Some(stream), |stream| async {
        let mut stream = stream?;
        match next(&mut stream).await {
            Ok(None) => None,
            Ok(Some(piece)) => Some((Ok(piece.data), Some(stream))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

#[tonic::async_trait]
impl ImageSource for Remote {
    async fn manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Manifest>, SourceError> {
        let mut client = self.client().await?;
        let request = pb::GetManifestRequest {
            repository: repository.to_owned(),
            reference: reference.to_owned(),
        };
        let found = ask(client.get_manifest(request)).await?;
        Ok(found.map(|found| Manifest {
            bytes: found.manifest,
            media_type: found.media_type,
            digest: found.digest,
        }))
    }

    async fn blob(
        &self,
        digest: &ImageDigest,
        offset: u64,
        length: u64,
    ) -> Result<Option<Blob>, SourceError> {
        let mut client = self.client().await?;
        let request = pb::GetBlobRequest {
            digest: digest.to_string(),
            offset,
            length,
        };
        let Some(mut stream) = ask(client.get_blob(request)).await? else {
            return Ok(None);
        };
        let first = next(&mut stream).await?;
        let first = first.ok_or_else(|| SourceError::Refused("an empty answer".into()))?;
        Ok(Some(Blob {
            total: first.total_bytes,
            pieces: pieces(stream),
        }))
    }

    async fn tags(&self, repository: &str) -> Result<Option<Vec<String>>, SourceError> {
        let mut client = self.client().await?;
        let repository = repository.to_owned();
        let found = ask(client.list_tags(pb::ListTagsRequest { repository })).await?;
        Ok(found.map(|found| found.tags))
    }

    async fn ahead(&self, seen: &[Seen], wait: Duration) -> Result<Vec<Wanted>, SourceError> {
        let mut client = self.client().await?;
        let request = pb::ListAheadRequest {
            seen: seen.iter().map(seen_to_pb).collect(),
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        };
        let found = ask(client.list_ahead(request)).await?;
        let read = |image: pb::AheadImage| {
            let digest = image.digest.map(|digest| digest.parse()).transpose();
            let digest = digest.map_err(|e| SourceError::Refused(format!("a digest {e}")))?;
            let name = image.image;
            Ok(Wanted {
                image: ImageRef { name, digest },
                asked_ms: image.asked_ms,
            })
        };
        let images = found.map(|found| found.images).unwrap_or_default();
        images.into_iter().map(read).collect()
    }
    async fn credentials(&self, image: &str) -> Result<Option<Credentials>, SourceError> {
        let mut client = self.client().await?;
        let request = pb::GetCredentialsRequest {
            image: image.to_owned(),
        };
        let found = ask(client.get_credentials(request)).await?;
        // They are for that registry, and for no other.
        let host = RegistryHost::of_image(image);
        let found =
            found.filter(|found| Some(&*found.server) == host.as_ref().map(RegistryHost::as_str));
        Ok(found.map(|found| Credentials {
            user: found.user,
            password: SecretText::new(found.password),
        }))
    }
}

fn seen_to_pb(seen: &Seen) -> pb::AheadSeen {
    let (state, detail) = match &seen.stage {
        Stage::Waiting(why) => (pb::AheadState::Waiting, (*why).to_owned()),
        Stage::Fetching => (pb::AheadState::Fetching, String::new()),
        Stage::Here => (pb::AheadState::Here, String::new()),
        Stage::Failed(why) => (pb::AheadState::Failed, why.clone()),
    };
    let Wanted { image, asked_ms } = &seen.wanted;
    pb::AheadSeen {
        image: Some(pb::AheadImage {
            image: image.name.clone(),
            digest: image.digest.clone().map(String::from),
            asked_ms: *asked_ms,
        }),
        state: state.into(),
        detail,
    }
}
