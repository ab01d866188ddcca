//! Containers that run once, from the controller's word to their removal.

use longshore_proto::agent::v1::open_stream::Kind;
use longshore_wire::container_spec_to_pb;

use super::*;
use crate::runtime::runs_fake::FakeRun;
use crate::testing::{file, spec};

const SECRET: &[u8] = b"hunter2-canary";

pub(super) fn order(id: &str, image: &str, stdin: bool) -> pb::RunStream {
    let mut spec = spec(image);
    spec.env.insert("MODE".into(), "migrate".into());
    spec.files = vec![file("/run/secrets/pw", SECRET)];
    let contents = pb::Contents {
        fence: None,
        digest: file("/run/secrets/pw", SECRET).digest.to_string(),
        contents: SECRET.to_vec(),
    };
    pb::RunStream {
        run_id: id.into(),
        service: "demo/web".into(),
        container: Some(container_spec_to_pb(&spec)),
        files: vec![contents],
        stdin,
        ..Default::default()
    }
}

impl Peer {
    pub(super) async fn run(&self, stream_id: u64, order: pb::RunStream) {
        let kind = Some(Kind::Run(Box::new(order)));
        let open = pb::OpenStream { stream_id, kind };
        self.send(ToAgent::OpenStream(open)).await;
    }

    pub(super) async fn types(&self, stream_id: u64, data: &[u8]) {
        let data = pb::StreamData {
            stream_id,
            channel: pb::Channel::Stdin.into(),
            data: data.to_vec(),
        };
        self.send(ToAgent::StreamData(data)).await;
    }

    /// What it wrote until its end, and its end.
    async fn ends(&mut self, stream_id: u64) -> (String, pb::StreamEnd) {
        let mut wrote = Vec::new();
        loop {
            let next = self.until("a piece or the end", |message| match message {
                FromAgent::StreamData(data) if data.stream_id == stream_id => Some(Ok(data)),
                FromAgent::StreamEnd(end) if end.stream_id == stream_id => Some(Err(end)),
                _ => None,
            });
            match next.await {
                Ok(data) => wrote.extend(data.data),
                Err(end) => return (String::from_utf8(wrote).unwrap(), end),
            }
        }
    }
}

