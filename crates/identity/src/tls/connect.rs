//! The client's side: dial a controller, trust one CA only, and say why if it fails.

use std::error::Error as StdError;
use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncBufReadExt, BufReader};
#[cfg(not(feature = "simulated"))]
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};

use super::holder::{CertHolder, roots_of};
use crate::error::PkiError;
use crate::token::CaDigest;

#[cfg(feature = "simulated")]
use turmoil::net::TcpStream;

/// Dialling, handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// HTTP/2 pings find a silent peer between two messages.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Whom to trust.
#[derive(Debug, Clone)]
pub enum ServerTrust {
    /// This CA, as PEM.
    Ca(String),
    /// The CA with this digest, which the server must show: for joining.
    Digest(CaDigest),
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No `https://host:port`.
    #[error("{0:?} is no address of a controller; it should look like https://10.0.0.5:7443")]
    Address(String),
    /// Keys or trust are unusable.
    #[error("own credentials are unusable")]
    Credentials(#[from] PkiError),
    /// Nobody there, or TLS failed; the text says which and the way out. It says all that the
    /// chain of causes would.
    #[error("cannot reach {endpoint}: {why}")]
    Transport {
        /// Where to.
        endpoint: String,
        /// In words.
        why: String,
    },
    /// It is a controller that does not lead, and none is known that does.
    #[error("{endpoint} stands by, and no controller leads just now")]
    Follower {
        /// Where.
        endpoint: String,
    },
    /// The controller does not take the certificate that was shown.
    #[error("the controller at {endpoint} does not take this certificate: {refusal}")]
    Refused {
        /// Where to.
        endpoint: String,
        /// Why not.
        refusal: CertificateRefusal,
    },
}

/// Why a certificate was not taken, as the other end said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateRefusal {
    /// Its time is over, or a clock is wrong.
    Expired,
    /// Its time is over, and all that its node may do with it is to renew it. No handshake says so.
    Late,
    /// It was revoked: its node was removed or has joined anew.
    Revoked,
    /// Another cluster's CA made it.
    UnknownCa,
    /// Anything else.
    Other,
}

impl fmt::Display for CertificateRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "it has expired (or a clock is wrong)",
            Self::Late => "it has expired (or a clock is wrong) and is good for renewing it only",
            Self::Revoked => "it was revoked",
            Self::UnknownCa => "it is from another cluster's CA",
            Self::Other => "it is damaged or of an unknown kind",
        })
    }
}

