//! Who gets in, who does not, and what each is told. Loopback only.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, which may panic

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longshore_identity::ca::ClusterCa;
use longshore_identity::key::KeyPair;
use longshore_identity::tls::{
    AcceptLimits, CertHolder, CertificateRefusal, ConnectError, LATE_MAX, ServerTrust, TrustHolder,
    accept, certificate_validity, connect, peer_info, serial_end, server_config,
};
use longshore_identity::{CaDigest, Identity, OperatorRole};
use longshore_model::{NodeId, Roles};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;

const DAY: Duration = Duration::from_secs(86_400);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const WORKER: Roles = Roles {
    worker: true,
    edge: false,
};

fn node(name: &str) -> Identity {
    Identity::Node(NodeId::new(name).unwrap())
}

fn ca() -> ClusterCa {
    ClusterCa::create("lab", SystemTime::now()).unwrap()
}

fn client_of(
    ca: &ClusterCa,
    identity: &Identity,
    validity: Duration,
    now: SystemTime,
) -> Arc<CertHolder> {
    let (cert, key) = ca.issue_new(identity, &[], validity, now).unwrap();
    CertHolder::from_pem(&cert, &key).unwrap()
}

/// Serves one byte to whoever gets through the handshake (`L`: it is late), then waits for the peer.
async fn serve(ca: &ClusterCa, revoked: &[String]) -> (SocketAddr, Arc<TrustHolder>) {
    serve_with(ca, revoked, AcceptLimits::default()).await
}

async fn serve_with(
    ca: &ClusterCa,
    revoked: &[String],
    limits: AcceptLimits,
) -> (SocketAddr, Arc<TrustHolder>) {
    let controller = Identity::Controller("c1".into());
    let names = ["127.0.0.1".to_owned()];
    let (cert, key) = ca
        .issue_new(&controller, &names, DAY, SystemTime::now())
        .unwrap();
    let certs = CertHolder::from_pem(&format!("{cert}{}", ca.cert_pem()), &key).unwrap();
    let revoked: HashSet<String> = revoked.iter().cloned().collect();
    let trust = TrustHolder::new(ca.cert_pem(), revoked).unwrap();
    let config = server_config(certs, Arc::clone(&trust)).unwrap();
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming = accept(listener, config, Arc::clone(&trust), limits);
    tokio::spawn(async move {
        while let Some(Ok(mut io)) = incoming.next().await {
            tokio::spawn(async move {
                let word = match io.connect_info().late {
                    Some(_) => b"L",
                    None => b"!",
                };
                if io.write_all(word).await.is_ok() && io.flush().await.is_ok() {
                    let _ = io.read(&mut [0u8; 1]).await;
                }
            });
        }
    });
    (address, trust)
}

type Stream = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;

/// A bare TLS client; gives the stream once the server's byte came, and whether it is late there.
async fn dial(
    address: SocketAddr,
    certs: Option<Arc<CertHolder>>,
    ca_pem: &str,
) -> Result<(Stream, bool), std::io::Error> {
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match certs {
        Some(certs) => builder.with_client_cert_resolver(certs),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = tokio::net::TcpStream::connect(address).await?;
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, tcp).await?;
    let mut word = [0u8; 1];
    stream.read_exact(&mut word).await?;
    Ok((stream, word == *b"L"))
}

fn serial(holder: &CertHolder) -> String {
    let leaf = holder.leaf_der().unwrap();
    peer_info(Some(&[leaf]), SocketAddr::from((LOOPBACK, 1)))
        .unwrap()
        .serial
}

/// A certificate that ended so long ago, of a life of 14 days.
fn over(ca: &ClusterCa, identity: &Identity, since: Duration) -> Arc<CertHolder> {
    let life = 14 * DAY;
    client_of(ca, identity, life, SystemTime::now() - since - life)
}

