//! Holds on to one endpoint for all callers, and looks for another when it is left. One search
//! runs at a time, apart from who waits for it: callers with little time do not cut it short.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::error::Tried;
use crate::limits::{BACKOFF_FIRST, BACKOFF_MAX};
use crate::race::race;
use crate::settings::Settings;

/// The endpoint in use.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) endpoint: Arc<str>,
    pub(crate) channel: Channel,
    /// Counts up with each endpoint that was found.
    pub(crate) number: u64,
}

/// What the search has come to.
#[derive(Debug, Clone, Default)]
struct Search {
    link: Option<Link>,
    tried: Arc<Tried>,
    /// Counts up with each end of a race.
    races: u64,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    search: watch::Sender<Search>,
    wanted: Notify,
    cluster_id: OnceLock<u64>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Finder {
    shared: Arc<Shared>,
    task: tokio::task::AbortHandle,
}

impl Drop for Finder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Finder {
    /// Must be called inside of a tokio runtime. Dials nobody yet.
    pub(crate) fn new(settings: Settings) -> Self {
        let cluster_id = OnceLock::new();
        if let Some(id) = settings.cluster_id {
            cluster_id.get_or_init(|| id);
        }
        let shared = Arc::new(Shared {
            settings,
            search: watch::Sender::new(Search::default()),
            wanted: Notify::new(),
            cluster_id,
        });
        let task = tokio::spawn(searches(Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(crate) fn cluster_id(&self) -> Option<u64> {
        self.shared.cluster_id.get().copied()
    }

    /// The endpoint in use, or the next that is found.
    ///
    /// # Errors
    /// [`Tried`]: what was wrong with each endpoint in the last race before `deadline`.
    pub(crate) async fn link(&self, deadline: Instant) -> Result<Link, Arc<Tried>> {
        let mut seen = self.shared.search.subscribe();
        loop {
            let races = {
                let search = seen.borrow_and_update();
                if let Some(link) = &search.link {
                    return Ok(link.clone());
                }
                search.races
            };
            self.shared.wanted.notify_one();
            let ended = seen.wait_for(|search| search.link.is_some() || search.races != races);
            if !matches!(tokio::time::timeout_at(deadline, ended).await, Ok(Ok(_))) {
                return Err(Arc::clone(&self.shared.search.borrow().tried));
            }
        }
    }

    /// Lets go of an endpoint that failed, unless somebody has done so already.
    pub(crate) fn leave(&self, link: &Link, why: &dyn std::fmt::Display) {
        self.shared.search.send_if_modified(|search| {
            let held = search.link.as_ref().map(|held| held.number) == Some(link.number);
            if held {
                tracing::warn!(endpoint = %link.endpoint, %why, "left an endpoint of etcd");
                search.link = None;
            }
            held
        });
    }

    /// Waits until `link` is no longer the endpoint in use.
    pub(crate) async fn left(&self, link: &Link) {
        let mut seen = self.shared.search.subscribe();
        let number = Some(link.number);
        let other = seen.wait_for(|search| search.link.as_ref().map(|l| l.number) != number);
        // The sender lives as long as this does.
        let _ = other.await;
    }
}

async fn searches(shared: Arc<Shared>) {
    let mut bound = BACKOFF_FIRST;
    let mut number = 0;
    loop {
        shared.wanted.notified().await;
        if shared.search.borrow().link.is_some() {
            continue;
        }
        match race(&shared.settings, shared.cluster_id.get().copied()).await {
            Ok(found) => {
                shared.cluster_id.get_or_init(|| found.cluster_id);
                number += 1;
                tracing::info!(endpoint = %found.endpoint, "uses an endpoint of etcd");
                bound = BACKOFF_FIRST;
                shared.search.send_modify(|search| {
                    search.races += 1;
                    search.link = Some(Link {
                        endpoint: found.endpoint.into(),
                        channel: found.channel,
                        number,
                    });
                });
            }
            Err(tried) => {
                tracing::debug!(%tried, "no endpoint of etcd is of use");
                shared.search.send_modify(|search| {
                    search.races += 1;
                    search.tried = Arc::new(tried);
                });
                pause(&mut bound).await;
            }
        }
    }
}

/// Waits up to `bound`, which doubles.
pub(crate) async fn pause(bound: &mut Duration) {
    tokio::time::sleep(bound.mul_f64(rand::random_range(0.0..=1.0))).await;
    *bound = (*bound * 2).min(BACKOFF_MAX);
}
