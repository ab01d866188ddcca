//! The registry on the host's loopback address, for this host's engine. It only reads.
//!
//! # Limits
//! [`CONNECTIONS_MAX`] at a time, more wait; a request's head has [`HEAD_MAX`]; of a layer a few
//! pieces are in memory, whatever its size: the engine's pace is the controller's.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{
    ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName,
    IF_NONE_MATCH, IF_RANGE, LINK, RANGE,
};
use ::http::response::Builder;
use ::http::{HeaderMap, Method, Request, Response, StatusCode};
use futures_util::TryStreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use longshore_model::ImageDigest;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::http::{Asked, asked, names, page, range};
use super::{ImageSource, SourceError};

/// Connections at a time: engines pull three layers at once by default.
const CONNECTIONS_MAX: usize = 32;
/// Longest wait for a request's head.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// After an accept that failed: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for answers to end once the agent stops.
const END_MAX: Duration = Duration::from_secs(1);
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

type Body = UnsyncBoxBody<Bytes, SourceError>;

/// Takes the port.
///
/// # Errors
/// Whatever the host says.
pub async fn bind(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, source: Arc<dyn ImageSource>, stop: CancellationToken) {
    let turns = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection for images cannot be taken");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (source, stop) = (Arc::clone(&source), stop.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request: Request<Incoming>| {
                let source = Arc::clone(&source);
                async move { Ok::<_, Infallible>(answer(&*source, &request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_MAX)
                .serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "a connection for images ended");
                },
                () = stop.cancelled() => {}
            }
            drop(turn);
        });
    }
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    drop(timeout(END_MAX, turns.acquire_many(all)).await);
}

fn full(bytes: impl Into<Bytes>) -> Body {
    let never = |never: Infallible| match never {};
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

fn built(builder: Builder, body: Body) -> Response<Body> {
    let made = builder.header(API_VERSION, "registry/2.0").body(body);
    made.unwrap_or_else(|error| {
        // Values of the controller that are no header.
        tracing::warn!(%error, "an answer about an image cannot be written");
        let mut failed = Response::new(full(Bytes::new()));
        *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        failed
    })
}

/// An error as the distribution API has it.
fn refusal(status: StatusCode, code: &str, why: &str) -> Response<Body> {
    let body = serde_json::json!({"errors": [{"code": code, "message": why}]});
    let builder = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json");
    built(builder, full(body.to_string()))
}

fn failed(error: &SourceError) -> Response<Body> {
    tracing::warn!(%error, "an image does not come from the controller");
    refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "UNAVAILABLE",
        &error.to_string(),
    )
}

