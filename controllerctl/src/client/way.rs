//! The way to the controller that leads: one connection that all clones share, and that another one replaces when
//! another controller leads.

use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use longshore_identity::tls::ConnectError;
use longshore_reach::{Reached, reach};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::util::Oneshot;
use tower::{Service, ServiceExt as _};

use super::credentials::Credentials;

/// See the module.
#[derive(Clone)]
pub(super) struct Way {
    servers: Arc<Vec<String>>,
    credentials: Arc<Credentials>,
    channel: Arc<ArcSwap<Channel>>,
}

impl Way {
    /// To whoever leads, from any of `servers`; and what else was said.
    pub(super) async fn find(
        servers: Vec<String>,
        credentials: Credentials,
    ) -> Result<(Self, Reached), ConnectError> {
        let reached = reach(&servers, credentials.certs.as_ref(), &credentials.trust).await?;
        let mut known = servers;
        let others = reached.controllers.iter();
        known.extend(
            others
                .filter(|other| !known.contains(other))
                .cloned()
                .collect::<Vec<_>>(),
        );
        let way = Self {
            servers: Arc::new(known),
            credentials: Arc::new(credentials),
            channel: Arc::new(ArcSwap::from_pointee(reached.channel.clone())),
        };
        Ok((way, reached))
    }

    /// Looks for the one that leads now, if there may be another one. Where none is found, the connection stays.
    pub(super) async fn find_again(&self) {
        if self.servers.len() < 2 {
            return;
        }
        let Credentials { certs, trust, .. } = &*self.credentials;
        if let Ok(reached) = reach(&self.servers, certs.as_ref(), trust).await {
            self.channel.store(Arc::new(reached.channel));
        }
    }
}

impl Service<http::Request<Body>> for Way {
    type Response = http::Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Oneshot<Channel, http::Request<Body>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // The channel that is there when the call is made is asked.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(bearer) = &self.credentials.bearer {
            let name = http::header::AUTHORIZATION;
            request.headers_mut().insert(name, bearer.clone());
        }
        Channel::clone(&self.channel.load()).oneshot(request)
    }
}
