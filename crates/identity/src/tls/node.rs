//! TLS between two agents: both ends show the certificate of their node, and take nobody else's
//! than a worker's.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use longshore_model::NodeId;

use super::holder::{CertHolder, TrustHolder};
use super::peer::{is_no_worker, peer_info};
use super::verify::ClientVerifier;
use crate::error::PkiError;
use crate::name::Identity;

/// Says what is spoken inside: who dials the wrong port is refused in the handshake.
const PROTOCOL: &[u8] = b"longshore-names/1";

/// One agent's end of connections between agents. TLS 1.3 only, no resumption.
#[derive(Clone)]
pub struct NodeTls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    trust: Arc<TrustHolder>,
}

/// A connection whose other end has proven which node it is.
pub struct NodeStream {
    /// The bytes.
    pub stream: TlsStream<TcpStream>,
    /// The node at the other end.
    pub node: NodeId,
    /// Serial of its certificate: see [`TrustHolder::until_revoked`].
    pub serial: String,
}

impl NodeTls {
    /// For the node that `certs` belongs to.
    ///
    /// # Errors
    /// [`PkiError::Tls`] if the crypto provider lacks TLS 1.3.
    pub fn new(certs: Arc<CertHolder>, trust: Arc<TrustHolder>) -> Result<Self, PkiError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Arc::new(NodeVerifier(ClientVerifier::new(
            Arc::clone(&trust),
            Duration::ZERO,
        )));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>)
            .with_cert_resolver(Arc::clone(&certs) as _);
        server.alpn_protocols = vec![PROTOCOL.to_vec()];
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(certs);
        client.alpn_protocols = vec![PROTOCOL.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            trust,
        })
    }

    /// Whom it trusts.
    #[must_use]
    pub fn trust(&self) -> &Arc<TrustHolder> {
        &self.trust
    }

    /// The handshake of a connection that was accepted.
    ///
    /// # Errors
    /// The other end is no node of this cluster, or hung up.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<NodeStream> {
        proven(TlsStream::Server(self.acceptor.accept(tcp).await?))
    }

    /// The handshake of a connection that was dialled. Nothing is sent before `node` has proven
    /// that it is there.
    ///
    /// # Errors
    /// The other end is not `node`, or hung up.
    pub async fn dial(&self, node: &NodeId, tcp: TcpStream) -> io::Result<NodeStream> {
        // The name in the certificate is the node's, not an address: this one is not looked at.
        let name = ServerName::IpAddress(tcp.peer_addr()?.ip().into());
        let found = proven(TlsStream::Client(self.connector.connect(name, tcp).await?))?;
        if found.node != *node {
            let why = format!("node {} answers where {node} should", found.node);
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(found)
    }
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeTls")
    }
}

fn proven(stream: TlsStream<TcpStream>) -> io::Result<NodeStream> {
    let denied = |error: PkiError| io::Error::new(io::ErrorKind::PermissionDenied, error);
    let (tcp, session) = stream.get_ref();
    let peer = peer_info(session.peer_certificates(), tcp.peer_addr()?).map_err(denied)?;
    match peer.identity {
        Some(Identity::Node(node)) => Ok(NodeStream {
            stream,
            node,
            serial: peer.serial,
        }),
        _ => Err(denied(PkiError::NoIdentity("it is no node's".into()))),
    }
}

/// Takes certificates of this cluster's workers, none that is over, at both ends: edges have no
/// containers that call, and are what the world outside reaches first. They are made for calling
/// only, so it is the check of a caller that they pass at either.
#[derive(Debug)]
struct NodeVerifier(ClientVerifier);

impl NodeVerifier {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.0.verify_client_cert(end_entity, intermediates, now)?;
        let nobody = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        match peer_info(Some(std::slice::from_ref(end_entity)), nobody) {
            Ok(peer)
                if matches!(peer.identity, Some(Identity::Node(_)))
                    && !is_no_worker(end_entity) =>
            {
                Ok(())
            }
            _ => Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
        }
    }
}

impl ClientCertVerifier for NodeVerifier {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
