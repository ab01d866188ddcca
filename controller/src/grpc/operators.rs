//! Operators: let in, changed, removed; and their invites traded for certificates.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longshore_identity::ca::ClusterCa;
use longshore_identity::token::secret_hash;
use longshore_identity::{Identity, OperatorRole, Token, TokenKind, tls};
use longshore_model::event::OperatorAct;
use longshore_model::{Event, EventKind, NodeId, Roles, TimeMs};
use longshore_proto::agent::v1 as agent;
use longshore_proto::operators::v1 as pb;
use longshore_proto::operators::v1::operator_service_server::OperatorService;
use rustls_pki_types::CertificateDer;
use tonic::{Request, Response, Status};

use super::{Refusal, auth, blocking, quoted};
use crate::cluster::{ChangeError, Cluster};
use crate::init::{OPERATOR_VALIDITY, url_of};
use crate::operators::{Credential, OPERATORS_MAX, OperatorRecord, Operators};
use crate::store::StoredEvent;

const HOUR_MS: u64 = 3_600_000;
const INVITE_TTL_MS: u64 = HOUR_MS;
const INVITE_TTL_MS_MAX: u64 = 24 * HOUR_MS;
const TOKEN_TTL_MS: u64 = 90 * 24 * HOUR_MS;
const TOKEN_TTL_MS_MAX: u64 = 365 * 24 * HOUR_MS;
const INVITE_BYTES_MAX: usize = 256;

/// See the module.
pub(super) struct OperatorsApi {
    cluster: Arc<Cluster>,
}

impl OperatorsApi {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl OperatorService for OperatorsApi {
    async fn add_operator(
        &self,
        request: Request<pb::AddOperatorRequest>,
    ) -> Answer<pb::AddOperatorResponse> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let secret = blocking(move || add(&cluster, &request, by)).await?;
        let secret = Some(secret);
        Ok(Response::new(pb::AddOperatorResponse { secret }))
    }

    async fn list_operators(
        &self,
        request: Request<pb::ListOperatorsRequest>,
    ) -> Answer<pb::ListOperatorsResponse> {
        let you = &auth::caller(&request)?.name;
        let now_ms = self.cluster.now_ms();
        let all = Arc::clone(&self.cluster.operators.borrow());
        let all = all.0.values();
        let operators = all.map(|record| listed(record, you, now_ms)).collect();
        Ok(Response::new(pb::ListOperatorsResponse { operators }))
    }

    async fn set_operator_role(
        &self,
        request: Request<pb::SetOperatorRoleRequest>,
    ) -> Answer<pb::SetOperatorRoleResponse> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let before = blocking(move || set_role(&cluster, &request, by)).await?;
        let before = before.as_str().into();
        Ok(Response::new(pb::SetOperatorRoleResponse { before }))
    }

    async fn rotate_operator(
        &self,
        request: Request<pb::RotateOperatorRequest>,
    ) -> Answer<pb::RotateOperatorResponse> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let request = request.into_inner();
        let secret = blocking(move || rotate(&cluster, &request, by)).await?;
        let secret = Some(secret);
        Ok(Response::new(pb::RotateOperatorResponse { secret }))
    }

    async fn remove_operator(
        &self,
        request: Request<pb::RemoveOperatorRequest>,
    ) -> Answer<pb::RemoveOperatorResponse> {
        let (cluster, by) = (Arc::clone(&self.cluster), auth::operator(&request)?);
        let name = request.into_inner().name;
        blocking(move || remove(&cluster, &name, by)).await?;
        Ok(Response::new(pb::RemoveOperatorResponse {}))
    }
}

fn invalid(why: impl Into<String>) -> Refusal {
    Refusal(Status::invalid_argument(why))
}

fn role_of(word: &str) -> Result<OperatorRole, Refusal> {
    word.parse().map_err(|_| {
        let word = quoted(word);
        invalid(format!(
            "{word} is no role: viewer, deployer or admin (--role)"
        ))
    })
}

