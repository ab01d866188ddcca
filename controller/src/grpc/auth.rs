//! Who may call what. Every method has a rule; a method without one is refused.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{Either, Ready, ready};
use longshore_identity::tls::{self, PeerInfo, TrustHolder};
use longshore_identity::{Identity, OperatorRole};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Anybody, without a certificate: joining only.
    Anyone,
    /// Anybody of the cluster.
    Member,
    /// Nodes, for themselves, though their certificate be over: it is what they come to change.
    Renewal,
    /// Nodes, for themselves.
    Node,
    /// Operators of at least this role.
    Operator(OperatorRole),
}

/// The rule of a method by its path.
pub(super) fn rule(path: &str) -> Option<Rule> {
    use OperatorRole::{Admin, Deployer, Viewer};
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    Some(match (service, method) {
        ("longshore.agent.v1.EnrollmentService", "Join") => Rule::Anyone,
        ("longshore.agent.v1.EnrollmentService", "Renew") => Rule::Renewal,
        ("longshore.agent.v1.AgentService", "Session") => Rule::Node,
        ("longshore.control.v1.ControlService", method) => Rule::Operator(match method {
            "GetStatus" | "ListNodes" | "ListServices" | "ListReplicas" | "Watch" | "Events"
            | "Why" | "ListDecisions" | "ListAutoscale" | "Logs" | "PlanApp" | "PlanServices"
            | "ListRollouts" | "RolloutHistory" | "ProxyConfig" | "ListSecrets" | "DiskUse"
            | "NodeLogs" | "ListMetrics" | "SimulateAutoscale" => Viewer,
            "ApplyApp" | "DownApp" | "Scale" | "SetAutoscale" | "Exec" | "UndoRollout"
            | "PauseRollout" | "ResumeRollout" | "RestartServices" | "SetReplicaTraffic" => {
                Deployer
            }
            "SetNodeAvailability"
            | "SetNodeLabels"
            | "RemoveNode"
            | "CreateToken"
            | "ListTokens"
            | "RevokeToken"
            | "RemoveVolume"
            | "Backup" => Admin,
            _ => return None,
        }),
        ("longshore.images.v1.ImageService", method) => Rule::Operator(match method {
            "ListImages" | "ResolveImages" => Viewer,
            "MissingBlobs" | "UploadBlob" | "RecordImage" | "RemoveImage" | "PruneImages"
            | "FetchImage" => Deployer,
            _ => return None,
        }),
        (
            "longshore.images.v1.ImageSourceService",
            "GetManifest" | "GetBlob" | "ListTags" | "ListAhead" | "GetCredentials",
        ) => Rule::Node,
        ("longshore.secrets.v1.SecretService", method) => Rule::Operator(match method {
            "ListRegistries" => Viewer,
            "PutSecret" | "RemoveSecret" | "PutRegistry" | "RemoveRegistry" => Deployer,
            _ => return None,
        }),
        ("grpc.health.v1.Health", _) => Rule::Member,
        ("grpc.reflection.v1.ServerReflection", _) => Rule::Operator(Viewer),
        _ => return None,
    })
}

/// Applies the rule of `path` to a caller.
///
/// # Errors
/// `UNAUTHENTICATED` or `PERMISSION_DENIED`, with what would be needed.
pub(super) fn allow(
    path: &str,
    caller: Option<&Identity>,
    late: Option<Duration>,
) -> Result<(), Status> {
    let Some(rule) = rule(path) else {
        return Err(Status::permission_denied(format!(
            "{path:.200}: nobody may call this"
        )));
    };
    if let Some(late) = late.filter(|_| rule != Rule::Renewal) {
        return Err(renew_first(late));
    }
    let Some(caller) = caller else {
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
            "{caller} may not call this; it needs {needed}"
        )))
    };
    match (rule, caller) {
        (Rule::Anyone | Rule::Member, _) | (Rule::Node | Rule::Renewal, Identity::Node(_)) => {
            Ok(())
        }
        (Rule::Operator(least), Identity::Operator { role, .. }) if *role >= least => Ok(()),
        (Rule::Operator(least), _) => denied(format!("an operator of role {}", least.as_str())),
        (Rule::Node | Rule::Renewal, _) => denied("a node's certificate".into()),
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

/// Checks every call before any handler sees it.
#[derive(Clone)]
pub(super) struct AuthLayer {
    trust: Arc<TrustHolder>,
}

impl AuthLayer {
    pub(super) fn new(trust: Arc<TrustHolder>) -> Self {
        Self { trust }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Auth<S>;

    fn layer(&self, inner: S) -> Auth<S> {
        Auth {
            inner,
            trust: Arc::clone(&self.trust),
        }
    }
}

#[derive(Clone)]
pub(super) struct Auth<S> {
    inner: S,
    trust: Arc<TrustHolder>,
}

impl<S> Auth<S> {
    fn check<B>(&self, request: &http::Request<B>) -> Result<(), Status> {
        let Some(peer) = request.extensions().get::<PeerInfo>() else {
            return Err(Status::internal("the connection carries no peer"));
        };
        // A live connection of a revoked peer is being cut; until then it may call nothing.
        if !peer.serial.is_empty() && self.trust.is_revoked(&peer.serial) {
            return Err(Status::unauthenticated("this certificate was revoked"));
        }
        allow(request.uri().path(), peer.identity.as_ref(), peer.late)
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
        match self.check(&request) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}
