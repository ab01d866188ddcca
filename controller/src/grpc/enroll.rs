//! Joining and renewing: a token, or a certificate, for a certificate.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use longshore_identity::ca::ClusterCa;
use longshore_identity::token::secret_hash;
use longshore_identity::{Identity, Token, TokenKind, tls};
use longshore_model::{Availability, Event, EventKind, Node, NodeId, Roles, TimeMs};
use longshore_proto::agent::v1 as pb;
use longshore_proto::agent::v1::enrollment_service_server::EnrollmentService;
use rustls_pki_types::CertificateDer;
use subtle::ConstantTimeEq;
use tonic::{Request, Response, Status};

use super::control::in_words;
use super::{Refusal, auth, blocking, operators, quoted};
use crate::cluster::Cluster;
use crate::store::{NodeRecord, TokenRecord};

/// Life of a node's certificate; agents renew in the second half of it.
const NODE_VALIDITY: Duration = Duration::from_secs(14 * 86_400);
/// Failed tries that an address has per [`TRY_PERIOD_MS`].
const TRIES_MAX: usize = 5;
const TRY_PERIOD_MS: u64 = 60_000;
/// Addresses or nodes remembered; beyond it one is forgotten.
const TRIERS_MAX: usize = 4_096;
/// Certificates that a node gets per [`RENEWAL_PERIOD_MS`]: answers may be lost, but each more of them
/// is one more to refuse once the node is removed, and only so many are told to all nodes.
const RENEWALS_MAX: usize = 16;
const RENEWAL_PERIOD_MS: u64 = 86_400_000;
/// Certificates of one node that may be valid at the same time; beyond it the oldest is refused.
const SERIALS_MAX: usize = 8;
/// A certificate that is over for so long needs no refusal of its own, whatever this clock does.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(35 * 86_400);
const TOKEN_BYTES_MAX: usize = 256;
const LABELS_MAX: usize = 64;

/// See the module.
pub(super) struct Enrollment {
    cluster: Arc<Cluster>,
    tries: Tries<IpAddr>,
    renewals: Tries<NodeId>,
}

impl Enrollment {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            tries: Tries::new(TRIES_MAX, TRY_PERIOD_MS),
            renewals: Tries::new(RENEWALS_MAX, RENEWAL_PERIOD_MS),
        }
    }

    fn may_try(&self, from: IpAddr, now_ms: TimeMs) -> Result<(), Status> {
        match self.tries.may(&from, now_ms) {
            true => Ok(()),
            false => Err(Status::resource_exhausted(format!(
                "{TRIES_MAX} failed joins from {from} within a minute; try again in a minute"
            ))),
        }
    }
}

/// What was done lately, by whom: failed joins by address, renewals by node. Joins that succeed
/// cost nothing, so that a rack behind one address can join in a row; guessing is what is slowed
/// down.
struct Tries<K> {
    max: usize,
    period_ms: u64,
    times: Mutex<BTreeMap<K, Vec<TimeMs>>>,
}

impl<K: Ord + Clone> Tries<K> {
    fn new(max: usize, period_ms: u64) -> Self {
        Self {
            max,
            period_ms,
            times: Mutex::default(),
        }
    }

    /// Has it any left?
    fn may(&self, who: &K, now_ms: TimeMs) -> bool {
        let mut tries = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(times) = tries.get_mut(who) else {
            return true;
        };
        times.retain(|at| now_ms.saturating_sub(*at) < self.period_ms);
        times.len() < self.max
    }

    fn count(&self, who: &K, now_ms: TimeMs) {
        let mut tries = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        if tries.len() >= TRIERS_MAX && !tries.contains_key(who) {
            tries.retain(|_, times| {
                times
                    .iter()
                    .any(|at| now_ms.saturating_sub(*at) < self.period_ms)
            });
            if tries.len() >= TRIERS_MAX {
                tries.pop_first();
            }
        }
        let times = tries.entry(who.clone()).or_default();
        times.push(now_ms);
        if times.len() > self.max {
            times.remove(0);
        }
    }
}

/// A join request, checked.
struct Wanted {
    from: IpAddr,
    hash: [u8; 32],
    node: Node,
    csr_der: Vec<u8>,
}

