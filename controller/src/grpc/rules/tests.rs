//! The table of docs/security.md, tried: every call by certificates of every kind, which have gone through a
//! handshake as they do in earnest.

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use longshore_identity::ca::ClusterCa;
use longshore_identity::tls::{
    AcceptLimits, CertHolder, CertificateRefusal, ConnectError, PeerInfo, RENEW_FIRST, ServerTrust,
    TrustHolder, accept, connect, peer_info, server_config,
};
use longshore_identity::token::secret_hash;
use longshore_identity::{CaDigest, Identity, OperatorRole, Token, TokenKind};
use longshore_model::{NodeId, Roles};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use super::super::auth::{AuthLayer, Doors};
use super::*;
use crate::operators::{Credential, OperatorRecord, Operators};

const DAY: Duration = Duration::from_secs(86_400);
const LIFE: Duration = Duration::from_secs(14 * 86_400);

/// What is written down: who may call each path, by the columns' names.
fn expected() -> BTreeMap<String, HashSet<&'static str>> {
    let text = include_str!("../../../../docs/security.md");
    let mut rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| calls |"));
    let cells = |line: &'static str| {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        cells.collect::<Vec<_>>()
    };
    let columns = cells(rows.next().expect("the table"));
    let rows = rows.skip(1).take_while(|line| line.starts_with('|'));
    let mut all = BTreeMap::new();
    for row in rows.map(cells) {
        let (service, methods) = row[0].split_once(": ").expect("SERVICE: CALL, CALL");
        assert_eq!(row.len(), columns.len(), "{service}");
        for method in methods.split(", ") {
            let end = format!(".{service}/{method}");
            let ours = Method::ALL.iter().find(|m| m.path().ends_with(&end));
            let path = match ours {
                Some(ours) => ours.path().to_owned(),
                None => format!("/{service}/{method}"),
            };
            let pairs = columns.iter().zip(&row).skip(1);
            let who = pairs.filter_map(|(who, cell)| match *cell {
                "yes" => Some(*who),
                "" => None,
                other => panic!("{path}: {other}"),
            });
            let who: HashSet<_> = who.collect();
            assert!(all.insert(path, who).is_none(), "{end}: twice");
        }
    }
    all
}

/// A cluster's end of handshakes, and the gate behind it.
struct Rig {
    ca: ClusterCa,
    trust: Arc<TrustHolder>,
    gate: AuthLayer,
    operators: watch::Sender<Arc<Operators>>,
}

fn rig() -> Rig {
    let ca = ClusterCa::create("lab", SystemTime::now()).unwrap();
    let trust = TrustHolder::new(ca.cert_pem(), HashSet::new()).unwrap();
    let roles = |node: &NodeId| {
        let (worker, edge) = match node.as_str() {
            "worker" => (true, false),
            "edge" => (false, true),
            "both" => (true, true),
            _ => return None,
        };
        Some(Roles { worker, edge })
    };
    let operators = watch::Sender::new(Arc::new(operators()));
    let doors = Doors {
        roles: Arc::new(roles),
        operators: operators.subscribe(),
        now_ms: Arc::new(|| NOW_MS),
        note: Arc::new(|_| async {}.boxed()),
    };
    let gate = AuthLayer::new(Arc::clone(&trust), doors);
    Rig {
        ca,
        trust,
        gate,
        operators,
    }
}

const NOW_MS: u64 = 1_000;
const ROLES: [OperatorRole; 3] = [
    OperatorRole::Viewer,
    OperatorRole::Deployer,
    OperatorRole::Admin,
];

/// Of each role one with a certificate, named like the role, and one with a token.
fn operators() -> Operators {
    let record = |name: String, role| OperatorRecord::new(name, role, 0, String::new());
    let mut all = Vec::new();
    for role in ROLES {
        let word = role.as_str();
        all.push(OperatorRecord {
            any_serial: true,
            ..record(word.into(), role)
        });
        all.push(OperatorRecord {
            token: Some(Credential {
                id: word.into(),
                hash: secret_hash(word),
                expires_ms: NOW_MS,
                used_key: None,
            }),
            ..record(format!("{word}-token"), role)
        });
    }
    let named = all.into_iter().map(|record| (record.name.clone(), record));
    Operators(named.collect())
}

