//! One controller of several: its cluster is in etcd, and it stands by until it leads (decision 0080).
//!
//! - Who stands by answers who leads, and nothing else.
//! - Who is elected opens the store under the election's guard and serves as a single controller does; the term is the
//!   election's.
//! - Whose leadership ends, ends: the process stops to answer at once, with an exit code that has it started again, and
//!   stands by anew. What a leader has in memory is no starting point for another term.

mod config;
mod follower;
mod join;
mod known;
mod lead;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_etcd::{
    Candidate, CandidateError, Client, Election, Leader, Leadership, Range, SettingsError, Span,
    Standing,
};
use longshore_identity::tls::TrustHolder;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::config::EtcdConfig;
use self::follower::Outlook;
pub use self::join::{JoinError, join};
pub use self::lead::{LeadError, with_lead};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::files::{self, FileError};
use crate::init::{DataDir, url_of};
use crate::run::{Controller, Ground, RunError, claim};
use crate::store::{EtcdStore, Meta, Repository, Store, StoreError};

/// Between two looks whether etcd has a cluster, while it does not answer.
const LOOK: Duration = Duration::from_secs(2);
/// Who stood by has this long to end its calls once it leads.
const FOLLOWER_END: Duration = Duration::from_millis(500);

/// Why a controller cannot be one of several.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// The endpoints or credentials.
    #[error("[store.etcd]: {0}")]
    Settings(#[from] SettingsError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A certificate without its key, or a key without a certificate.
    #[error("[store.etcd]: cert_file and key_file belong together; give both, or none")]
    HalfAnIdentity,
    /// Its own address is not given.
    #[error(
        "controller.toml: advertise is needed with [store.etcd], as each controller has names of its own: \
         advertise = [\"10.0.0.5\"]"
    )]
    NoAddress,
    /// The election.
    #[error(transparent)]
    Candidate(#[from] CandidateError),
    /// The election's key was lost without having led.
    #[error("this controller stands for election no more: {0}")]
    Ended(String),
}

/// Stands by, leads, and ends with the leadership, or with `stop`.
///
/// # Errors
/// [`RunError`]; one of exit code 70 if a fresh start is what helps.
pub async fn run(
    data_dir: &Path,
    config: Config,
    etcd: EtcdConfig,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let dir = DataDir::new(data_dir);
    let lock = claim(&dir)?;
    let settings = etcd.settings()?;
    let host = config.advertise.as_ref().and_then(|names| names.first());
    let host = host.ok_or(SharedError::NoAddress)?.clone();
    let client = Client::new(settings.clone());
    let Some(meta) = cluster_in(&client, &etcd, &dir, &stop).await? else {
        return Ok(());
    };
    let ground = Ground::lay(dir, lock, &meta, &config).await?;
    let url = url_of(&host, ground.address.port());
    let name = etcd.name.clone().unwrap_or(host);
    let (known, controllers) = watch::channel(Vec::new());
    let over = stop.child_token();
    let saying = tokio::spawn(known::run(
        client.clone(),
        etcd.controllers_prefix(),
        (name.clone(), url.clone()),
        known,
        over.clone(),
    ));
    let mut election = client
        .campaign(Candidate {
            key: etcd.election_key(),
            name,
            url: url.clone(),
            ttl: etcd.lease(),
        })
        .map_err(SharedError::from)?;
    let stood_by = stand_by(&mut election, &ground, (url, controllers.clone()), &stop).await;
    let led = match stood_by {
        Err(error) => Err(error),
        Ok(None) => Ok(()),
        Ok(Some(leadership)) => {
            let store = (settings, etcd.prefix.clone());
            lead(ground, config, store, leadership, controllers, stop).await
        }
    };
    over.cancel();
    // It ends by itself at once.
    let _ended = saying.await;
    if !matches!(election.standing(), Standing::Ended(_)) {
        election.resign().await;
    }
    led
}

