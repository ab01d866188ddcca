//! Finds the controller that leads, from the address of any (decision 0080).
//!
//! Each controller that is reached is asked who leads (`EnrollmentService.WhoLeads`). One that stands by names the leader if
//! it knows it; that one is asked next. A controller of before knows no such question, and leads.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use longshore_identity::tls::{CertHolder, ConnectError, ServerTrust, connect};
use longshore_proto::agent::v1 as pb;
use longshore_proto::agent::v1::enrollment_service_client::EnrollmentServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Most controllers that anybody keeps in mind.
pub const CONTROLLERS_MAX: usize = 16;
/// For one controller where there are others to ask: a machine that is off does not answer at all.
const ONE_OF_SEVERAL: Duration = Duration::from_millis(1_500);
/// For the answer to who leads.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest address that is taken from another one's word.
const ADDRESS_BYTES_MAX: usize = 512;

/// A connection to the controller that leads.
#[derive(Debug)]
pub struct Reached {
    /// The connection.
    pub channel: Channel,
    /// `https://host:port` that it is to.
    pub server: String,
    /// All controllers that the leader knows; empty: it does not say.
    pub controllers: Vec<String>,
}

/// What a controller said.
enum Said {
    /// It leads.
    Leads(Vec<String>),
    /// It stands by: first whom it takes for the leader, then all that it knows.
    StandsBy(Vec<String>),
}

/// Connects to the controller that leads, from any of `servers` on, in their order.
///
/// # Errors
/// [`ConnectError::Follower`] if controllers answer and none leads; else that of the last one that was tried.
pub async fn reach(
    servers: &[String],
    certs: Option<&Arc<CertHolder>>,
    trust: &ServerTrust,
) -> Result<Reached, ConnectError> {
    let mut waiting: VecDeque<String> = servers.iter().take(CONTROLLERS_MAX).cloned().collect();
    let mut tried = BTreeSet::new();
    let mut failure = ConnectError::Address(String::new());
    while let Some(server) = waiting.pop_front() {
        if tried.len() >= CONTROLLERS_MAX || !tried.insert(server.clone()) {
            continue;
        }
        let alone = waiting.is_empty() && tried.len() == 1;
        let asked = ask(&server, certs.cloned(), trust.clone());
        let asked = match alone {
            true => asked.await,
            false => bounded(&server, asked).await,
        };
        match asked {
            Ok((channel, Said::Leads(controllers))) => {
                return Ok(Reached {
                    channel,
                    server,
                    controllers,
                });
            }
            Ok((_, Said::StandsBy(others))) => {
                tracing::debug!(server, ?others, "stands by");
                failure = ConnectError::Follower { endpoint: server };
                // The leader that it names is asked next.
                let mut others = others.into_iter().filter(|other| !tried.contains(other));
                others
                    .next()
                    .into_iter()
                    .for_each(|leader| waiting.push_front(leader));
                waiting.extend(others);
                waiting.truncate(CONTROLLERS_MAX);
            }
            Err(error) => {
                tracing::debug!(server, %error, "not reached");
                // That somebody stands by says more than that another one is away.
                if !matches!(failure, ConnectError::Follower { .. }) {
                    failure = error;
                }
            }
        }
    }
    Err(failure)
}

async fn bounded<T>(
    server: &str,
    asked: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let asked = tokio::time::timeout(ONE_OF_SEVERAL, asked).await;
    asked.unwrap_or_else(|_| Err(unreached(server, "it does not answer")))
}

fn unreached(server: &str, why: &str) -> ConnectError {
    ConnectError::Transport {
        endpoint: server.to_owned(),
        why: why.to_owned(),
    }
}

async fn ask(
    server: &str,
    certs: Option<Arc<CertHolder>>,
    trust: ServerTrust,
) -> Result<(Channel, Said), ConnectError> {
    let channel = connect(server, certs, trust).await?;
    let mut client = EnrollmentServiceClient::new(channel.clone());
    let call = client.who_leads(pb::WhoLeadsRequest {});
    let said = match tokio::time::timeout(ANSWER, call).await {
        Ok(Ok(answer)) => said(answer.into_inner()),
        Ok(Err(status)) if is_lost(&status) => return Err(unreached(server, status.message())),
        // It does not know the question, or has something against this certificate, as it will say.
        Ok(Err(_)) => Said::Leads(Vec::new()),
        Err(_) => return Err(unreached(server, "it does not say who leads")),
    };
    Ok((channel, said))
}

fn is_lost(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Unknown
    )
}

fn said(answer: pb::WhoLeadsResponse) -> Said {
    let is_address = |server: &String| {
        server.len() <= ADDRESS_BYTES_MAX
            && server
                .strip_prefix("https://")
                .is_some_and(|rest| !rest.is_empty())
    };
    let known = answer.controllers.into_iter().filter(is_address);
    match answer.leads {
        true => Said::Leads(known.take(CONTROLLERS_MAX).collect()),
        false => {
            let leader = Some(answer.leader).filter(is_address);
            Said::StandsBy(
                leader
                    .into_iter()
                    .chain(known)
                    .take(CONTROLLERS_MAX)
                    .collect(),
            )
        }
    }
}