/// A leaf of this CA for serving only, as its owner could use it to call.
fn server_only(ca: &ClusterCa, identity: &Identity, validity: Duration) -> Arc<CertHolder> {
    let authority = rcgen::KeyPair::from_pem(&ca.key_pem()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(ca.cert_der(), &authority).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x41; 16]));
    params.not_before = (SystemTime::now() - 20 * DAY).into();
    params.not_after = (SystemTime::now() - 20 * DAY + validity).into();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let uri = identity.uri("lab").try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, &issuer).unwrap();
    CertHolder::from_pem(&cert.pem(), &key.serialize_pem()).unwrap()
}

#[tokio::test]
async fn the_right_certificate_gets_in_and_the_wrong_ones_do_not() {
    let (ours, theirs, node) = (ca(), ca(), node("worker1"));
    let now = SystemTime::now();
    let good = client_of(&ours, &node, DAY, now);
    let revoked = client_of(&ours, &node, DAY, now);
    let late_and_revoked = over(&ours, &node, DAY);
    let serials = [serial(&revoked), serial(&late_and_revoked)];
    let (address, _trust) = serve(&ours, &serials).await;

    dial(address, Some(good), ours.cert_pem())
        .await
        .expect("a good certificate gets in");
    dial(address, None, ours.cert_pem())
        .await
        .expect("joining needs no certificate");
    let operator = Identity::Operator {
        name: "ana".into(),
        role: OperatorRole::Admin,
    };
    let controller = Identity::Controller("c2".into());
    for (certs, alert) in [
        (client_of(&theirs, &node, DAY, now), "UnknownCA"),
        (over(&theirs, &node, DAY), "Expired"),
        (over(&ours, &node, 31 * DAY), "Expired"),
        (over(&ours, &operator, DAY), "Expired"),
        (over(&ours, &controller, DAY), "Expired"),
        (client_of(&ours, &node, DAY, now + 2 * DAY), "Certificate"),
        (revoked, "Revoked"),
        (late_and_revoked, "Revoked"),
        (server_only(&ours, &node, 40 * DAY), "Certificate"),
        (server_only(&ours, &controller, 40 * DAY), "Certificate"),
        (server_only(&ours, &node, 19 * DAY), "Certificate"),
    ] {
        let refusal = dial(address, Some(certs), ours.cert_pem())
            .await
            .expect_err(alert);
        assert!(refusal.to_string().contains(alert), "{alert}: {refusal}");
    }
}

#[tokio::test]
async fn a_node_gets_in_late_for_thirty_days_and_is_known_to_be_late() {
    let (ca, node) = (ca(), node("worker1"));
    let (address, trust) = serve(&ca, &[]).await;
    let hour = Duration::from_secs(3_600);
    for (since, gets_in) in [
        (hour, true),
        (DAY, true),
        (LATE_MAX - hour, true),
        (LATE_MAX + hour, false),
    ] {
        let late = dial(address, Some(over(&ca, &node, since)), ca.cert_pem()).await;
        let late = late.map(|(_, late)| late).ok();
        assert_eq!(late, gets_in.then_some(true), "{since:?}");
        let seen = trust.last_refusal(&node).expect("it is remembered").refusal;
        let right = match gets_in {
            true => CertificateRefusal::Late,
            false => CertificateRefusal::Expired,
        };
        assert_eq!(seen, right, "{since:?}");
    }
    let good = client_of(&ca, &node, DAY, SystemTime::now());
    let (_, late) = dial(address, Some(good), ca.cert_pem()).await.unwrap();
    assert!(!late);
}

#[tokio::test]
async fn a_peer_that_speaks_http2_without_tls_gets_no_word_of_it() {
    let ca = ca();
    let (address, _trust) = serve(&ca, &[]).await;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    // The preface and empty settings, as RFC 9113 (3.4) has them.
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(hello).await.unwrap();
    let mut answer = Vec::new();
    let end = tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut answer));
    let _ = end.await.expect("the connection is ended");
    // A TLS alert at most.
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
}