/// A new secret: what the store keeps, and what is told.
fn secret(
    cluster: &Cluster,
    is_token: bool,
    ttl_ms: u64,
) -> Result<(Credential, pb::Secret), Refusal> {
    let (kind, default, most, words) = match is_token {
        true => (
            TokenKind::Bearer,
            TOKEN_TTL_MS,
            TOKEN_TTL_MS_MAX,
            "a token lives at most 365 days",
        ),
        false => (
            TokenKind::Invite,
            INVITE_TTL_MS,
            INVITE_TTL_MS_MAX,
            "an invite lives at most 24 h",
        ),
    };
    if ttl_ms > most {
        return Err(invalid(format!("{words} (--ttl)")));
    }
    let ttl_ms = if ttl_ms == 0 { default } else { ttl_ms };
    let token = Token::generate(kind, cluster.ca.digest())
        .map_err(|error| Refusal(Status::internal(crate::chain(&error))))?;
    let expires_ms = cluster.now_ms() + ttl_ms;
    let host = cluster.advertise.first();
    let server = host.map(|host| url_of(host, cluster.port));
    let told = pb::Secret {
        text: token.to_string(),
        token: is_token,
        expires_ms,
        server: server.unwrap_or_default(),
    };
    let kept = Credential {
        hash: secret_hash(&token.secret),
        id: token.id,
        expires_ms,
        used_key: None,
    };
    Ok((kept, told))
}

/// What changed of an operator.
struct Kept<T> {
    record: OperatorRecord,
    act: OperatorAct,
    by: String,
    /// Certificates that end now.
    revoked: Vec<String>,
    value: T,
}

/// Runs one change of one operator, and cuts off who may come no longer.
fn change<T>(
    cluster: &Cluster,
    decide: impl FnOnce(&Operators) -> Result<Kept<T>, Status>,
) -> Result<T, Refusal> {
    let mut revoked = Vec::new();
    let value = cluster.change::<_, Refusal>(|ledger, _| {
        let operators = Arc::clone(&cluster.operators.borrow());
        let kept = decide(&operators)?;
        let stored = write(cluster, ledger, operators, &kept)?;
        revoked = kept.revoked;
        Ok((kept.value, stored))
    })?;
    cluster.trust.revoke(revoked);
    Ok(value)
}

fn write<T>(
    cluster: &Cluster,
    ledger: &mut crate::cluster::Ledger,
    operators: Arc<Operators>,
    kept: &Kept<T>,
) -> Result<Vec<StoredEvent>, ChangeError<Refusal>> {
    let (record, name) = (&kept.record, &kept.record.name);
    let kind = EventKind::OperatorKept {
        name: name.clone(),
        role: record.role.as_str().into(),
        act: kept.act,
        by: kept.by.clone(),
    };
    let at_ms = cluster.now_ms();
    let row = (kept.act != OperatorAct::Removed).then_some(record);
    let events = [Event { at_ms, kind }];
    let repository = &mut ledger.repository;
    let stored = repository.put_operator(name, row, &kept.revoked, &events)?;
    let mut next = Operators::clone(&operators);
    match row {
        Some(record) => next.0.insert(name.clone(), record.clone()),
        None => next.0.remove(name),
    };
    // Whoever holds an answer open looks again.
    cluster.operators.send_replace(Arc::new(next));
    Ok(stored)
}

fn known<'a>(operators: &'a Operators, name: &str) -> Result<&'a OperatorRecord, Status> {
    operators.0.get(name).ok_or_else(|| {
        let known: Vec<&str> = operators.0.keys().map(String::as_str).collect();
        let near = super::control::offer(name, known.into_iter());
        let name = quoted(name);
        Status::not_found(format!(
            "there is no operator {name}{near} (controllerctl operator ls)"
        ))
    })
}

/// Somebody must be able to let others in.
fn keeps_an_admin(operators: &Operators, name: &str, now_ms: TimeMs) -> Result<(), Status> {
    match operators.has_other_admin(name, now_ms) {
        true => Ok(()),
        false => Err(Status::failed_precondition(format!(
            "{name} is the last admin who can come in; let another one in first: controllerctl operator add \
             NAME --role admin, and wait until they have fetched their certificate"
        ))),
    }
}

