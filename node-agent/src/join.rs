//! Enrolment and renewal: a token or the present certificate for a fresh certificate.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use longshore_identity::ca::pem_of_certificates;
use longshore_identity::key::KeyPair;
use longshore_identity::tls::{CertHolder, ConnectError, ServerTrust, explain};
use longshore_identity::token::TokenError;
use longshore_identity::{CaDigest, PkiError, Token, TokenKind};
use longshore_model::{NameError, NodeId, node::Roles};
use longshore_proto::agent::v1 as pb;
use longshore_proto::agent::v1::enrollment_service_client::EnrollmentServiceClient;
use longshore_reach::reach;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::files::FileError;
use crate::identity::{IdentityDir, IdentityError, NodeFile, NodeIdentity};

/// One answer of the controller must not take longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// What `node-agent join` was told.
#[derive(Debug)]
pub struct JoinOptions {
    /// `https://host:port`, of any controller; several with commas between them.
    pub controller: String,
    /// The token as pasted.
    pub token: String,
    /// Name that the node wants; its id from then on.
    pub name: String,
    /// Address under which edges reach its replicas.
    pub address: IpAddr,
    /// What it shall do.
    pub roles: Roles,
    /// Labels for placement.
    pub labels: BTreeMap<String, String>,
    /// Where the identity goes.
    pub data_dir: PathBuf,
}

