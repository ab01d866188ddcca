//! The registry that the engine sees, over a source that can fail.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::http::{Method, Request, StatusCode};
use futures_util::stream;
use http_body_util::BodyExt as _;
use longshore_model::{ImageDigest, ImageRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::http::{Asked, asked, page, range};
use super::serve::{answer, bind, serve};
use super::*;

#[derive(Default)]
struct Fake {
    manifests: BTreeMap<String, Manifest>,
    blobs: BTreeMap<ImageDigest, Vec<u8>>,
    away: bool,
    /// Breaks off after so many pieces.
    breaks_after: Option<usize>,
}

impl Fake {
    fn with(content: &[u8]) -> (Self, ImageDigest) {
        let digest = ImageDigest::of(content);
        let mut fake = Self::default();
        fake.blobs.insert(digest.clone(), content.to_vec());
        (fake, digest)
    }
}

#[tonic::async_trait]
impl ImageSource for Fake {
    async fn manifest(
        &self,
        repository: &str,
        reference: &str,
    ) -> Result<Option<Manifest>, SourceError> {
        match self.away {
            true => Err(SourceError::Away("the test said so".into())),
            false => Ok(self
                .manifests
                .get(&format!("{repository}:{reference}"))
                .cloned()),
        }
    }

    async fn tags(&self, repository: &str) -> Result<Option<Vec<String>>, SourceError> {
        let names = self
            .manifests
            .keys()
            .filter_map(|name| name.rsplit_once(':'));
        let of = names.filter(|(of, _)| *of == repository);
        let tags: Vec<String> = of.map(|(_, tag)| tag.to_owned()).collect();
        Ok((!tags.is_empty()).then_some(tags))
    }

    async fn ahead(&self, _: &[Seen], _: Duration) -> Result<Vec<Wanted>, SourceError> {
        Ok(Vec::new())
    }

    async fn credentials(&self, _: &str) -> Result<Option<Credentials>, SourceError> {
        Ok(None)
    }

    async fn blob(
        &self,
        digest: &ImageDigest,
        offset: u64,
        length: u64,
    ) -> Result<Option<Blob>, SourceError> {
        if self.away {
            return Err(SourceError::Away("the test said so".into()));
        }
        let Some(content) = self.blobs.get(digest) else {
            return Ok(None);
        };
        let from = usize::try_from(offset).unwrap();
        if from > content.len() {
            // As the controller does.
            return Err(SourceError::Beyond(format!("none at {offset}")));
        }
        let length = usize::try_from(length).unwrap();
        let until = match length {
            0 => content.len(),
            length => content.len().min(from + length),
        };
        let pieces = content[from..until]
            .chunks(1000)
            .map(|piece| Ok(piece.to_vec()));
        let mut pieces: Vec<_> = pieces.collect();
        if let Some(after) = self.breaks_after {
            pieces.truncate(after);
            pieces.push(Err(SourceError::Away("it broke".into())));
        }
        Ok(Some(Blob {
            total: content.len() as u64,
            pieces: Box::pin(stream::iter(pieces)),
        }))
    }
}

async fn ask(
    fake: &Fake,
    method: Method,
    path: &str,
    range: Option<&str>,
) -> (StatusCode, ::http::HeaderMap, Option<Vec<u8>>) {
    let range = range.map(|range| ("range", range));
    ask_with(fake, method, path, range.as_slice()).await
}

async fn ask_with(
    fake: &Fake,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, ::http::HeaderMap, Option<Vec<u8>>) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, body) = answer(fake, &request.body(()).unwrap()).await.into_parts();
    let body = body.collect().await.ok();
    (
        head.status,
        head.headers,
        body.map(|body| body.to_bytes().to_vec()),
    )
}

