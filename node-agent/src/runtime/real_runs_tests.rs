//! Containers that run once, on a real engine: `make engine-test`.

use std::sync::Arc;

use futures_util::StreamExt;
use longshore_proto::agent::v1 as pb;
use longshore_wire::container_spec_to_pb;
use tokio::io::AsyncWriteExt;

use super::docker::DockerRuntime;
use super::runs::{RunOrder, Runs};
use super::terminal::{Size, Terminal, Terminals};
use super::{ExecRun, Runtime};
use crate::policy::Policy;
use crate::runs::{Begun, Runner};
use crate::testing::{file, spec};

const SECRET: &[u8] = b"hunter2";

fn rig(cluster: &str) -> (Arc<Runner>, Arc<DockerRuntime>) {
    let runner = Arc::new(Runner::new(cluster.into(), Policy::default()));
    let socket = super::real_tests::socket();
    (runner, Arc::new(DockerRuntime::new(&socket, cluster)))
}

fn order(runner: &Runner, id: &str, command: &[&str]) -> RunOrder {
    let image = std::env::var("LONGSHORE_ENGINE_IMAGE").expect("names an image");
    let mut spec = spec(&image);
    spec.entrypoint = Some(vec!["env".into()]);
    spec.command = Some(command.iter().map(|word| (*word).to_owned()).collect());
    spec.files = vec![file("/run/secrets/pw", SECRET)];
    let contents = pb::Contents {
        fence: None,
        digest: spec.files[0].digest.to_string(),
        contents: SECRET.to_vec(),
    };
    let message = pb::RunStream {
        run_id: id.into(),
        service: "demo/web".into(),
        container: Some(container_spec_to_pb(&spec)),
        files: vec![contents],
        stdin: true,
        ..Default::default()
    };
    RunOrder::from_pb(message, runner.cluster()).unwrap()
}

async fn left(runtime: &DockerRuntime) -> Vec<String> {
    let listed = runtime.list_runs().await.unwrap();
    listed.into_iter().map(|(_, run)| run).collect()
}

#[tokio::test]
#[ignore = "needs an engine: make engine-test"]
async fn real_engine_runs_once_with_input_secrets_and_code() {
    let (runner, runtime) = rig("longshore-engine-runs-a");
    let script = "cat; cat /run/secrets/pw; hostname; exit 5";
    let order = order(&runner, "a1", &["sh", "-c", script]);
    let Begun::Running(lease, attached) = runner.begin(&runtime, &order).await.unwrap() else {
        panic!("cannot run")
    };
    assert!(runtime.list().await.unwrap().is_empty(), "it is no replica");
    let ExecRun {
        output, mut input, ..
    } = attached;
    input.write_all(b"typed,").await.unwrap();
    input.shutdown().await.unwrap();
    let pieces: Vec<_> = output.map(|piece| piece.unwrap().1).collect().await;
    let wrote = String::from_utf8(pieces.concat()).unwrap();
    assert_eq!(wrote, "typed,hunter2web-run-a1\n");
    assert_eq!(lease.wait().await.unwrap(), 5);
    lease.end().await;
    assert!(left(&runtime).await.is_empty());
}

#[tokio::test]
#[ignore = "needs an engine: make engine-test"]
async fn real_engine_keeps_no_run_that_nobody_holds() {
    let (runner, runtime) = rig("longshore-engine-runs-b");
    let missing = order(&runner, "b1", &["/nowhere/nope"]);
    // `env` is there and starts: the code is its own.
    let Begun::Running(lease, attached) = runner.begin(&runtime, &missing).await.unwrap() else {
        panic!("cannot run")
    };
    drop(attached);
    assert_eq!(lease.wait().await.unwrap(), 127);
    lease.end().await;
    let mut absent = order(&runner, "b2", &["x"]);
    Arc::make_mut(&mut absent.launch.spec).entrypoint = Some(vec!["/nowhere/nope".into()]);
    let Begun::CannotRun(code, why) = runner.begin(&runtime, &absent).await.unwrap() else {
        panic!("runs")
    };
    assert_eq!(code, 127, "{why}");
    assert!(left(&runtime).await.is_empty());
    // Left behind by an agent that was killed.
    runtime
        .create_run(&order(&runner, "b3", &["true"]))
        .await
        .unwrap();
    let sleeps = [
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 0.1; done",
    ];
    let held = order(&runner, "b4", &sleeps);
    let Begun::Running(lease, attached) = runner.begin(&runtime, &held).await.unwrap() else {
        panic!("cannot run")
    };
    runner.sweep_once(&*runtime).await;
    assert_eq!(left(&runtime).await, ["b4"], "it is held");
    drop((lease, attached));
    let gone = async {
        while !left(&runtime).await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(20);
    assert!(tokio::time::timeout(limit, gone).await.is_ok());
}

#[tokio::test]
#[ignore = "needs an engine: make engine-test"]
async fn real_engine_gives_a_terminal_its_size_and_the_next_one() {
    let (runner, runtime) = rig("longshore-engine-runs-c");
    let script = "until stty size | grep -q '40 100'; do :; done; stty size; read x; stty size";
    let mut order = order(&runner, "c1", &["sh", "-c", script]);
    let of = |rows, columns| Size { rows, columns };
    (order.tty, order.size) = (true, Some(of(40, 100)));
    let Begun::Running(lease, attached) = runner.begin(&runtime, &order).await.unwrap() else {
        panic!("cannot run")
    };
    let terminal = Terminal::Container(attached.id.clone());
    // Older engines look at nothing else.
    runtime.resize(&terminal, of(40, 100)).await.unwrap();
    let (mut output, mut input) = (attached.output, attached.input);
    let mut wrote = String::new();
    let mut until = async |words: &str| {
        while !wrote.contains(words) {
            let piece = output.next().await.expect(words).unwrap().1;
            wrote.push_str(&String::from_utf8_lossy(&piece));
        }
    };
    until("40 100").await;
    runtime.resize(&terminal, of(50, 120)).await.unwrap();
    input.write_all(b"\n").await.unwrap();
    until("50 120").await;
    assert_eq!(lease.wait().await.unwrap(), 0);
    lease.end().await;
}
