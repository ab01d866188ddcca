//! The poller against a server on loopback that answers, refuses, is slow, or talks rubbish.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use longshore_model::autoscale::{ExternalQuery, Metric};
use longshore_model::observe::ExternalObserved;
use longshore_model::{App, AutoscaleSpec};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// What the server does with each request.
#[derive(Debug, Clone)]
enum Does {
    /// Answers with status and body.
    Answer(&'static str, String),
    /// Never answers; ends when its peer does.
    Hang,
    /// Sends a body without end.
    Flood,
    /// Closes at once.
    Close,
}

fn number(value: &str) -> Does {
    let body = format!(
        r#"{{"status":"success","data":{{"resultType":"scalar","result":[1.5,"{value}"]}}}}"#
    );
    Does::Answer("200 OK", body)
}

/// A server; ends with its handle.
struct Server {
    port: u16,
    does: Arc<Mutex<Does>>,
    heads: Arc<Mutex<Vec<String>>>,
    peak: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let does = Arc::new(Mutex::new(does));
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (open, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let shared = (does.clone(), heads.clone(), open.clone(), peak.clone());
        let task = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (does, heads, open, peak) = shared.clone();
                all.spawn(async move {
                    peak.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    serve(stream, &does, &heads).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            port,
            does,
            heads,
            peak,
            task,
        }
    }

    fn set(&self, does: Does) {
        *self.does.lock().unwrap() = does;
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    does: &Mutex<Does>,
    heads: &Mutex<Vec<String>>,
) {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            let text = String::from_utf8_lossy(&buffer).into_owned();
            // Queries of these tests are sent whole: a body ends with its `ms`.
            if text.contains("\r\n\r\n") && text.ends_with("ms") {
                break text;
            }
            match stream.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        };
        buffer.clear();
        heads.lock().unwrap().push(end);
        let does = does.lock().unwrap().clone();
        match does {
            Does::Answer(status, body) => {
                let text = format!(
                    "HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Does::Hang => {
                let _ = stream.read(&mut [0; 1]).await;
                return;
            }
            Does::Flood => {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
                let mut sent = stream.write_all(head).await;
                while sent.is_ok() {
                    sent = stream.write_all(&[b' '; 8192]).await;
                }
                return;
            }
            Does::Close => return,
        }
    }
}

fn policy() -> AutoscaleSpec {
    AutoscaleSpec {
        min: 1,
        max: 9,
        metrics: Vec::new(),
        steps: Vec::new(),
        window_ms: 30_000,
        warmup_ms: 30_000,
        scale_up: AutoscaleSpec::default_up(),
        scale_down: AutoscaleSpec::default_down(),
        on_missing: Default::default(),
        mode: Default::default(),
        schedules: Vec::new(),
        warm: 0,
    }
}

fn desired(queries: &[(&str, Option<&str>)]) -> Desired {
    let mut spec = crate::testing::service_spec();
    let metric = |(query, url): &(&str, Option<&str>)| Metric {
        signal: Signal::Prometheus(ExternalQuery {
            url: url.map(str::to_owned),
            query: (*query).to_owned(),
        }),
        target: 1.0,
        kind: longshore_model::autoscale::TargetKind::default(),
    };
    spec.autoscale = Some(AutoscaleSpec {
        metrics: queries.iter().map(metric).collect(),
        ..policy()
    });
    let app = App {
        name: "shop".parse().unwrap(),
        revision: 1,
        services: [("web".parse().unwrap(), Arc::new(spec))].into(),
        applied_ms: 1,
        applied_by: "ana".into(),
        numbers: Default::default(),
    };
    let mut desired = Desired::default();
    desired.apps.insert(app.name.clone(), app);
    desired
}

struct Rig {
    poller: Poller,
    fleet: Fleet,
    clock: Clock,
}

fn rig(port: u16) -> Rig {
    let url = ServerUrl::try_from(format!("http://127.0.0.1:{port}/prefix/")).unwrap();
    let config = PrometheusConfig {
        url: Some(url),
        interval_ms: 1_000,
        timeout_ms: 2_000,
        ..PrometheusConfig::default()
    };
    Rig {
        poller: Poller::new(&config),
        fleet: Fleet::default(),
        clock: Clock::start(),
    }
}

impl Rig {
    /// One round in which everything is due.
    async fn round(&mut self, desired: &Desired) -> BTreeMap<String, ExternalObserved> {
        self.poller.schedule = Schedule::new(Duration::from_secs(1));
        self.poller.round(desired, &self.fleet, &self.clock).await;
        let mut external = self.fleet.snapshot().external;
        external
            .remove(&"shop/web".parse().unwrap())
            .unwrap_or_default()
    }