/// What cluster etcd has; none: it was told to stop. Where etcd does not answer, what it said last counts: so there is
/// somebody who says that nobody leads. Without that, it is asked again.
async fn cluster_in(
    client: &Client,
    etcd: &EtcdConfig,
    dir: &DataDir,
    stop: &CancellationToken,
) -> Result<Option<Meta>, RunError> {
    loop {
        let key = EtcdStore::meta_key(&etcd.prefix);
        match client.range(Range::of(Span::key(key))).await {
            Ok(rows) => {
                let Some(row) = rows.rows.into_iter().next() else {
                    let place = format!("{} of etcd", etcd.prefix);
                    return Err(StoreError::Empty { place }.into());
                };
                let meta = Repository::read_meta(&row.value)?;
                files::write_private(&dir.cluster(), &row.value)?;
                return Ok(Some(meta));
            }
            Err(error) => {
                tracing::warn!(error = crate::chain(&error), "etcd does not answer");
                let last = std::fs::read(dir.cluster()).ok();
                let last = last.and_then(|row| Repository::read_meta(&row).ok());
                if last.is_some() {
                    return Ok(last);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Waits for the leadership; none: it was told to stop.
async fn stand_by(
    election: &mut Election,
    ground: &Ground,
    (own, controllers): (String, watch::Receiver<Vec<String>>),
    stop: &CancellationToken,
) -> Result<Option<Leadership>, RunError> {
    let (who, leader) = watch::channel(None);
    let outlook = Outlook {
        own: own.clone(),
        leader,
        controllers,
    };
    let trust = TrustHolder::new(ground.ca.cert_pem(), std::collections::HashSet::new())?;
    let (listener, over) = (ground.second_listener()?, CancellationToken::new());
    let serving = follower::serve(
        outlook,
        listener,
        Arc::clone(&ground.certs),
        trust,
        over.clone(),
    );
    let mut serving = tokio::spawn(serving);
    tracing::info!(url = own, "standing by");
    let mut standing = election.standing();
    let stood = loop {
        match standing {
            Standing::Leading(leadership) => break Ok(Some(leadership)),
            Standing::Ended(end) => break Err(SharedError::Ended(end.to_string()).into()),
            Standing::Following(leader) => say_who(&who, leader),
        }
        tokio::select! {
            () = stop.cancelled() => break Ok(None),
            next = election.changed() => standing = next,
            ended = &mut serving => break Err(crate::run::ended_by_itself(ended)),
        }
    };
    over.cancel();
    if !serving.is_finished()
        && tokio::time::timeout(FOLLOWER_END, &mut serving)
            .await
            .is_err()
    {
        serving.abort();
    }
    stood
}

fn say_who(who: &watch::Sender<Option<Leader>>, leader: Option<Leader>) {
    who.send_if_modified(|known| {
        let is_new = *known != leader;
        if let Some(leader) = leader.as_ref().filter(|_| is_new) {
            tracing::info!(
                name = leader.name,
                url = leader.url,
                term = leader.term,
                "follows"
            );
        }
        *known = leader;
        is_new
    });
}

/// Serves as the leader.
async fn lead(
    ground: Ground,
    config: Config,
    (settings, prefix): (longshore_etcd::Settings, String),
    leadership: Leadership,
    controllers: watch::Receiver<Vec<String>>,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let held = leadership.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let term = held.term();
        let store: Arc<dyn Store> = Arc::new(EtcdStore::open(settings, &prefix, held)?);
        Controller::with_store(ground, store, config, Some(term))
    });
    let controller = opened
        .await
        .map_err(|error| RunError::Fatal(format!("taking over failed: {error}")))??;
    let watching = watch_over(Arc::clone(&controller.cluster), leadership, controllers);
    let led = controller.run(stop).await;
    watching.abort();
    led
}

/// Ends the process with the leadership, and keeps the cluster told where controllers are.
fn watch_over(
    cluster: Arc<Cluster>,
    leadership: Leadership,
    mut controllers: watch::Receiver<Vec<String>>,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let known = controllers.borrow_and_update().clone();
            cluster.controllers.store(Arc::new(known));
            let until = tokio::time::Instant::from_std(leadership.leading_until());
            tokio::select! {
                end = leadership.ended() => {
                    return cluster.end(&format!("this controller leads no more: {end}"));
                }
                () = tokio::time::sleep_until(until) => {
                    if !leadership.is_valid(Instant::now()) {
                        let why = "this controller leads no more: etcd was not reached in time";
                        return cluster.end(why);
                    }
                }
                Ok(()) = controllers.changed() => {}
            }
        }
    })
}
