//! Secrets and configs: in the container before it starts, and never waited for in vain.

use longshore_model::reason::FailReason;
use longshore_model::spec::FileContents;

use super::tests::{Rig, portless, rig};
use super::*;
use crate::runtime::fake::FakeRuntime;
use crate::runtime::{Condition, ErrorKind, Inspection};
use crate::testing::file;

const SECRET: &[u8] = b"hunter2";
const TARGET: &str = "/run/secrets/pw";

fn wants(rig: &mut Rig, paused: bool) {
    let mut replica = portless(1);
    replica.paused = paused;
    rig.assign_spec(&[replica], |spec| spec.files = vec![file(TARGET, SECRET)]);
}

fn send(rig: &Rig) {
    let digest = file(TARGET, SECRET).digest;
    let contents = [(digest, FileContents::new(SECRET))];
    rig.contents.send_replace(Arc::new(contents.into()));
}

/// What the container of the replica has, and how often it was started.
fn seen(rig: &Rig) -> Vec<(Option<Vec<u8>>, u32)> {
    let state = rig.runtime.state();
    let seen = state.containers.values();
    seen.map(|c| (c.files.get(TARGET).cloned(), c.starts))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_container_has_its_files_before_it_starts_and_waits_for_them() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    wants(&mut rig, false);
    let says = |reason: &FailReason| {
        let said = reason.to_string();
        let short = file(TARGET, SECRET).digest.short().to_owned();
        said.contains(&format!("secret pw (7 bytes, sha256:{short})")) && !said.contains("hunter")
    };
    rig.until("waits for them", |snapshot| {
        snapshot
            .replicas
            .iter()
            .any(|r| r.reason.as_ref().is_some_and(says))
    })
    .await;
    assert!(
        seen(&rig).is_empty(),
        "nothing is made before they are here"
    );
    send(&rig);
    let snapshot = rig.until_healthy(&[1]).await;
    assert_eq!(snapshot.replicas[0].reason, None);
    assert_eq!(seen(&rig), [(Some(SECRET.to_vec()), 1)]);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_left_without_files_gets_them_and_one_that_ran_needs_none() {
    let runtime = FakeRuntime::with_images(&["hello:1"]);
    // An earlier agent was ended between making it and filling it.
    runtime.put(1, Condition::Created);
    runtime.state().file_errors = [ErrorKind::Refused].into();
    let mut rig = rig(runtime, None);
    wants(&mut rig, false);
    send(&rig);
    rig.until_healthy(&[1]).await;
    assert_eq!(seen(&rig), [(Some(SECRET.to_vec()), 1)]);
    // The agent was started again and knows no contents; the container has them.
    rig.contents.send_replace(Arc::default());
    let ended = Inspection {
        ran_ms: 60_000,
        exit_code: 1,
        ..Inspection::default()
    };
    rig.runtime.crash(1, &ended);
    rig.runtime.announce();
    rig.until("started again", |snapshot| {
        snapshot.replicas.iter().any(|r| r.restarts == 1)
    })
    .await;
    assert_eq!(seen(&rig), [(Some(SECRET.to_vec()), 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_warm_standby_has_its_files() {
    let mut rig = rig(FakeRuntime::with_images(&["hello:1"]), None);
    wants(&mut rig, true);
    send(&rig);
    rig.until("paused", |snapshot| {
        let mut all = snapshot.replicas.iter();
        all.any(|r| r.state == longshore_model::ReplicaState::Paused)
    })
    .await;
    assert_eq!(seen(&rig), [(Some(SECRET.to_vec()), 1)]);
}