/// Dials `endpoint` (`https://host:port`). With `certs`, shows a client certificate.
///
/// # Errors
/// [`ConnectError`] in words that name the way out; [`ConnectError::Refused`] if the server does
/// not take the certificate.
pub async fn connect(
    endpoint: &str,
    certs: Option<Arc<CertHolder>>,
    trust: ServerTrust,
) -> Result<Channel, ConnectError> {
    let address = || ConnectError::Address(endpoint.to_owned());
    let authority = endpoint
        .strip_prefix("https://")
        .ok_or_else(address)?
        .trim_end_matches('/');
    // TLS is done by the connector below; tonic itself must not insist on its own.
    let channel = Endpoint::from_shared(format!("http://{authority}"))
        .map_err(|_| address())?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(CONNECT_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    let connector = TlsConnector::from(Arc::new(client_config(certs, trust)?));
    let dial = tower::service_fn(move |uri: Uri| dial(connector.clone(), uri));
    channel.connect_with_connector(dial).await.map_err(|error| {
        let endpoint = endpoint.to_owned();
        match refusal(&error) {
            Some(refusal) => ConnectError::Refused { endpoint, refusal },
            None => ConnectError::Transport {
                endpoint,
                why: explain(&error).unwrap_or_else(|| last_cause(&error)),
            },
        }
    })
}

fn last_cause(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

type ClientStream = BufReader<tokio_rustls::client::TlsStream<TcpStream>>;

async fn dial(connector: TlsConnector, uri: Uri) -> std::io::Result<TokioIo<ClientStream>> {
    let invalid = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidInput, why.to_owned());
    let host = uri.host().ok_or_else(|| invalid("no host"))?;
    let bare = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = uri.port_u16().unwrap_or(7443);
    let name = ServerName::try_from(bare.clone()).map_err(|_| invalid("no host name"))?;
    let tcp = TcpStream::connect((bare.as_str(), port)).await?;
    tcp.set_nodelay(true)?;
    let mut stream = BufReader::new(connector.connect(name, tcp).await?);
    // In TLS 1.3 the handshake is over here before the server has looked at our certificate. Its
    // first word is HTTP/2's settings, or the alert that says why not; whoever speaks first may
    // never read it, as the server's reset of the connection throws it away.
    if stream.fill_buf().await?.is_empty() {
        let why = "the controller hung up at once; its log says why";
        return Err(std::io::Error::new(ErrorKind::UnexpectedEof, why));
    }
    Ok(TokioIo::new(stream))
}

fn client_config(
    certs: Option<Arc<CertHolder>>,
    trust: ServerTrust,
) -> Result<ClientConfig, PkiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        ServerTrust::Ca(pem) => {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots_of(&pem)?), provider.clone())
                .build()
                .map_err(PkiError::unreadable("the CA certificate"))?
        }
        ServerTrust::Digest(digest) => Arc::new(PinnedCa {
            digest,
            provider: provider.clone(),
        }),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match certs {
        Some(certs) => builder.with_client_cert_resolver(certs),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Trusts the CA of the digest and nobody else: the server shows it beside its leaf.
#[derive(Debug)]
struct PinnedCa {
    digest: CaDigest,
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let root = intermediates
            .iter()
            .find(|cert| CaDigest::of_der(cert) == self.digest)
            .ok_or(TlsError::InvalidCertificate(
                CertificateError::UnknownIssuer,
            ))?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let inner =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|_| TlsError::InvalidCertificate(CertificateError::UnknownIssuer))?;
        inner.verify_server_cert(end_entity, &[], server_name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let schemes = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, schemes)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Looks down a chain of causes (of a failed connection or call) for a refusal by TLS or by the
/// operating system and says it in words, with the way out. None: it is something else.
#[must_use]
pub fn explain(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(why) = explain_one(error) {
            return Some(why);
        }
        cause = error.source();
    }
    None
}

/// Did the other end refuse our certificate?
fn refusal(error: &(dyn StdError + 'static)) -> Option<CertificateRefusal> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(TlsError::AlertReceived(alert)) = error.downcast_ref::<TlsError>() {
            return refusal_of(*alert);
        }
        // `io::Error::source` skips the error that it wraps.
        if let Some(inner) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            return refusal(inner);
        }
        cause = error.source();
    }
    None
}

fn refusal_of(alert: AlertDescription) -> Option<CertificateRefusal> {
    Some(match alert {
        AlertDescription::CertificateExpired => CertificateRefusal::Expired,
        AlertDescription::CertificateRevoked => CertificateRefusal::Revoked,
        AlertDescription::UnknownCA => CertificateRefusal::UnknownCa,
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError => CertificateRefusal::Other,
        _ => return None,
    })
}

fn explain_one(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(tls) = error.downcast_ref::<TlsError>() {
        return Some(explain_tls(tls));
    }
    let io = error.downcast_ref::<std::io::Error>()?;
    // `io::Error::source` skips the error that it wraps, so look inside.
    if let Some(inner) = io.get_ref() {
        return explain(inner);
    }
    Some(match io.kind() {
        ErrorKind::ConnectionRefused => {
            "connection refused: is the controller running, and is the port right?".into()
        }
        ErrorKind::TimedOut => {
            "no answer in time: is the address right, is a firewall between?".into()
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "no way to that address from here".into()
        }
        _ => io.to_string(),
    })
}

fn explain_tls(error: &TlsError) -> String {
    match error {
        TlsError::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate is from another cluster's CA (wrong address, or an old \
             token or context)"
                .into()
        }
        TlsError::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate has expired, or this machine's clock is ahead".into(),
        TlsError::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the server's certificate is not valid yet: this machine's clock is behind".into(),
        TlsError::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for other addresses: use one that the controller was \
              initialised with (--advertise)"
            .into(),
        TlsError::AlertReceived(alert) => match refusal_of(*alert) {
            Some(refusal) => format!("the controller does not take this certificate: {refusal}"),
            None => format!("the controller refused the handshake: {alert:?}"),
        },
        other => other.to_string(),
    }
}