fn add(
    cluster: &Cluster,
    request: &pb::AddOperatorRequest,
    by: String,
) -> Result<pb::Secret, Refusal> {
    let role = role_of(&request.role)?;
    // Operators' names and nodes' share one white-list, as certificates do.
    let name = NodeId::new(request.name.as_str()).map_err(|error| invalid(error.to_string()))?;
    let name = name.to_string();
    let (kept, told) = secret(cluster, request.token, request.ttl_ms)?;
    let mut record = OperatorRecord::new(name, role, cluster.now_ms(), by.clone());
    match request.token {
        true => record.token = Some(kept),
        false => record.invite = Some(kept),
    }
    change(cluster, |operators| {
        let name = &record.name;
        if operators.0.contains_key(name) {
            return Err(Status::already_exists(format!(
                "there is an operator {name} already; to give them new credentials: controllerctl operator \
                 rotate {name}; another role: controllerctl operator role {name} ROLE"
            )));
        }
        if operators.0.len() >= OPERATORS_MAX {
            return Err(Status::resource_exhausted(format!(
                "there are {OPERATORS_MAX} operators; remove some: controllerctl operator rm NAME"
            )));
        }
        Ok(Kept {
            record,
            act: OperatorAct::Added,
            by,
            revoked: Vec::new(),
            value: told,
        })
    })
}

fn set_role(
    cluster: &Cluster,
    request: &pb::SetOperatorRoleRequest,
    by: String,
) -> Result<OperatorRole, Refusal> {
    let role = role_of(&request.role)?;
    let now_ms = cluster.now_ms();
    change(cluster, |operators| {
        let record = known(operators, &request.name)?;
        if role != OperatorRole::Admin && record.role == OperatorRole::Admin {
            keeps_an_admin(operators, &record.name, now_ms)?;
        }
        let before = record.role;
        Ok(Kept {
            record: OperatorRecord {
                role,
                ..record.clone()
            },
            act: OperatorAct::Role,
            by,
            revoked: Vec::new(),
            value: before,
        })
    })
}

fn rotate(
    cluster: &Cluster,
    request: &pb::RotateOperatorRequest,
    by: String,
) -> Result<pb::Secret, Refusal> {
    let now_ms = cluster.now_ms();
    let is_token = {
        let operators = cluster.operators.borrow();
        known(&operators, &request.name)
            .map_err(Refusal)?
            .token
            .is_some()
    };
    let (kept, told) = secret(cluster, is_token, request.ttl_ms)?;
    change(cluster, |operators| {
        let mut record = known(operators, &request.name)?.clone();
        let mut revoked = Vec::new();
        if is_token {
            record.token = Some(kept);
        } else {
            record.invite = Some(kept);
            if request.now {
                if record.role == OperatorRole::Admin {
                    keeps_an_admin(operators, &record.name, now_ms)?;
                }
                revoked = std::mem::take(&mut record.serials);
                record.any_serial = false;
            }
        }
        Ok(Kept {
            record,
            act: OperatorAct::Rotated,
            by,
            revoked,
            value: told,
        })
    })
}

fn remove(cluster: &Cluster, name: &str, by: String) -> Result<(), Refusal> {
    let now_ms = cluster.now_ms();
    change(cluster, |operators| {
        let record = known(operators, name)?.clone();
        if record.role == OperatorRole::Admin {
            keeps_an_admin(operators, name, now_ms)?;
        }
        Ok(Kept {
            revoked: record.serials.clone(),
            record,
            act: OperatorAct::Removed,
            by,
            value: (),
        })
    })
}

