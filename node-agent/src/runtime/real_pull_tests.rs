//! Pulls from a registry that wants credentials, by a real engine: `make engine-test`. The registry
//! is this test's own, on loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bollard::query_parameters::RemoveImageOptions;
use bollard::{API_DEFAULT_VERSION, Docker};
use data_encoding::BASE64;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use longshore_model::{ImageDigest, ImageRef, SecretText};
use tokio::net::TcpListener;

use super::docker::DockerRuntime;
use super::real_tests::socket;
use super::{Held, Runtime};
use crate::images::{Blob, Credentials, ImageSource, Manifest, Seen, SourceError, Wanted, serve};

/// In the letters of base64 that engines do not read, this would be no password at all.
const PASSWORD: &str = "a~?>~~???>>>ü";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// One image, and credentials that somebody gave.
#[derive(Default)]
struct Source {
    manifest: Vec<u8>,
    blobs: Vec<(ImageDigest, Vec<u8>)>,
    login: Mutex<Option<Credentials>>,
}

impl Source {
    fn new() -> Self {
        let header = crate::runtime::archive::header("hello", 0).to_vec();
        let layer = [header, vec![0; 1_024]].concat();
        let layer_digest = ImageDigest::of(&layer);
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
        });
        let config = config.to_string().into_bytes();
        let config_digest = ImageDigest::of(&config);
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest,
                "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": layer_digest,
                "size": layer.len(),
            }],
        });
        Self {
            manifest: manifest.to_string().into_bytes(),
            blobs: vec![(config_digest, config), (layer_digest, layer)],
            ..Self::default()
        }
    }
}

#[tonic::async_trait]
impl ImageSource for Source {
    async fn manifest(&self, _: &str, _: &str) -> Result<Option<Manifest>, SourceError> {
        Ok(Some(Manifest {
            bytes: self.manifest.clone(),
            media_type: MANIFEST_TYPE.into(),
            digest: ImageDigest::of(&self.manifest).to_string(),
        }))
    }

    async fn blob(
        &self,
        digest: &ImageDigest,
        _: u64,
        _: u64,
    ) -> Result<Option<Blob>, SourceError> {
        let found = self.blobs.iter().find(|(known, _)| known == digest);
        Ok(found.map(|(_, bytes)| Blob {
            total: bytes.len() as u64,
            pieces: Box::pin(stream::iter([Ok(bytes.clone())])),
        }))
    }

    async fn tags(&self, _: &str) -> Result<Option<Vec<String>>, SourceError> {
        Ok(None)
    }

    async fn ahead(&self, _: &[Seen], _: Duration) -> Result<Vec<Wanted>, SourceError> {
        Ok(Vec::new())
    }

    async fn credentials(&self, _: &str) -> Result<Option<Credentials>, SourceError> {
        Ok(self.login.lock().unwrap().clone())
    }
}

/// Serves the image to those who say who they are.
async fn registry(source: Arc<Source>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let wanted = format!(
        "Basic {}",
        BASE64.encode(format!("ana:{PASSWORD}").as_bytes())
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (source, wanted) = (Arc::clone(&source), wanted.clone());
            let answer = service_fn(move |request: Request<Incoming>| {
                let (source, wanted) = (Arc::clone(&source), wanted.clone());
                async move {
                    let said = request.headers().get("authorization");
                    if said.is_some_and(|said| said.as_bytes() == wanted.as_bytes()) {
                        let answer = serve::answer(&*source, &request).await;
                        return Ok(
                            answer.map(|body| body.map_err(std::io::Error::other).boxed_unsync())
                        );
                    }
                    let text = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
                    let body = Full::new(Bytes::from_static(text.as_bytes()));
                    let body = body
                        .map_err(|never: Infallible| match never {})
                        .boxed_unsync();
                    let refused = Response::builder()
                        .status(StatusCode::UNAUTHORIZED)
                        .header("www-authenticate", "Basic realm=\"test\"")
                        .header("content-type", "application/json");
                    refused.body(body)
                }
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            tokio::spawn(serving);
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an engine: make engine-test"]
async fn real_engine_pulls_with_the_credentials_that_are_given_with_the_pull() {
    let source = Arc::new(Source::new());
    let address = registry(Arc::clone(&source)).await;
    let socket = socket();
    let runtime = DockerRuntime::new(&socket, "longshore-engine-test").with_images(Held {
        source: Arc::clone(&source) as Arc<dyn ImageSource>,
        port: None,
        fault: None,
    });
    let name = format!("{address}/shop/web:1");
    let image = ImageRef {
        name: name.clone(),
        digest: None,
    };
    let refused = runtime.pull(&image).await.unwrap_err();
    let words = format!("registry {address} wants credentials");
    assert!(refused.detail.starts_with(&words), "{refused:?}");
    let give = |password: &str| {
        *source.login.lock().unwrap() = Some(Credentials {
            user: "ana".into(),
            password: SecretText::new(password),
        });
    };
    give("wrong");
    let refused = runtime.pull(&image).await.unwrap_err();
    let words = format!("registry {address} refused the credentials of ana");
    assert!(refused.detail.starts_with(&words), "{refused:?}");
    give(PASSWORD);
    runtime.pull(&image).await.unwrap();
    assert!(runtime.has_image(&image).await.unwrap());
    // The engine kept none of it.
    *source.login.lock().unwrap() = None;
    let refused = runtime.pull(&image).await.unwrap_err();
    assert!(refused.detail.contains("wants credentials"), "{refused:?}");
    let docker = Docker::connect_with_unix(&socket.to_string_lossy(), 20, API_DEFAULT_VERSION);
    let docker = docker.unwrap();
    let none = None::<RemoveImageOptions>;
    docker.remove_image(&name, none, None).await.unwrap();
}
