//! Join tokens: made, listed, revoked.

use std::net::IpAddr;

use ipnet::IpNet;
use longshore_identity::token::secret_hash;
use longshore_identity::{Token, TokenKind};
use longshore_model::{NodeId, TimeMs};
use longshore_proto::control::v1 as pb;
use tonic::Status;

use crate::cluster::Cluster;
use crate::grpc::{Refusal, quoted};
use crate::init::url_of;
use crate::store::{JoinGrant, TokenRecord};

const TTL_MS_DEFAULT: u64 = 3_600_000;
const TTL_MS_MAX: u64 = 24 * 3_600_000;
/// Tokens kept; used and expired ones leave a day later.
const TOKENS_MAX: usize = 1_000;
const KEPT_MS: u64 = 24 * 3_600_000;

/// Makes a token and the line to paste.
pub(super) fn create(
    cluster: &Cluster,
    request: pb::CreateTokenRequest,
    by: String,
) -> Result<pb::CreateTokenResponse, Refusal> {
    let refuse = |why: String| Refusal(Status::invalid_argument(why));
    if !request.worker && !request.edge {
        return Err(refuse(
            "a token needs a role: --role worker, edge or both".into(),
        ));
    }
    if request.ttl_ms > TTL_MS_MAX {
        return Err(refuse("a token lives at most 24 h (--ttl)".into()));
    }
    let node_name = match request.node_name.as_str() {
        "" => None,
        name => Some(NodeId::new(name).map_err(|error| refuse(error.to_string()))?),
    };
    let from = network(&request.from).map_err(refuse)?;
    let ttl_ms = if request.ttl_ms == 0 {
        TTL_MS_DEFAULT
    } else {
        request.ttl_ms
    };
    let now_ms = cluster.now_ms();
    let token = Token::generate(TokenKind::Join, cluster.ca.digest())
        .map_err(|error| Refusal(Status::internal(crate::chain(&error))))?;
    let record = TokenRecord {
        id: token.id.clone(),
        hash: secret_hash(&token.secret),
        grant: JoinGrant {
            worker: request.worker,
            edge: request.edge,
            node_name,
            from,
        },
        expires_ms: now_ms + ttl_ms,
        by,
        used_by: None,
        used_key: None,
    };
    let join_command = command(cluster, &token, &record.grant);
    let expires_ms = record.expires_ms;
    cluster.change::<(), Refusal>(|ledger, _| {
        let old = |token: &TokenRecord| token.expires_ms.saturating_add(KEPT_MS) < now_ms;
        let forget: Vec<String> = ledger
            .tokens
            .iter()
            .filter(|t| old(t))
            .map(|t| t.id.clone())
            .collect();
        if ledger.tokens.len() - forget.len() >= TOKENS_MAX {
            return Err(Status::resource_exhausted(format!(
                "{TOKENS_MAX} tokens are open; wait until some expire"
            ))
            .into());
        }
        ledger.repository.put_token(&record, &forget)?;
        ledger.tokens.retain(|token| !old(token));
        ledger.tokens.push(record);
        Ok(((), Vec::new()))
    })?;
    Ok(pb::CreateTokenResponse {
        token: token.to_string(),
        expires_ms,
        join_command,
    })
}

/// Tokens that are kept, those that expire first before the others.
pub(super) fn list(cluster: &Cluster) -> Vec<pb::TokenInfo> {
    let now_ms = cluster.now_ms();
    let mut tokens = cluster.ledger().tokens.clone();
    tokens.sort_by(|a, b| (a.expires_ms, &a.id).cmp(&(b.expires_ms, &b.id)));
    tokens.iter().map(|token| info(token, now_ms)).collect()
}

/// Forgets a token, so that nobody joins with it.
pub(super) fn revoke(
    cluster: &Cluster,
    id: &str,
    by: &str,
) -> Result<pb::RevokeTokenResponse, Refusal> {
    let now_ms = cluster.now_ms();
    let token = cluster.change::<_, Refusal>(|ledger, _| {
        let found = ledger.tokens.iter().position(|token| token.id == id);
        let Some(at) = found else {
            let id = quoted(id);
            return Err(Status::not_found(format!("there is no join token {id}")).into());
        };
        ledger.repository.forget_token(id)?;
        Ok((ledger.tokens.remove(at), Vec::new()))
    })?;
    tracing::info!(token = id, by, "join token revoked");
    Ok(pb::RevokeTokenResponse {
        token: Some(info(&token, now_ms)),
    })
}

/// An address or a network, as people write it; empty: none.
fn network(text: &str) -> Result<Option<IpNet>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse().map_err(|_| {
            let text = quoted(text);
            format!("{text} is no address and no network: 10.0.0.7 or 10.0.0.0/24 (--from)")
        })?,
    };
    if network.addr() != network.network() {
        let (network, whole) = (network, network.trunc());
        return Err(format!(
            "{network} has bits beside its network: {whole} is meant, or the address alone (--from)"
        ));
    }
    Ok(Some(network))
}

/// A single address without its length.
pub(in crate::grpc) fn in_words(network: IpNet) -> String {
    match network.prefix_len() == network.max_prefix_len() {
        true => network.addr().to_string(),
        false => network.to_string(),
    }
}

fn info(token: &TokenRecord, now_ms: TimeMs) -> pb::TokenInfo {
    let roles = [(token.grant.worker, "worker"), (token.grant.edge, "edge")];
    let roles = roles.iter().filter(|(is, _)| *is);
    let name = |id: &Option<NodeId>| id.as_ref().map(ToString::to_string).unwrap_or_default();
    let state = match (&token.used_by, now_ms > token.expires_ms) {
        (Some(_), _) => "used",
        (None, true) => "expired",
        (None, false) => "open",
    };
    pb::TokenInfo {
        id: token.id.clone(),
        state: state.into(),
        roles: roles.map(|(_, role)| (*role).into()).collect(),
        node_name: name(&token.grant.node_name),
        expires_ms: token.expires_ms,
        by: token.by.clone(),
        used_by: name(&token.used_by),
        from: token.grant.from.map(in_words).unwrap_or_default(),
    }
}

fn command(cluster: &Cluster, token: &Token, grant: &JoinGrant) -> String {
    let host = cluster
        .advertise
        .first()
        .map_or("CONTROLLER", String::as_str);
    let url = url_of(host, cluster.port);
    let name = grant.node_name.as_ref().map_or("NAME", NodeId::as_str);
    let role = match (grant.worker, grant.edge) {
        (true, true) => "worker,edge",
        (false, true) => "edge",
        _ => "worker",
    };
    format!(
        "node-agent join --controller {url} --token {token} --name {name} --address ADDRESS --role {role}"
    )
}
