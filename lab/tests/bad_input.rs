//! Each mistake gets one clear message with the way out, and changes nothing half-way.
#![allow(clippy::unwrap_used, clippy::expect_used)] // tests: a panic is their answer

use std::io::Write;
use std::time::Duration;

use longshore_lab::{
    SmallStore, Stranger, ctl, ctl_json, ctl_ok, edge, replicas, restore, scale, scale_and_wait,
    serving, try_on, until, wait_for,
};

/// A Compose file that lives as long as the value.
struct File(std::path::PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("longshore-lab-{}-{name}", std::process::id()));
        std::fs::File::create(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("a file");
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_used_join_token_is_refused() {
    let token = ctl_json(&["token", "create", "--role", "worker", "--name", "extra"]);
    let token = token["token"].as_str().expect("a token");
    let controller = format!("https://{}:7443", edge());
    let join = |token: &str, dir: &str| {
        try_on(
            "worker1",
            &[
                "node-agent",
                "join",
                "--controller",
                &controller,
                "--token",
                token,
                "--name",
                "extra",
                "--address",
                "192.168.56.11",
                "--role",
                "worker",
                "--data-dir",
                dir,
            ],
        )
    };
    let first = join(token, "/tmp/extra-1");
    assert_eq!(first.code, Some(0), "{first:?}");
    let second = join(token, "/tmp/extra-2");
    assert_ne!(second.code, Some(0), "a used token was taken: {second:?}");
    assert!(
        second.stderr.contains("token create"),
        "no way out: {second:?}"
    );
    let garbled = join("lsj1.x.y.z", "/tmp/extra-3");
    assert_ne!(garbled.code, Some(0));
    assert!(garbled.stderr.contains("token"), "{garbled:?}");
    ctl_ok(&["node", "rm", "extra", "--force", "-y"]);
    try_on(
        "worker1",
        &["rm", "-rf", "/tmp/extra-1", "/tmp/extra-2", "/tmp/extra-3"],
    );
}

#[test]
fn an_unknown_service_is_named_with_its_neighbour() {
    let said = ctl(&["scale", "helo=3", "-y"]);
    assert_ne!(said.code, Some(0));
    assert!(
        said.stderr.contains("helo") && said.stderr.contains("hello"),
        "{said:?}"
    );
}

#[test]
fn a_malformed_compose_file_names_line_and_key() {
    let file = File::new(
        "bad.yaml",
        "name: bad\nservices:\n  web:\n    image: x\n    deploy:\n      replcas: 3\n",
    );
    let said = ctl(&["up", "-f", file.path(), "-y"]);
    assert_ne!(said.code, Some(0));
    for word in ["replcas", "replicas", ":6"] {
        assert!(said.stderr.contains(word), "no {word}: {said:?}");
    }
    assert!(!ctl_ok(&["ls"]).contains("bad"), "half-applied");
}

#[test]
fn a_port_of_another_app_is_refused_before_anything_changes() {
    restore();
    let file = File::new(
        "clash.yaml",
        "name: clash\nservices:\n  web:\n    image: longshore/hello:1\n    ports: [\"8080:8000\"]\n",
    );
    let said = ctl(&["up", "-f", file.path(), "-y", "-d"]);
    assert_ne!(said.code, Some(0));
    assert!(
        said.stderr.contains("8080") && said.stderr.contains("hello"),
        "{said:?}"
    );
    assert!(!ctl_ok(&["ls"]).contains("clash"), "half-applied");
    assert_eq!(serving().len(), 2);
}

#[test]
fn a_missing_image_and_too_many_replicas_say_why() {
    let missing = File::new(
        "missing.yaml",
        "name: missing\nservices:\n  web:\n    image: longshore/nothing:0\n    pull_policy: never\n",
    );
    ctl_ok(&["up", "-f", missing.path(), "-y", "-d"]);
    until(
        "the missing image is named",
        Duration::from_secs(30),
        || {
            let why = ctl_ok(&["why", "missing/web"]);
            if why.contains("longshore/nothing:0") {
                Ok(())
            } else {
                Err(why)
            }
        },
    );
    let large = File::new(
        "large.yaml",
        "name: large\nservices:\n  web:\n    image: longshore/hello:1\n    deploy:\n      replicas: 1\n      \
         resources:\n        reservations:\n          memory: 900G\n",
    );
    ctl_ok(&["up", "-f", large.path(), "-y", "-d"]);
    until(
        "the lack of memory is named",
        Duration::from_secs(30),
        || {
            let why = ctl_ok(&["why", "large/web"]);
            if why.contains("memory") && why.contains("worker3") {
                Ok(())
            } else {
                Err(why)
            }
        },
    );
    ctl_ok(&["down", "missing", "-y"]);
    ctl_ok(&["down", "large", "-y"]);
}

/// Host ports that the next replicas would get, in the order of replica ids.
fn next_ports(count: u64) -> Vec<String> {
    let ids = replicas().into_iter();
    let newest = ids.filter_map(|r| r.id[1..].parse::<u64>().ok()).max();
    let next = newest.expect("replicas") + 1;
    (next..next + count)
        .map(|id| (20_000 + id % 10_000).to_string())
        .collect()
}

/// Holds its arguments as TCP ports, says so, and ends with its input or after two minutes.
const HOLD: &str = "use IO::Socket::INET; alarm 120; my @held = map { \
    IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => $_, Listen => 1) or die $! \
    } @ARGV; $| = 1; print \"held\\n\"; <STDIN>";

#[test]
fn a_stranger_on_a_published_port_is_named_and_waited_for() {
    restore();
    let stranger = Stranger::start("edge", &["perl", "-e", HOLD, "9090"]);
    let file = File::new(
        "barred.yaml",
        "name: barred\nservices:\n  web:\n    image: longshore/hello:1\n    ports: [\"9090:8000\"]\n    \
         x-haproxy:\n      check:\n        path: /healthz\n",
    );
    let said = ctl(&["up", "-f", file.path(), "-y"]);
    assert_eq!(said.code, Some(5), "{said:?}");
    for word in [
        "barred/web",
        "edge",
        "port 9090 is taken by another program",
    ] {
        assert!(said.stderr.contains(word), "no {word}: {said:?}");
    }
    let why = ctl_ok(&["why", "barred/web"]);
    assert!(why.contains("port 9090 is taken"), "{why}");
    let listed = ctl_json(&["ps", "barred/web"]);
    assert_eq!(listed[0]["traffic"], "down", "{listed}");
    let reason = listed[0]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("port 9090 is taken"), "{listed}");
    drop(stranger);
    // The port is looked at again by itself.
    ctl_ok(&["wait", "barred/web", "--for", "stable", "--timeout", "60s"]);
    let events = ctl_ok(&["events", "--since", "2m"]);
    assert!(
        events.contains("refuses to serve it any more (port 9090)"),
        "{events}"
    );
    ctl_ok(&["down", "barred", "-y"]);
    restore();
}