#[test]
fn a_serial_says_when_its_certificate_ends() {
    let ca = ca();
    let certs = client_of(&ca, &node("worker1"), DAY, SystemTime::now());
    let (_, until) = certificate_validity(&certs.leaf_der().unwrap()).unwrap();
    assert_eq!(serial_end(&serial(&certs)), Some(until));
    assert_eq!(serial_end(&"41".repeat(16)), None, "one of before");
    assert_eq!(serial_end("x"), None);
}

#[tokio::test]
async fn a_refused_certificate_is_told_at_once_and_in_words() {
    let (ours, theirs) = (ca(), ca());
    let now = SystemTime::now();
    let expired = over(&ours, &node("worker1"), 31 * DAY);
    let revoked = client_of(&ours, &node("worker1"), DAY, now);
    let foreign = client_of(&theirs, &node("worker1"), DAY, now);
    let (address, trust) = serve(&ours, &[serial(&revoked)]).await;
    for (certs, words) in [
        (expired, "it has expired"),
        (revoked, "it was revoked"),
        (foreign, "another cluster's CA"),
    ] {
        // Many times: whether the refusal arrives must not depend on who speaks first.
        for _ in 0..20 {
            let trust = ServerTrust::Ca(ours.cert_pem().to_owned());
            let endpoint = format!("https://{address}");
            let refused = connect(&endpoint, Some(certs.clone()), trust).await;
            let error = refused.expect_err(words);
            assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
            assert!(
                std::error::Error::source(&error).is_none(),
                "the same twice: {error:?}"
            );
        }
    }
    // The cluster's own nodes are remembered with what was wrong; strangers are not.
    let seen = trust
        .last_refusal(&node("worker1"))
        .expect("worker1 was refused");
    assert_eq!(seen.refusal, CertificateRefusal::Revoked);
}

#[tokio::test]
async fn revoking_cuts_a_live_connection() {
    let ca = ca();
    let client = client_of(&ca, &node("worker1"), DAY, SystemTime::now());
    let serial = serial(&client);
    let (address, trust) = serve(&ca, &[]).await;
    let (mut stream, _) = dial(address, Some(client), ca.cert_pem()).await.unwrap();
    trust.revoke([serial]);
    // The server side ends: the client reads the end of the stream instead of waiting.
    let end = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0u8; 1])).await;
    assert!(!matches!(end, Err(_) | Ok(Ok(1))), "still alive: {end:?}");
}

#[tokio::test]
async fn a_pinned_digest_trusts_one_authority_only() {
    let ca = ca();
    let (address, _trust) = serve(&ca, &[]).await;
    let endpoint = format!("https://{address}");
    let wrong = connect(&endpoint, None, ServerTrust::Digest(CaDigest([1; 32]))).await;
    let why = wrong.expect_err("another digest").to_string();
    assert!(why.contains("another cluster's CA"), "{why}");
}

#[tokio::test]
async fn a_controller_that_is_not_there_is_said_so() {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let ca = ca();
    let trust = ServerTrust::Ca(ca.cert_pem().to_owned());
    let why = connect(&format!("https://{address}"), None, trust)
        .await
        .unwrap_err()
        .to_string();
    assert!(why.contains("is the controller running"), "{why}");
}

/// A request that asks to be an authority with an admin's name, as `rcgen` would sign it.
fn hostile_request(key: &rcgen::KeyPair) -> Vec<u8> {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let uri = "spiffe://lab/operator/admin/evil".try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    params.serialize_request(key).unwrap().der().to_vec()
}