    async fn problem(&mut self, desired: &Desired) -> String {
        let seen = self.round(desired).await;
        let seen = seen.into_values().next().unwrap();
        seen.problem.expect("a reason")
    }
}

#[tokio::test]
async fn a_number_is_kept_and_a_failure_keeps_the_numbers_and_says_why() {
    let server = Server::start(number("41.5")).await;
    let mut rig = rig(server.port);
    let wanted = desired(&[("sum(jobs{state=\"a b\"})", None)]);
    let seen = rig.round(&wanted).await;
    let seen = &seen["sum(jobs{state=\"a b\"})"];
    assert_eq!(
        (seen.samples[0].value, seen.problem.as_deref()),
        (41.5, None)
    );
    let first_ms = seen.samples[0].at_ms;
    assert_eq!(seen.tried_ms, Some(first_ms));
    let head = &server.heads()[0];
    assert!(
        head.starts_with("POST /prefix/api/v1/query HTTP/1.1\r\n"),
        "{head}"
    );
    let body = "query=sum%28jobs%7Bstate%3D%22a%20b%22%7D%29&timeout=2000ms";
    assert!(head.ends_with(body), "{head}");

    for (does, part) in [
        (number("NaN"), "NaN"),
        (Does::Answer("302 Found", String::new()), "302 Found"),
        (
            Does::Answer("200 OK", "<html>".into()),
            "not of the Prometheus",
        ),
        (
            Does::Answer(
                "400 Bad Request",
                r#"{"status":"error","errorType":"bad_data","error":"no such function"}"#.into(),
            ),
            "bad_data: no such function",
        ),
        (Does::Close, "broke"),
        (Does::Hang, "no answer within 2000 ms"),
        (Does::Flood, "longer than 65536 bytes"),
    ] {
        server.set(does);
        let why = rig.problem(&wanted).await;
        assert!(why.contains(part), "{why:?} lacks {part:?}");
        let backs_off = rig.poller.schedule.failures() > 0;
        assert_eq!(backs_off, part != "NaN", "the server is well: {why}");
    }
    let seen = rig.fleet.snapshot().external[&"shop/web".parse().unwrap()].clone();
    let seen = seen.into_values().next().unwrap();
    assert!(
        seen.tried_ms > Some(first_ms),
        "it was tried in vain: {seen:?}"
    );
    server.set(number("7"));
    let seen = rig.round(&wanted).await.into_values().next().unwrap();
    let values: Vec<f64> = seen.samples.iter().map(|s| s.value).collect();
    assert_eq!((values, seen.problem), (vec![41.5, 7.0], None));
}

#[tokio::test]
async fn nobody_there_is_said_once_for_all_and_does_not_take_long() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut rig = rig(listener.local_addr().unwrap().port());
    drop(listener);
    let texts: Vec<String> = (0..200).map(|n| format!("q{n}")).collect();
    let queries: Vec<_> = texts.iter().map(|q| (q.as_str(), None)).collect();
    let seen = rig.round(&desired(&queries)).await;
    assert_eq!(seen.len(), 200);
    for seen in seen.values() {
        let why = seen.problem.as_deref().unwrap_or_default();
        assert!(
            why.contains("refused") && why.contains("127.0.0.1"),
            "{why}"
        );
        assert!(seen.samples.is_empty());
    }
}

#[tokio::test]
async fn a_round_ends_in_time_over_few_connections() {
    let server = Server::start(Does::Hang).await;
    let mut rig = rig(server.port);
    let texts: Vec<String> = (0..100).map(|n| format!("q{n}")).collect();
    let queries: Vec<_> = texts.iter().map(|q| (q.as_str(), None)).collect();
    let began = Instant::now();
    let seen = rig.round(&desired(&queries)).await;
    // The interval and one timeout, with room for a busy machine.
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let not_asked =
        |s: &&ExternalObserved| s.problem.as_ref().is_some_and(|p| p.contains("not asked"));
    assert!(seen.values().filter(not_asked).count() > 50);
    let untried = |s: &&ExternalObserved| s.tried_ms.is_none();
    assert!(
        seen.values().filter(not_asked).all(|s| untried(&s)),
        "{seen:?}"
    );
    assert!(!seen.values().all(|s| untried(&s)), "{seen:?}");
    assert!(server.peak.load(Ordering::SeqCst) <= CONNECTIONS_MAX * 2);

    server.set(number("3"));
    let before = server.heads().len();
    let seen = rig.round(&desired(&queries)).await;
    assert!(
        seen.values()
            .all(|s| s.problem.is_none() && s.samples.len() == 1)
    );
    assert_eq!(server.heads().len() - before, 100);
}

#[tokio::test]
async fn only_the_configured_server_is_asked_and_what_nobody_wants_is_forgotten() {
    let server = Server::start(number("5")).await;
    let own = format!("http://127.0.0.1:{}/prefix", server.port);
    let mut rig = rig(server.port);
    let wanted = desired(&[
        ("mine", Some(&own)),
        ("metadata", Some("http://169.254.169.254/latest")),
        ("plain", None),
    ]);
    let seen = rig.round(&wanted).await;
    assert_eq!(seen["mine"].samples.len(), 1);
    assert_eq!(seen["plain"].samples.len(), 1);
    let why = seen["metadata"].problem.as_deref().unwrap();
    assert!(why.contains("only that one is asked"), "{why}");
    assert_eq!(server.heads().len(), 2);
    let seen = rig.round(&desired(&[("plain", None)])).await;
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["plain"]);
    assert!(rig.round(&Desired::default()).await.is_empty());
}