/// The token of the operator that [`operators`] made for a role.
fn bearer(role: &str) -> String {
    let token = Token {
        kind: TokenKind::Bearer,
        ca: CaDigest([7; 32]),
        id: role.into(),
        secret: role.to_owned().into(),
    };
    format!("Bearer {token}")
}

fn node(name: &str) -> Identity {
    Identity::Node(NodeId::new(name).unwrap())
}

/// The role in the certificate is another: it does not count.
fn operator(role: OperatorRole) -> Identity {
    let name = role.as_str().into();
    let role = match role {
        OperatorRole::Admin => OperatorRole::Viewer,
        _ => OperatorRole::Admin,
    };
    Identity::Operator { name, role }
}

/// A certificate that is good from `from` on, for 14 days.
fn from(ca: &ClusterCa, identity: &Identity, from: SystemTime) -> Arc<CertHolder> {
    let (pem, key) = ca.issue_new(identity, &[], LIFE, from).unwrap();
    CertHolder::from_pem(&pem, &key).unwrap()
}

fn good(ca: &ClusterCa, identity: &Identity) -> Arc<CertHolder> {
    from(ca, identity, SystemTime::now())
}

fn over(ca: &ClusterCa, identity: &Identity, since: Duration) -> Arc<CertHolder> {
    from(ca, identity, SystemTime::now() - LIFE - since)
}

/// A node's certificate that its owner may serve with, and not call.
fn server_only(ca: &ClusterCa) -> Arc<CertHolder> {
    let authority = rcgen::KeyPair::from_pem(&ca.key_pem()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(ca.cert_der(), &authority).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x41; 16]));
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let uri = node("worker").uri("lab").try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.signed_by(&key, &issuer).unwrap().pem();
    CertHolder::from_pem(&pem, &key.serialize_pem()).unwrap()
}

fn serial(certs: &CertHolder) -> String {
    let leaf = certs.leaf_der().unwrap();
    let nobody = (Ipv4Addr::LOCALHOST, 1).into();
    peer_info(Some(&[leaf]), nobody).unwrap().serial
}

impl Rig {
    /// Who the controller takes a caller for, after a handshake; or why not.
    async fn shake(&self, certs: Option<Arc<CertHolder>>) -> Result<PeerInfo, CertificateRefusal> {
        let controller = Identity::Controller("c1".into());
        let names = ["127.0.0.1".to_owned()];
        let made = self
            .ca
            .issue_new(&controller, &names, DAY, SystemTime::now());
        let (pem, key) = made.unwrap();
        let own = CertHolder::from_pem(&pem, &key).unwrap();
        let config = server_config(own, Arc::clone(&self.trust)).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (trust, limits) = (Arc::clone(&self.trust), AcceptLimits::default());
        let mut incoming = accept(listener, config, trust, limits);
        let trust = ServerTrust::Ca(self.ca.cert_pem().to_owned());
        // Whoever gets in waits for a first word, which does not come.
        tokio::select! {
            io = incoming.next() => Ok(io.unwrap().unwrap().connect_info()),
            answer = connect(&url, certs, trust) => match answer.unwrap_err() {
                ConnectError::Refused { refusal, .. } => Err(refusal),
                other => panic!("{other}"),
            },
        }
    }

    /// What a caller is answered before any handler is asked; Ok: it is let through.
    async fn call(&self, path: &str, peer: &PeerInfo) -> Result<(), Status> {
        self.call_with(path, peer, None).await
    }

