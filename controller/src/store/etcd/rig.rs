//! A real etcd for tests, and leaderships of it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use longshore_etcd::{Candidate, Client, Election, Leadership, Settings, Standing};
use longshore_etcd_host::{Cluster, PATIENCE, patient, until};
use tokio::runtime::Runtime;

use super::EtcdStore;

pub(in crate::store) const KEY: &str = "/longshore/lab/leader";

/// Members, and whoever leads.
pub(in crate::store) struct Rig {
    elections: Mutex<Vec<Election>>,
    leadership: Leadership,
    pub(super) cluster: Cluster,
    pub(super) runtime: Runtime,
}

impl Rig {
    pub(in crate::store) fn start() -> Self {
        Self::with(1, &[])
    }

    pub(super) fn with(members: usize, options: &[&str]) -> Self {
        let runtime = Runtime::new().unwrap();
        let cluster = runtime.block_on(Cluster::with(members, options));
        let client = {
            let _entered = runtime.enter();
            patient(&cluster.urls())
        };
        let (election, leadership) = runtime.block_on(lead(&client));
        Self {
            elections: Mutex::new(vec![election]),
            leadership,
            cluster,
            runtime,
        }
    }

    pub(super) fn client(&self) -> Client {
        let _entered = self.runtime.enter();
        patient(&self.cluster.urls())
    }

    pub(super) fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    pub(super) fn settings(urls: &[&str]) -> Settings {
        let mut settings = Settings::new(urls, None).unwrap();
        settings.patience = PATIENCE;
        settings
    }

    /// Another one leads, by `client`. The old one is not told.
    pub(super) fn lead_by(&self, client: &Client) -> Leadership {
        let (election, leadership) = self.runtime.block_on(lead(client));
        self.elections.lock().unwrap().push(election);
        leadership
    }

    /// A store of the first leader's, whose rows are below `prefix`.
    pub(in crate::store) fn store(&self, prefix: &str) -> EtcdStore {
        let settings = Self::settings(&self.cluster.urls());
        EtcdStore::open(settings, prefix, self.leadership()).unwrap()
    }
}

async fn lead(client: &Client) -> (Election, Leadership) {
    let election = client
        .campaign(Candidate {
            key: KEY.into(),
            name: "one".into(),
            url: "https://one:7443".into(),
            // A machine that stands still for a moment ends no leadership.
            ttl: Duration::from_secs(60),
        })
        .unwrap();
    let leadership = until("it leads", async || match election.standing() {
        Standing::Leading(leadership) if leadership.is_valid(Instant::now()) => Ok(leadership),
        standing => Err(format!("{standing:?}")),
    })
    .await;
    (election, leadership)
}