#[tokio::test]
async fn without_a_server_the_reason_is_the_missing_setting() {
    let mut rig = rig(1);
    rig.poller = Poller::new(&PrometheusConfig::default());
    let why = rig.problem(&desired(&[("q", None)])).await;
    assert_eq!(why, "no [prometheus] url in controller.toml");
}

/// A certificate for 127.0.0.1 that vouches for itself, and a server that shows it.
async fn tls_server() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let does = Mutex::new(number("8"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, &does, &Mutex::default()).await;
            }
        }
    });
    (port, made.cert.pem())
}

#[tokio::test]
async fn a_server_is_believed_only_with_a_ca_that_vouches_for_it() {
    let (port, pem) = tls_server().await;
    let mut rig = rig(port);
    let url = format!("https://127.0.0.1:{port}");
    rig.poller.config.url = Some(ServerUrl::try_from(url).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    rig.poller.config.ca_file = Some(path.clone());
    let wanted = desired(&[("q", None)]);
    std::fs::write(&path, "nothing\n").unwrap();
    assert!(rig.problem(&wanted).await.contains("no CA certificate"));
    let stranger = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&path, stranger.cert.pem()).unwrap();
    let why = rig.problem(&wanted).await;
    assert!(why.contains("certificate"), "{why}");
    std::fs::write(&path, pem).unwrap();
    let seen = rig.round(&wanted).await.remove("q").unwrap();
    assert_eq!((seen.samples.len(), seen.problem), (1, None));
}

#[tokio::test]
async fn the_token_is_sent_and_a_bad_file_is_named() {
    let server = Server::start(number("5")).await;
    let mut rig = rig(server.port);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    rig.poller.config.bearer_token_file = Some(path.clone());
    let wanted = desired(&[("q", None)]);
    let why = rig.problem(&wanted).await;
    assert!(
        why.contains("cannot read") && why.contains("token"),
        "{why}"
    );
    std::fs::write(&path, "two\nlines\n").unwrap();
    assert!(rig.problem(&wanted).await.contains("one line"));
    std::fs::write(&path, "s3cret\n").unwrap();
    assert_eq!(rig.round(&wanted).await["q"].problem, None);
    assert!(server.heads()[0].contains("authorization: Bearer s3cret\r\n"));
    assert!(!format!("{:?}", rig.poller.said).contains("s3cret"));
}
