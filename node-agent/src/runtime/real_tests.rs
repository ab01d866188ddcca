//! Secrets and configs on a real engine: `make engine-test`, with an image that has `sh`.

use std::path::PathBuf;

use futures_util::StreamExt;
use longshore_model::spec::FileContents;

use super::docker::DockerRuntime;
use super::{ExecOptions, Launch, Runtime};
use crate::testing::{file, launch, replica, spec};

const IGNORED: &str = "LONGSHORE_ENGINE_IMAGE names no image";

/// The engine that `DOCKER_HOST` names, else this machine's.
pub(super) fn socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = host.strip_prefix("unix://");
    PathBuf::from(socket.unwrap_or("/var/run/docker.sock"))
}

struct Rig {
    runtime: DockerRuntime,
    launch: Launch,
    id: String,
}

impl Rig {
    /// A container that sleeps, with its files, not started.
    async fn new(number: u64, change: impl FnOnce(&mut longshore_model::ContainerSpec)) -> Self {
        let image = std::env::var("LONGSHORE_ENGINE_IMAGE").expect(IGNORED);
        let files = [
            ("/run/secrets/db_password", &b"hunter2"[..], 0o400),
            ("/run/secrets/deep/er/token", b"t", 0o444),
            ("/etc/app/app.conf", b"a = 1\n", 0o444),
        ];
        let mut spec = spec(&image);
        spec.ports.clear();
        spec.user = Some("1000:1000".into());
        spec.entrypoint = Some(vec!["sh".into(), "-c".into()]);
        spec.command = Some(vec!["while :; do sleep 1; done".into()]);
        spec.files = files
            .map(|(target, contents, mode)| {
                let mut file = file(target, contents);
                (file.uid, file.gid, file.mode) = (1_000, 1_000, mode);
                file
            })
            .into();
        change(&mut spec);
        let kept = spec.files.clone();
        let mut replica = replica(1);
        replica.ports.clear();
        replica.id = longshore_model::ReplicaId(900_000_000 + number);
        let mut launch = launch(replica, spec);
        let contents = |target: &str| {
            let (.., contents, _) = files.iter().find(|(t, ..)| *t == target).unwrap();
            FileContents::new(*contents)
        };
        launch.files = kept
            .into_iter()
            .map(|file| (file.clone(), contents(&file.target)))
            .collect();
        let runtime = DockerRuntime::new(&socket(), "longshore-engine-test");
        let id = runtime.create(&launch).await.unwrap();
        Self {
            runtime,
            launch,
            id,
        }
    }

    async fn fill_and_start(&self) {
        self.runtime
            .put_files(&self.id, &self.launch)
            .await
            .unwrap();
        // A second time, as after an end of the agent between the two.
        self.runtime
            .put_files(&self.id, &self.launch)
            .await
            .unwrap();
        self.runtime.start(&self.id).await.unwrap();
    }

    async fn says(&self, command: &str) -> String {
        let options = ExecOptions {
            command: vec!["sh".into(), "-c".into(), command.into()],
            ..ExecOptions::default()
        };
        let mut run = self.runtime.exec(&self.id, &options).await.unwrap();
        let mut said = Vec::new();
        while let Some(piece) = run.output.next().await {
            said.extend(piece.unwrap().1);
        }
        String::from_utf8(said).unwrap()
    }

    async fn end(self) {
        self.runtime.remove(&self.id).await.unwrap();
    }
}

const SECRETS: &str = "cat /run/secrets/db_password /run/secrets/deep/er/token";

#[tokio::test]
#[ignore = "needs an engine: make engine-test"]
async fn real_engine_gives_files_before_the_start_and_keeps_them_over_a_restart() {
    let rig = Rig::new(1, |_| ()).await;
    rig.fill_and_start().await;
    let all = format!("{SECRETS} /etc/app/app.conf");
    assert_eq!(rig.says(&all).await, "hunter2ta = 1\n");
    let owned = rig
        .says("stat -c '%a %u %g %s' /run/secrets/db_password")
        .await;
    assert_eq!(owned, "400 1000 1000 7\n");
    rig.runtime.stop(&rig.id, Some(0)).await.unwrap();
    rig.runtime.start(&rig.id).await.unwrap();
    assert_eq!(rig.says(&all).await, "hunter2ta = 1\n");
    rig.runtime.pause(&rig.id).await.unwrap();
    rig.runtime.unpause(&rig.id).await.unwrap();
    assert_eq!(rig.says(&all).await, "hunter2ta = 1\n");
    rig.end().await;
}

#[tokio::test]
#[ignore = "needs an engine: make engine-test"]
async fn real_engine_gives_secrets_under_a_read_only_root_and_a_tmpfs() {
    let rig = Rig::new(2, |spec| {
        spec.read_only = true;
        spec.tmpfs = vec!["/run:size=1m".into()];
        spec.files
            .retain(longshore_model::spec::FileSpec::is_in_secrets);
    })
    .await;
    rig.fill_and_start().await;
    assert_eq!(rig.says(SECRETS).await, "hunter2t");
    assert!(rig.says("echo x > /etc/x").await.contains("Read-only"));
    rig.runtime.stop(&rig.id, Some(0)).await.unwrap();
    rig.runtime.start(&rig.id).await.unwrap();
    assert_eq!(rig.says(SECRETS).await, "hunter2t");
    rig.end().await;
}

#[tokio::test]
#[ignore = "needs an engine: make engine-test"]
async fn real_engine_takes_no_file_in_the_place_of_a_directory() {
    let rig = Rig::new(3, |spec| {
        spec.files.truncate(1);
    })
    .await;
    let mut launch = rig.launch.clone();
    launch.files[0].0.target = "/etc".into();
    let refused = rig.runtime.put_files(&rig.id, &launch).await.unwrap_err();
    assert_eq!(refused.kind, super::ErrorKind::Refused, "{refused}");
    assert!(!refused.to_string().contains("hunter2"), "{refused}");
    rig.end().await;
}