#[tonic::async_trait]
impl EnrollmentService for Enrollment {
    async fn who_leads(
        &self,
        _: Request<pb::WhoLeadsRequest>,
    ) -> Result<Response<pb::WhoLeadsResponse>, Status> {
        Ok(Response::new(pb::WhoLeadsResponse {
            leads: true,
            leader: String::new(),
            controllers: self.cluster.controllers.load().to_vec(),
        }))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let from = auth::peer(&request)?.remote.ip();
        let now_ms = self.cluster.now_ms();
        self.may_try(from, now_ms)?;
        let wanted = wanted(request.into_inner(), from, now_ms);
        let joined = match wanted {
            Ok(wanted) => {
                let (cluster, name) = (Arc::clone(&self.cluster), wanted.node.id.clone());
                blocking(move || join(&cluster, wanted))
                    .await
                    .map(|chain| (chain, name))
            }
            Err(status) => Err(status),
        };
        let (chain, name) = joined.inspect_err(|status| {
            self.tries.count(&from, now_ms);
            tracing::info!(%from, why = status.message(), "a join was refused");
        })?;
        tracing::info!(node = %name, %from, "a node joined");
        Ok(Response::new(pb::JoinResponse {
            certificate_chain_der: chain,
            ca_der: vec![self.cluster.ca.cert_der().to_vec()],
            node_id: name.to_string(),
            cluster: self.cluster.meta.cluster.clone(),
        }))
    }

    async fn join_operator(
        &self,
        request: Request<pb::JoinOperatorRequest>,
    ) -> Result<Response<pb::JoinOperatorResponse>, Status> {
        let from = auth::peer(&request)?.remote.ip();
        let now_ms = self.cluster.now_ms();
        self.may_try(from, now_ms)?;
        let (cluster, request) = (Arc::clone(&self.cluster), request.into_inner());
        let joined = blocking(move || operators::join(&cluster, &request)).await;
        let joined = joined.inspect_err(|status| {
            self.tries.count(&from, now_ms);
            tracing::info!(%from, why = status.message(), "an invite was refused");
        })?;
        tracing::info!(operator = joined.name, %from, "an operator took a certificate");
        Ok(Response::new(joined))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        let peer = auth::peer(&request)?;
        let Some(Identity::Node(node)) = peer.identity else {
            return Err(Status::permission_denied("only nodes renew here"));
        };
        let now_ms = self.cluster.now_ms();
        if !self.renewals.may(&node, now_ms) {
            return Err(Status::resource_exhausted(format!(
                "{node} was given {RENEWALS_MAX} certificates within a day; it goes on with the last \
                 one"
            )));
        }
        self.renewals.count(&node, now_ms);
        let cluster = Arc::clone(&self.cluster);
        let csr_der = request.into_inner().csr_der;
        let chain = blocking(move || renew(&cluster, &node, &peer.serial, &csr_der)).await?;
        let ca_der = vec![self.cluster.ca.cert_der().to_vec()];
        Ok(Response::new(pb::RenewResponse {
            certificate_chain_der: chain,
            ca_der,
        }))
    }
}

fn wanted(request: pb::JoinRequest, from: IpAddr, now_ms: TimeMs) -> Result<Wanted, Status> {
    let invalid = |why: String| Status::invalid_argument(why);
    if request.token.len() > TOKEN_BYTES_MAX {
        return Err(invalid(
            "the token is too long; was it copied whole?".into(),
        ));
    }
    // The agent sends the secret part; a whole token is understood as well.
    let hash = match Token::parse(TokenKind::Join, &request.token) {
        Ok(token) => secret_hash(&token.secret),
        Err(_) => secret_hash(&request.token),
    };
    let id = NodeId::new(request.node_name).map_err(|error| invalid(error.to_string()))?;
    let address: IpAddr = request.address.parse().map_err(|_| {
        invalid(format!(
            "{} is no IP address (--address)",
            quoted(&request.address)
        ))
    })?;
    if address.is_unspecified() || address.is_multicast() {
        return Err(invalid(format!(
            "edges cannot reach replicas at {address} (--address)"
        )));
    }
    if !request.worker && !request.edge {
        return Err(invalid(
            "a node needs a role: --role worker, edge or both".into(),
        ));
    }
    let labels: BTreeMap<String, String> = request.labels.into_iter().collect();
    super::control::check_labels(&labels, LABELS_MAX)?;
    let node = Node {
        id,
        roles: Roles {
            worker: request.worker,
            edge: request.edge,
        },
        labels,
        availability: Availability::Active,
        address,
        joined_ms: now_ms,
        note: None,
        drain: None,
        uncordoned_ms: 0,
        removed_volumes: BTreeMap::new(),
    };
    Ok(Wanted {
        from,
        hash,
        node,
        csr_der: request.csr_der,
    })
}

