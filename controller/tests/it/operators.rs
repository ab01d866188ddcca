//! Operators: let in, changed, cut off; by certificate and by token; and what is noted of them.

use std::sync::Arc;

use controller::rescue::{Rescue, rescue};
use longshore_identity::key::KeyPair;
use longshore_identity::tls::{CertHolder, ServerTrust, connect};
use longshore_identity::{Token, TokenKind};
use longshore_proto::agent::v1 as agent;
use longshore_proto::agent::v1::enrollment_service_client::EnrollmentServiceClient;
use longshore_proto::control::v1 as control;
use longshore_proto::control::v1::control_service_client::ControlServiceClient;
use longshore_proto::operators::v1 as pb;
use longshore_proto::operators::v1::operator_service_client::OperatorServiceClient;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use crate::support::{BOUND, Lab};

/// Calls with a token.
#[derive(Clone)]
struct Bearer(String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value: MetadataValue<_> = format!("Bearer {}", self.0).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

fn operators(lab: &Lab) -> OperatorServiceClient<Channel> {
    OperatorServiceClient::new(lab.channel.clone())
}

async fn add(lab: &Lab, name: &str, role: &str, token: bool) -> pb::Secret {
    let request = pb::AddOperatorRequest {
        name: name.into(),
        role: role.into(),
        token,
        ttl_ms: 0,
    };
    let added = operators(lab).add_operator(request).await.unwrap();
    added.into_inner().secret.unwrap()
}

async fn rotate(lab: &Lab, name: &str, now: bool) -> pb::Secret {
    let request = pb::RotateOperatorRequest {
        name: name.into(),
        now,
        ..Default::default()
    };
    let rotated = operators(lab).rotate_operator(request).await.unwrap();
    rotated.into_inner().secret.unwrap()
}

async fn trade(lab: &Lab, invite: &str, key: &KeyPair) -> Result<Arc<CertHolder>, Status> {
    let invite = Token::parse(TokenKind::Invite, invite).unwrap();
    let trust = ServerTrust::Digest(invite.ca);
    let channel = connect(&lab.url, None, trust).await.unwrap();
    let request = agent::JoinOperatorRequest {
        invite: invite.secret.to_string(),
        csr_der: key.csr_der("operator").unwrap(),
    };
    let mut client = EnrollmentServiceClient::new(channel);
    let joined = client.join_operator(request).await?.into_inner();
    let pem = crate::support::pem(&joined.certificate_chain_der[0]);
    Ok(CertHolder::from_pem(&pem, &key.pem()).unwrap())
}

async fn calling(lab: &Lab, certs: Option<Arc<CertHolder>>) -> ControlServiceClient<Channel> {
    let trust = ServerTrust::Ca(lab.ca.clone());
    ControlServiceClient::new(connect(&lab.url, certs, trust).await.unwrap())
}

async fn with_token(
    lab: &Lab,
    token: &str,
) -> ControlServiceClient<InterceptedService<Channel, Bearer>> {
    let trust = ServerTrust::Ca(lab.ca.clone());
    let channel = connect(&lab.url, None, trust).await.unwrap();
    ControlServiceClient::with_interceptor(channel, Bearer(token.into()))
}

fn scale() -> control::ScaleRequest {
    control::ScaleRequest {
        service: "shop/web".into(),
        count: 3,
        hold_ms: 0,
    }
}

/// Reads until the stream is cut; how it was.
async fn until_cut<T>(mut stream: Streaming<T>) -> Status {
    let cut = async {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ended in good order"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(BOUND, cut).await.expect("cut off")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_comes_by_an_invite_once() {
    let lab = Lab::start().await;
    let invite = add(&lab, "ana", "deployer", false).await;
    assert_eq!(invite.server, lab.url);
    let key = KeyPair::generate().unwrap();
    let certs = trade(&lab, &invite.text, &key).await.unwrap();
    let refused = calling(&lab, Some(Arc::clone(&certs)))
        .await
        .scale(scale())
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound, "she may ask");
    let removal = control::RemoveNodeRequest::default();
    let refused = calling(&lab, Some(Arc::clone(&certs)))
        .await
        .remove_node(removal)
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(
        refused
            .message()
            .contains("operator ana (deployer) may not"),
        "{refused}"
    );

    // The answer was lost: the same key gets another certificate, in place of that one.
    let again = trade(&lab, &invite.text, &key).await.unwrap();
    calling(&lab, Some(again))
        .await
        .get_status(control::GetStatusRequest {})
        .await
        .unwrap();
    let trust = ServerTrust::Ca(lab.ca.clone());
    let refused = connect(&lab.url, Some(certs), trust).await.unwrap_err();
    assert!(refused.to_string().contains("was revoked"), "{refused}");
    let other = KeyPair::generate().unwrap();
    let refused = trade(&lab, &invite.text, &other).await.unwrap_err();
    assert!(refused.message().contains("was used already"), "{refused}");
    let unknown = Token::generate(TokenKind::Invite, lab.controller.ca.digest()).unwrap();
    let refused = trade(&lab, &unknown.to_string(), &other).await.unwrap_err();
    assert!(refused.message().contains("not known here"), "{refused}");

    // All of it is there after a restart.
    let lab = lab.restart().await;
    let listed = operators(&lab)
        .list_operators(pb::ListOperatorsRequest {})
        .await;
    let listed = listed.unwrap().into_inner().operators;
    let rows: Vec<_> = listed
        .iter()
        .map(|o| (o.name.as_str(), o.role.as_str(), o.shows.as_str(), o.you))
        .collect();
    assert_eq!(
        rows,
        [
            ("admin", "admin", "certificate", true),
            ("ana", "deployer", "certificate", false)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_no_longer_is_cut_off() {
    let lab = Lab::start().await;
    let invite = add(&lab, "ana", "deployer", false).await;
    let key = KeyPair::generate().unwrap();
    let certs = trade(&lab, &invite.text, &key).await.unwrap();
    let token = add(&lab, "ci", "deployer", true).await;
    let mut ana = calling(&lab, Some(certs)).await;
    let mut ci = with_token(&lab, &token.text).await;
    let follow = || control::EventsRequest {
        follow: true,
        ..Default::default()
    };
    let by_certificate = ana.events(follow()).await.unwrap().into_inner();
    let by_token = ci.events(follow()).await.unwrap().into_inner();
    // A lesser role cuts what needs more, and leaves what does not.
    let role = pb::SetOperatorRoleRequest {
        name: "ci".into(),
        role: "viewer".into(),
    };
    let before = operators(&lab).set_operator_role(role).await.unwrap();
    assert_eq!(before.into_inner().before, "deployer");
    let denied = ci.scale(scale()).await.unwrap_err();
    assert!(
        denied.message().contains("operator ci (viewer) may not"),
        "{denied}"
    );

    for (name, stream) in [("ana", by_certificate), ("ci", by_token)] {
        let request = pb::RemoveOperatorRequest { name: name.into() };
        operators(&lab).remove_operator(request).await.unwrap();
        let status = until_cut(stream).await;
        assert!(
            matches!(
                status.code(),
                Code::Unauthenticated | Code::Unknown | Code::Unavailable
            ),
            "{name}: {status}"
        );
    }
    let gone = ci
        .get_status(control::GetStatusRequest {})
        .await
        .unwrap_err();
    assert!(
        gone.message().contains("this token is not known here"),
        "{gone}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_by_itself_with_what_it_reads() {
    let lab = Lab::start().await;
    let request = pb::AddOperatorRequest {
        name: "short".into(),
        role: "viewer".into(),
        token: true,
        ttl_ms: 1_500,
    };
    let secret = operators(&lab).add_operator(request).await.unwrap();
    let secret = secret.into_inner().secret.unwrap();
    let mut client = with_token(&lab, &secret.text).await;
    let follow = control::EventsRequest {
        follow: true,
        ..Default::default()
    };
    let stream = client.events(follow).await.unwrap().into_inner();
    let cut = until_cut(stream).await;
    assert_eq!(cut.code(), Code::Unauthenticated);
    assert!(
        cut.message().contains("the token of operator short ended"),
        "{cut}"
    );
    assert!(lab.controller.now_ms() >= secret.expires_ms);
    for (token, ttl_ms, words) in [
        (true, 366 * 86_400_000, "at most 365 days"),
        (false, 25 * 3_600_000, "at most 24 h"),
    ] {
        let request = pb::AddOperatorRequest {
            name: "long".into(),
            role: "viewer".into(),
            token,
            ttl_ms,
        };
        let refused = operators(&lab).add_operator(request).await.unwrap_err();
        assert!(refused.message().contains(words), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_can_always_let_others_in() {
    let lab = Lab::start().await;
    let mut api = operators(&lab);
    let name = || "admin".to_owned();
    add(&lab, "bob", "admin", false).await;
    let lesser = pb::SetOperatorRoleRequest {
        name: name(),
        role: "viewer".into(),
    };
    let at_once = pb::RotateOperatorRequest {
        name: name(),
        now: true,
        ..Default::default()
    };
    let removal = pb::RemoveOperatorRequest { name: name() };
    // Bob has not fetched his certificate.
    for refused in [
        api.remove_operator(removal.clone()).await.unwrap_err(),
        api.set_operator_role(lesser).await.unwrap_err(),
        api.rotate_operator(at_once).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(
            refused.message().contains("the last admin who can come in"),
            "{refused}"
        );
    }
    // A new certificate for oneself: the old one counts until that is fetched.
    let invite = rotate(&lab, "admin", false).await;
    api.list_operators(pb::ListOperatorsRequest {})
        .await
        .unwrap();
    let key = KeyPair::generate().unwrap();
    let certs = trade(&lab, &invite.text, &key).await.unwrap();
    api.list_operators(pb::ListOperatorsRequest {})
        .await
        .unwrap_err();
    calling(&lab, Some(certs))
        .await
        .list_tokens(control::ListTokensRequest {})
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_did_is_told_to_who_asks_for_it() {
    let lab = Lab::start().await;
    let token = add(&lab, "ci", "viewer", true).await;
    let mut ci = with_token(&lab, &token.text).await;
    ci.list_nodes(control::ListNodesRequest {}).await.unwrap();
    ci.scale(scale()).await.unwrap_err();
    let mut admin = lab.admin.clone();
    admin.scale(scale()).await.unwrap_err();
    let made = control::CreateTokenRequest {
        worker: true,
        ..Default::default()
    };
    admin.create_token(made).await.unwrap();
    let mut read = async |types: &[&str]| {
        let request = control::EventsRequest {
            types: types.iter().map(|&word| word.to_owned()).collect(),
            ..Default::default()
        };
        let mut stream = admin.events(request).await.unwrap().into_inner();
        let mut lines = Vec::new();
        while let Some(event) = stream.message().await.unwrap() {
            lines.push(event.message);
        }
        lines
    };
    let calls = read(&["operator_called"]).await;
    let all: Vec<&str> = calls.iter().map(String::as_str).collect();
    let [added, denied, unknown, created] = all.as_slice() else {
        panic!("{all:#?}")
    };
    assert_eq!(
        *added,
        "admin (admin) from 127.0.0.1: Operator.AddOperator ci as viewer"
    );
    assert!(
        denied.starts_with("ci (viewer, by token) from 127.0.0.1: Control.Scale: refused: "),
        "{denied}"
    );
    assert!(
        denied.contains("it needs an operator of role deployer"),
        "{denied}"
    );
    assert!(
        unknown.starts_with("admin (admin) from 127.0.0.1: Control.Scale shop/web=3: refused: "),
        "{unknown}"
    );
    assert_eq!(
        *created,
        "admin (admin) from 127.0.0.1: Control.CreateToken worker"
    );
    let usual = read(&[]).await;
    assert!(
        usual.iter().all(|line| !line.contains("Control.Scale")),
        "{usual:#?}"
    );
    assert!(
        usual
            .iter()
            .any(|line| line == "operator ci let in as viewer by admin"),
        "{usual:#?}"
    );
    let secret = Token::parse(TokenKind::Bearer, &token.text).unwrap().secret;
    assert!(!calls.concat().contains(secret.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_nothing_left_is_let_in_on_the_controllers_machine() {
    let lab = Lab::start().await;
    let data_dir = lab.data_dir();
    let wanted = |context_out| Rescue {
        data_dir: data_dir.clone(),
        name: "admin".into(),
        context_out,
        etcd: None,
        advertise: None,
    };
    let out = lab.dir.path().join("rescued.toml");
    let refused = rescue(&wanted(out.clone())).unwrap_err();
    assert!(
        controller::chain(&refused).contains("cannot lock"),
        "{refused}"
    );
    assert!(!out.exists());
    let (dir, _) = lab.stop().await;
    let first = dir.path().join("context.toml");
    let before = context(&first);
    let told = rescue(&wanted(out.clone())).unwrap();
    assert!(told.contains("operator admin: admin"), "{told}");
    // The lab calls with what is in this file.
    std::fs::copy(&out, &first).unwrap();
    let lab = Lab::run(dir).await;
    let mut admin = lab.admin.clone();
    let listed = admin.list_tokens(control::ListTokensRequest {}).await;
    listed.unwrap();
    let trust = ServerTrust::Ca(lab.ca.clone());
    let refused = connect(&lab.url, Some(before), trust).await.unwrap_err();
    assert!(refused.to_string().contains("was revoked"), "{refused}");
}

fn context(file: &std::path::Path) -> Arc<CertHolder> {
    let file: toml::Table = std::fs::read_to_string(file).unwrap().parse().unwrap();
    let text = |key: &str| file["context"]["lab"][key].as_str().unwrap();
    CertHolder::from_pem(text("cert"), text("key")).unwrap()
}
