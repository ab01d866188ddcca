//! Peers with a certificate and bad intentions (X6 of the failure catalogue): each is refused at a limit, and
//! the controller answers others meanwhile. Loopback only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::Request;
use longshore_proto::agent::v1 as agent;
use longshore_proto::agent::v1::enrollment_service_client::EnrollmentServiceClient;
use longshore_proto::control::v1 as pb;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;

use crate::support::{BOUND, Lab};

/// As `controller/src/grpc/mod.rs` has them.
const AGENT_BYTES_MAX: usize = 1 << 20;
const CONTROL_BYTES_MAX: usize = 16 << 20;
const CALLS_MAX: u32 = 128;
/// What a hostile peer may cost (X6).
const GROWTH_BYTES_MAX: usize = 64 << 20;

const STATUS: &str = "https://127.0.0.1/longshore.control.v1.ControlService/GetStatus";

/// What a client begins with: the preface, and settings that say nothing (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A connection of the lab's admin, below gRPC.
async fn connection(lab: &Lab) -> TlsStream<TcpStream> {
    let text = std::fs::read_to_string(lab.dir.path().join("context.toml")).unwrap();
    let file: toml::Table = text.parse().unwrap();
    let part = |key: &str| file["context"]["lab"][key].as_str().unwrap().to_owned();
    let [ca, cert] = [part("ca"), part("cert")];
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(part("key").as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(lab.url.trim_start_matches("https://"));
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, tcp.await.unwrap()).await.unwrap()
}

async fn http2(lab: &Lab) -> h2::client::SendRequest<Bytes> {
    let (sender, driver) = h2::client::handshake(connection(lab).await).await.unwrap();
    tokio::spawn(async move { drop(driver.await) });
    sender
}

fn call(headers: usize, bytes: usize) -> Request<()> {
    let mut request = Request::post(STATUS)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for n in 0..headers {
        request = request.header(format!("x-{n}"), "v".repeat(bytes));
    }
    request.body(()).unwrap()
}

/// One message of gRPC, not compressed.
fn message(flag: u8, payload: &[u8]) -> Bytes {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[flag][..], &length, payload].concat().into()
}

/// Another one is answered.
async fn serves(lab: &Lab) {
    let mut admin = lab.admin.clone();
    let answer = admin.get_status(pb::GetStatusRequest {});
    let answer = tokio::time::timeout(BOUND, answer).await;
    answer.expect("no answer in time").unwrap();
}

