//! The gate in front of all handlers.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use longshore_identity::Identity;
use longshore_identity::tls::{PeerInfo, TrustHolder};
use longshore_identity::token::secret_hash;
use longshore_identity::{Token, TokenKind};
use longshore_model::{NodeId, Roles, TimeMs};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::{Caller, allow, cut};
use crate::grpc::audit::{Note, Pending, Slot};
use crate::operators::{Operator, Operators, Shown};

/// What the cluster wants of a node now; none: it is none of the cluster's.
type RolesOf = Arc<dyn Fn(&NodeId) -> Option<Roles> + Send + Sync>;

/// What the gate asks about callers, and whom it tells of calls.
#[derive(Clone)]
pub(in crate::grpc) struct Doors {
    /// What nodes are to do.
    pub(in crate::grpc) roles: RolesOf,
    /// Operators, now and later.
    pub(in crate::grpc) operators: watch::Receiver<Arc<Operators>>,
    /// Now, on the controller's clock.
    pub(in crate::grpc) now_ms: Arc<dyn Fn() -> TimeMs + Send + Sync>,
    /// Writes an entry of the audit trail.
    pub(in crate::grpc) note: Note,
}

/// Checks every call before any handler sees it.
#[derive(Clone)]
pub(in crate::grpc) struct AuthLayer {
    trust: Arc<TrustHolder>,
    doors: Doors,
}

impl AuthLayer {
    pub(in crate::grpc) fn new(trust: Arc<TrustHolder>, doors: Doors) -> Self {
        Self { trust, doors }
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
pub(in crate::grpc) struct Auth<S> {
    inner: S,
    gate: AuthLayer,
}

/// An operator at the gate.
struct Guest {
    operator: Operator,
    shown: Shown,
    peer: PeerInfo,
}

impl Doors {
    /// The operator who shows this, now.
    pub(super) fn who(&self, shown: &Shown) -> Result<Operator, Status> {
        let now_ms = (self.now_ms)();
        let who = self.operators.borrow().who(shown, now_ms);
        who.map_err(|why| Status::unauthenticated(why.to_string()))
    }
}

/// What an operator's caller shows. None: nothing of an operator's.
fn shown<B>(request: &http::Request<B>, peer: &PeerInfo) -> Result<Option<Shown>, Status> {
    match &peer.identity {
        Some(Identity::Operator { name, .. }) => {
            return Ok(Some(Shown::Certificate(name.clone(), peer.serial.clone())));
        }
        Some(_) => return Ok(None),
        None => {}
    }
    let Some(header) = request.headers().get(http::header::AUTHORIZATION) else {
        return Ok(None);
    };
    let text = header
        .to_str()
        .ok()
        .and_then(|text| text.strip_prefix("Bearer "));
    let text = text.ok_or_else(|| Status::unauthenticated("authorization: not `Bearer TOKEN`"))?;
    let token = Token::parse(TokenKind::Bearer, text);
    let token = token.map_err(|why| Status::unauthenticated(why.to_string()))?;
    let hash = secret_hash(&token.secret);
    Ok(Some(Shown::Token(token.id, hash)))
}

impl AuthLayer {
    /// Lets a call in, or not; with the operator who makes it, if one does.
    fn check<B>(&self, request: &http::Request<B>) -> (Option<Guest>, Result<(), Status>) {
        let Some(peer) = request.extensions().get::<PeerInfo>() else {
            let bug = Status::internal("the connection carries no peer");
            return (None, Err(bug));
        };
        // A live connection of a revoked peer is being cut; until then it may call nothing.
        if !peer.serial.is_empty() && self.trust.is_revoked(&peer.serial) {
            let revoked = Status::unauthenticated("this certificate was revoked");
            return (None, Err(revoked));
        }
        let path = request.uri().path();
        let guest = shown(request, peer).and_then(|shown| {
            let Some(shown) = shown else { return Ok(None) };
            let (operator, peer) = (self.doors.who(&shown)?, peer.clone());
            Ok(Some(Guest {
                operator,
                shown,
                peer,
            }))
        });
        let guest = match guest {
            Ok(guest) => guest,
            // Who may come without anything may come with something that does not count, too.
            Err(_) if allow(path, Caller::Nobody, None).is_ok() => None,
            Err(status) => return (None, Err(status)),
        };
        let caller = match (&guest, &peer.identity) {
            (Some(guest), _) => Caller::Operator(&guest.operator),
            (None, Some(Identity::Node(node))) => Caller::Node(node, (self.doors.roles)(node)),
            (None, Some(other)) => Caller::Other(other),
            (None, None) => Caller::Nobody,
        };
        let allowed = allow(path, caller, peer.late);
        (guest, allowed)
    }
}

impl<S, B> Service<http::Request<B>> for Auth<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let path = request.uri().path().to_owned();
        let (guest, allowed) = self.gate.check(&request);
        let Some(guest) = guest else {
            return match allowed {
                Ok(()) => self.inner.call(request).boxed(),
                Err(status) => async move { Ok(status.into_http()) }.boxed(),
            };
        };
        let slot = Slot::default();
        let doors = self.gate.doors.clone();
        let (operator, from) = (&guest.operator, guest.peer.remote.ip());
        let refused = allowed.is_err();
        let pending = Pending::new(
            &path,
            refused,
            operator,
            from,
            slot.clone(),
            doors.note.clone(),
        );
        if let Err(status) = allowed {
            return async move {
                pending.end(Some(&status)).await;
                Ok(status.into_http())
            }
            .boxed();
        }
        let extensions = request.extensions_mut();
        extensions.insert(guest.operator);
        extensions.insert(slot);
        let call = self.inner.call(request);
        async move {
            let response = call.await?;
            let status = Status::from_header_map(response.headers());
            let failed = status.filter(|status| status.code() != tonic::Code::Ok);
            pending.end(failed.as_ref()).await;
            let late = guest.peer.late;
            Ok(response.map(|body| cut::guarded(body, doors, path, guest.shown, late)))
        }
        .boxed()
    }
}