    /// As [`Self::call`], with an `authorization` header.
    async fn call_with(
        &self,
        path: &str,
        peer: &PeerInfo,
        header: Option<&str>,
    ) -> Result<(), Status> {
        let reached = |_: http::Request<()>| async {
            Ok::<_, Infallible>(http::Response::new(Body::empty()))
        };
        let mut service = self.gate.layer(tower::service_fn(reached));
        let mut request = http::Request::new(());
        *request.uri_mut() = path.parse().unwrap_or_default();
        request.extensions_mut().insert(peer.clone());
        if let Some(header) = header {
            let value = header.parse().unwrap();
            let name = http::header::AUTHORIZATION;
            request.headers_mut().insert(name, value);
        }
        let answer = service.call(request).await.unwrap();
        Status::from_header_map(answer.headers()).map_or(Ok(()), Err)
    }

    /// Callers of each kind that gets through the handshake, with the columns of the table that they
    /// are in.
    async fn callers(&self) -> Vec<(&'static str, &'static [&'static str], PeerInfo)> {
        use OperatorRole::{Admin, Deployer, Viewer};
        let (ca, mut callers) = (&self.ca, Vec::new());
        let mut meet = async |who, columns, certs| {
            let peer = self
                .shake(certs)
                .await
                .unwrap_or_else(|why| panic!("{who}: {why}"));
            callers.push((who, columns, peer));
        };
        meet("anonymous", &["none"][..], None).await;
        meet("worker", &["worker"], Some(good(ca, &node("worker")))).await;
        meet("edge", &["edge"], Some(good(ca, &node("edge")))).await;
        meet("both", &["worker", "edge"], Some(good(ca, &node("both")))).await;
        meet(
            "late worker",
            &["late"],
            Some(over(ca, &node("worker"), DAY)),
        )
        .await;
        meet(
            "late edge",
            &["late"],
            Some(over(ca, &node("edge"), 29 * DAY)),
        )
        .await;
        meet("viewer", &["viewer"], Some(good(ca, &operator(Viewer)))).await;
        meet(
            "deployer",
            &["deployer"],
            Some(good(ca, &operator(Deployer))),
        )
        .await;
        meet("admin", &["admin"], Some(good(ca, &operator(Admin)))).await;
        let controller = Identity::Controller("c2".into());
        meet("controller", &["controller"], Some(good(ca, &controller))).await;
        callers
    }
}

#[tokio::test]
async fn every_call_by_every_kind_of_caller_is_answered_as_written_down() {
    let (rig, expected) = (rig(), expected());
    for method in Method::ALL {
        assert!(
            expected.contains_key(method.path()),
            "{method:?} is not in docs/security.md"
        );
    }
    let others = expected
        .keys()
        .filter(|path| Method::from_path(path).is_none());
    assert!(
        others.clone().all(|path| path.starts_with("/grpc.")),
        "{others:?}"
    );
    for (who, columns, peer) in rig.callers().await {
        for (path, may) in &expected {
            let answer = rig.call(path, &peer).await;
            let right = columns.iter().any(|column| may.contains(column));
            assert_eq!(answer.is_ok(), right, "{path} by {who}: {answer:?}");
            let Err(status) = answer else { continue };
            let anonymous = peer.identity.is_none();
            let (code, words) = match (anonymous, peer.late) {
                (true, _) => (
                    Code::Unauthenticated,
                    "a client certificate of this cluster",
                ),
                (_, Some(_)) => (
                    Code::Unauthenticated,
                    "it renews itself and does nothing else",
                ),
                _ => (Code::PermissionDenied, "may not call this; it needs "),
            };
            assert_eq!(status.code(), code, "{path} by {who}: {status}");
            assert!(
                status.message().contains(words),
                "{path} by {who}: {status}"
            );
            let marked = status.metadata().contains_key(RENEW_FIRST);
            assert_eq!(marked, peer.late.is_some(), "{path} by {who}");
        }
    }
}

#[tokio::test]
async fn whom_the_handshake_refuses_calls_nothing() {
    use CertificateRefusal::{Expired, Other, Revoked, UnknownCa};
    let rig = rig();
    let other = ClusterCa::create("lab", SystemTime::now()).unwrap();
    let (ca, admin) = (&rig.ca, operator(OperatorRole::Admin));
    let (revoked, late) = (good(ca, &admin), over(ca, &node("worker"), DAY));
    rig.trust.revoke([serial(&revoked), serial(&late)]);
    let tomorrow = SystemTime::now() + 2 * DAY;
    for (who, certs, why) in [
        ("foreign admin", good(&other, &admin), UnknownCa),
        // Its time is looked at before its CA.
        (
            "foreign late node",
            over(&other, &node("worker"), DAY),
            Expired,
        ),
        ("expired node", over(ca, &node("worker"), 31 * DAY), Expired),
        ("expired admin", over(ca, &admin, DAY), Expired),
        ("admin of tomorrow", from(ca, &admin, tomorrow), Expired),
        ("revoked admin", revoked, Revoked),
        ("revoked late node", late, Revoked),
        ("server-only node", server_only(ca), Other),
    ] {
        let refused = rig.shake(Some(certs)).await.expect_err(who);
        assert_eq!(refused, why, "{who}");
    }
}

#[tokio::test]
async fn who_is_revoked_meanwhile_or_is_none_of_the_clusters_calls_nothing() {
    let (rig, expected) = (rig(), expected());
    let admin = good(&rig.ca, &operator(OperatorRole::Admin));
    let peer = rig.shake(Some(Arc::clone(&admin))).await.unwrap();
    assert!(
        rig.call("/grpc.health.v1.Health/Check", &peer)
            .await
            .is_ok()
    );
    rig.trust.revoke([serial(&admin)]);
    for path in expected.keys() {
        let status = rig.call(path, &peer).await.expect_err(path);
        assert_eq!(status.code(), Code::Unauthenticated, "{path}: {status}");
        assert!(status.message().contains("was revoked"), "{path}: {status}");
    }
    let stranger = good(&rig.ca, &node("stranger"));
    let peer = rig.shake(Some(stranger)).await.unwrap();
    for (path, may) in expected {
        let answer = rig.call(&path, &peer).await;
        let open = path.ends_with("/Join")
            || path.ends_with("/JoinOperator")
            || path.ends_with("/WhoLeads")
            || path.starts_with("/grpc.health.");
        assert_eq!(answer.is_ok(), open, "{path}: {answer:?}");
        if let Err(status) = answer
            && may.contains("worker")
        {
            assert!(status.message().contains("no longer"), "{path}: {status}");
        }
    }
}

#[tokio::test]
async fn a_token_may_what_its_role_may_and_no_other_certificate_lends_itself_to_it() {
    let (rig, expected) = (rig(), expected());
    let nobody = rig.shake(None).await.unwrap();
    for (path, may) in &expected {
        for role in ROLES.map(OperatorRole::as_str) {
            let answer = rig.call_with(path, &nobody, Some(&bearer(role))).await;
            assert_eq!(answer.is_ok(), may.contains(role), "{path} by {role}");
        }
        let open = may.contains("none");
        for (header, words) in [
            (bearer("nobody"), "this token is not known here"),
            (bearer("admin").replace(".admin", ".admit"), "not known"),
            ("Bearer x".to_owned(), "this is no token"),
            ("Basic YTpi".to_owned(), "not `Bearer TOKEN`"),
        ] {
            let answer = rig.call_with(path, &nobody, Some(&header)).await;
            assert_eq!(answer.is_ok(), open, "{path} by {header}");
            let Err(status) = answer else { continue };
            assert_eq!(status.code(), Code::Unauthenticated, "{path}: {status}");
            assert!(status.message().contains(words), "{path}: {status}");
        }
    }
    // A node stays a node, and a viewer a viewer, whatever token they say.
    let scale = Method::ControlScale.path();
    let viewer = good(&rig.ca, &operator(OperatorRole::Viewer));
    for certs in [good(&rig.ca, &node("worker")), viewer] {
        let peer = rig.shake(Some(certs)).await.unwrap();
        let answer = rig.call_with(scale, &peer, Some(&bearer("admin"))).await;
        assert_eq!(answer.unwrap_err().code(), Code::PermissionDenied);
    }
}

#[tokio::test]
async fn an_operator_who_is_removed_or_has_another_certificate_calls_nothing() {
    let (rig, expected) = (rig(), expected());
    let admin = good(&rig.ca, &operator(OperatorRole::Admin));
    let peer = rig.shake(Some(Arc::clone(&admin))).await.unwrap();
    let change = |change: &dyn Fn(&mut OperatorRecord)| {
        let mut all = operators();
        change(all.0.get_mut("admin").unwrap());
        rig.operators.send_replace(Arc::new(all));
    };
    let list = Method::OperatorListOperators.path();
    change(&|admin| (admin.any_serial, admin.serials) = (false, vec![peer.serial.clone()]));
    assert!(rig.call(list, &peer).await.is_ok(), "it is the one");
    change(&|admin| admin.role = OperatorRole::Viewer);
    assert!(rig.call(list, &peer).await.is_ok());
    let add = Method::OperatorAddOperator.path();
    assert_eq!(
        rig.call(add, &peer).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    for (words, gone) in [("was replaced", false), ("none of this cluster's", true)] {
        change(&|admin| (admin.any_serial, admin.serials) = (false, vec!["41".into()]));
        if gone {
            rig.operators.send_replace(Arc::default());
        }
        for (path, may) in &expected {
            let answer = rig.call(path, &peer).await;
            assert_eq!(answer.is_ok(), may.contains("none"), "{path}: {answer:?}");
            let Err(status) = answer else { continue };
            assert_eq!(status.code(), Code::Unauthenticated, "{path}");
            assert!(status.message().contains(words), "{path}: {status}");
        }
    }
}

#[tokio::test]
async fn unknown_calls_are_refused_to_everybody() {
    let rig = rig();
    for (who, _, peer) in rig.callers().await {
        let reset = "/longshore.control.v1.ControlService/Reset";
        for path in [reset, "/x", "", "/a/b"] {
            assert!(rig.call(path, &peer).await.is_err(), "{path} by {who}");
        }
    }
}

#[test]
fn the_comments_of_the_contract_name_the_same_roles() {
    let control = include_str!("../../../../proto/longshore/control/v1/control.proto");
    compare(control, "longshore.control.v1.ControlService");
    let images = include_str!("../../../../proto/longshore/images/v1/images.proto");
    let operators = images.split("service ImageSourceService").next().unwrap();
    compare(operators, "longshore.images.v1.ImageService");
    let secrets = include_str!("../../../../proto/longshore/secrets/v1/secrets.proto");
    compare(secrets, "longshore.secrets.v1.SecretService");
    let operators = include_str!("../../../../proto/longshore/operators/v1/operators.proto");
    compare(operators, "longshore.operators.v1.OperatorService");
}

fn compare(proto: &str, service: &str) {
    let mut role = None;
    let mut checked = 0;
    for line in proto.lines().map(str::trim) {
        let word = line
            .strip_prefix("//")
            .and_then(|text| text.split_whitespace().last());
        if let Some(found) = word.and_then(|word| word.parse::<OperatorRole>().ok()) {
            role = Some(found);
        } else if let Some(rest) = line.strip_prefix("rpc ") {
            let name = rest.split('(').next().unwrap();
            let method = Method::from_path(&format!("/{service}/{name}")).unwrap();
            assert_eq!(
                Some(rule(method)),
                role.take().map(Rule::Operator),
                "{name}"
            );
            checked += 1;
        }
    }
    let of_service = |method: &&Method| method.path().starts_with(&format!("/{service}/"));
    assert_eq!(checked, Method::ALL.iter().filter(of_service).count());
}