/// Memory of this process, which is the controller and its peers.
fn memory_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_end_at_their_limits() {
    let lab = Lab::start().await;
    let mut enroll = EnrollmentServiceClient::new(lab.channel.clone());
    // A field's tag and the length before it.
    let room = AGENT_BYTES_MAX - 4;
    for (bytes, code) in [(room, Code::InvalidArgument), (room + 1, Code::OutOfRange)] {
        let request = agent::JoinRequest {
            token: "x".repeat(bytes),
            ..Default::default()
        };
        let refused = enroll.join(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{bytes} bytes: {refused}");
    }
    let room = CONTROL_BYTES_MAX - 5;
    for (bytes, code) in [(room, Code::NotFound), (room + 1, Code::OutOfRange)] {
        let request = pb::ScaleRequest {
            service: "x".repeat(bytes),
            ..Default::default()
        };
        let refused = lab.admin.clone().scale(request).await.unwrap_err();
        assert_eq!(
            refused.code(),
            code,
            "{bytes} bytes: {}",
            refused.message().len()
        );
        assert!(refused.message().len() < 1_000, "it is sent back");
    }
    serves(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_says_it_is_compressed_is_not_unpacked() {
    let lab = Lab::start().await;
    let mut sender = http2(&lab).await.ready().await.unwrap();
    let mut request = call(0, 0);
    let gzip = http::HeaderValue::from_static("gzip");
    request.headers_mut().insert("grpc-encoding", gzip);
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(message(1, &[0x1f, 0x8b]), true).unwrap();
    let answer = answer.await.unwrap();
    let unimplemented = (Code::Unimplemented as i32).to_string();
    assert_eq!(answer.headers()["grpc-status"], unimplemented.as_str());
    serves(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_end_at_their_limit() {
    let lab = Lab::start().await;
    for (headers, bytes, is_taken) in [(100, 100, true), (100, 200, false), (1, 20_000, false)] {
        let mut sender = http2(&lab).await.ready().await.unwrap();
        let (answer, mut body) = sender.send_request(call(headers, bytes), false).unwrap();
        // Who is refused already may not be able to send.
        let _sent = body.send_data(message(0, b""), true);
        let status = answer.await.map(|answer| answer.status().as_u16());
        let wanted = if is_taken { 200 } else { 431 };
        assert!(
            matches!(status, Ok(found) if found == wanted) || (status.is_err() && !is_taken),
            "{headers} headers of {bytes} bytes: {status:?}"
        );
        serves(&lab).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_header_fields_end_the_connection() {
    let lab = Lab::start().await;
    let before = memory_bytes();
    let mut peer = connection(&lab).await;
    let mut head = PREFACE.to_vec();
    // HEADERS without END_HEADERS: the block goes on, field after field (`a: b`, not indexed).
    let field = [0x00, 1, b'a', 1, b'b'];
    let fields = field.repeat(16_000 / field.len());
    head.extend(frame(1, 0, 1, &fields));
    peer.write_all(&head).await.unwrap();
    let count = 1_000_000 * field.len() / fields.len();
    let mut sent = 0;
    for _ in 0..count {
        if peer.write_all(&frame(9, 0, 1, &fields)).await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < count, "all were taken");
    serves(&lab).await;
    let grown = memory_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes for {sent} frames");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_same_time_are_bounded() {
    const TRIES: u32 = 200;
    let lab = Lab::start().await;
    let mut peer = connection(&lab).await;
    let mut head = PREFACE.to_vec();
    // `:method: POST`, `:scheme: https`, then `:path` by its name in the static table.
    let path = STATUS.strip_prefix("https://127.0.0.1").unwrap();
    let length = u8::try_from(path.len()).unwrap();
    let block = [&[0x83, 0x87, 0x04, length], path.as_bytes()].concat();
    // Their messages never come.
    for n in 0..TRIES {
        head.extend(frame(1, 4, 2 * n + 1, &block));
    }
    peer.write_all(&head).await.unwrap();
    let mut refused = 0;
    let reading = async {
        while refused < TRIES - CALLS_MAX {
            let (kind, payload) = read_frame(&mut peer).await;
            if kind == 3 {
                assert_eq!(payload, u32::from(Reason::REFUSED_STREAM).to_be_bytes());
                refused += 1;
            }
        }
    };
    let all = tokio::time::timeout(BOUND, reading).await.is_ok();
    assert!(all, "{refused} of {TRIES} calls were refused");
    serves(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_and_resets_is_cut_off() {
    const TRIES: usize = 100_000;
    let lab = Lab::start().await;
    let before = memory_bytes();
    let mut peer = connection(&lab).await;
    peer.write_all(PREFACE).await.unwrap();
    let (mut reads, mut writes) = tokio::io::split(peer);
    let writing = tokio::spawn(async move {
        // `:method: POST`, `:scheme: https`, `:path: /`: from the static table.
        let block = [0x83, 0x87, 0x84];
        for n in 0..TRIES {
            let stream = u32::try_from(2 * n + 1).unwrap();
            let mut both = frame(1, 4, stream, &block);
            both.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
            if writes.write_all(&both).await.is_err() {
                return n;
            }
        }
        TRIES
    });
    let mut answer = Vec::new();
    // Its end may be a reset.
    let _ended = tokio::time::timeout(BOUND, reads.read_to_end(&mut answer))
        .await
        .unwrap();
    let tries = writing.await.unwrap();
    assert!(tries < TRIES, "all were taken");
    let goaway = answer
        .windows(4)
        .any(|word| word == u32::from(Reason::ENHANCE_YOUR_CALM).to_be_bytes());
    assert!(goaway, "it is not said why: {answer:?}");
    serves(&lab).await;
    let grown = memory_bytes().saturating_sub(before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_that_nobody_reads_the_answers_of_cost_no_memory() {
    const PINGS: usize = 1_000;
    let lab = Lab::start().await;
    let before = memory_bytes();
    let mut peer = connection(&lab).await;
    peer.write_all(PREFACE).await.unwrap();
    let pings = frame(6, 0, 0, &[7; 8]).repeat(PINGS);
    let mut sent = 0;
    // Until the controller reads no more, or 17 MB.
    while sent < 1_000 {
        let write = peer.write_all(&pings);
        match tokio::time::timeout(Duration::from_millis(200), write).await {
            Ok(Ok(())) => sent += 1,
            _ => break,
        }
    }
    serves(&lab).await;
    let grown = memory_bytes().saturating_sub(before);
    assert!(
        grown < GROWTH_BYTES_MAX,
        "{grown} bytes for {sent} times {PINGS}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn more_silent_peers_than_handshakes_keep_nobody_out() {
    let lab = Lab::start().await;
    let address = lab.url.trim_start_matches("https://").to_owned();
    let mut silent = Vec::new();
    // More than twice as many as there are handshakes at a time.
    for _ in 0..600 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let mut sender = http2(&lab).await.ready().await.unwrap();
    let (answer, mut body) = sender.send_request(call(0, 0), false).unwrap();
    body.send_data(message(0, b""), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The next frame's kind and payload.
async fn read_frame(peer: &mut TlsStream<TcpStream>) -> (u8, Vec<u8>) {
    let mut head = [0; 9];
    peer.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    peer.read_exact(&mut payload).await.unwrap();
    (head[3], payload)
}
