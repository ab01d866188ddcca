//! Calls that block, made on threads of their own.

use std::sync::mpsc;

use longshore_etcd::{Client, Settings};
use tokio::runtime::{Builder, Runtime};

use crate::store::StoreError;

/// A client and the runtime that its connection lives in. A runtime of its own, because callers
/// may block all the threads of theirs while they wait for etcd.
pub(super) struct Calls {
    client: Client,
    place: String,
    /// Always there until it is dropped.
    runtime: Option<Runtime>,
}

impl Calls {
    pub(super) fn new(settings: Settings) -> Result<Self, StoreError> {
        let place = settings.endpoints().join(", ");
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("etcd-store")
            .enable_all()
            .build()
            .map_err(|source| StoreError::Io {
                attempted: "starting a thread",
                place: place.clone(),
                source: Box::new(source),
            })?;
        let entered = runtime.enter();
        let client = Client::new(settings);
        drop(entered);
        Ok(Self {
            client,
            place,
            runtime: Some(runtime),
        })
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Runs `call` to its end. Whatever it does has limits of its own.
    ///
    /// # Errors
    /// [`StoreError::Io`] if it did not come to an end (it panicked).
    pub(super) fn wait<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.start(async move {
            // Whoever asked waits for it.
            let _ = answer.send(call.await);
        });
        answered.recv().map_err(|source| StoreError::Io {
            attempted: "a call",
            place: self.place.clone(),
            source: Box::new(source),
        })
    }

    /// Runs `call`, and does not wait for it.
    pub(super) fn start(&self, call: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.runtime {
            runtime.spawn(call);
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        // To wait for its end would panic where the last owner is a task.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
