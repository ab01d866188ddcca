//! The only way in: one port, TLS 1.3, seven services.

mod agent;
mod audit;
mod auth;
mod control;
mod enroll;
mod images;
mod operators;
mod rules;
mod secrets;
mod session;

use std::sync::Arc;
use std::time::Duration;

use longshore_identity::tls::{AcceptLimits, CertHolder, Listener, accept, server_config};
use longshore_proto::agent::v1::agent_service_server::AgentServiceServer;
use longshore_proto::agent::v1::enrollment_service_server::EnrollmentServiceServer;
use longshore_proto::control::v1::control_service_server::ControlServiceServer;
use longshore_proto::images::v1::image_service_server::ImageServiceServer;
use longshore_proto::images::v1::image_source_service_server::ImageSourceServiceServer;
use longshore_proto::operators::v1::operator_service_server::OperatorServiceServer;
use longshore_proto::secrets::v1::secret_service_server::SecretServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Server;

use crate::cluster::Cluster;
use crate::images::Blobs;
use crate::store::StoreError;
use crate::waiting::beside;

/// Largest message of an agent.
const AGENT_BYTES_MAX: usize = 1 << 20;
/// Largest message of an operator: an app with 8 MiB of secrets and configs.
const CONTROL_BYTES_MAX: usize = 16 << 20;
/// Largest assignment or routes.
const COMMAND_BYTES_MAX: usize = 64 << 20;
/// Calls at the same time on one connection.
const CALLS_MAX: usize = 128;
/// Largest header of a call.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// A silent connection is asked for a sign of life this often, and given as long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Streams that a peer may open and reset before it is cut (rapid reset).
const RESETS_MAX: usize = 32;

/// Why the server cannot be set up or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// TLS.
    #[error("TLS cannot be set up")]
    Pki(#[from] longshore_identity::PkiError),
    /// Reflection.
    #[error("reflection cannot be set up")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until `stop`; then finishes what runs.
///
/// # Errors
/// [`ServeError`].
pub async fn serve<L: Listener>(
    (cluster, blobs): (Arc<Cluster>, Arc<Blobs>),
    listener: L,
    certs: Arc<CertHolder>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let tls = server_config(certs, Arc::clone(&cluster.trust))?;
    let incoming = accept(
        listener,
        tls,
        Arc::clone(&cluster.trust),
        AcceptLimits::default(),
    );
    let doors = doors(&cluster);
    let (health_reporter, health) = tonic_health::server::health_reporter();
    let control = control::Control::new(Arc::clone(&cluster));
    let agent = agent::Agent::new(Arc::clone(&cluster));
    let enroll = enroll::Enrollment::new(Arc::clone(&cluster));
    let images = images::Images::new(Arc::clone(&cluster), blobs);
    let secrets = secrets::Secrets::new(Arc::clone(&cluster));
    let operators = operators::OperatorsApi::new(Arc::clone(&cluster));
    health_reporter
        .set_serving::<ControlServiceServer<control::Control>>()
        .await;
    health_reporter
        .set_serving::<AgentServiceServer<agent::Agent>>()
        .await;
    let reflection = match cluster.config.reflection {
        true => Some(
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(longshore_proto::DESCRIPTORS)
                .build_v1()?,
        ),
        false => None,
    };
    Server::builder()
        .concurrency_limit_per_connection(CALLS_MAX)
        .max_concurrent_streams(u32::try_from(CALLS_MAX).ok())
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
        .layer(auth::AuthLayer::new(Arc::clone(&cluster.trust), doors))
        .add_service(health)
        .add_optional_service(reflection)
        .add_service(
            EnrollmentServiceServer::new(enroll).max_decoding_message_size(AGENT_BYTES_MAX),
        )
        .add_service(
            AgentServiceServer::new(agent)
                .max_decoding_message_size(AGENT_BYTES_MAX)
                .max_encoding_message_size(COMMAND_BYTES_MAX),
        )
        .add_service(
            ControlServiceServer::new(control).max_decoding_message_size(CONTROL_BYTES_MAX),
        )
        .add_service(
            ImageServiceServer::new(images.clone()).max_decoding_message_size(AGENT_BYTES_MAX),
        )
        .add_service(
            ImageSourceServiceServer::new(images).max_decoding_message_size(AGENT_BYTES_MAX),
        )
        .add_service(
            OperatorServiceServer::new(operators).max_decoding_message_size(AGENT_BYTES_MAX),
        )
        .add_service(SecretServiceServer::new(secrets).max_decoding_message_size(AGENT_BYTES_MAX))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await?;
    Ok(())
}

/// What the gate asks about callers.
fn doors(cluster: &Arc<Cluster>) -> auth::Doors {
    let [wants, clock, trail] = std::array::from_fn(|_| Arc::clone(cluster));
    let refusals = audit::Refusals::default();
    auth::Doors {
        roles: Arc::new(move |node| Some(wants.desired().nodes.get(node)?.roles)),
        operators: cluster.operators.subscribe(),
        now_ms: Arc::new(move || clock.now_ms()),
        note: Arc::new(move |kind| audit::record(&trail, &refusals, kind)),
    }
}

/// A failed write, as the caller sees it.
fn store_status(error: StoreError) -> Status {
    match error {
        StoreError::Full { .. } | StoreError::TooLarge { .. } => {
            Status::resource_exhausted(error.to_string())
        }
        StoreError::Away { .. } => Status::unavailable(crate::chain(&error)),
        other => Status::unavailable(format!(
            "{}; the controller restarts, nothing acknowledged is lost, retry in a moment",
            crate::chain(&other)
        )),
    }
}

/// A store error inside a change, already on its way to a [`Status`].
impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self(store_status(error))
    }
}

/// A refused change.
#[derive(Debug)]
struct Refusal(Status);

impl From<Status> for crate::cluster::ChangeError<Refusal> {
    fn from(status: Status) -> Self {
        Self::Refused(Refusal(status))
    }
}

/// Runs a change of the cluster where it may wait for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Status> {
    match beside(work).await {
        Ok(result) => result.map_err(|refusal| refusal.0),
        Err(error) => {
            tracing::error!(%error, "a call failed inside the controller");
            Err(Status::internal(
                "the controller failed inside this call; its log says why",
            ))
        }
    }
}

/// Longest word of a request that a message repeats.
const QUOTED_CHARS_MAX: usize = 64;

/// A word of a request as a message repeats it, cut where nobody reads on.
fn quoted(word: &str) -> String {
    let mut chars = word.chars();
    let short: String = chars.by_ref().take(QUOTED_CHARS_MAX).collect();
    match chars.next() {
        None => format!("{short:?}"),
        Some(_) => format!("{short:?}…"),
    }
}

#[cfg(test)]
mod words {
    use super::quoted;

    #[test]
    fn a_long_word_is_cut() {
        assert_eq!(quoted("we\"b"), r#""we\"b""#);
        assert_eq!(quoted(&"a".repeat(10_000)).chars().count(), 67);
    }
}
