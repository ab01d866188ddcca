//! Leading for a moment, to make or move a cluster while no controller runs.

use std::time::Duration;

use longshore_etcd::{Candidate, Client, Leadership, Standing};

use super::{EtcdConfig, SharedError};
use crate::store::{EtcdStore, StoreError};

/// A command may stand still for longer than a controller.
const TTL_MIN: Duration = Duration::from_secs(10);
/// Longest wait for the leadership beyond a lease that runs out: etcd's own election.
const WAIT: Duration = Duration::from_secs(8);

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum LeadError {
    /// The settings.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// Another one leads.
    #[error("{url} leads the cluster in etcd; stop all controllers first")]
    Led {
        /// Where it is.
        url: String,
    },
    /// etcd does not answer.
    #[error("etcd ({}) did not answer", endpoints.join(", "))]
    Away {
        /// Where it was looked for.
        endpoints: Vec<String>,
    },
    /// The runtime.
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Does `work` with the store in etcd while nobody else can lead. Blocks; not for threads of a runtime.
///
/// # Errors
/// [`LeadError`], or what `work` says.
pub fn with_lead<T, E: From<LeadError>>(
    etcd: &EtcdConfig,
    work: impl FnOnce(&EtcdStore) -> Result<T, E>,
) -> Result<T, E> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(LeadError::Runtime)?;
    let settings = etcd.settings().map_err(LeadError::from)?;
    let client = {
        let _entered = runtime.enter();
        Client::new(settings.clone())
    };
    let candidate = Candidate {
        key: etcd.election_key(),
        name: "a command by hand".into(),
        url: String::new(),
        ttl: etcd.lease().max(TTL_MIN),
    };
    let mut election = {
        let _entered = runtime.enter();
        client
            .campaign(candidate)
            .map_err(|error| LeadError::from(SharedError::from(error)))?
    };
    let won = runtime.block_on(async {
        tokio::time::timeout(etcd.lease() + WAIT, async {
            loop {
                match election.standing() {
                    Standing::Leading(leadership) => {
                        return Ok::<Leadership, LeadError>(leadership);
                    }
                    Standing::Ended(end) => return Err(SharedError::Ended(end.to_string()).into()),
                    Standing::Following(_) => {}
                }
                let _next = election.changed().await;
            }
        })
        .await
    });
    // One that was killed leads until its lease is over.
    let leadership = won.unwrap_or_else(|_| {
        Err(match election.standing() {
            Standing::Following(Some(leader)) => LeadError::Led { url: leader.url },
            _ => LeadError::Away {
                endpoints: settings.endpoints().to_vec(),
            },
        })
    })?;
    let done = match EtcdStore::open(settings, &etcd.prefix, leadership) {
        Ok(store) => work(&store),
        Err(error) => Err(LeadError::from(error).into()),
    };
    runtime.block_on(election.resign());
    done
}
