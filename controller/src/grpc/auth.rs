//! Applies the rules of who may call what to every call, before any handler sees it.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, Ready, ready};
use longshore_identity::Identity;
use longshore_identity::tls::{self, PeerInfo, TrustHolder};
use longshore_model::{NodeId, Roles};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::enroll;
use super::rules::{Rule, rule_of};

/// Who calls, as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    /// None: no certificate was shown.
    pub(super) identity: Option<&'a Identity>,
    /// For how long its certificate has been over.
    pub(super) late: Option<Duration>,
    /// What the cluster wants of the node now; none: it is none of the cluster's.
    pub(super) roles: Option<Roles>,
}

/// Applies the rule of `path` to a caller.
///
/// # Errors
/// `UNAUTHENTICATED` or `PERMISSION_DENIED`, with what would be needed.
pub(super) fn allow(path: &str, caller: Caller<'_>) -> Result<(), Status> {
    let Some(rule) = rule_of(path) else {
        return Err(Status::permission_denied(format!(
            "{path:.200}: nobody may call this"
        )));
    };
    if let Some(late) = caller.late.filter(|_| rule != Rule::Renewal) {
        return Err(renew_first(late));
    }
    let Some(identity) = caller.identity else {
        return match rule {
            Rule::Anyone => Ok(()),
            _ => Err(Status::unauthenticated(
                "a client certificate of this cluster is needed: use a context \
                 (controllerctl context import FILE), or join the node first",
            )),
        };
    };
    let denied = |needed: String| {
        Err(Status::permission_denied(format!(
            "{identity} may not call this; it needs {needed}"
        )))
    };
    match (rule, identity) {
        (Rule::Anyone | Rule::Member, _) => Ok(()),
        (Rule::Operator(least), Identity::Operator { role, .. }) if *role >= least => Ok(()),
        (Rule::Operator(least), _) => denied(format!("an operator of role {}", least.as_str())),
        (Rule::Renewal | Rule::Node | Rule::Worker, Identity::Node(node)) => match caller.roles {
            None => Err(enroll::removed(node)),
            Some(roles) if rule == Rule::Worker && !roles.worker => {
                denied("role worker, and this node is an edge only".into())
            }
            Some(_) => Ok(()),
        },
        (Rule::Renewal | Rule::Node | Rule::Worker, _) => denied("a node's certificate".into()),
    }
}

/// Said to a node whose certificate is over, whatever else it calls.
fn renew_first(late: Duration) -> Status {
    let ago = humantime::format_duration(Duration::from_secs(late.as_secs() / 60 * 60));
    let (days, key) = (tls::LATE_MAX.as_secs() / 86_400, tls::RENEW_FIRST);
    let mut status = Status::unauthenticated(format!(
        "this certificate ended {ago} ago; for {days} days it renews itself and does nothing else: its \
         agent does that before all other calls (a restart of it, or an update, if it does not)"
    ));
    let metadata = status.metadata_mut();
    metadata.insert(key, tonic::metadata::MetadataValue::from_static("1"));
    status
}

/// The caller's certificate and address.
///
/// # Errors
/// `INTERNAL` if the connection carries none: a bug, and never a way in.
pub(super) fn peer<T>(request: &tonic::Request<T>) -> Result<PeerInfo, Status> {
    let peer = request.extensions().get::<PeerInfo>().cloned();
    peer.ok_or_else(|| Status::internal("the connection carries no peer"))
}

/// The calling operator's name, for the audit trail.
pub(super) fn operator<T>(request: &tonic::Request<T>) -> Result<String, Status> {
    match peer(request)?.identity {
        Some(Identity::Operator { name, .. }) => Ok(name),
        _ => Err(Status::permission_denied("only operators may call this")),
    }
}

/// What the cluster wants of a node now; none: it is none of the cluster's.
pub(super) type RolesOf = Arc<dyn Fn(&NodeId) -> Option<Roles> + Send + Sync>;

/// Checks every call before any handler sees it.
#[derive(Clone)]
pub(super) struct AuthLayer {
    trust: Arc<TrustHolder>,
    roles: RolesOf,
}

impl AuthLayer {
    pub(super) fn new(trust: Arc<TrustHolder>, roles: RolesOf) -> Self {
        Self { trust, roles }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        let gate = self.clone();
        Auth { inner, gate }
    }
}

#[derive(Clone)]
pub(super) struct Auth<S> {
    inner: S,
    gate: AuthLayer,
}

impl AuthLayer {
    fn check<B>(&self, request: &http::Request<B>) -> Result<(), Status> {
        let Some(peer) = request.extensions().get::<PeerInfo>() else {
            return Err(Status::internal("the connection carries no peer"));
        };
        // A live connection of a revoked peer is being cut; until then it may call nothing.
        if !peer.serial.is_empty() && self.trust.is_revoked(&peer.serial) {
            return Err(Status::unauthenticated("this certificate was revoked"));
        }
        let caller = Caller {
            identity: peer.identity.as_ref(),
            late: peer.late,
            roles: match &peer.identity {
                Some(Identity::Node(node)) => (self.roles)(node),
                _ => None,
            },
        };
        allow(request.uri().path(), caller)
    }
}

impl<S, B> Service<http::Request<B>> for Auth<S>
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
        match self.gate.check(&request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}