/// Why a node could not join or renew; each text says the way out.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is an identity already, and the controller takes it.
    #[error(
        "this node is already enrolled ({} exists, and its controller takes it); to enrol it \
         elsewhere, stop the agent and move that directory away",
        path.display()
    )]
    Enrolled {
        /// The certificate.
        path: PathBuf,
    },
    /// Not a token.
    #[error("the token cannot be used; make one with `controllerctl token create`")]
    Token(#[from] TokenError),
    /// Not a name.
    #[error("the node cannot be called so; choose another name with --name")]
    Name(#[from] NameError),
    /// No connection; the text names the way out.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The controller said no; its words name the way out.
    #[error("the controller at {controller} refused: {message}")]
    Refused {
        /// Who.
        controller: String,
        /// In its words.
        message: String,
    },
    /// The call broke.
    #[error(
        "the call to {controller} failed: {why}; the same command may be repeated, with the same \
         token"
    )]
    Call {
        /// Who.
        controller: String,
        /// In words.
        why: String,
    },
    /// The answer is not what was agreed.
    #[error("the controller's answer cannot be used: {0}")]
    Answer(&'static str),
    /// Keys or certificates.
    #[error("cannot make or use the node's key")]
    Pki(#[from] PkiError),
    /// Files.
    #[error(transparent)]
    File(#[from] FileError),
    /// The present identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Trades a token for an identity. Nothing is stored unless all went well.
///
/// # Errors
/// [`JoinError`] says why and the way out.
pub async fn join(options: &JoinOptions) -> Result<NodeFile, JoinError> {
    let dir = IdentityDir::new(&options.data_dir);
    let token = Token::parse(TokenKind::Join, &options.token)?;
    let node = NodeId::new(options.name.as_str())?;
    still_open(&dir).await?;
    let key = dir.prepare()?;
    let asked = options.controller.split(',').map(str::to_owned);
    let asked: Vec<String> = asked.collect();
    let reached = reach(&asked, None, &ServerTrust::Digest(token.ca)).await?;
    let channel = reached.channel.clone();
    let request = pb::JoinRequest {
        token: token.secret.to_string(),
        csr_der: key.csr_der(node.as_str())?,
        node_name: node.to_string(),
        address: options.address.to_string(),
        worker: options.roles.worker,
        edge: options.roles.edge,
        labels: options.labels.clone().into_iter().collect(),
    };
    let call = EnrollmentServiceClient::new(channel)
        .join(timed(request))
        .await;
    let answer = call
        .map_err(|status| refused(&reached.server, status))?
        .into_inner();
    let ca = answer
        .ca_der
        .iter()
        .find(|der| CaDigest::of_der(der) == token.ca)
        .ok_or(JoinError::Answer(
            "it does not hold the CA that the token names",
        ))?;
    let ca_pem = pem_of_certificates([ca.as_slice()]);
    let chain = chain_pem(&answer.certificate_chain_der)?;
    let file = NodeFile {
        cluster: answer.cluster,
        node: NodeId::new(answer.node_id)?,
        controller: reached.server.clone(),
        address: options.address,
        roles: options.roles,
    };
    // Proves that certificate and key belong together before anything is written.
    let certs = CertHolder::from_pem(&chain, &key.pem())?;
    dir.store(&file, &chain, &ca_pem)?;
    let controllers = dir.controllers(&file);
    controllers.learn(&reached.server, &reached.controllers);
    warn_of_skew(&NodeIdentity {
        controllers,
        file: file.clone(),
        ca_pem,
        certs,
        renewing: Arc::default(),
    });
    Ok(file)
}

/// Is there no identity yet, or one that its controller does not take any more?
async fn still_open(dir: &IdentityDir) -> Result<(), JoinError> {
    if !dir.cert_path().exists() {
        return Ok(());
    }
    let enrolled = || JoinError::Enrolled {
        path: dir.cert_path(),
    };
    let identity = dir.load()?;
    match dial(&identity).await {
        Err(ConnectError::Refused { .. }) => Ok(()),
        // It may renew, and its agent has not; whoever has a token for it need not wait for that.
        Ok(_) if identity.is_late(SystemTime::now()) => Ok(()),
        Ok(_) => Err(enrolled()),
        Err(error) => Err(error.into()),
    }
}

/// Trades the present certificate for a fresh one (same key) and swaps it in. One that came while
/// another call waited for its answer is as good. A certificate that is over is traded as well, for so
/// long as the controller lets it.
///
/// # Errors
/// [`JoinError`]; the present certificate stays then.
pub async fn renew(dir: &IdentityDir, identity: &NodeIdentity) -> Result<(), JoinError> {
    let used = identity.certs.leaf_der();
    let _one = identity.renewing.lock().await;
    if identity.certs.leaf_der() != used {
        return Ok(());
    }
    let key_pem = dir.key_pem()?;
    let key = KeyPair::from_pem(&key_pem)?;
    let channel = dial(identity).await?;
    let request = pb::RenewRequest {
        csr_der: key.csr_der(identity.file.node.as_str())?,
    };
    let call = EnrollmentServiceClient::new(channel)
        .renew(timed(request))
        .await;
    let answer = call
        .map_err(|status| refused(&identity.file.controller, status))?
        .into_inner();
    let chain = chain_pem(&answer.certificate_chain_der)?;
    identity.certs.swap(&chain, &key_pem)?;
    dir.replace_cert(&chain)?;
    Ok(())
}

/// Dials the controller that leads, with the node's own certificate.
///
/// # Errors
/// [`ConnectError`] in words.
pub async fn dial(identity: &NodeIdentity) -> Result<Channel, ConnectError> {
    let trust = ServerTrust::Ca(identity.ca_pem.clone());
    let known = identity.controllers.list();
    let reached = reach(&known, Some(&identity.certs), &trust).await?;
    identity
        .controllers
        .learn(&reached.server, &reached.controllers);
    Ok(reached.channel)
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn chain_pem(chain: &[Vec<u8>]) -> Result<String, JoinError> {
    if chain.is_empty() {
        return Err(JoinError::Answer("it holds no certificate"));
    }
    Ok(pem_of_certificates(chain.iter().map(Vec::as_slice)))
}

fn refused(controller: &str, status: Status) -> JoinError {
    let controller = controller.to_owned();
    // A refusal by TLS hides behind `Unknown` or `Unavailable`; its cause tells.
    if let Some(why) = status.source().and_then(explain) {
        return JoinError::Call { controller, why };
    }
    let message = status.message().to_owned();
    let message = match status.code() {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::AlreadyExists
        | Code::ResourceExhausted => message,
        Code::InvalidArgument | Code::FailedPrecondition => {
            format!("{message}; correct that and try again")
        }
        Code::Unimplemented => {
            format!("{message}; is this the controller's own port, and is it as new as the agent?")
        }
        code => {
            let why = format!("{code:?}: {message}");
            return JoinError::Call { controller, why };
        }
    };
    JoinError::Refused {
        controller,
        message,
    }
}

fn warn_of_skew(identity: &NodeIdentity) {
    let now = SystemTime::now();
    if let Some((from, until)) = identity.validity()
        && (now < from || now > until)
    {
        tracing::warn!(
            valid_from = %humantime::format_rfc3339_seconds(from),
            valid_until = %humantime::format_rfc3339_seconds(until),
            "this machine's clock is outside the new certificate's time: set the clock"
        );
    }
}
