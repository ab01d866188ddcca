//! Who may join, and who may not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::{FakeAgent, Lab};
use longshore_identity::key::KeyPair;
use longshore_identity::tls::{CertHolder, ServerTrust, connect, peer_info};
use longshore_identity::{CaDigest, Identity, Token, TokenKind};
use longshore_model::NodeId;
use longshore_proto::agent::v1 as agent;
use longshore_proto::agent::v1::agent_service_client::AgentServiceClient;
use longshore_proto::agent::v1::enrollment_service_client::EnrollmentServiceClient;
use longshore_proto::control::v1 as pb;
use longshore_proto::control::v1::control_service_client::ControlServiceClient;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_serves_one_join_of_its_role_and_name() {
    let lab = Lab::start().await;
    let token = lab.token(true, false).await;
    let edge = lab.join(&token, "a", false, true).await.unwrap_err();
    assert_eq!(edge.code(), Code::PermissionDenied);
    assert!(edge.message().contains("for --role worker only"), "{edge}");
    lab.join(&token, "a", true, false)
        .await
        .expect("a refused join does not use the token up");
    let reused = lab.join(&token, "b", true, false).await.unwrap_err();
    assert_eq!(reused.code(), Code::Unauthenticated);
    assert!(reused.message().contains("used already, by a"), "{reused}");
    let twice = lab
        .join(&lab.token(true, false).await, "a", true, false)
        .await
        .unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists);
    let request = pb::CreateTokenRequest {
        worker: true,
        node_name: "only".into(),
        ..Default::default()
    };
    let made = lab
        .admin
        .clone()
        .create_token(request)
        .await
        .unwrap()
        .into_inner();
    assert!(
        made.join_command
            .contains("--name only --address ADDRESS --role worker")
    );
    let other = lab
        .join(&made.token, "other", true, false)
        .await
        .unwrap_err();
    assert!(other.message().contains("for --name only only"), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_a_network_serves_machines_of_it_alone() {
    let lab = Lab::start().await;
    let create = async |from: &str| {
        let request = pb::CreateTokenRequest {
            worker: true,
            from: from.into(),
            ..Default::default()
        };
        let made = lab.admin.clone().create_token(request).await;
        made.map(|made| made.into_inner().token)
    };
    for (from, why) in [
        ("10.0.0.0/33", "is no address and no network"),
        ("10.0.0.7/24", "10.0.0.0/24 is meant"),
        ("node7", "is no address and no network"),
    ] {
        let refused = create(from).await.expect_err(from);
        assert!(refused.message().contains(why), "{from}: {refused}");
        assert!(refused.message().contains("(--from)"), "{refused}");
    }
    let elsewhere = create("10.0.0.0/24").await.unwrap();
    let refused = lab.join(&elsewhere, "a", true, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let words = "for machines of 10.0.0.0/24 only, and this one comes from 127.0.0.1";
    assert!(refused.message().contains(words), "{refused}");
    for (name, here) in [("a", "127.0.0.0/8"), ("b", "::ffff:127.0.0.1")] {
        let token = create(here).await.unwrap();
        lab.join(&token, name, true, false).await.expect(here);
    }
    let listed = lab
        .admin
        .clone()
        .list_tokens(pb::ListTokensRequest {})
        .await;
    let listed = listed.unwrap().into_inner().tokens;
    let mut from: Vec<&str> = listed.iter().map(|token| token.from.as_str()).collect();
    from.sort_unstable();
    assert_eq!(from, ["10.0.0.0/24", "127.0.0.0/8", "127.0.0.1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_whose_answer_was_lost_is_repeated_with_the_same_key_only() {
    let lab = Lab::start().await;
    let token = lab.token(true, false).await;
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let join = |key: &KeyPair, name: &'static str| {
        let csr = key.csr_der(name).unwrap();
        lab.join_with(&token, name, true, false, csr)
    };
    let lost = join(&key, "a").await.unwrap();
    let answer = join(&key, "a").await.expect("the same holder asks again");
    assert_ne!(lost.certificate_chain_der, answer.certificate_chain_der);
    for (key, name) in [(&other, "a"), (&key, "b")] {
        let refused = join(key, name).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    }
    let request = pb::RemoveNodeRequest {
        node: "a".into(),
        force: false,
    };
    lab.admin.clone().remove_node(request).await.unwrap();
    let removed = join(&key, "a").await.unwrap_err();
    assert_eq!(
        removed.code(),
        Code::Unauthenticated,
        "a removed node comes back by a new token only"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_its_name_enrols_a_node_again_and_ends_its_old_certificate() {
    let lab = Lab::start().await;
    let old = lab
        .join(&lab.token(true, false).await, "a", true, false)
        .await
        .unwrap();
    let set = pb::SetNodeLabelsRequest {
        node: "a".into(),
        set: [("disk".to_owned(), "ssd".to_owned())].into(),
        remove: Vec::new(),
    };
    lab.admin.clone().set_node_labels(set).await.unwrap();
    let request = pb::CreateTokenRequest {
        worker: true,
        node_name: "a".into(),
        ..Default::default()
    };
    let token = lab.admin.clone().create_token(request).await.unwrap();
    let token = token.into_inner().token;
    lab.join(&token, "a", true, false).await.unwrap();
    let trust = ServerTrust::Ca(lab.ca.clone());
    let refused = connect(&lab.url, Some(old), trust).await.unwrap_err();
    assert!(refused.to_string().contains("was revoked"), "{refused}");
    let nodes = lab.admin.clone().list_nodes(pb::ListNodesRequest {}).await;
    let nodes = nodes.unwrap().into_inner().nodes;
    assert_eq!(nodes[0].labels["disk"], "ssd", "operators' words stay");
    let why = pb::WhyRequest {
        at_ms: 0,
        target: "node/a".into(),
    };
    let why = lab.admin.clone().why(why).await.unwrap().into_inner();
    let said = why.lines.join("\n");
    assert!(
        said.contains("was revoked") && said.contains("--name a"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_joins_with_one_token_exactly_one_wins() {
    let lab = Lab::start().await;
    let token = lab.token(true, false).await;
    let names: Vec<String> = (0..5).map(|n| format!("n{n}")).collect();
    let tries = names.iter().map(|name| lab.join(&token, name, true, false));
    let won = futures_util::future::join_all(tries)
        .await
        .into_iter()
        .filter(Result::is_ok)
        .count();
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_tokens_are_refused_and_guessing_is_slowed_down() {
    let lab = Lab::start().await;
    let real = Token::parse(TokenKind::Join, &lab.token(true, false).await).unwrap();
    let mut codes = Vec::new();
    for _ in 0..7 {
        let guess = Token::generate(TokenKind::Join, real.ca)
            .unwrap()
            .to_string();
        codes.push(lab.join(&guess, "a", true, false).await.unwrap_err().code());
    }
    assert_eq!(codes[..5], [Code::Unauthenticated; 5]);
    assert_eq!(codes[5..], [Code::ResourceExhausted; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_named_so() {
    let lab = Lab::start().await;
    let request = pb::CreateTokenRequest {
        worker: true,
        ttl_ms: 1,
        ..Default::default()
    };
    let made = lab
        .admin
        .clone()
        .create_token(request)
        .await
        .unwrap()
        .into_inner();
    while lab.controller.now_ms() <= made.expires_ms {
        tokio::task::yield_now().await;
    }
    let expired = lab.join(&made.token, "a", true, false).await.unwrap_err();
    assert!(expired.message().contains("expired"), "{expired}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_lets_nobody_in_and_a_used_one_tells_whom() {
    let lab = Lab::start().await;
    let id = |token: &str| Token::parse(TokenKind::Join, token).unwrap().id;
    let (used, open) = (lab.token(true, false).await, lab.token(true, false).await);
    lab.join(&used, "a", true, false).await.unwrap();
    let list = || async {
        let request = pb::ListTokensRequest {};
        let answer = lab.admin.clone().list_tokens(request).await.unwrap();
        let tokens = answer.into_inner().tokens.into_iter();
        let told = tokens.map(|t| (t.id, t.state, t.used_by));
        told.collect::<std::collections::BTreeSet<_>>()
    };
    let row = |id: String, state: &str, by: &str| (id, state.to_owned(), by.to_owned());
    let both = [row(id(&used), "used", "a"), row(id(&open), "open", "")];
    assert_eq!(list().await, both.into());
    let revoke = |id: String| {
        let mut admin = lab.admin.clone();
        async move { admin.revoke_token(pb::RevokeTokenRequest { id }).await }
    };
    revoke(id(&open)).await.unwrap();
    assert_eq!(list().await, [row(id(&used), "used", "a")].into());
    let refused = lab.join(&open, "b", true, false).await.unwrap_err();
    assert!(refused.message().contains("not known here"), "{refused}");
    let again = revoke(id(&open)).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound, "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_cluster_sends_nothing() {
    let lab = Lab::start().await;
    let foreign = Token::generate(TokenKind::Join, CaDigest([7; 32]))
        .unwrap()
        .to_string();
    let refused = lab.join(&foreign, "a", true, false).await.unwrap_err();
    assert!(
        refused.message().contains("another cluster's CA"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_get_a_plain_leaf_or_nothing() {
    let lab = Lab::start().await;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let uri = "spiffe://lab/operator/admin/evil";
    params
        .subject_alt_names
        .push(rcgen::SanType::URI(uri.try_into().unwrap()));
    let csr = params.serialize_request(&key).unwrap().der().to_vec();
    let token = lab.token(true, false).await;
    let joined = lab.join_with(&token, "a", true, false, csr).await.unwrap();
    let certs = crate::support::holder(&joined, &KeyPair::from_pem(&key.serialize_pem()).unwrap());
    let status = control(&lab, Some(certs))
        .await
        .get_status(pb::GetStatusRequest {})
        .await;
    let status = status.expect_err("a node's certificate called the operators' API");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("node/a"), "{status}");

    for bad in [Vec::new(), b"junk".to_vec(), vec![0x30; 9_000]] {
        let token = lab.token(true, false).await;
        let refused = lab
            .join_with(&token, "b", true, false, bad)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
}

async fn control(
    lab: &Lab,
    certs: Option<std::sync::Arc<CertHolder>>,
) -> ControlServiceClient<tonic::transport::Channel> {
    let channel = connect(&lab.url, certs, ServerTrust::Ca(lab.ca.clone()))
        .await
        .unwrap();
    ControlServiceClient::new(channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_nothing_but_joining_answers() {
    let lab = Lab::start().await;
    let status = control(&lab, None)
        .await
        .get_status(pb::GetStatusRequest {})
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("client certificate"), "{status}");
}

/// One more certificate for node `a`, asked for with one that it has; and the code of a refusal.
async fn renew(lab: &Lab, certs: Arc<CertHolder>) -> Result<Arc<CertHolder>, Code> {
    let key = KeyPair::generate().unwrap();
    let trust = ServerTrust::Ca(lab.ca.clone());
    // In TLS 1.3 a refused certificate shows at the first call at the latest.
    let Ok(channel) = connect(&lab.url, Some(certs), trust).await else {
        return Err(Code::Unavailable);
    };
    let request = agent::RenewRequest {
        csr_der: key.csr_der("a").unwrap(),
    };
    let renewed = EnrollmentServiceClient::new(channel).renew(request).await;
    let renewed = renewed.map_err(|status| status.code())?.into_inner();
    let joined = agent::JoinResponse {
        certificate_chain_der: renewed.certificate_chain_der,
        ..Default::default()
    };
    Ok(crate::support::holder(&joined, &key))
}

/// A certificate of node `a` that ended so many days ago.
fn over(lab: &Lab, days: u32) -> Arc<CertHolder> {
    const DAY: Duration = Duration::from_secs(86_400);
    let (identity, life) = (Identity::Node(NodeId::new("a").unwrap()), 14 * DAY);
    let then = SystemTime::now() - days * DAY - life;
    let made = lab.controller.ca.issue_new(&identity, &[], life, then);
    let (pem, key) = made.unwrap();
    CertHolder::from_pem(&pem, &key).unwrap()
}

fn serial(certs: &CertHolder) -> String {
    let leaf = certs.leaf_der().unwrap();
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    peer_info(Some(&[leaf]), at).unwrap().serial
}

async fn why(lab: &Lab) -> String {
    let why = pb::WhyRequest {
        at_ms: 0,
        target: "node/a".into(),
    };
    let why = lab.admin.clone().why(why).await.unwrap().into_inner();
    why.lines.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_certificate_is_over_renews_it_and_has_its_session() {
    let lab = Lab::start().await;
    let token = lab.token(true, false).await;
    lab.join(&token, "a", true, false).await.unwrap();
    let late = over(&lab, 1);
    let trust = ServerTrust::Ca(lab.ca.clone());
    let channel = connect(&lab.url, Some(Arc::clone(&late)), trust).await;
    let mut agent = AgentServiceClient::new(channel.unwrap());
    let refused = agent.session(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let words = "for 30 days it renews itself and does nothing else";
    assert!(refused.message().contains(words), "{refused}");
    let said = why(&lab).await;
    assert!(said.contains("it renews that first, by itself"), "{said}");
    assert!(!said.contains("token create"), "{said}");

    let new = renew(&lab, late).await.unwrap();
    let _agent = FakeAgent::start(&lab, "a", new, false).await;
    lab.until("the node is there", async |mut admin| {
        let nodes = admin.list_nodes(pb::ListNodesRequest {}).await.unwrap();
        let nodes = nodes.into_inner().nodes;
        match nodes.iter().any(|node| node.state == "ready") {
            true => Ok(()),
            false => Err(format!("{nodes:?}")),
        }
    })
    .await;
    let said = why(&lab).await;
    assert!(!said.contains("certificate"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_too_late_or_was_revoked_renews_nothing() {
    let lab = Lab::start().await;
    let token = lab.token(true, false).await;
    let good = lab.join(&token, "a", true, false).await.unwrap();
    let refused = renew(&lab, over(&lab, 31)).await.err();
    assert_eq!(refused, Some(Code::Unavailable), "in the handshake");
    let said = why(&lab).await;
    assert!(
        said.contains("it has expired") && said.contains("--name a"),
        "{said}"
    );
    let revoked = over(&lab, 1);
    lab.controller.trust.revoke([serial(&revoked)]);
    let refused = renew(&lab, revoked).await.err();
    assert_eq!(refused, Some(Code::Unavailable), "in the handshake");
    // A node that was removed: neither with what it had nor with what is over.
    let request = pb::RemoveNodeRequest {
        node: "a".into(),
        force: false,
    };
    lab.admin.clone().remove_node(request).await.unwrap();
    assert_eq!(renew(&lab, good).await.err(), Some(Code::Unavailable));
    let forged = renew(&lab, over(&lab, 1)).await.err();
    assert_eq!(
        forged,
        Some(Code::PermissionDenied),
        "it is no node any more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_certificate_gets_no_more_of_them_than_others() {
    let lab = Lab::start().await;
    let token = lab.token(true, false).await;
    let first = lab.join(&token, "a", true, false).await.unwrap();
    let late = over(&lab, 1);
    for _ in 0..8 {
        renew(&lab, Arc::clone(&late)).await.unwrap();
    }
    assert!(
        lab.controller.trust.is_revoked(&serial(&first)),
        "eight are newer"
    );
    for _ in 8..16 {
        renew(&lab, Arc::clone(&late)).await.unwrap();
    }
    let refused = renew(&lab, late).await.err();
    assert_eq!(refused, Some(Code::ResourceExhausted), "in a day");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_renewals_push_out_is_refused_and_there_are_not_many() {
    let lab = Lab::start().await;
    let token = lab.token(true, false).await;
    let hoarded = lab.join(&token, "a", true, false).await.unwrap();
    let used = renew(&lab, Arc::clone(&hoarded)).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..7 {
        others.push(renew(&lab, Arc::clone(&used)).await.unwrap());
    }
    assert!(renew(&lab, hoarded).await.is_err(), "eight are newer");
    let last = renew(&lab, Arc::clone(&used)).await;
    others.push(last.expect("the one that asks is not refused"));
    let mut given = 1 + others.len();
    while let Ok(certs) = renew(&lab, Arc::clone(&used)).await {
        others.push(certs);
        given += 1;
        assert!(given < 50, "no end of certificates");
    }
    assert_eq!(given, 16, "in a day");
    // Kept over a restart; and no certificate outlives its node's removal.
    let lab = lab.restart().await;
    assert!(renew(&lab, Arc::clone(&others[0])).await.is_err());
    let request = pb::RemoveNodeRequest {
        node: "a".into(),
        force: false,
    };
    lab.admin.clone().remove_node(request).await.unwrap();
    for certs in others.iter().chain([&used]) {
        assert!(lab.controller.trust.is_revoked(&serial(certs)));
    }
}
