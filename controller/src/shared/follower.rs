//! What a controller answers while another one leads: who that is, and nothing else.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use longshore_etcd::Leader;
use longshore_identity::tls::{AcceptLimits, CertHolder, TrustHolder, accept, server_config};
use longshore_proto::agent::v1 as pb;
use longshore_proto::agent::v1::enrollment_service_server::{
    EnrollmentService, EnrollmentServiceServer,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use tower::{Layer, Service};

use crate::grpc::ServeError;

/// The one question that is answered.
const WHO_LEADS: &str = "/longshore.agent.v1.EnrollmentService/WhoLeads";
/// Largest header of a call, and calls at the same time on a connection.
const HEADER_BYTES_MAX: u32 = 16 << 10;
const CALLS_MAX: usize = 16;
/// Largest message.
const BYTES_MAX: usize = 4 << 10;

/// What is known while another one leads.
#[derive(Debug, Clone)]
pub(super) struct Outlook {
    /// Where this one is.
    pub(super) own: String,
    /// Who leads.
    pub(super) leader: watch::Receiver<Option<Leader>>,
    /// Where controllers are.
    pub(super) controllers: watch::Receiver<Vec<String>>,
}

impl Outlook {
    fn leader(&self) -> Option<String> {
        let leader = self.leader.borrow();
        let url = leader.as_ref().map(|leader| leader.url.clone());
        // A leadership of this one's that ran out, or that it takes up.
        url.filter(|url| !url.is_empty() && *url != self.own)
    }

    fn refusal(&self) -> Status {
        let who = match self.leader() {
            Some(url) => format!("{url} leads"),
            None => "no controller leads just now".into(),
        };
        Status::unavailable(format!("this controller stands by; {who}"))
    }
}

#[tonic::async_trait]
impl EnrollmentService for Outlook {
    async fn who_leads(
        &self,
        _: Request<pb::WhoLeadsRequest>,
    ) -> Result<Response<pb::WhoLeadsResponse>, Status> {
        Ok(Response::new(pb::WhoLeadsResponse {
            leads: false,
            leader: self.leader().unwrap_or_default(),
            controllers: self.controllers.borrow().clone(),
        }))
    }

    async fn join(
        &self,
        _: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        Err(self.refusal())
    }

    async fn join_operator(
        &self,
        _: Request<pb::JoinOperatorRequest>,
    ) -> Result<Response<pb::JoinOperatorResponse>, Status> {
        Err(self.refusal())
    }

    async fn renew(
        &self,
        _: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        Err(self.refusal())
    }
}

/// Refuses whatever else is called, before it is looked at.
#[derive(Clone)]
struct StandsBy(Outlook);

impl<S> Layer<S> for StandsBy {
    type Service = Refusing<S>;

    fn layer(&self, inner: S) -> Refusing<S> {
        let outlook = self.0.clone();
        Refusing { inner, outlook }
    }
}

#[derive(Clone)]
struct Refusing<S> {
    inner: S,
    outlook: Outlook,
}

impl<S, B> Service<http::Request<B>> for Refusing<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Self::Response, Self::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match request.uri().path() {
            WHO_LEADS => Either::Left(self.inner.call(request)),
            _ => Either::Right(ready(Ok(self.outlook.refusal().into_http()))),
        }
    }
}

/// Serves until `stop`.
///
/// # Errors
/// [`ServeError`].
pub(super) async fn serve(
    outlook: Outlook,
    listener: TcpListener,
    certs: Arc<CertHolder>,
    trust: Arc<TrustHolder>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let tls = server_config(certs, Arc::clone(&trust))?;
    let incoming = accept(listener, tls, trust, AcceptLimits::default());
    let service = EnrollmentServiceServer::new(outlook.clone());
    Server::builder()
        .concurrency_limit_per_connection(CALLS_MAX)
        .max_concurrent_streams(u32::try_from(CALLS_MAX).ok())
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .layer(StandsBy(outlook))
        .add_service(service.max_decoding_message_size(BYTES_MAX))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await?;
    Ok(())
}