#[test]
fn paths_are_read_and_nothing_else_is_served() {
    let digest = ImageDigest::of(b"x");
    let manifest = |repository: &str, reference: &str| {
        Some(Asked::Manifest {
            repository: repository.into(),
            reference: reference.into(),
        })
    };
    let table = [
        ("/v2/".to_owned(), Some(Asked::Base)),
        ("/v2".into(), Some(Asked::Base)),
        ("/v2/web/manifests/1".into(), manifest("web", "1")),
        (
            "/v2/a/b/manifests/manifests/x.y".into(),
            manifest("a/b/manifests", "x.y"),
        ),
        (
            format!("/v2/web/manifests/{digest}"),
            manifest("web", digest.as_str()),
        ),
        (
            format!("/v2/web/blobs/{digest}"),
            Some(Asked::Blob(digest.clone())),
        ),
        (
            "/v2/a/tags/tags/list".into(),
            Some(Asked::Tags("a/tags".into())),
        ),
        ("/v2/web/tags/other".into(), None),
        ("/v2/web/blobs/sha256:00".into(), None),
        ("/v2/../manifests/1".into(), None),
        ("/v2/Web/manifests/1".into(), None),
        ("/v2/web/manifests/a%2fb".into(), None),
        ("/v2/web/blobs/uploads/".into(), None),
        ("/v2/_catalog".into(), None),
        ("/".into(), None),
        ("/v2x/web/manifests/1".into(), None),
    ];
    for (path, expected) in table {
        assert_eq!(asked(&path), expected, "{path}");
    }
    let ranges = [
        ("bytes=5-", Some((5, None))),
        ("bytes=0-0", Some((0, Some(0)))),
        ("bytes=5-4", None),
        ("bytes=-5", None),
        ("bytes=0-1,3-4", None),
        ("lines=0-1", None),
        ("bytes=99999999999999999999-", None),
    ];
    for (header, expected) in ranges {
        assert_eq!(range(header), expected, "{header}");
    }
}

#[tokio::test]
async fn a_blob_comes_whole_or_in_part() {
    let content: Vec<u8> = (0..5_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (fake, digest) = Fake::with(&content);
    let path = format!("/v2/shop/web/blobs/{digest}");
    let (status, headers, body) = ask(&fake, Method::GET, &path, None).await;
    assert_eq!((status, body), (StatusCode::OK, Some(content.clone())));
    assert_eq!(headers["docker-content-digest"], digest.as_str());
    let (status, headers, body) = ask(&fake, Method::HEAD, &path, None).await;
    assert_eq!((status, body), (StatusCode::OK, Some(Vec::new())));
    assert_eq!(headers["content-length"], "5000");
    let (status, headers, body) = ask(&fake, Method::GET, &path, Some("bytes=4000-")).await;
    assert_eq!(status, StatusCode::PARTIAL_CONTENT);
    assert_eq!(headers["content-range"], "bytes 4000-4999/5000");
    assert_eq!(body.unwrap(), content[4_000..]);
    let (_, headers, body) = ask(&fake, Method::GET, &path, Some("bytes=10-19")).await;
    assert_eq!(
        (&headers["content-length"], body.unwrap().len()),
        (&"10".parse().unwrap(), 10)
    );
    for beyond in ["bytes=5000-", "bytes=5001-", "bytes=70000-80000"] {
        let (status, headers, body) = ask(&fake, Method::GET, &path, Some(beyond)).await;
        assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE, "{beyond}");
        assert_eq!(headers["content-range"], "bytes */5000");
        let body = String::from_utf8(body.unwrap()).unwrap();
        assert!(body.contains("5000 bytes"), "{body}");
    }
}

#[tokio::test]
async fn what_a_client_has_by_its_digest_is_not_sent_again() {
    let (mut fake, digest) = Fake::with(b"hello");
    let manifest = Manifest {
        bytes: b"{}".to_vec(),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest: digest.to_string(),
    };
    fake.manifests.insert("shop/web:1".into(), manifest);
    let blob = format!("/v2/shop/web/blobs/{digest}");
    let (same, other) = (format!("\"{digest}\""), "\"sha256:0\"");
    let get = async |path: &str, headers: &[(&str, &str)]| {
        let (status, headers, body) = ask_with(&fake, Method::GET, path, headers).await;
        let etag = headers
            .get("etag")
            .map(|tag| tag.to_str().unwrap().to_owned());
        let body = String::from_utf8(body.unwrap()).unwrap();
        (status.as_u16(), etag, body)
    };
    let answer = |status: u16, body: &str| (status, Some(same.clone()), body.to_owned());
    for path in [&*blob, "/v2/shop/web/manifests/1"] {
        let known = format!("W/{same}, {other}");
        let found = get(path, &[("if-none-match", &known)]).await;
        assert_eq!(found, answer(304, ""), "{path}");
        let found = get(path, &[("if-none-match", other)]).await;
        assert_eq!(found.0, 200, "{path}");
    }
    let from = ("range", "bytes=3-");
    let found = get(&blob, &[from, ("if-range", &same)]).await;
    assert_eq!(found, answer(206, "lo"));
    let found = get(&blob, &[from, ("if-range", other)]).await;
    assert_eq!(found, answer(200, "hello"), "a part of something else");
    let found = get(
        &blob,
        &[(
            "accept",
            "application/vnd.docker.distribution.manifest.v2+json",
        )],
    );
    assert_eq!(found.await, answer(200, "hello"));
}

