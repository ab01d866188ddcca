//! Contents of secrets and configs, from the controller's word into a container.

use longshore_model::Assignment;
use longshore_model::spec::FileContents;
use longshore_wire::contents_to_pb;

use super::*;
use crate::testing::file;

const SECRET: &[u8] = b"hunter2-canary";
const TARGET: &str = "/run/secrets/pw";

fn fence(term: u64) -> Fence {
    Fence {
        cluster_generation: 1,
        term,
    }
}

fn with_file(generation: u64, files: bool) -> Assignment {
    let mut next = assignment(generation, &[portless(1)]);
    for spec in next.templates.values_mut() {
        let files = files.then(|| file(TARGET, SECRET));
        Arc::make_mut(spec).files = files.into_iter().collect();
    }
    next
}

impl Peer {
    async fn contents(&self, term: u64) {
        let digest = file(TARGET, SECRET).digest;
        let message = contents_to_pb(&digest, &FileContents::new(SECRET), fence(term));
        self.send(ToAgent::Contents(message)).await;
    }
}

/// Everything below a directory, in one text.
fn written(dir: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all += &written(&path),
            false => all += &String::from_utf8_lossy(&std::fs::read(&path).unwrap()),
        }
    }
    all
}

#[tokio::test]
async fn contents_reach_containers_stay_in_memory_and_leave_with_the_last_who_names_them() {
    let (agent, mut peer, dir, _cluster) = rig(FakeRuntime::with_images(&["hello:1"])).await;
    peer.contents(1).await;
    let sent = assignment_to_pb(&with_file(1, true), fence(1));
    peer.send(ToAgent::Assignment(sent)).await;
    peer.report("healthy", |report| {
        let mut all = report.replicas.iter();
        all.any(|r| r.state == ReplicaState::Healthy)
    })
    .await;
    let files: Vec<_> = {
        let state = agent.runtime.state();
        state.containers.values().map(|c| c.files.clone()).collect()
    };
    assert_eq!(files, [[(TARGET.to_owned(), SECRET.to_vec())].into()]);
    let on_disk = written(dir.path());
    assert!(on_disk.contains(TARGET) && !on_disk.contains("canary"));
    assert_eq!(agent.contents.borrow().len(), 1);
    let sent = assignment_to_pb(&with_file(2, false), fence(1));
    peer.send(ToAgent::Assignment(sent)).await;
    let mut held = agent.contents.clone();
    let empty = timeout(SOON, held.wait_for(|held| held.is_empty()));
    assert!(empty.await.expect("never forgotten").is_ok());
}

#[tokio::test]
async fn contents_of_an_older_leader_are_refused() {
    let (agent, mut peer, _dir, _cluster) = rig(FakeRuntime::default()).await;
    peer.assign(3, 1, &[]).await;
    peer.contents(2).await;
    let refused = peer
        .until("refusal", |message| match message {
            FromAgent::Refused(refused) => Some(refused),
            _ => None,
        })
        .await;
    assert!(refused.what.starts_with("contents"), "{refused:?}");
    assert!(agent.contents.borrow().is_empty());
}
