//! TLS that ends at HAProxy: certificates come, change and go while it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use longshore_haproxy_driver::{Certificate, Certificates, Edge};
use longshore_model::certificate::{CertificateObserved, CertificateServed};
use longshore_model::routes::Backend;
use longshore_model::routes::ServerMode::{Drain, Serve};
use longshore_model::{SecretKey, SecretText};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha1::Digest as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::host::{Host, Replica, free_port, get, http, key, loopback, routes, until};

fn secret(text: &str) -> SecretKey {
    let (app, name) = text.split_once('/').unwrap();
    SecretKey::new(app.parse().unwrap(), name.parse().unwrap())
}

/// A certificate for a name, and its DER.
fn certificate(domain: &str) -> (Certificate, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed([domain.to_owned()]).unwrap();
    let pem = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    let der = made.cert.der().to_vec();
    let fingerprint = data_encoding::HEXUPPER.encode(&sha1::Sha1::digest(&der));
    let pem = SecretText::new(pem.replace('\r', ""));
    let shown = CertificateServed {
        mark: fingerprint.clone(),
        until_ms: 7,
    };
    let certificate = Certificate {
        pem,
        fingerprint,
        shown,
        doubt: None,
    };
    (certificate, der)
}

fn told(of: &[(&str, &Certificate)]) -> Arc<Certificates> {
    let of = of.iter();
    Arc::new(of.map(|(key, c)| (secret(key), (*c).clone())).collect())
}

/// HTTPS for one host name, with these secrets of its app.
fn https(service: &str, port: u16, domain: &str, tls: &[&str], replica: &Replica) -> Backend {
    let mut backend = http(service, port, vec![replica.server(Serve)]);
    backend.route.domains = vec![domain.to_owned()];
    backend.route.tls = tls.iter().map(|name| (*name).to_owned()).collect();
    backend
}

/// Takes every certificate: which one it is, is the tests' question.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// One request over TLS on its own connection: the server's certificate and the answer.
async fn ask(port: u16, host: &str) -> Result<(Vec<u8>, String), String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let failed = |e: std::io::Error| e.to_string();
    let stream = TcpStream::connect(SocketAddr::new(loopback(), port)).await;
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let stream = connector.connect(name, stream.map_err(failed)?).await;
    let mut stream = stream.map_err(failed)?;
    let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.map_err(failed)?;
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes).await
        && !bytes.ends_with(b"r1")
        && !bytes.ends_with(b"r2")
    {
        return Err(error.to_string());
    }
    let served = stream.get_ref().1.peer_certificates();
    let served = served.and_then(|chain| chain.first()).ok_or("none")?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let body = text.split_once("\r\n\r\n").map_or(text.as_str(), |t| t.1);
    Ok((served.to_vec(), body.to_owned()))
}

async fn answers(port: u16, host: &str, der: &[u8], body: &str) {
    until(&format!("{host} at {port}"), async || {
        match ask(port, host).await {
            Ok((served, got)) if served == der && got == body => Ok(()),
            Ok((served, got)) => Err(format!("same: {}, {got:?}", served == der)),
            Err(error) => Err(error),
        }
    })
    .await;
}