/// Checks the token, signs, and writes node and used token in one batch: a join that fails leaves
/// the token as it was. A node that is there already keeps what operators said of it, and its
/// certificates of before are refused from then on.
fn join(cluster: &Cluster, wanted: Wanted) -> Result<Vec<Vec<u8>>, Refusal> {
    let now_ms = cluster.now_ms();
    let key = ClusterCa::csr_key_digest(&wanted.csr_der)
        .map_err(|error| Refusal(Status::invalid_argument(crate::chain(&error))))?;
    let mut revoked = Vec::new();
    let chain = cluster.change::<_, Refusal>(|ledger, desired| {
        let index = find_token(&ledger.tokens, &wanted.hash);
        let token = index.and_then(|index| ledger.tokens.get(index));
        let name = &wanted.node.id;
        let present = desired.nodes.get(name);
        // The same holder of the same key asks again: the answer was lost on the way.
        let repeats = present.is_some()
            && token.is_some_and(|token| {
                token.used_by.as_ref() == Some(name) && token.used_key == Some(key)
            });
        let mut token = check_token(token, &wanted, repeats, now_ms)?;
        let meant = token.grant.node_name.as_ref() == Some(name);
        if present.is_some() && !repeats && !meant {
            return Err(taken(name).into());
        }
        let mut node = wanted.node.clone();
        if let Some(present) = present {
            node = rejoined(present, node);
        }
        let (der, serial) = sign(cluster, &node, &wanted.csr_der)?;
        token.used_by = Some(name.clone());
        token.used_key = Some(key);
        revoked = ledger.serials.get(name).cloned().unwrap_or_default();
        let record = NodeRecord {
            node,
            serials: vec![serial],
        };
        let joined = Event {
            at_ms: now_ms,
            kind: EventKind::NodeJoined { node: name.clone() },
        };
        let events = if repeats { vec![] } else { vec![joined] };
        let events = ledger
            .repository
            .join_node(&record, &token, &revoked, &events)?;
        if let Some(slot) = index.and_then(|index| ledger.tokens.get_mut(index)) {
            *slot = token;
        }
        ledger.serials.insert(name.clone(), record.serials);
        desired.nodes.insert(name.clone(), record.node);
        Ok((vec![der], events))
    })?;
    cluster.trust.revoke(revoked);
    Ok(chain)
}

fn taken(name: &NodeId) -> Status {
    Status::already_exists(format!(
        "a node named {name} has joined already; choose another --name, or, if this machine shall \
         take its place, use a token for that name: controllerctl token create --role ROLE --name \
         {name}"
    ))
}

/// A node that joins again: what operators said of it stays.
fn rejoined(present: &Node, new: Node) -> Node {
    let mut labels = present.labels.clone();
    labels.extend(new.labels);
    Node {
        roles: new.roles,
        address: new.address,
        labels,
        ..present.clone()
    }
}

/// Looks at every token, so that the time taken says nothing.
fn find_token(tokens: &[TokenRecord], hash: &[u8; 32]) -> Option<usize> {
    let mut found = None;
    for (index, token) in tokens.iter().enumerate() {
        if bool::from(token.hash.ct_eq(hash)) {
            found = Some(index);
        }
    }
    found
}

fn check_token(
    token: Option<&TokenRecord>,
    wanted: &Wanted,
    repeats: bool,
    now_ms: TimeMs,
) -> Result<TokenRecord, Status> {
    const NEW: &str = "make a new one: controllerctl token create --role ROLE";
    let Some(token) = token else {
        return Err(Status::unauthenticated(format!(
            "this join token is not known here (mistyped, or of another cluster); {NEW}"
        )));
    };
    if let Some(user) = token.used_by.as_ref().filter(|_| !repeats) {
        return Err(Status::unauthenticated(format!(
            "this join token was used already, by {user}; each serves one join; {NEW}"
        )));
    }
    if now_ms > token.expires_ms {
        let ago_s = (now_ms - token.expires_ms) / 1_000;
        return Err(Status::unauthenticated(format!(
            "this join token expired {ago_s} s ago; {NEW}"
        )));
    }
    let (grant, node) = (&token.grant, &wanted.node);
    let from = wanted.from.to_canonical();
    if let Some(network) = grant.from.filter(|network| !network.contains(&from)) {
        let network = in_words(network);
        return Err(Status::permission_denied(format!(
            "this join token is for machines of {network} only, and this one comes from {from}; {NEW}"
        )));
    }
    if node.roles.worker && !grant.worker || node.roles.edge && !grant.edge {
        let role = if grant.worker && grant.edge {
            "worker,edge"
        } else if grant.edge {
            "edge"
        } else {
            "worker"
        };
        return Err(Status::permission_denied(format!(
            "this join token is for --role {role} only; {NEW}"
        )));
    }
    match &grant.node_name {
        Some(name) if *name != node.id => Err(Status::permission_denied(format!(
            "this join token is for --name {name} only; {NEW}"
        ))),
        _ => Ok(token.clone()),
    }
}