pub(super) async fn until_none(agent: &Agent) {
    let gone = async {
        while !agent.runtime.state().runs.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let waited = timeout(SOON, gone).await;
    assert!(waited.is_ok(), "{:?}", agent.runtime.state().runs);
}

#[tokio::test]
async fn a_run_is_fed_ends_with_its_code_and_leaves_nothing() {
    let (agent, mut peer, _dir, _cluster) = rig(FakeRuntime::default()).await;
    // Its image is fetched first.
    peer.run(1, order("ab12", "hello:1", true)).await;
    peer.until("output", |message| match message {
        FromAgent::StreamData(data) if data.data == b"ready\n" => Some(()),
        _ => None,
    })
    .await;
    let made: Vec<FakeRun> = agent.runtime.state().runs.values().cloned().collect();
    assert_eq!((made.len(), agent.runtime.state().pulls), (1, 1));
    assert_eq!(made[0].files, ["/run/secrets/pw"]);
    assert_eq!(made[0].env, ["MODE=migrate"]);
    peer.types(1, b"select 1;").await;
    peer.types(1, b"").await;
    let (wrote, end) = peer.ends(1).await;
    assert_eq!((wrote.as_str(), end.error.as_str()), ("select 1;", ""));
    assert_eq!(end.exit_code, Some(3));
    // Before its end is told.
    assert!(agent.runtime.state().runs.is_empty());
    assert!(agent.runtime.state().containers.is_empty());
}

#[tokio::test]
async fn whoever_ends_the_stream_removes_the_container() {
    let (agent, mut peer, _dir, _cluster) = rig(FakeRuntime::with_images(&["hello:1"])).await;
    for (stream, run) in [(1, "a"), (2, "b")] {
        peer.run(stream, order(run, "hello:1", true)).await;
    }
    let mut ready = Vec::new();
    while ready.len() < 2 {
        let next = peer.until("both", |message| match message {
            FromAgent::StreamData(data) => Some(data.stream_id),
            _ => None,
        });
        ready.push(next.await);
    }
    let end = pb::StreamEnd {
        stream_id: 1,
        ..Default::default()
    };
    peer.send(ToAgent::StreamEnd(end)).await;
    let gone = async {
        while agent.runtime.state().runs.len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone).await.expect("the first is gone");
    // The session is lost.
    drop(peer);
    until_none(&agent).await;
}

#[tokio::test]
async fn what_cannot_run_says_so_and_leaves_nothing() {
    let (agent, mut peer, _dir, _cluster) = rig(FakeRuntime::with_images(&["hello:1"])).await;
    let mut privileged = order("a", "hello:1", false);
    let container = privileged.container.as_mut().unwrap();
    container.privileges.get_or_insert_default().privileged = true;
    let mut misnamed = order("A/../b", "hello:1", false);
    misnamed.tty = true;
    let mut empty = order("c", "hello:1", false);
    empty.files.clear();
    let mut never = order("d", "other:1", false);
    never.container.as_mut().unwrap().pull_policy =
        longshore_proto::spec::v1::PullPolicy::Never.into();
    let nowhere = order("e", "nowhere/x:1", false);
    let cases = [
        (privileged, "this node does not run it: "),
        (misnamed, "run_id"),
        (empty, "lack"),
        (never, "the test said no"),
        (nowhere, "the test said no"),
    ];
    for (stream, (order, words)) in (1..).zip(cases) {
        peer.run(stream, order).await;
        let (wrote, end) = peer.ends(stream).await;
        assert!(end.error.contains(words), "{words}: {end:?}");
        assert_eq!((wrote.as_str(), end.exit_code), ("", None));
        assert!(!end.error.contains("canary"), "{end:?}");
    }
    for (stream, refused, code) in [
        (
            20,
            "exec: \"nope\": executable file not found in $PATH",
            127,
        ),
        (21, "exec: \"/etc\": permission denied", 126),
    ] {
        agent.runtime.state().run_refused = Some(refused.into());
        peer.run(stream, order("f", "hello:1", false)).await;
        let (wrote, end) = peer.ends(stream).await;
        assert!(wrote.ends_with(&format!("{refused}\n")), "{wrote}");
        assert_eq!((end.error.as_str(), end.exit_code), ("", Some(code)));
    }
    until_none(&agent).await;
}

#[tokio::test]
async fn what_an_agent_left_behind_is_swept_away() {
    let runtime = FakeRuntime::with_images(&["hello:1"]);
    let left = FakeRun {
        id: "old".into(),
        ..FakeRun::default()
    };
    runtime.state().runs.insert("c0ffee".into(), left);
    let (agent, mut peer, _dir, _cluster) = rig(runtime).await;
    until_none(&agent).await;
    // One that is held stays; nobody removes it but its stream.
    peer.run(1, order("new", "hello:1", false)).await;
    assert_eq!(peer.ends(1).await.1.exit_code, Some(3));
}

#[tokio::test]
async fn what_takes_room_is_one_message_and_volumes_go_by_name() {
    let runtime = FakeRuntime::with_images(&["hello:1"]);
    let volume = crate::runtime::disk::VolumeUse {
        name: "demo_data".into(),
        app: "demo".into(),
        used_by: vec!["demo/web.1".into()],
        ..Default::default()
    };
    runtime.state().volumes.push(volume);
    let (agent, mut peer, _dir, _cluster) = rig(runtime).await;
    let open = |stream_id, kind| {
        ToAgent::OpenStream(pb::OpenStream {
            stream_id,
            kind: Some(kind),
        })
    };
    let disk = Kind::Disk(pb::DiskStream {
        sizes: true,
        also: Vec::new(),
    });
    peer.send(open(1, disk)).await;
    let data = peer
        .until("the answer", |message| match message {
            FromAgent::StreamData(data) => Some(data.data),
            _ => None,
        })
        .await;
    let told: pb::DiskUse = prost::Message::decode(data.as_slice()).unwrap();
    assert_eq!(told.images.unwrap().bytes, Some(7));
    assert_eq!(told.named[0].used_by, ["demo/web.1"]);
    let remove = |name: &str| {
        Kind::RemoveVolume(pb::RemoveVolumeStream {
            name: name.into(),
            named: false,
        })
    };
    for (stream, name, words) in [(2, "demo_data", ""), (3, "other", "the test said no")] {
        peer.send(open(stream, remove(name))).await;
        let (_, end) = peer.ends(stream).await;
        assert!(end.error.ends_with(words) && end.error.is_empty() == words.is_empty());
    }
    assert!(agent.runtime.state().volumes.is_empty());
}
