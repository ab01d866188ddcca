//! Secrets are where they were meant to be, and nowhere else: planted words are searched for in every log, answer,
//! page, command line and file of the lab's hosts (X11 of the reliability goals).
#![allow(clippy::unwrap_used, clippy::expect_used)] // tests: a panic is their answer

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use longshore_lab::{
    Said, controllers, ctl, ctl_command, ctl_ok, hosts, on, replicas_of, until, workers,
};

/// What is searched for: the beginning of each planted word. In two parts, so that the search does not find itself.
const PARTS: [&str; 2] = ["canary-", "4f1b9e"];

fn planted(what: &str) -> String {
    format!("{}-{what}", PARTS.concat())
}

fn with_input(args: &[&str], input: &str) {
    let mut command = ctl_command();
    command.args(args).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
    nothing_in(&format!("{args:?}"), &[said.stdout, said.stderr].concat());
}

fn nothing_in(what: &str, text: &str) {
    let found = text.find(&PARTS.concat());
    assert!(found.is_none(), "{what} shows a secret: {text}");
}

/// Takes it down again, whatever happened.
struct Planted(tempfile::TempDir);

impl Drop for Planted {
    fn drop(&mut self) {
        ctl(&["down", "canary", "-y"]);
        ctl(&["secret", "rm", "-y", "canary-apart"]);
        ctl(&["registry", "logout", "registry.canary.example"]);
    }
}

fn plant() -> Planted {
    let dir = Planted(tempfile::tempdir().unwrap());
    let path = |name: &str| dir.0.path().join(name);
    std::fs::write(path("inline.txt"), planted("inline")).unwrap();
    let compose = "name: canary
services:
  canary:
    image: longshore/hello:1
    secrets: [apart, inline]
secrets:
  apart: { external: true, name: canary-apart }
  inline: { file: ./inline.txt }
";
    std::fs::write(path("compose.yaml"), compose).unwrap();
    with_input(
        &["secret", "create", "canary-apart", "-"],
        &planted("apart"),
    );
    let login = [
        "registry",
        "login",
        "-u",
        "ana",
        "--password-stdin",
        "registry.canary.example",
    ];
    with_input(&login, &planted("password"));
    let file = path("compose.yaml").display().to_string();
    for verb in [&["plan"][..], &["config"], &["up", "-y"], &["up", "-y"]] {
        let said = ctl(&[verb, &["-f", &file]].concat());
        assert_eq!(said.code, Some(0), "{verb:?}: {said:?}");
        nothing_in(&format!("{verb:?}"), &[said.stdout, said.stderr].concat());
    }
    dir
}

#[test]
fn planted_secrets_are_found_in_their_containers_and_nowhere_else() {
    let dir = plant();
    until("the service runs", Duration::from_secs(60), || {
        let all = replicas_of("canary");
        match all.iter().any(|replica| replica.state == "healthy") {
            true => Ok(()),
            false => Err(all),
        }
    });
    for (secret, word) in [("apart", "apart"), ("inline", "inline")] {
        let file = format!("/run/secrets/{secret}");
        let found = ctl_ok(&["exec", "canary", "--", "cat", &file]);
        assert_eq!(found.trim(), planted(word), "it never got there");
    }
    for verb in [
        &["restart", "canary", "-y"][..],
        &["status", "-o", "json"],
        &["ls", "-o", "json"],
        &["ps", "canary", "-o", "json"],
        &["inspect", "canary"],
        &["inspect", "service/canary"],
        &["why", "canary", "-o", "json"],
        &["events", "-o", "json"],
        &["rollout", "history", "canary", "-o", "json"],
        &["logs", "canary"],
        &["secret", "ls", "-o", "json"],
        &["secret", "inspect", "canary-apart"],
        &["registry", "ls", "-o", "json"],
        &["doctor"],
        &["system", "df", "-o", "json"],
        &["node", "logs", "worker1", "-n", "5000"],
        &["proxy", "config"],
    ] {
        let said = ctl(verb);
        nothing_in(&format!("{verb:?}"), &[said.stdout, said.stderr].concat());
    }
    let bundle = dir.0.path().join("bundle.tar");
    ctl_ok(&["system", "support-bundle", &bundle.display().to_string()]);
    let bundle = std::fs::read(bundle).unwrap();
    nothing_in("the support bundle", &String::from_utf8_lossy(&bundle));
    for worker in workers() {
        let all = "docker inspect $(docker ps -aq) && docker events --since 1h --until 0s";
        nothing_in(
            &format!("docker of {worker}"),
            &on(&worker, &["sh", "-c", all]),
        );
    }
    let page = on(
        "edge",
        &["curl", "-s", "http://127.0.0.1:5050/haproxy?stats"],
    );
    nothing_in("HAProxy's page", &page);
    // Files but for the engine's own, where the containers are; command lines and environments of all processes but
    // those in containers, which may have read it.
    let search = format!(
        "p=$(mktemp -p /dev/shm) && printf '%s%s\\n' {} {} >$p && \
         {{ grep -rlF -f $p /var/log /var/lib/longshore /etc /run /tmp 2>/dev/null; \
            grep -lF -f $p /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; rm -f $p; true; }}",
        PARTS[0], PARTS[1]
    );
    let mut all = hosts();
    all.extend(controllers());
    all.sort();
    all.dedup();
    for host in all {
        let found = on(&host, &["sh", "-c", &search]);
        assert_eq!(found.trim(), "", "files of {host} that hold a secret");
    }
}
