//! The session with the controller: one stream, dialled by the agent, made anew for ever.
//!
//! Nothing that happens here stops a container or changes HAProxy: losing the controller loses
//! only news.

mod contents;
mod disk;
mod late;
mod live;
mod proxy;
mod relay;
mod reports;
mod said;
pub mod streams;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use longshore_haproxy_driver::Certificates;
use longshore_model::spec::ContentMap;
use longshore_model::{Assignment, Routes};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::late::Late;
pub use self::live::SessionError;
use self::live::{Ended, Live};
use crate::backoff::Backoff;
use crate::edge::{EdgeReading, ProxyView};
use crate::identity::{IdentityDir, NodeIdentity};
use crate::ledger::Ledger;
use crate::mesh;
use crate::reconcile::{AgentClock, Chain, Snapshot};
use crate::runs::Runner;
use crate::runtime::{EngineInfo, Runtime};
use crate::said::Said;
use crate::sampler::Sampler;

const REDIAL_FIRST: Duration = Duration::from_millis(100);
const REDIAL_CAP: Duration = Duration::from_secs(10);
/// After an orderly refusal (revoked, cordoned off, too many) dialling at once changes nothing.
const REFUSED_FIRST: Duration = Duration::from_secs(5);
const REFUSED_CAP: Duration = Duration::from_secs(60);
/// While another controller takes over.
const REDIAL_SEVERAL: Duration = Duration::from_millis(800);
/// It does that within so long, or something else is wrong.
const TAKE_OVER: Duration = Duration::from_secs(20);
/// A session that lasted so long was a good one.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// What a session speaks for.
pub struct SessionParts<R> {
    /// Who this node is.
    pub identity: NodeIdentity,
    /// Where that came from: a join puts a new one there while the agent runs.
    pub identity_dir: IdentityDir,
    /// Where commands are written before they are obeyed.
    pub ledger: Arc<Ledger>,
    /// To the reconciler; none on a node that is no worker.
    pub assignments: Option<watch::Sender<Option<Arc<Assignment>>>>,
    /// To the edge; none on a node that is no edge.
    pub routes: Option<watch::Sender<Option<Arc<Routes>>>>,
    /// To the edge, as [`Self::routes`].
    pub certificates: Option<watch::Sender<Arc<Certificates>>>,
    /// Contents of secrets and configs, to the reconciler; in memory alone. None on a node that
    /// is no worker.
    pub contents: Option<watch::Sender<Arc<ContentMap>>>,
    /// The data path between services, with its directory; none on a node that is no worker.
    pub names: Option<mesh::Handle>,
    /// HAProxy's configuration; none on a node that is no edge.
    pub proxy: Option<ProxyView>,
    /// Runs containers once; none on a node that is no worker.
    pub runner: Option<Arc<Runner>>,
    /// From the reconciler.
    pub snapshots: watch::Receiver<Snapshot>,
    /// Images that were fetched ahead.
    pub ahead: watch::Receiver<Vec<String>>,
    /// From the edge.
    pub edge_reports: watch::Receiver<EdgeReading>,
    /// The engine, for logs and commands.
    pub runtime: Arc<R>,
    /// What the engine is.
    pub engine: watch::Receiver<EngineInfo>,
    /// Clock of the snapshots.
    pub clock: AgentClock,
    /// The certificate was renewed: change over to a new connection.
    pub renewed: Arc<Notify>,
    /// What this agent said.
    pub said: Said,
    /// Reads CPU and memory.
    pub sampler: Sampler,
}

/// Takes over the certificate of a join that happened meanwhile. True: there was one.
fn take_over(identity: &NodeIdentity, dir: &IdentityDir) -> bool {
    // Damaged, or half-way through a join: the next try finds it.
    let Ok(now) = dir.load() else {
        return false;
    };
    // Another node, cluster or address needs a new start.
    if now.file != identity.file || now.certs.leaf_der() == identity.certs.leaf_der() {
        return false;
    }
    identity.certs.take_over(&now.certs);
    tracing::info!("this node was enrolled again: its new certificate is used");
    true
}

/// Keeps a session until `stop`.
pub async fn run<R: Runtime>(mut parts: SessionParts<R>, stop: CancellationToken) {
    let mut redial = Backoff::new(REDIAL_FIRST, REDIAL_CAP);
    let mut refused = Backoff::new(REFUSED_FIRST, REFUSED_CAP);
    let mut late = Late::Unknown;
    let mut lost: Option<Instant> = None;
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = once(&mut parts, &mut late, &stop) => ended,
        };
        let wait = match ended {
            Ok(()) => return,
            Err(error) => {
                if began.elapsed() > GOOD_SESSION {
                    redial.reset();
                    refused.reset();
                    lost = Some(Instant::now());
                }
                if matches!(error, SessionError::Certificate { .. })
                    && take_over(&parts.identity, &parts.identity_dir)
                {
                    continue;
                }
                if matches!(error, SessionError::RenewFirst(_)) {
                    late = Late::Told;
                }
                let since = *lost.get_or_insert(began);
                let among_several =
                    parts.identity.controllers.list().len() > 1 && since.elapsed() < TAKE_OVER;
                let wait = if among_several && !error.is_refusal() {
                    // One of the others leads in a moment.
                    REDIAL_SEVERAL.mul_f64(rand::random_range(0.5..1.0))
                } else if error.is_refusal() {
                    refused.next_wait().max(REFUSED_FIRST / 2)
                } else {
                    redial.next_wait()
                };
                tracing::warn!(
                    error = %Chain(&error),
                    retry_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    "no session with the controller; everything here goes on"
                );
                wait
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}

/// One session, changed over to a new connection when the certificate was renewed.
async fn once<R: Runtime>(
    parts: &mut SessionParts<R>,
    late: &mut Late,
    stop: &CancellationToken,
) -> Result<(), SessionError> {
    late.renew_first(&parts.identity, &parts.identity_dir)
        .await?;
    let mut live = Live::open(parts).await?;
    loop {
        match live.serve(parts, stop).await? {
            Ended::Stop => {
                live.close(parts).await;
                return Ok(());
            }
            // The controller ends the old stream when the new one says hello, so the new one is
            // made first.
            Ended::Renewed => match Live::open(parts).await {
                Ok(next) => live = next,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "the old connection stays for now");
                }
            },
        }
    }
}