fn sign(cluster: &Cluster, node: &Node, csr_der: &[u8]) -> Result<(Vec<u8>, String), Status> {
    let identity = Identity::Node(node.id.clone());
    let der = cluster
        .ca
        .issue_from_csr(
            csr_der,
            &identity,
            node.roles,
            &[node.address],
            NODE_VALIDITY,
            SystemTime::now(),
        )
        .map_err(|error| Status::invalid_argument(crate::chain(&error)))?;
    let leaf = CertificateDer::from(der);
    let serial = tls::serial_of(&leaf);
    let serial = serial.ok_or_else(|| Status::internal("the new certificate has no serial"))?;
    Ok((leaf.to_vec(), serial))
}

/// A certificate that is beyond the bound is refused from then on: one that nobody remembers could
/// not be refused when its node is removed.
fn renew(
    cluster: &Cluster,
    name: &NodeId,
    used: &str,
    csr_der: &[u8],
) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut revoked = Vec::new();
    let chain = cluster.change::<_, Refusal>(|ledger, desired| {
        let Some(node) = desired.nodes.get(name) else {
            return Err(removed(name).into());
        };
        let (der, serial) = sign(cluster, node, csr_der)?;
        let mut serials = ledger.serials.get(name).cloned().unwrap_or_default();
        serials.push(serial);
        revoked = superseded(&mut serials, used);
        let now = SystemTime::now();
        revoked.retain(|serial| !is_long_over(serial, now));
        let record = NodeRecord {
            node: node.clone(),
            serials,
        };
        ledger.repository.renew_node(&record, &revoked)?;
        ledger.serials.insert(name.clone(), record.serials);
        Ok((vec![der], Vec::new()))
    })?;
    cluster.trust.revoke(revoked);
    Ok(chain)
}

/// Takes the oldest out of what is too much. The one that the caller uses stays: answers may have been
/// lost on their way, and then it has no other.
fn superseded(serials: &mut Vec<String>, used: &str) -> Vec<String> {
    let mut over = serials.len().saturating_sub(SERIALS_MAX);
    let goes = |serial: &mut String| {
        let goes = over > 0 && serial != used;
        over -= usize::from(goes);
        goes
    };
    serials.extract_if(.., goes).collect()
}

/// Is it refused for its age by everybody? Lists of the refused would grow for ever.
fn is_long_over(serial: &str, now: SystemTime) -> bool {
    let age = tls::serial_end(serial).and_then(|end| now.duration_since(end).ok());
    age.is_some_and(|age| age > FORGOTTEN_AFTER.max(tls::LATE_MAX))
}

/// Said to a node that is no longer one of the cluster's.
pub(super) fn removed(name: &NodeId) -> Status {
    Status::permission_denied(format!(
        "node {name} is not (or no longer) one of this cluster; join it again with a new token"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_everybody_refuses_for_its_age_is_not_refused_by_its_serial() {
        let ca = ClusterCa::create("lab", SystemTime::now()).unwrap();
        let (day, now) = (Duration::from_secs(86_400), SystemTime::now());
        let serial = |since: Duration| {
            let identity = Identity::Node(NodeId::new("a").unwrap());
            let (pem, key) = ca
                .issue_new(&identity, &[], day, now - day - since)
                .unwrap();
            let certs = tls::CertHolder::from_pem(&pem, &key).unwrap();
            let nobody = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
            let leaf = certs.leaf_der().unwrap();
            tls::peer_info(Some(&[leaf]), nobody).unwrap().serial
        };
        assert!(FORGOTTEN_AFTER > tls::LATE_MAX);
        assert!(!is_long_over(&serial(Duration::ZERO), now));
        assert!(!is_long_over(&serial(tls::LATE_MAX), now));
        assert!(is_long_over(&serial(36 * day), now));
        assert!(!is_long_over(&"41".repeat(16), now), "of before");
    }
}