#[test]
fn only_the_public_key_of_a_request_survives() {
    let (ca, key) = (ca(), rcgen::KeyPair::generate().unwrap());
    let now = SystemTime::now();
    let request = hostile_request(&key);
    let der = ca
        .issue_from_csr(&request, &node("worker1"), WORKER, &[LOOPBACK], DAY, now)
        .unwrap();
    let der = CertificateDer::from(der);

    let peer = peer_info(
        Some(std::slice::from_ref(&der)),
        SocketAddr::from((LOOPBACK, 1)),
    )
    .unwrap();
    assert_eq!(peer.identity, Some(node("worker1")));
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert!(!parsed.is_ca(), "a node got an authority's certificate");
    assert!(parsed.public_key().raw.ends_with(key.public_key_raw()));
    let (from, until) = certificate_validity(&der).unwrap();
    assert!(from < now && until < now + 2 * DAY);
}

#[test]
fn damaged_and_oversized_requests_are_refused() {
    let ca = ca();
    let good = KeyPair::generate().unwrap().csr_der("worker1").unwrap();
    let mut unsigned = good.clone();
    *unsigned.last_mut().unwrap() ^= 1;
    for (what, request) in [
        ("signature", unsigned),
        ("size", vec![0; 9000]),
        ("empty", vec![]),
    ] {
        let issued = ca.issue_from_csr(&request, &node("a"), WORKER, &[], DAY, SystemTime::now());
        assert!(issued.is_err(), "{what}");
    }
}

#[test]
fn an_authority_reads_back() {
    let made = ca();
    let read = ClusterCa::load("lab", made.cert_pem(), &made.key_pem()).unwrap();
    assert_eq!(read.digest(), made.digest());
    let operator = Identity::Operator {
        name: "ana".into(),
        role: OperatorRole::Admin,
    };
    assert!(
        read.issue_new(&operator, &[], DAY, SystemTime::now())
            .is_ok()
    );
}

#[test]
fn whoever_names_serials_may_look_at_the_list_meanwhile() {
    let trust = TrustHolder::new(ca().cert_pem(), HashSet::from(["a".to_owned()])).unwrap();
    let list = Arc::clone(&trust);
    let (done, over) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let all = ["a", "b", "c"].map(str::to_owned).into_iter();
        list.revoke(all.filter(|serial| !list.is_revoked(serial)));
        done.send(()).unwrap();
    });
    let ended = over.recv_timeout(Duration::from_secs(15));
    assert!(ended.is_ok(), "it waits for itself");
    assert!(trust.is_revoked("b") && trust.is_revoked("c"));
}

#[tokio::test]
async fn peers_that_say_nothing_give_way_to_one_that_does() {
    let ca = ca();
    let limits = AcceptLimits {
        handshakes_max: 4,
        handshake_grace: Duration::from_millis(20),
        // Nobody waits that long.
        handshake_timeout: Duration::from_secs(600),
        ..AcceptLimits::default()
    };
    let (address, _trust) = serve_with(&ca, &[], limits).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
    }
    let certs = client_of(&ca, &node("a"), DAY, SystemTime::now());
    let dialled = dial(address, Some(certs), ca.cert_pem());
    let dialled = tokio::time::timeout(Duration::from_secs(20), dialled).await;
    dialled.expect("it waits for the others").unwrap();
}

#[tokio::test]
async fn one_peer_has_so_many_connections_and_no_more() {
    let ca = ca();
    let limits = AcceptLimits {
        per_peer_max: 2,
        ..AcceptLimits::default()
    };
    let (address, _trust) = serve_with(&ca, &[], limits).await;
    let [a, b] = ["a", "b"].map(|name| client_of(&ca, &node(name), DAY, SystemTime::now()));
    let dial = |certs: &Arc<CertHolder>| dial(address, Some(Arc::clone(certs)), ca.cert_pem());
    let first = (dial(&a).await.unwrap(), dial(&a).await.unwrap());
    assert!(dial(&a).await.is_err());
    dial(&b).await.unwrap();
    drop(first);
    // The server sees the end when it reads.
    let again = async { while dial(&a).await.is_err() {} };
    let again = tokio::time::timeout(Duration::from_secs(20), again).await;
    again.expect("its places are not given back");
}
