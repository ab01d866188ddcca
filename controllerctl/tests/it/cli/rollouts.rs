//! `rollout …` and `restart`: what they say, and how they end.

use longshore_proto::control::v1 as pb;

use super::fake::{self, Cluster};
use super::{json, run};

fn rollout(state: &str, why: &str) -> pb::Rollout {
    pb::Rollout {
        service: "hello/hello".into(),
        state: state.into(),
        revision: 1,
        from_revision: 1,
        wanted: 2,
        new_total: 1,
        old_total: 2,
        why: why.into(),
        ..Default::default()
    }
}

fn with(rollout: pb::Rollout) -> Cluster {
    let cluster = Cluster::start();
    cluster.fake.world().services[0].rollout = Some(rollout);
    cluster
}

#[test]
fn the_state_of_a_rollout_is_told_by_status_and_by_ls() {
    let cluster = with(rollout("paused", "the new replica exited with code 3"));
    let (code, out, err) = run(&cluster, &["rollout", "status", "hello"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for word in ["hello/hello", "paused", "1 -> 1", "exited with code 3"] {
        assert!(out.contains(word), "no {word}: {out}");
    }
    let rows = json(&cluster, &["rollout", "status", "-o", "json"]);
    assert_eq!(rows[0]["state"], "paused");
    // On the way back, which failed as well.
    let mut back = rollout("paused", "the way back to revision 3 failed as well");
    (back.revision, back.from_revision) = (4, 4);
    (back.good_revision, back.back) = (3, true);
    let (_, out, _) = run(&with(back), &["rollout", "status", "hello"]);
    assert!(out.contains("4 -> 3"), "{out}");
    let services = json(&cluster, &["ls", "-o", "json"]);
    assert_eq!(services[0]["rollout"]["state"], "paused");
}

#[test]
fn the_history_tells_which_revision_is_good_and_how_each_ended() {
    let cluster = Cluster::start();
    let rows = json(&cluster, &["rollout", "history", "hello", "-o", "json"]);
    assert_eq!(rows[0]["outcome"], "rolled_back");
    assert_eq!(
        (&rows[1]["good"], &rows[1]["revision"]),
        (&true.into(), &1.into())
    );
    let (code, out, _) = run(&cluster, &["rollout", "history", "hello"]);
    assert!(code == 0 && out.contains("1 good"), "{out}");
}

#[test]
fn pause_resume_undo_and_restart_are_asked_for_and_named() {
    let cluster = Cluster::start();
    let (code, _, err) = run(&cluster, &["rollout", "pause", "hello"]);
    assert!(
        code == 0 && err.contains("rollout resume hello"),
        "{code} {err}"
    );
    let (code, _, err) = run(&cluster, &["rollout", "resume", "hello"]);
    assert!(code == 0 && err.contains("goes on"), "{code} {err}");
    let undo = ["rollout", "undo", "hello", "--to-revision", "1", "-y"];
    let (code, _, err) = run(&cluster, &undo);
    assert!(
        code == 0 && err.contains("as it was at revision 1"),
        "{code} {err}"
    );
    let (code, _, err) = run(&cluster, &["restart", "hello", "-y", "-d"]);
    assert!(code == 0 && err.contains("revision 1"), "{code} {err}");
    let calls = [
        "pause hello",
        "resume hello",
        "undo hello 1",
        "restart hello",
    ];
    assert_eq!(cluster.fake.world().calls, calls);
}

#[test]
fn without_yes_nothing_is_undone_or_restarted() {
    let cluster = Cluster::start();
    for args in [&["rollout", "undo", "hello"][..], &["restart", "hello"]] {
        let (code, _, err) = run(&cluster, args);
        assert!(code == 2 && err.contains("add -y"), "{args:?}: {err}");
    }
    assert_eq!(cluster.fake.world().calls, Vec::<String>::new());
}

#[test]
fn a_restart_that_leaves_nobody_serving_says_so_before_it_begins() {
    let cluster = Cluster::start();
    let gap = "its only replica stops before the new one serves";
    cluster.fake.world().services[0].gap = gap.into();
    let (code, _, err) = run(&cluster, &["restart", "hello"]);
    assert!(code == 2 && err.contains(gap), "{err}");
    assert!(cluster.fake.world().calls.is_empty(), "nothing began");
    let (_, _, err) = run(&cluster, &["restart", "hello/hello", "-y", "-d"]);
    assert!(err.contains(&format!("  ! hello: {gap}\n")), "{err}");
    // An older controller has no plan.
    cluster.fake.world().is_old = true;
    let (code, _, err) = run(&cluster, &["restart", "hello/hello", "-y", "-d"]);
    let said = format!("! hello/hello: {gap}\n");
    assert!(code == 0 && err.starts_with(&said), "{err}");
    let (code, _, err) = run(&cluster, &["scale", "hello=0", "-y", "-d"]);
    assert!(code == 0 && err.contains("2 -> 0"), "{err}");
}

#[test]
fn what_a_restart_and_a_count_of_0_come_to_is_shown_before_the_question() {
    for (args, lines) in [
        (
            &["restart", "hello"][..],
            "app hello  context lab\n  ~ hello  2 replicas replaced, start-first, 1 at a time\n\
             Placement: 2 replaced, 0 created, 0 removed.\n",
        ),
        (
            &["scale", "hello=0"],
            "app hello  context lab\n  ~ hello  2 -> 0 replicas\n\
             Placement: 0 replaced, 0 created, 2 removed.\n",
        ),
    ] {
        let cluster = Cluster::start();
        let (code, _, err) = run(&cluster, args);
        assert!(code == 2 && err.starts_with(lines), "{args:?}: {err}");
        assert!(cluster.fake.world().calls.is_empty(), "nothing began");
        let document = json(&cluster, &[args, &["-y", "-d", "-o", "json"]].concat());
        let forecast = document.pointer("/plan/0/changes/0/forecast/before");
        assert_eq!(forecast, Some(&2.into()), "{document}");
        assert_eq!(document["done"], false);
    }
    // Other counts are said by the command itself.
    let cluster = Cluster::start();
    let (code, _, err) = run(&cluster, &["scale", "hello=3", "-d"]);
    assert!(code == 0 && !err.contains("Placement"), "{err}");
    let (code, _, err) = run(&cluster, &["restart", "helo"]);
    assert!(code == 1 && err.contains("did you mean hello"), "{err}");
}

#[test]
fn a_rollout_that_goes_on_in_spite_of_failures_is_no_failure() {
    let why = "3 new replicas failed (tolerated: 1)";
    let mut through = rollout("done", why);
    (through.failed, through.failure_action) = (3, "continue".into());
    let (code, _, err) = run(&with(through.clone()), &["restart", "hello", "-y"]);
    assert_eq!(code, 0, "{err}");
    let said = format!("revision 1 is through in spite of failures: {why}");
    assert!(err.contains(&said), "{err}");
    // As long as it goes on there is no verdict, where the file says so.
    for (action, wanted) in [("continue", 7), ("pause", 4)] {
        let mut going = through.clone();
        (going.state, going.failure_action) = ("running".into(), action.into());
        going.tolerated = 1;
        let cluster = with(going);
        cluster.fake.backs_off("hello/hello");
        let restart = ["restart", "hello", "-y", "--wait-timeout", "3s"];
        let (code, _, err) = run(&cluster, &restart);
        assert_eq!(code, wanted, "{action}: {err}");
    }
}

#[test]
fn a_rollout_that_ended_badly_ends_the_wait_with_4_and_says_how() {
    for (state, words) in [
        ("paused", "is paused: 5 of 10 answers were errors"),
        (
            "rolled_back",
            "was rolled back: 5 of 10 answers were errors",
        ),
    ] {
        let cluster = with(rollout(state, "5 of 10 answers were errors"));
        let wait = format!("rollout of revision 1 {words}");
        cluster.fake.world().services[0].waits.push(wait);
        for args in [
            &["restart", "hello", "-y"][..],
            &["rollout", "undo", "hello", "-y"],
        ] {
            let (code, _, err) = run(&cluster, args);
            assert_eq!(code, 4, "{args:?}: {err}");
            for word in [words, "controllerctl rollout status hello/hello"] {
                assert_eq!(err.matches(word).count(), 1, "{word}, once: {err}");
            }
        }
    }
    let mut held = rollout("held", "");
    held.held_by = "ana".into();
    let (code, _, err) = run(&with(held), &["restart", "hello", "-y"]);
    assert_eq!(code, 4, "{err}");
    assert!(
        err.contains("by ana; controllerctl rollout resume hello/hello"),
        "{err}"
    );
}

#[test]
fn a_removed_service_that_drains_holds_up_no_verdict() {
    let cluster = Cluster::start();
    let mut old = fake::service("app", "old", 0);
    (old.revision, old.leaving) = (0, 1);
    cluster.fake.world().services.push(old);
    let up = [
        "up",
        "-f",
        &cluster.compose("huge"),
        "-y",
        "--wait-timeout",
        "15s",
    ];
    let (code, _, err) = run(&cluster, &up);
    assert_eq!(code, 5, "{err}");
}