#[test]
fn tags_come_in_pages_as_they_are_asked_for() {
    let tags = || ["3", "1", "2"].map(str::to_owned).to_vec();
    let table: [(&str, &[&str], bool); 7] = [
        ("", &["1", "2", "3"], false),
        ("n=2", &["1", "2"], true),
        ("n=2&last=2", &["3"], false),
        ("last=1", &["2", "3"], false),
        ("n=3", &["1", "2", "3"], false),
        ("n=0", &[], false),
        ("n=many", &["1", "2", "3"], false),
    ];
    for (query, expected, more) in table {
        let expected = expected.iter().map(ToString::to_string).collect();
        assert_eq!(page(tags(), query), (expected, more), "{query}");
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_said() {
    let (mut fake, digest) = Fake::with(b"x");
    let manifest = Manifest {
        bytes: b"{}".to_vec(),
        media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        digest: "sha256:1".into(),
    };
    fake.manifests.insert("shop/web:1".into(), manifest);
    let (status, headers, body) = ask(&fake, Method::GET, "/v2/shop/web/manifests/1", None).await;
    assert_eq!((status, body.unwrap()), (StatusCode::OK, b"{}".to_vec()));
    assert_eq!(
        headers["content-type"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    let (status, _, body) = ask(&fake, Method::GET, "/v2/shop/web/tags/list", None).await;
    let body = String::from_utf8(body.unwrap()).unwrap();
    assert_eq!(
        (status, &*body),
        (StatusCode::OK, r#"{"name":"shop/web","tags":["1"]}"#)
    );
    let blob = format!("/v2/shop/web/blobs/{digest}");
    let table = [
        (
            Method::GET,
            "/v2/shop/web/manifests/2",
            StatusCode::NOT_FOUND,
            "MANIFEST_UNKNOWN",
        ),
        (
            Method::GET,
            "/v2/_catalog",
            StatusCode::NOT_FOUND,
            "NAME_UNKNOWN",
        ),
        (
            Method::POST,
            "/v2/web/blobs/uploads/",
            StatusCode::METHOD_NOT_ALLOWED,
            "UNSUPPORTED",
        ),
        (
            Method::DELETE,
            &blob,
            StatusCode::METHOD_NOT_ALLOWED,
            "UNSUPPORTED",
        ),
    ];
    for (method, path, expected, code) in table {
        let (status, _, body) = ask(&fake, method, path, None).await;
        let body = String::from_utf8(body.unwrap()).unwrap();
        assert!(
            status == expected && body.contains(code),
            "{path}: {status} {body}"
        );
    }
    fake.away = true;
    for path in ["/v2/shop/web/manifests/1", &blob] {
        let (status, _, body) = ask(&fake, Method::GET, path, None).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{body:?}");
    }
    let (status, ..) = ask(&fake, Method::GET, "/v2/", None).await;
    assert_eq!(status, StatusCode::OK, "the registry itself is there");
    fake.away = false;
    fake.breaks_after = Some(0);
    let (_, _, body) = ask(&fake, Method::GET, &blob, None).await;
    assert_eq!(body, None, "half a blob is none");
}

#[tokio::test]
async fn it_listens_on_loopback_alone_and_ends_when_it_is_told() {
    let (fake, digest) = Fake::with(b"hello");
    let listener = bind(0).await.unwrap();
    let address = listener.local_addr().unwrap();
    assert!(address.ip().is_loopback());
    assert!(bind(address.port()).await.is_err(), "the port is taken");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, Arc::new(fake), stop.clone()));
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET /v2/web/blobs/{digest} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200") && text.ends_with("hello"),
        "{text}"
    );
    stop.cancel();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), serving).await;
    ended.expect("it goes on").unwrap();
}

#[test]
fn the_engine_of_a_node_has_an_image_by_what_it_is() {
    let digest = ImageDigest::of(b"x");
    let image = |name: &str, digest: Option<&ImageDigest>| ImageRef {
        name: name.into(),
        digest: digest.cloned(),
    };
    let hex = digest.hex();
    let pinned = local_name(&image("docker.io/shop/web:1", Some(&digest)));
    assert_eq!(pinned, format!("longshore.local/shop/web:sha256-{hex}"));
    assert_eq!(local_name(&image("nginx", None)), "nginx");
}
