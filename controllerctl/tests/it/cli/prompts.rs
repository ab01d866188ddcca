//! Questions, at a terminal of their own.

use std::process::Command;

use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};

use super::fake::Cluster;

const PATIENCE_MS: u64 = 30_000;

fn terminal(cluster: &Cluster, args: &[&str]) -> PtySession {
    // A new terminal has no size, and nobody can see anything in that.
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "stty rows 40 cols 120 && exec \"$0\" \"$@\""])
        .arg(assert_cmd::cargo::cargo_bin("controllerctl"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env(
            "CONTROLLERCTL_CONFIG",
            cluster.dir.path().join("config.toml"),
        )
        .env("TERM", "xterm")
        .current_dir(cluster.dir.path())
        .args(args);
    spawn_command(command, Some(PATIENCE_MS)).unwrap()
}

fn code(session: &PtySession) -> i32 {
    match session.process().wait().unwrap() {
        WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    }
}

fn was_called(cluster: &Cluster, name: &str) -> bool {
    cluster.fake.world().calls.iter().any(|call| call == name)
}

#[test]
fn anything_but_yes_changes_nothing() {
    for answer in ["n", "", "x"] {
        let cluster = Cluster::start();
        let mut session = terminal(&cluster, &["down", "hello", "-d"]);
        session.exp_string("(context lab) [y/N] ").unwrap();
        session.send_line(answer).unwrap();
        session
            .exp_string("not confirmed; nothing was changed")
            .unwrap();
        session.exp_eof().unwrap();
        assert_eq!(code(&session), 1, "{answer:?}");
        assert!(!was_called(&cluster, "down"), "{answer:?}");
    }
}

#[test]
fn yes_is_taken_and_minus_y_asks_nothing() {
    let cluster = Cluster::start();
    let mut session = terminal(&cluster, &["down", "hello", "-d"]);
    session.exp_string("[y/N] ").unwrap();
    session.send_line("y").unwrap();
    session.exp_eof().unwrap();
    assert_eq!(code(&session), 0);
    assert!(was_called(&cluster, "down"));
    let cluster = Cluster::start();
    let mut session = terminal(&cluster, &["down", "hello", "-d", "-y"]);
    let said = session.exp_eof().unwrap();
    assert!(!said.contains("[y/N]"), "{said}");
    assert_eq!(code(&session), 0);
    assert!(was_called(&cluster, "down"));
}

#[test]
fn approve_asks_for_each_count_and_enter_agrees() {
    let cluster = Cluster::start();
    let mut session = terminal(&cluster, &["approve", "-i"]);
    session
        .exp_string("hello/hello asks for 2 -> 3 (cpu 86 %")
        .unwrap();
    session.exp_string("[Y/n] ").unwrap();
    session.send_line("").unwrap();
    session.exp_string("hello/hello goes to 3").unwrap();
    let approved = cluster.fake.world().autoscale.approved.clone();
    assert_eq!(approved.map(|a| a.count), Some(3));
    // It asks for more, and somebody says no.
    cluster.fake.world().autoscale.awaits_approval = Some(4);
    session.exp_string("asks for 2 -> 4").unwrap();
    session.send_line("n").unwrap();
    session.exp_string("hello/hello stays at 2").unwrap();
    assert_eq!(cluster.fake.world().autoscale.awaits_approval, Some(4));
    session.send_control('c').unwrap();
    session.exp_eof().unwrap();
    assert_eq!(code(&session), 130);
}

#[test]
fn top_takes_the_screen_filters_and_gives_it_back() {
    let cluster = Cluster::start();
    let mut session = terminal(&cluster, &["top", "--interval", "200ms"]);
    session.exp_string("\u{1b}[?1049h").unwrap();
    session.exp_string("REPLICA").unwrap();
    session.send("/").unwrap();
    session.flush().unwrap();
    session.exp_string("filter:").unwrap();
    session.send("q\r").unwrap();
    session.flush().unwrap();
    session.send("q").unwrap();
    session.flush().unwrap();
    session.exp_string("\u{1b}[?1049l").unwrap();
    session.exp_eof().unwrap();
    assert_eq!(code(&session), 0);
}

#[test]
fn a_command_sees_the_size_of_the_terminal_and_each_change() {
    let cluster = Cluster::start();
    let mut session = terminal(&cluster, &["exec", "-it", "hello.1", "sizes"]);
    session.exp_string("first 40x120").unwrap();
    session.exp_string("40x120").unwrap();
    let changed = Command::new("stty")
        .args(["rows", "50", "cols", "132"])
        .stdin(session.process().get_file_handle().unwrap())
        .status()
        .unwrap();
    assert!(changed.success());
    session.exp_string("50x132").unwrap();
    session.send("q").unwrap();
    session.flush().unwrap();
    session.exp_eof().unwrap();
    assert_eq!(code(&session), 0);
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let cluster = Cluster::start();
    let (code, _, err) = super::run(&cluster, &["approve", "-i"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("there is no terminal") && err.contains("approve SERVICE"),
        "{err}"
    );
}
