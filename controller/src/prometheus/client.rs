//! One connection to the server: HTTP/1.1, with TLS where the URL says so.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Request, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::answer::{self, AnswerError};
use super::config::{PrometheusConfig, ServerUrl};

/// Longest answer. One number takes a hundred bytes; labels of one series may take some thousand.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// CAs of Debian and Ubuntu.
const SYSTEM_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why a query gave no number.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    /// Nobody there.
    #[error("cannot connect to {url}")]
    Connect {
        url: String,
        #[source]
        source: std::io::Error,
    },
    /// A file of the configuration.
    #[error("cannot read {path}")]
    File {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file of the configuration holds something else.
    #[error("{path}: {rule}")]
    Content { path: PathBuf, rule: &'static str },
    /// The connection broke, or the peer speaks no HTTP.
    #[error("the connection to {url} broke")]
    Http {
        url: String,
        #[source]
        source: hyper::Error,
    },
    /// The request cannot be written.
    #[error("the query cannot be sent")]
    Request(#[from] http::Error),
    /// A status that is no answer.
    #[error("the server answers {0}")]
    Status(String),
    /// It is too long.
    #[error("the answer is longer than {ANSWER_BYTES_MAX} bytes; the query must give one number")]
    TooLong,
    /// It broke off.
    #[error("the answer broke off: {0}")]
    Body(String),
    /// It is no number.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl QueryError {
    /// The next query would meet the same.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::File { .. } | Self::Content { .. }
        )
    }

    /// The server did its part; there is no number just now, as with a share of nothing.
    pub(super) fn is_answered(&self) -> bool {
        use AnswerError::{Empty, Value};
        matches!(self, Self::Answer(Empty | Value(_)))
    }
}

/// Asks one query after the other; dials when it has to.
pub(super) struct Client<'a> {
    url: &'a ServerUrl,
    config: &'a PrometheusConfig,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl<'a> Client<'a> {
    pub(super) fn new(url: &'a ServerUrl, config: &'a PrometheusConfig) -> Self {
        Self {
            url,
            config,
            connection: None,
        }
    }

    /// The next query gets a new connection: on this one an answer may still be on its way.
    pub(super) fn hang_up(&mut self) {
        self.connection = None;
    }

    /// Asks for the present value of a query.
    pub(super) async fn ask(&mut self, query: &str) -> Result<f64, QueryError> {
        let request = self.request(query).await?;
        let mut connection = match self.connection.take().filter(|c| !c.is_closed()) {
            Some(open) => open,
            None => self.dial().await?,
        };
        let broke = |source| QueryError::Http {
            url: self.url.to_string(),
            source,
        };
        connection.ready().await.map_err(broke)?;
        let response = connection.send_request(request).await.map_err(broke)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let bytes = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(QueryError::TooLong),
            Err(error) => return Err(QueryError::Body(answer::words(&error.to_string()))),
        };
        let read = answer::read(&bytes);
        // Its own refusals come with 400, 422 and 503 and say more than the status.
        if !status.is_success() && !matches!(read, Err(AnswerError::Refused { .. })) {
            return Err(QueryError::Status(status.to_string()));
        }
        self.connection = Some(connection);
        Ok(read?)
    }

    async fn request(&self, query: &str) -> Result<Request<Full<Bytes>>, QueryError> {
        // The server need not work on what nobody waits for any more.
        let timeout_ms = self.config.timeout_ms;
        let body = format!("query={}&timeout={timeout_ms}ms", encoded(query));
        let mut request = Request::post(format!("{}/api/v1/query", self.url.prefix))
            .header(header::HOST, &self.url.authority)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .header(
                header::USER_AGENT,
                concat!("longshore/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(path) = &self.config.bearer_token_file {
            let text = read_file(path).await?;
            let value = http::HeaderValue::try_from(format!("Bearer {}", text.trim()));
            let mut value = value.map_err(|_| QueryError::Content {
                path: path.clone(),
                rule: "a token is one line of printable characters",
            })?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        Ok(request.body(Full::new(Bytes::from(body)))?)
    }

    async fn dial(&self) -> Result<SendRequest<Full<Bytes>>, QueryError> {
        let failed = |source| QueryError::Connect {
            url: self.url.to_string(),
            source,
        };
        let stream = TcpStream::connect((self.url.host.as_str(), self.url.port))
            .await
            .map_err(failed)?;
        if !self.url.tls {
            return self.shake(stream).await;
        }
        let path = self.config.ca_file.as_deref();
        let path = path.unwrap_or(Path::new(SYSTEM_CAS));
        let connector = connector(path, &read_file(path).await?)?;
        let name = ServerName::try_from(self.url.host.clone())
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let stream = connector.connect(name, stream).await.map_err(failed)?;
        self.shake(stream).await
    }

    async fn shake<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, QueryError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shaken = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(|source| QueryError::Http {
            url: self.url.to_string(),
            source,
        })?;
        // It ends with its sender; what breaks it is told by the request.
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn connector(path: &Path, pem: &str) -> Result<TlsConnector, QueryError> {
    let mut roots = RootCertStore::empty();
    // One that cannot be read vouches for nobody; the others do.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
    let unusable = |rule| QueryError::Content {
        path: path.to_owned(),
        rule,
    };
    if roots.is_empty() {
        return Err(unusable("it holds no CA certificate"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| unusable("TLS is not to be had"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn read_file(path: &Path) -> Result<String, QueryError> {
    let read = tokio::fs::read_to_string(path).await;
    read.map_err(|source| QueryError::File {
        path: path.to_owned(),
        source,
    })
}

/// Percent-encoding of everything but unreserved characters (RFC 3986, 2.3).
fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