/// One request's answer.
pub(crate) async fn answer<B>(source: &dyn ImageSource, request: &Request<B>) -> Response<Body> {
    let head = match *request.method() {
        Method::GET => false,
        Method::HEAD => true,
        _ => {
            let why = "images are only read here; push them: controllerctl image push NAME";
            let mut refused = refusal(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", why);
            let allow = ::http::HeaderValue::from_static("GET, HEAD");
            refused.headers_mut().insert(ALLOW, allow);
            return refused;
        }
    };
    match asked(request.uri().path()) {
        None => refusal(
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
            "nothing is served here",
        ),
        Some(Asked::Base) => built(Response::builder(), full("{}")),
        Some(Asked::Manifest {
            repository,
            reference,
        }) => {
            let known = value(request.headers(), &IF_NONE_MATCH);
            manifest(source, (&repository, &reference), known, head).await
        }
        Some(Asked::Tags(repository)) => {
            let query = request.uri().query().unwrap_or_default();
            tags(source, &repository, query).await
        }
        Some(Asked::Blob(digest)) => {
            let known = value(request.headers(), &IF_NONE_MATCH);
            if known.is_some_and(|known| known != "*" && names(known, digest.as_str())) {
                // Whoever has it has all of it: it never changes.
                return not_modified(digest.as_str());
            }
            // A part of something else is of no use to who asks.
            let same = value(request.headers(), &IF_RANGE);
            let same = same.is_none_or(|same| names(same, digest.as_str()));
            let wanted = value(request.headers(), &RANGE).filter(|_| same);
            blob(source, &digest, wanted.and_then(range), head).await
        }
    }
}

fn value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn etag(digest: &str) -> String {
    format!("\"{digest}\"")
}

fn not_modified(digest: &str) -> Response<Body> {
    let builder = Response::builder().status(StatusCode::NOT_MODIFIED);
    let builder = builder.header(ETAG, etag(digest)).header(DIGEST, digest);
    built(builder, full(Bytes::new()))
}

/// The part asked for begins after the end of the `total` bytes that there are.
fn beyond(total: u64) -> Response<Body> {
    let why = format!("the blob has {total} bytes");
    let mut refused = refusal(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", &why);
    if let Ok(range) = format!("bytes */{total}").parse() {
        refused.headers_mut().insert(CONTENT_RANGE, range);
    }
    refused
}

async fn manifest(
    source: &dyn ImageSource,
    (repository, reference): (&str, &str),
    known: Option<&str>,
    head: bool,
) -> Response<Body> {
    match source.manifest(repository, reference).await {
        Err(error) => failed(&error),
        Ok(None) => {
            let why = format!("no image {repository}:{reference} is held by the controller");
            refusal(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &why)
        }
        Ok(Some(found)) if known.is_some_and(|known| names(known, &found.digest)) => {
            not_modified(&found.digest)
        }
        Ok(Some(found)) => {
            let builder = Response::builder()
                .header(CONTENT_TYPE, found.media_type)
                .header(CONTENT_LENGTH, found.bytes.len())
                .header(ETAG, etag(&found.digest))
                .header(DIGEST, found.digest);
            built(builder, full(if head { Vec::new() } else { found.bytes }))
        }
    }
}

async fn tags(source: &dyn ImageSource, repository: &str, query: &str) -> Response<Body> {
    match source.tags(repository).await {
        Err(error) => failed(&error),
        Ok(None) => {
            let why = format!("no image {repository} is held by the controller");
            refusal(StatusCode::NOT_FOUND, "NAME_UNKNOWN", &why)
        }
        Ok(Some(tags)) => {
            let (tags, more) = page(tags, query);
            let body = serde_json::json!({"name": repository, "tags": tags});
            let mut builder = Response::builder().header(CONTENT_TYPE, "application/json");
            if let Some(last) = tags.last().filter(|_| more) {
                let n = tags.len();
                let next = format!("</v2/{repository}/tags/list?n={n}&last={last}>; rel=\"next\"");
                builder = builder.header(LINK, next);
            }
            built(builder, full(body.to_string()))
        }
    }
}

async fn blob(
    source: &dyn ImageSource,
    digest: &ImageDigest,
    wanted: Option<(u64, Option<u64>)>,
    head: bool,
) -> Response<Body> {
    // The size alone comes with the first byte.
    let (offset, length) = match (head, wanted) {
        (true, _) => (0, 1),
        (false, None) => (0, 0),
        (false, Some((first, None))) => (first, 0),
        (false, Some((first, Some(last)))) => (first, (last - first).saturating_add(1)),
    };
    let found = match source.blob(digest, offset, length).await {
        Ok(Some(found)) => found,
        Ok(None) => {
            let why = format!("blob {digest} is not held by the controller");
            return refusal(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", &why);
        }
        Err(SourceError::Beyond(_)) if offset > 0 => {
            return match source.blob(digest, 0, 1).await {
                Ok(Some(found)) => beyond(found.total),
                Ok(None) => refusal(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", "it is gone"),
                Err(error) => failed(&error),
            };
        }
        Err(error) => return failed(&error),
    };
    let total = found.total;
    let builder = Response::builder()
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(ACCEPT_RANGES, "bytes")
        .header(ETAG, etag(digest.as_str()))
        .header(DIGEST, digest.as_str());
    if head {
        return built(builder.header(CONTENT_LENGTH, total), full(Bytes::new()));
    }
    let builder = match wanted {
        None => builder.header(CONTENT_LENGTH, total),
        Some((first, _)) if first >= total => return beyond(total),
        Some((first, last)) => {
            let last = last.unwrap_or(u64::MAX).min(total - 1);
            builder
                .status(StatusCode::PARTIAL_CONTENT)
                .header(CONTENT_RANGE, format!("bytes {first}-{last}/{total}"))
                .header(CONTENT_LENGTH, last - first + 1)
        }
    };
    let frames = found.pieces.map_ok(|piece| Frame::data(Bytes::from(piece)));
    built(builder, StreamBody::new(frames).boxed_unsync())
}