#[test]
fn ports_that_strangers_hold_are_named_and_gone_around() {
    restore();
    let ports = next_ports(8);
    let ports: Vec<&str> = ports.iter().map(String::as_str).collect();
    let strangers = ["worker1", "worker2", "worker3"];
    let strangers = strangers.map(|host| {
        let program = [&["perl", "-e", HOLD], &ports[..]].concat();
        Stranger::start(host, &program)
    });
    scale(5);
    until(
        "a stranger's port is named",
        Duration::from_secs(60),
        || match ctl_ok(&["events", "--since", "2m"]) {
            events if events.contains("is taken by another program") => Ok(()),
            events => Err(events),
        },
    );
    wait_for(5);
    drop(strangers);
    restore();
}

#[test]
fn a_full_disk_under_the_store_refuses_the_change_and_loses_nothing() {
    restore();
    let store = SmallStore::mount();
    answers();
    // The agents come back one by one.
    wait_for(2);
    let wanted = || ctl_json(&["ls"])[0]["wanted"].clone();
    let before = wanted();
    store.fill();
    let said = ctl(&["scale", "hello=4", "--hold", "10m", "-d", "-y"]);
    assert_ne!(said.code, Some(0), "a change was taken without room for it");
    assert!(said.stderr.contains("disk full"), "{said:?}");
    assert_eq!(wanted(), before, "half-applied");
    let status = ctl_ok(&["status"]);
    assert!(status.contains("disk full"), "{status}");
    assert_eq!(serving().len(), 2);
    store.free();
    scale_and_wait(4);
    let status = ctl_ok(&["status"]);
    assert!(!status.contains("disk full"), "{status}");
    drop(store);
    restore();
}

/// Waits until the controller answers.
fn answers() {
    until(
        "the controller answers",
        Duration::from_secs(30),
        || match ctl(&["ls"]) {
            said if said.code == Some(0) => Ok(()),
            said => Err(said),
        },
    );
}
