//! Images that come before they are needed: in whose favour, and what is told of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_model::{ImageDigest, ImageRef, ReplicaId, ReplicaState};
use tokio::sync::watch;

use super::ahead::{Ahead, Memory};
use super::{Blob, Credentials, ImageSource, Manifest, Seen, SourceError, Stage, Wanted};
use crate::reconcile::{Snapshot, View};
use crate::runtime::fake::FakeRuntime;

/// A controller that wants images here, and remembers what it was told of them.
#[derive(Default)]
struct Controller {
    wanted: Mutex<Vec<Wanted>>,
    told: Mutex<Vec<Vec<String>>>,
}

#[tonic::async_trait]
impl ImageSource for Controller {
    async fn manifest(&self, _: &str, _: &str) -> Result<Option<Manifest>, SourceError> {
        Ok(None)
    }

    async fn blob(&self, _: &ImageDigest, _: u64, _: u64) -> Result<Option<Blob>, SourceError> {
        Ok(None)
    }

    async fn tags(&self, _: &str) -> Result<Option<Vec<String>>, SourceError> {
        Ok(None)
    }

    async fn ahead(&self, seen: &[Seen], _: Duration) -> Result<Vec<Wanted>, SourceError> {
        let words = seen.iter().map(word).collect();
        self.told.lock().unwrap().push(words);
        Ok(self.wanted.lock().unwrap().clone())
    }

    async fn credentials(&self, _: &str) -> Result<Option<Credentials>, SourceError> {
        Ok(None)
    }
}

fn word(seen: &Seen) -> String {
    let stage = match &seen.stage {
        Stage::Waiting(_) => "waits",
        Stage::Fetching => "comes",
        Stage::Here => "here",
        Stage::Failed(_) => "failed",
    };
    format!("{} {stage}", seen.wanted.image)
}

fn words(memory: &Memory) -> Vec<String> {
    memory.seen.iter().map(word).collect()
}

fn wanted(names: &[(&str, u64)]) -> Vec<Wanted> {
    let one = |(name, asked_ms): &(&str, u64)| Wanted {
        image: ImageRef {
            name: (*name).into(),
            digest: None,
        },
        asked_ms: *asked_ms,
    };
    names.iter().map(one).collect()
}

struct Rig {
    ahead: Ahead<FakeRuntime>,
    controller: Arc<Controller>,
    runtime: Arc<FakeRuntime>,
    now: watch::Sender<Snapshot>,
    reported: watch::Receiver<Vec<String>>,
}

fn rig(names: &[&str]) -> Rig {
    let names: Vec<_> = names.iter().map(|name| (*name, 0)).collect();
    let controller = Arc::new(Controller::default());
    *controller.wanted.lock().unwrap() = wanted(&names);
    let runtime = Arc::new(FakeRuntime::with_images(&["here:1"]));
    let (now, snapshots) = watch::channel(Snapshot::default());
    let (here, reported) = watch::channel(Vec::new());
    let ahead = Ahead {
        source: Arc::clone(&controller) as Arc<dyn ImageSource>,
        runtime: Arc::clone(&runtime),
        snapshots,
        here,
    };
    Rig {
        ahead,
        controller,
        runtime,
        now,
        reported,
    }
}

fn pulling() -> View {
    View {
        id: ReplicaId(1),
        state: ReplicaState::Pulling,
        reason: None,
        container: None,
        started_ms: None,
        healthy_ms: None,
        restarts: 0,
        exit: None,
        address: None,
        exposed: Default::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn images_come_ahead_one_by_one_and_after_what_is_wanted_now() {
    let rig = rig(&["here:1", "nowhere:1", "next:1"]);
    rig.now.send_modify(|now| now.replicas.push(pulling()));
    let mut memory = Memory::default();
    assert!(rig.ahead.look(&mut memory).await);
    assert_eq!(
        rig.runtime.state().pulls,
        0,
        "a replica waits for its image"
    );
    assert_eq!(
        words(&memory),
        ["here:1 here", "nowhere:1 waits", "next:1 waits"]
    );
    assert!(!rig.ahead.look(&mut memory).await, "nothing changed");
    rig.now.send_modify(|now| now.replicas.clear());
    assert!(rig.ahead.look(&mut memory).await);
    assert_eq!(rig.runtime.state().pulls, 2);
    assert_eq!(*rig.reported.borrow(), ["here:1", "next:1"]);
    let told = rig.controller.told.lock().unwrap().clone();
    let last = ["here:1 here", "nowhere:1 failed", "next:1 comes"];
    assert_eq!(told.last().unwrap(), &last, "while it comes");
    assert!(!rig.ahead.look(&mut memory).await);
    let pulls = rig.runtime.state().pulls;
    assert_eq!(pulls, 2, "what did not come is not asked for at once");
    tokio::time::advance(Duration::from_secs(601)).await;
    rig.ahead.look(&mut memory).await;
    assert_eq!(rig.runtime.state().pulls, 3);
    *rig.controller.wanted.lock().unwrap() = wanted(&[("nowhere:1", 7)]);
    rig.ahead.look(&mut memory).await;
    assert_eq!(rig.runtime.state().pulls, 4, "somebody asked for it anew");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_waits_for_its_image_breaks_off_what_comes_ahead() {
    let rig = rig(&["slow:1", "here:1"]);
    let mut memory = Memory::default();
    let now = rig.now.clone();
    let runtime = Arc::clone(&rig.runtime);
    let start = tokio::spawn(async move {
        while runtime.state().pulls == 0 {
            tokio::task::yield_now().await;
        }
        now.send_modify(|now| now.replicas.push(pulling()));
    });
    let look = rig.ahead.look(&mut memory);
    let looked = tokio::time::timeout(Duration::from_secs(20), look).await;
    assert!(looked.expect("it goes on beside what is waited for"));
    start.await.unwrap();
    assert_eq!(words(&memory), ["slow:1 waits", "here:1 here"]);
    assert!(matches!(&memory.seen[0].stage, Stage::Waiting(why) if why.contains("a replica")));
}