/// Trades an invite for a certificate; what the operator had before ends.
pub(super) fn join(
    cluster: &Cluster,
    request: &agent::JoinOperatorRequest,
) -> Result<agent::JoinOperatorResponse, Refusal> {
    if request.invite.len() > INVITE_BYTES_MAX {
        return Err(invalid("the invite is too long; was it copied whole?"));
    }
    let hash = secret_hash(&request.invite);
    let key = ClusterCa::csr_key_digest(&request.csr_der)
        .map_err(|error| invalid(crate::chain(&error)))?;
    let now_ms = cluster.now_ms();
    change(cluster, |operators| {
        let mut record = check_invite(operators.invited(&hash), &key, now_ms)?;
        let (der, serial) = sign(cluster, &record, &request.csr_der)?;
        let revoked = std::mem::replace(&mut record.serials, vec![serial]);
        record.any_serial = false;
        if let Some(invite) = &mut record.invite {
            invite.used_key = Some(key);
        }
        let value = agent::JoinOperatorResponse {
            certificate_chain_der: vec![der],
            ca_der: vec![cluster.ca.cert_der().to_vec()],
            name: record.name.clone(),
            role: record.role.as_str().into(),
            cluster: cluster.meta.cluster.clone(),
        };
        Ok(Kept {
            by: record.name.clone(),
            record,
            act: OperatorAct::Joined,
            revoked,
            value,
        })
    })
}

fn check_invite(
    record: Option<&OperatorRecord>,
    key: &[u8; 32],
    now_ms: TimeMs,
) -> Result<OperatorRecord, Status> {
    let found = record.and_then(|record| Some((record, record.invite.as_ref()?)));
    let Some((record, invite)) = found else {
        return Err(Status::unauthenticated(
            "this invite is not known here (mistyped, replaced, or of another cluster); an admin makes \
             one: controllerctl operator add NAME",
        ));
    };
    let name = &record.name;
    let another = format!("an admin makes another: controllerctl operator rotate {name}");
    if invite.used_key.is_some_and(|used| used != *key) {
        return Err(Status::unauthenticated(format!(
            "this invite of operator {name} was used already; if that was not {name}, remove the \
             certificate at once (controllerctl operator rotate {name} --now); {another}"
        )));
    }
    if now_ms > invite.expires_ms {
        let ago_s = (now_ms - invite.expires_ms) / 1_000;
        return Err(Status::unauthenticated(format!(
            "this invite of operator {name} expired {ago_s} s ago; {another}"
        )));
    }
    Ok(record.clone())
}

fn sign(
    cluster: &Cluster,
    record: &OperatorRecord,
    csr_der: &[u8],
) -> Result<(Vec<u8>, String), Status> {
    let identity = Identity::Operator {
        name: record.name.clone(),
        role: record.role,
    };
    let (roles, now) = (Roles::default(), SystemTime::now());
    let validity: Duration = OPERATOR_VALIDITY;
    let ca = &cluster.ca;
    let der = ca.issue_from_csr(csr_der, &identity, roles, &[], validity, now);
    let der = der.map_err(|error| Status::invalid_argument(crate::chain(&error)))?;
    let leaf = CertificateDer::from(der);
    let serial = tls::serial_of(&leaf);
    let serial = serial.ok_or_else(|| Status::internal("the new certificate has no serial"))?;
    Ok((leaf.to_vec(), serial))
}

fn listed(record: &OperatorRecord, you: &str, now_ms: TimeMs) -> pb::Operator {
    let invite = record.invite.as_ref();
    let open = invite.filter(|invite| invite.used_key.is_none() && invite.expires_ms >= now_ms);
    let until_ms = record.shows_until(now_ms);
    let shows = match (until_ms, &record.token, open) {
        (Some(_), Some(_), _) => "token",
        (Some(_), None, _) => "certificate",
        (None, _, Some(_)) => "invite",
        (None, _, None) => "none",
    };
    pb::Operator {
        name: record.name.clone(),
        role: record.role.as_str().into(),
        since_ms: record.since_ms,
        by: record.by.clone(),
        shows: shows.into(),
        expires_ms: until_ms.filter(|until| *until != TimeMs::MAX).unwrap_or(0),
        invited_until_ms: open.map_or(0, |invite| invite.expires_ms),
        you: record.name == you,
    }
}