/// New connections, one after the other, until told to stop.
fn traffic(port: u16, host: &'static str) -> (Arc<AtomicBool>, tokio::task::JoinHandle<usize>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let task = tokio::spawn(async move {
        let mut count = 0;
        while !stopped.load(Ordering::SeqCst) {
            let answer = ask(port, host).await;
            assert!(
                matches!(&answer, Ok((_, body)) if body == "r1"),
                "{answer:?}"
            );
            count += 1;
        }
        count
    });
    (stop, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_name_gets_its_own_certificate() {
    let mut host = Host::start().await;
    let (port, plain) = (free_port(), free_port());
    let (one, two) = (Replica::start(1).await, Replica::start(2).await);
    let (a, a_der) = certificate("a.test");
    let (b, b_der) = certificate("b.test");
    host.edge
        .set_certificates(told(&[("shop/cert", &a), ("blog/cert", &b)]));
    let mut redirected = http("shop/web", plain, vec![one.server(Serve)]);
    redirected.route.redirect_port = port;
    let ways = vec![
        https("shop/web", port, "a.test", &["cert"], &one),
        https("blog/web", port, "b.test", &["cert"], &two),
        redirected,
    ];
    host.serve(1, ways).await;
    assert!(host.edge.refused().is_empty(), "{:?}", host.edge.refused());
    answers(port, "a.test", &a_der, "r1").await;
    answers(port, "b.test", &b_der, "r2").await;
    // Who names no host gets the first one, and 404: both services have names.
    let (served, _) = ask(port, "127.0.0.1").await.unwrap();
    assert_eq!(served, b_der);
    let file = host.settings.certificates_path.join("shop_cert.pem");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (status, _) = get(plain, "/x?y=1", "a.test:80").await.unwrap();
    assert_eq!(status, 308);
    let text = host.config();
    assert!(!text.contains("PRIVATE") && !text.contains("MII"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_is_live_without_a_reload_and_survives_a_restart() {
    let mut host = Host::start().await;
    let port = free_port();
    let one = Replica::start(1).await;
    let (old, old_der) = certificate("a.test");
    host.edge.set_certificates(told(&[("shop/cert", &old)]));
    let ways = |tls: &[&str]| vec![https("shop/web", port, "a.test", tls, &one)];
    host.serve(1, ways(&["cert"])).await;
    answers(port, "a.test", &old_der, "r1").await;
    let pid = host.read().await.pid;
    let (stop, busy) = traffic(port, "a.test");

    let (new, new_der) = certificate("a.test");
    let (extra, extra_der) = certificate("extra.test");
    let both = told(&[("shop/cert", &new), ("shop/extra", &extra)]);
    host.edge.set_certificates(Arc::clone(&both));
    let ticked = host.edge.tick().await.unwrap();
    assert!(!ticked.reloaded && ticked.steps > 0, "{ticked:?}");
    assert_eq!(ask(port, "a.test").await.unwrap().0, new_der);

    // A second one is added, and taken away again.
    let applied = host.edge.apply(&routes(2, ways(&["cert", "extra"]))).await;
    assert!(!applied.unwrap().reloaded);
    assert_eq!(ask(port, "extra.test").await.unwrap().0, extra_der);
    let applied = host.edge.apply(&routes(3, ways(&["cert"]))).await;
    assert!(!applied.unwrap().reloaded);
    host.settle().await;
    assert_eq!(ask(port, "extra.test").await.unwrap().0, new_der);
    let loaded = host.by_hand("show ssl cert").await;
    assert!(
        loaded.contains("shop_cert.pem") && !loaded.contains("extra"),
        "{loaded}"
    );
    let extra_file = host.settings.certificates_path.join("shop_extra.pem");
    assert!(!extra_file.exists());

    stop.store(true, Ordering::SeqCst);
    assert!(busy.await.unwrap() > 10);
    assert_eq!(host.read().await.pid, pid);

    // Both the driver and HAProxy start again; nobody has told them anything yet.
    host.stop_haproxy();
    host.edge = Edge::open(host.settings.clone()).await.unwrap();
    let saved = BTreeMap::from([(secret("shop/cert"), new.pem.clone())]);
    assert_eq!(host.edge.saved_certificates(), saved);
    host.start_haproxy().await;
    answers(port, "a.test", &new_der, "r1").await;
    host.serve(3, ways(&["cert"])).await;
    assert!(host.edge.refused().is_empty(), "{:?}", host.edge.refused());
    // All gone: nothing of it is left on disk.
    let mut drained = ways(&["cert"]);
    drained[0].servers = vec![one.server(Drain)];
    host.serve(4, drained).await;
    host.serve(5, Vec::new()).await;
    let left = std::fs::read_dir(&host.settings.certificates_path).unwrap();
    let left: Vec<_> = left.map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// What is said of shop's certificate: the one that is served, the mark of the refused one.
fn seen(host: &Host) -> (Option<CertificateServed>, Option<String>) {
    let all = host.edge.certificates();
    let CertificateObserved { served, refused } = all[&secret("shop/cert")].clone();
    (served, refused.map(|refused| refused.mark))
}

/// Names of the files beside the certificates.
fn files_of(host: &Host) -> Vec<String> {
    let files = std::fs::read_dir(&host.settings.certificates_path).unwrap();
    let names = files.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_served_is_known_and_strays_are_swept() {
    let mut host = Host::start().await;
    let port = free_port();
    let list = format!("fe_{port}.list");
    let one = Replica::start(1).await;
    let (old, old_der) = certificate("a.test");
    let (new, _) = certificate("a.test");
    let ways = || vec![https("shop/web", port, "a.test", &["cert"], &one)];
    host.edge.set_certificates(told(&[("shop/cert", &old)]));
    host.serve(1, ways()).await;
    assert_eq!(seen(&host), (Some(old.shown.clone()), None));
    // An earlier process ended in between, and somebody put files there.
    let put = |name: &str| {
        let path = host.settings.certificates_path.join(name);
        std::fs::write(path, old.pem.expose()).unwrap();
    };
    for name in [
        "shop_cert.pem.new",
        "shop_gone.pem",
        "check.cfg.new",
        "shop_cert.pem.ocsp.txt",
    ] {
        put(name);
    }
    host.edge = Edge::open(host.settings.clone()).await.unwrap();
    let drafts = files_of(&host);
    assert!(
        drafts.iter().all(|name| !name.ends_with(".new")),
        "{drafts:?}"
    );
    // Told by what was saved; the renewal waits for the first look.
    host.edge.set_certificates(told(&[("shop/cert", &old)]));
    put("other_stray.pem");
    host.serve(1, ways()).await;
    assert_eq!(
        files_of(&host),
        [&list, "shop_cert.pem", "shop_cert.pem.ocsp.txt"]
    );
    assert_eq!(seen(&host), (Some(old.shown.clone()), None));
    answers(port, "a.test", &old_der, "r1").await;
    host.edge.set_certificates(told(&[("shop/cert", &new)]));
    assert_eq!(seen(&host), (Some(old.shown.clone()), None));
    host.edge.tick().await.unwrap();
    assert_eq!(seen(&host), (Some(new.shown.clone()), None));
}

/// A certificate with another's key.
fn with_key_of(a: &Certificate, b: &Certificate) -> Certificate {
    let (half, other) = (a.pem.expose(), b.pem.expose());
    let cut = |text: &str| text.find("-----BEGIN PRIVATE").unwrap();
    let mixed = format!("{}{}", &half[..cut(half)], &other[cut(other)..]);
    Certificate {
        pem: SecretText::new(mixed),
        shown: CertificateServed {
            mark: "bad".into(),
            until_ms: 9,
        },
        doubt: Some("a doubt".into()),
        ..a.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_haproxy_refuses_costs_its_own_service() {
    let mut host = Host::start().await;
    let port = free_port();
    let list = format!("fe_{port}.list");
    let (one, two) = (Replica::start(1).await, Replica::start(2).await);
    let (a, a_der) = certificate("a.test");
    let (b, b_der) = certificate("b.test");
    let bad = with_key_of(&a, &b);
    let ways = || {
        vec![
            https("shop/web", port, "a.test", &["cert"], &one),
            https("blog/web", port, "b.test", &["cert"], &two),
        ]
    };
    // Nothing has come yet, then one that is bad: the other service is served.
    host.serve(1, ways()).await;
    let said = host.edge.refused()[&key("shop/web")].clone();
    assert!(said.contains("has not come"), "{said}");
    host.edge
        .set_certificates(told(&[("shop/cert", &bad), ("blog/cert", &b)]));
    host.settle().await;
    answers(port, "b.test", &b_der, "r2").await;
    let refused = host.edge.refused();
    let said = refused[&key("shop/web")].clone();
    assert!(
        said.starts_with(&format!("port {port}: HAProxy refuses certificate cert: ")),
        "{said}"
    );
    assert!(!refused.contains_key(&key("blog/web")), "{refused:?}");
    assert_eq!(seen(&host), (None, Some("bad".into())));
    assert_eq!(files_of(&host), ["blog_cert.pem", &list]);
    // A good one mends it; a bad renewal leaves the good one in force.
    host.edge
        .set_certificates(told(&[("shop/cert", &a), ("blog/cert", &b)]));
    host.settle().await;
    answers(port, "a.test", &a_der, "r1").await;
    host.edge
        .set_certificates(told(&[("shop/cert", &bad), ("blog/cert", &b)]));
    host.settle().await;
    answers(port, "a.test", &a_der, "r1").await;
    // It is reached as before, and nothing of the refused one is left on disk.
    assert!(host.edge.refused().is_empty(), "{:?}", host.edge.refused());
    assert_eq!(seen(&host), (Some(a.shown.clone()), Some("bad".into())));
    assert_eq!(files_of(&host), ["blog_cert.pem", &list, "shop_cert.pem"]);
    let why = host.edge.certificates()[&secret("shop/cert")]
        .refused
        .clone();
    let why = why.unwrap().why;
    assert!(why.starts_with("a doubt; ") && !why.contains('/'), "{why}");
    assert!(!why.contains("Fatal") && !why.contains("ALERT"), "{why}");
    let words = format!("{:?} {}", host.edge, host.log());
    let base64: Vec<&str> = a.pem.expose().lines().filter(|l| l.len() == 64).collect();
    assert!(!base64.is_empty() && base64.iter().all(|line| !words.contains(line)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hand_does_to_certificates_is_repaired() {
    let mut host = Host::start().await;
    let port = free_port();
    let one = Replica::start(1).await;
    let (a, a_der) = certificate("a.test");
    let (b, b_der) = certificate("b.test");
    host.edge
        .set_certificates(told(&[("shop/a", &a), ("shop/b", &b)]));
    let mut way = https("shop/web", port, "a.test", &["a", "b"], &one);
    way.route.domains.push("b.test".to_owned());
    host.serve(1, vec![way]).await;
    answers(port, "b.test", &b_der, "r1").await;
    let dir = host.settings.certificates_path.display().to_string();
    let remove = format!("del ssl crt-list {dir}/fe_{port}.list {dir}/shop_b.pem");
    let said = host.by_hand(&remove).await;
    assert!(said.contains("deleted"), "{said}");
    let (other, _) = certificate("a.test");
    let set = format!("set ssl cert {dir}/shop_a.pem <<\n{}\n", other.pem.expose());
    host.by_hand(&set).await;
    host.by_hand(&format!("commit ssl cert {dir}/shop_a.pem"))
        .await;
    assert_ne!(ask(port, "a.test").await.unwrap().0, a_der);
    let repaired = |_: &Edge, ticked: &longshore_haproxy_driver::Ticked| {
        ticked
            .repaired
            .iter()
            .any(|said| said.contains("certificates"))
    };
    host.tick_until("repaired", repaired).await;
    answers(port, "a.test", &a_der, "r1").await;
    answers(port, "b.test", &b_der, "r1").await;
}

/// Is it said that somebody spoilt the file while the agent was away?
fn spoilt_is_said(host: &Host) -> bool {
    let what = "blog_cert.pem was changed or removed by somebody else while the agent was away";
    let repairs = host.edge.repairs();
    repairs.iter().any(|(_, repair)| repair.what.contains(what))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_was_spoilt_on_disk_is_its_own_services_matter() {
    let mut host = Host::start().await;
    let (port, other) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let (shop, der) = certificate("shop.org");
    let (blog, _) = certificate("blog.org");
    host.edge
        .set_certificates(told(&[("shop/cert", &shop), ("blog/cert", &blog)]));
    let list = || {
        vec![
            https("shop/web", port, "shop.org", &["cert"], &a),
            https("blog/web", port, "blog.org", &["cert"], &b),
        ]
    };
    host.serve(1, list()).await;
    answers(port, "shop.org", &der, "r1").await;
    let file = host.settings.certificates_path.join("blog_cert.pem");

    // Its contents are known: it is put in place again, and nobody is held up.
    std::fs::write(&file, "spoilt\n").unwrap();
    let with_api = |name: &str, at| {
        let mut list = list();
        list.push(http(name, at, vec![b.server(Serve)]));
        list
    };
    let applied = host.serve(2, with_api("shop/api", other)).await;
    assert!(applied.reloaded && applied.generation == 2, "{applied:?}");
    assert!(host.edge.refused().is_empty(), "{:?}", host.edge.refused());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), blog.pem.expose());

    // They are not: an agent that starts without its controller has what is on disk.
    std::fs::write(&file, "spoilt\n").unwrap();
    host.edge = Edge::open(host.settings.clone()).await.unwrap();
    host.edge.set_certificates(told(&[("shop/cert", &shop)]));
    let mut list = with_api("shop/api", other);
    list.push(http("shop/more", free_port(), vec![b.server(Serve)]));
    let applied = host.serve(3, list).await;
    assert!(applied.reloaded && applied.generation == 3, "{applied:?}");
    let refused = host.edge.refused();
    assert!(refused.keys().eq([&key("blog/web")]), "{refused:?}");
    answers(port, "shop.org", &der, "r1").await;
    assert_eq!(get(other, "/", "x").await.unwrap().0, 200);
    assert!(!spoilt_is_said(&host), "{:?}", host.edge.repairs());

    // The controller is back.
    let both = told(&[("shop/cert", &shop), ("blog/cert", &blog)]);
    host.edge.set_certificates(both);
    host.settle().await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), blog.pem.expose());
    assert!(spoilt_is_said(&host), "{:?}", host.edge.repairs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_was_spoilt_on_disk_holds_up_no_start() {
    let mut host = Host::start().await;
    let port = free_port();
    let a = Replica::start(1).await;
    let (shop, der) = certificate("shop.org");
    host.edge.set_certificates(told(&[("shop/cert", &shop)]));
    host.serve(1, vec![https("shop/web", port, "shop.org", &["cert"], &a)])
        .await;
    let dir = host.settings.certificates_path.clone();
    let file = dir.join("shop_cert.pem");
    let list = dir.join(format!("fe_{port}.list"));
    let listed = std::fs::read_to_string(&list).unwrap();

    std::fs::write(&file, "garbage\n").unwrap();
    let is_said = |_: &Edge, ticked: &longshore_haproxy_driver::Ticked| {
        let mut said = ticked.repaired.iter();
        said.any(|said| said.contains("shop_cert.pem was changed"))
    };
    host.tick_until("placed again", is_said).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), shop.pem.expose());

    host.crash_haproxy().await;
    std::fs::write(&file, "garbage\n").unwrap();
    std::fs::write(&list, "garbage\n").unwrap();
    host.edge.tick().await.unwrap_err();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), shop.pem.expose());
    assert_eq!(std::fs::read_to_string(&list).unwrap(), listed);
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    host.start_haproxy().await;
    answers(port, "shop.org", &der, "r1").await;
    host.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_the_file_nor_the_renewal_of_one_service_holds_up_a_start() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let (shop, shop_der) = certificate("shop.org");
    let (blog, der) = certificate("blog.org");
    host.edge
        .set_certificates(told(&[("shop/cert", &shop), ("blog/cert", &blog)]));
    let list = vec![
        https("shop/web", port, "shop.org", &["cert"], &a),
        https("blog/web", port, "blog.org", &["cert"], &b),
    ];
    host.serve(1, list.clone()).await;
    answers(port, "shop.org", &shop_der, "r1").await;

    // All that is left of it is what HAProxy refuses: on disk and from the controller.
    host.crash_haproxy().await;
    std::fs::write(
        host.settings.certificates_path.join("shop_cert.pem"),
        "spoilt\n",
    )
    .unwrap();
    host.edge = Edge::open(host.settings.clone()).await.unwrap();
    let bad = with_key_of(&shop, &blog);
    host.edge
        .set_certificates(told(&[("shop/cert", &bad), ("blog/cert", &blog)]));
    host.edge.apply(&routes(2, list)).await.unwrap_err();
    host.start_haproxy().await;
    host.settle().await;
    answers(port, "blog.org", &der, "r2").await;
    let refused = host.edge.refused();
    assert!(refused.keys().eq([&key("shop/web")]), "{refused:?}");

    host.edge
        .set_certificates(told(&[("shop/cert", &shop), ("blog/cert", &blog)]));
    host.settle().await;
    answers(port, "shop.org", &shop_der, "r1").await;
}
