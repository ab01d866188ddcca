//! Applies the rules of who may call what to every call, before any handler sees it.

mod cut;
mod gate;

use std::time::Duration;

use longshore_identity::Identity;
use longshore_identity::tls::{self, PeerInfo};
use longshore_model::{NodeId, Roles};
use tonic::Status;

pub(super) use self::gate::{AuthLayer, Doors};
use super::audit::{Audited, Slot};
use super::enroll;
use super::rules::{Rule, rule_of};
use crate::operators::Operator;

/// Who calls, as far as rules look at it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller<'a> {
    /// Shows no certificate and no token.
    Nobody,
    /// An operator, by certificate or by token.
    Operator(&'a Operator),
    /// A node, and what the cluster wants of it now; none: it is none of the cluster's.
    Node(&'a NodeId, Option<Roles>),
    /// Somebody else with a certificate.
    Other(&'a Identity),
}

/// Applies the rule of `path` to a caller; `late`: for how long their certificate has been over.
///
/// # Errors
/// `UNAUTHENTICATED` or `PERMISSION_DENIED`, with what would be needed.
pub(super) fn allow(path: &str, caller: Caller<'_>, late: Option<Duration>) -> Result<(), Status> {
    let Some(rule) = rule_of(path) else {
        return Err(Status::permission_denied(format!(
            "{path:.200}: nobody may call this"
        )));
    };
    if let Some(late) = late.filter(|_| rule != Rule::Renewal) {
        return Err(renew_first(late));
    }
    let denied = |needed: String| {
        let who = match caller {
            Caller::Nobody => "nobody".to_owned(),
            Caller::Operator(operator) => {
                format!("operator {} ({})", operator.name, operator.role.as_str())
            }
            Caller::Node(node, _) => format!("node/{node}"),
            Caller::Other(identity) => identity.to_string(),
        };
        Err(Status::permission_denied(format!(
            "{who} may not call this; it needs {needed}"
        )))
    };
    match (rule, caller) {
        (Rule::Anyone, _) => Ok(()),
        (_, Caller::Nobody) => Err(Status::unauthenticated(
            "a client certificate of this cluster is needed, or an operator's token: use a context \
             (controllerctl context import FILE), set CONTROLLERCTL_TOKEN, or join the node first",
        )),
        (Rule::Member, _) => Ok(()),
        (Rule::Operator(least), Caller::Operator(operator)) if operator.role >= least => Ok(()),
        (Rule::Operator(least), _) => denied(format!("an operator of role {}", least.as_str())),
        (Rule::Renewal | Rule::Node | Rule::Worker, Caller::Node(node, roles)) => match roles {
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

/// The calling operator's name; what the call is about is noted for the audit trail.
pub(super) fn operator<T: Audited>(request: &tonic::Request<T>) -> Result<String, Status> {
    if let Some(slot) = request.extensions().get::<Slot>() {
        slot.set(request.get_ref().target());
    }
    caller(request).map(|operator| operator.name.clone())
}

/// The name of an operator whose request is a stream, and where to note what it is about.
pub(super) fn streaming<T>(request: &tonic::Request<T>) -> Result<(String, Slot), Status> {
    let slot = request.extensions().get::<Slot>().cloned();
    let name = caller(request)?.name.clone();
    Ok((name, slot.unwrap_or_default()))
}

/// The calling operator.
pub(super) fn caller<T>(request: &tonic::Request<T>) -> Result<&Operator, Status> {
    let operator = request.extensions().get::<Operator>();
    operator.ok_or_else(|| Status::permission_denied("only operators may call this"))
}
