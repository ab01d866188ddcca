//! The program from outside: what it prints where, and with which code it ends.

mod apart;
mod aside;
mod certificates;
mod config;
mod contexts;
mod counts;
mod down;
mod engine;
mod explain;
mod fake;
mod images;
mod init_from;
mod looks;
mod node_logs;
mod node_rm;
mod operators;
mod overtaken;
mod pages;
mod parts;
mod picks;
mod prompts;
mod pushes;
mod rollouts;
mod simulate;
mod stores;
mod tokens;
mod waits;

use std::time::{Duration, SystemTime};

use fake::Cluster;
use longshore_identity::OperatorRole;
use longshore_identity::ca::ClusterCa;
use longshore_proto::control::v1 as pb;

/// Runs it: code, stdout, stderr.
fn run(cluster: &Cluster, args: &[&str]) -> (i32, String, String) {
    said(&mut cluster.ctl(args))
}

fn said(command: &mut assert_cmd::Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap_or(-1),
        text(output.stdout),
        text(output.stderr),
    )
}

fn json(cluster: &Cluster, args: &[&str]) -> serde_json::Value {
    let (code, out, err) = run(cluster, args);
    assert_eq!(code, 0, "{args:?}: {err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

#[test]
fn lists_print_data_on_stdout_and_nothing_on_stderr() {
    let cluster = Cluster::start();
    for (args, word) in [
        (&["status"][..], "cluster lab"),
        (&["ls"], "hello"),
        (&["ps"], "hello.2"),
        (&["ps", "hello", "-o", "wide"], "node1"),
        (&["node", "ls"], "ready"),
        (&["events"], "1 -> 2"),
        (&["why", "hello"], "wants 2"),
        (&["context", "ls"], "lab"),
        (&["context", "show"], "operator ana (admin)"),
    ] {
        let (code, out, err) = run(&cluster, args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(
            out.contains(word) && !out.contains('\u{1b}'),
            "{args:?}: {out}"
        );
    }
    assert_eq!(json(&cluster, &["ps", "-o", "json"])[1]["name"], "hello.2");
    assert_eq!(
        json(&cluster, &["node", "ls", "-o", "json"])[0]["name"],
        "node1"
    );
    assert_eq!(json(&cluster, &["ls", "-o", "json"])[0]["serving"], 2);
    assert_eq!(
        json(&cluster, &["events", "-o", "json"])[0]["type"],
        "scaled"
    );
    assert_eq!(run(&cluster, &["ps", "-q"]).1, "hello.1\nhello.2\n");
    assert_eq!(run(&cluster, &["ps", "other"]).0, 0);
}

#[test]
fn logs_lose_their_escapes_unless_raw() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["logs", "hello"]);
    assert_eq!((code, out.as_str()), (0, "hello.1 node1 | GET / 200\n"));
    assert!(err.contains("left (scaled in)"));
    assert!(
        run(&cluster, &["logs", "--raw", "--no-prefix"])
            .1
            .contains("\u{1b}[31m200")
    );
}

#[test]
fn up_shows_applies_follows_and_ends_with_the_url() {
    let cluster = Cluster::start();
    let file = cluster.compose("fine");
    let (code, out, err) = run(&cluster, &["up", "-f", &file, "-y"]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    for word in [
        "+ web",
        "Deploying app rev 1",
        "1/1 serving",
        "http://10.0.0.1:8080",
    ] {
        assert!(err.contains(word), "no {word}: {err}");
    }
    let again = run(&cluster, &["plan", "-f", &file, "--detailed-exitcode"]);
    assert_eq!(again.0, 0, "{again:?}");
    let other = cluster.compose("other");
    assert_eq!(
        run(&cluster, &["plan", "-f", &other, "--detailed-exitcode"]).0,
        3
    );
    assert_eq!(run(&cluster, &["diff", "-f", &other]).0, 0);
    let stale = run(
        &cluster,
        &["up", "-f", &other, "-y", "--check-revision", "0"],
    );
    assert_eq!(stale.0, 1);
    assert!(
        stale.2.contains("revision") && stale.2.contains("hint:"),
        "{stale:?}"
    );
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_changed() {
    let cluster = Cluster::start();
    let file = cluster.compose("fine");
    for args in [
        &["up", "-f", &file][..],
        &["down", "hello"],
        &["node", "rm", "node1"],
        &["node", "drain", "node1"],
        &["scale", "hello=0"],
    ] {
        let (code, _, err) = run(&cluster, args);
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains("add -y"), "{err}");
    }
    assert_eq!(run(&cluster, &["up", "-f", &file, "--dry-run"]).0, 0);
    assert_eq!(cluster.fake.world().calls, Vec::<String>::new());
}

#[test]
fn a_failed_rollout_ends_with_4_and_the_last_lines() {
    let cluster = Cluster::start();
    let (code, _, err) = run(&cluster, &["up", "-f", &cluster.compose("broken"), "-y"]);
    assert_eq!(code, 4, "{err}");
    for word in [
        "exited with code 3",
        "| GET / 200",
        "controllerctl why app/web",
    ] {
        assert!(err.contains(word), "no {word}: {err}");
    }
}

#[test]
fn what_cannot_be_placed_ends_with_5_and_each_nodes_reason() {
    let cluster = Cluster::start();
    let (code, _, err) = run(&cluster, &["up", "-f", &cluster.compose("huge"), "-y"]);
    assert_eq!(code, 5, "{err}");
    assert!(err.contains("0 of 1 nodes fit"), "{err}");
    assert!(err.contains("node1  memory: 512 MiB free"), "{err}");
    let cluster = Cluster::start();
    let (code, _, err) = run(&cluster, &["up", "-f", &cluster.compose("absurd"), "-y"]);
    assert_eq!(code, 5, "more than a double can count: {err}");
}

#[test]
fn what_an_edge_refuses_ends_with_5_and_the_edges_words() {
    let cluster = Cluster::start();
    let (code, _, err) = run(&cluster, &["up", "-f", &cluster.compose("barred"), "-y"]);
    assert_eq!(code, 5, "{err}");
    let words = "app/web is not reachable through edge: port 8080 is taken by another program";
    assert!(err.contains(words), "{err}");
}

#[test]
fn what_no_edge_reaches_ends_with_5_and_the_way_out() {
    let cluster = Cluster::start();
    let (code, _, err) = run(&cluster, &["up", "-f", &cluster.compose("deaf"), "-y"]);
    assert_eq!(code, 5, "{err}");
    let words = "app/web: 1 replica is healthy, but HAProxy's check fails on every edge (slot 1 on \
                 node1): does it answer x-haproxy.check there";
    assert!(err.contains(words), "{err}");
}

#[test]
fn waiting_is_bounded_and_ends_with_7() {
    let cluster = Cluster::start();
    let file = cluster.compose("slow");
    let (code, _, err) = run(
        &cluster,
        &["up", "-f", &file, "-y", "--wait-timeout", "300ms"],
    );
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("app/web  0/1 serving"), "{err}");
    // What is wrong with the cluster may be why.
    cluster.fake.world().problems.push(pb::Problem {
        message: "the store cannot write: no space left on device".into(),
        ..pb::Problem::default()
    });
    let (code, _, err) = run(
        &cluster,
        &["up", "-f", &file, "-y", "--wait-timeout", "300ms"],
    );
    let lines = err.lines().filter(|line| line.contains("cannot write"));
    assert_eq!(
        (code, lines.count()),
        (7, 2),
        "as it goes and at the end: {err}"
    );
    let wait = ["wait", "app", "--for", "healthy", "--timeout", "200ms"];
    assert_eq!(run(&cluster, &wait).0, 7);
    assert_eq!(run(&cluster, &["wait", "hello", "--for", "stable"]).0, 0);
    assert_eq!(run(&cluster, &["down", "app", "-y"]).0, 0);
    assert_eq!(run(&cluster, &["wait", "app", "--for", "deleted"]).0, 0);
    assert_eq!(run(&cluster, &["wait", "nobody", "--for", "stable"]).0, 1);
}

#[test]
fn scale_waits_until_so_many_serve() {
    let cluster = Cluster::start();
    let (code, _, err) = run(&cluster, &["scale", "hello=3"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("hello/hello: 2 -> 3") && err.contains("3/3 serving"),
        "{err}"
    );
    let (code, _, err) = run(&cluster, &["scale", "helo=3", "-y"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("helo") && err.contains("did you mean hello"),
        "{err}"
    );
    assert_eq!(run(&cluster, &["scale", "hello"]).0, 2);
}

/// The autoscaler may want another count at once: then nobody waits in silence.
#[test]
fn scale_says_when_another_count_is_wanted_by_then() {
    let cluster = Cluster::start();
    cluster.fake.world().overrules = Some((5, "as many as are asked for".into()));
    let (code, _, err) = run(&cluster, &["scale", "hello=3"]);
    assert_eq!(code, 1, "{err}");
    for word in [
        "3 were asked for, by now 5 are wanted: requests asks for it; as many as are asked for",
        "controllerctl scale hello/hello=3 --hold 10m",
    ] {
        assert!(err.contains(word), "no {word}: {err}");
    }
}

/// As many serve as are wanted, but none where it may.
#[test]
fn up_does_not_end_well_while_replicas_are_where_they_may_not_be() {
    let cluster = Cluster::start();
    cluster.fake.world().services[0].misplaced = 1;
    let wait = ["wait", "hello", "--for", "stable", "--timeout", "300ms"];
    let (code, _, err) = run(&cluster, &wait);
    assert_eq!(code, 7, "{err}");
}

#[test]
fn down_waits_until_nothing_is_left() {
    let cluster = Cluster::start();
    cluster.fake.world().lingering = 4;
    let (code, _, err) = run(&cluster, &["down", "hello", "-y"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(cluster.fake.world().lingering, 0, "it did not wait: {err}");
    assert!(err.contains("were drained and removed"), "{err}");

    let cluster = Cluster::start();
    cluster.fake.world().lingering = u32::MAX;
    let down = ["down", "hello", "-y", "--wait-timeout", "200ms"];
    let (code, _, err) = run(&cluster, &down);
    assert_eq!(code, 7, "{err}");
    assert!(
        !err.contains("removed") && err.contains("wait hello --for deleted"),
        "{err}"
    );
    let (code, _, err) = run(&cluster, &["down", "hello", "-y", "-d"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("are being drained"), "{err}");
}

#[test]
fn verbs_that_change_something_print_one_document() {
    let cluster = Cluster::start();
    for (args, key) in [
        (&["version"][..], "/version"),
        (&["scale", "hello=1"], "/services/0/to"),
        (&["scale", "hello=2", "-d"], "/services/0/from"),
        (&["wait", "hello", "--for", "stable"], "/state"),
        (&["node", "cordon", "node1"], "/0/availability"),
        (&["node", "uncordon", "node1"], "/0/node"),
        (&["up", "-f", &cluster.compose("fine")], "/revision"),
        (&["down", "hello"], "/replicas"),
    ] {
        let document = json(&cluster, &[args, &["-y", "-o", "json"]].concat());
        assert!(document.pointer(key).is_some(), "{args:?}: {document}");
    }
    let (code, _, err) = run(&cluster, &["node", "ls", "-w", "-o", "json"]);
    assert!(code == 2 && err.contains("-o jsonl"), "{err}");
}

#[test]
fn an_unknown_node_among_known_ones_changes_nothing() {
    let cluster = Cluster::start();
    for args in [
        &["node", "cordon", "node1", "nosuch"][..],
        // Asked for a confirmation first, nobody would learn that there is nothing to confirm.
        &["node", "drain", "nosuch"],
    ] {
        let (code, _, err) = run(&cluster, args);
        assert_eq!(code, 1, "{args:?}: {err}");
        assert!(err.contains("no node nosuch"), "{err}");
    }
    assert_eq!(cluster.fake.world().calls, Vec::<String>::new());
}

#[test]
fn progress_as_json_is_one_object_a_line() {
    let cluster = Cluster::start();
    let (_, _, err) = run(&cluster, &["scale", "hello=1", "--progress", "json"]);
    let objects = err.lines().filter(|line| line.starts_with('{'));
    let objects: Vec<serde_json::Value> = objects
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        objects
            .iter()
            .any(|o| o["id"] == "hello/hello" && o["status"] == "Done"),
        "{err}"
    );
    assert!(
        objects.iter().any(|o| o["parent_id"] == "hello/hello"),
        "{err}"
    );
}

#[test]
fn exec_ends_with_the_commands_own_code() {
    let cluster = Cluster::start();
    let (code, out, _) = run(&cluster, &["exec", "hello.1", "ls", "-l"]);
    assert_eq!((code, out.as_str()), (42, "ls -l"));
    let (code, _, err) = run(&cluster, &["exec", "hello.1", "nope"]);
    assert_eq!(code, 125, "{err}");
    assert_eq!(run(&cluster, &["exec", "-t", "hello.1", "sh"]).0, 2);
}

#[test]
fn tokens_are_data_and_the_line_is_ready_to_paste() {
    let cluster = Cluster::start();
    let token = json(
        &cluster,
        &["token", "create", "--role", "edge", "-o", "json"],
    );
    assert_eq!(token["token"], "lsj1.a.b.c");
    assert!(
        token["join_command"]
            .as_str()
            .unwrap()
            .ends_with("--role edge")
    );
    assert_eq!(token["expires"], "2026-11-18T11:06:40.000Z");
    let (code, out, _) = run(&cluster, &["node", "join"]);
    assert_eq!((code, out.lines().count()), (0, 1));
    assert!(out.starts_with("node-agent join"));
}

#[test]
fn nodes_are_cordoned_drained_labelled_and_removed() {
    let cluster = Cluster::start();
    for args in [
        &["node", "cordon", "node1", "-m", "disk swap"][..],
        &["node", "uncordon", "node1"],
        &["node", "drain", "node1", "-y"],
        &["node", "label", "node1", "disk=ssd", "old-"],
        &["node", "rm", "node1", "-y"],
    ] {
        let (code, _, err) = run(&cluster, args);
        assert_eq!(code, 0, "{args:?}: {err}");
    }
    assert_eq!(run(&cluster, &["node", "label", "node1", "disk"]).0, 2);
    let calls = cluster.fake.world().calls.clone();
    assert_eq!(
        calls,
        [
            "availability",
            "availability",
            "availability",
            "remove_node"
        ]
    );
}

#[test]
fn refused_credentials_and_missing_controllers_end_with_6_and_say_why() {
    let cluster = Cluster::start();
    let viewer = cluster.context("viewer.toml", OperatorRole::Viewer, SystemTime::now());
    let (code, _, err) = said(&mut cluster.ctl_with(&viewer, &["scale", "hello=3"]));
    assert_eq!(code, 6, "{err}");
    assert!(
        err.contains("needs role deployer") && err.contains("context show"),
        "{err}"
    );
    let long_ago = SystemTime::now() - Duration::from_secs(10 * 86_400);
    let expired = cluster.context("expired.toml", OperatorRole::Admin, long_ago);
    let (code, _, err) = said(&mut cluster.ctl_with(&expired, &["ls"]));
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("expired"), "{err}");
    let other = ClusterCa::create("other", SystemTime::now()).unwrap();
    let mine = std::fs::read_to_string(cluster.dir.path().join("config.toml")).unwrap();
    let theirs = mine.replace(&between(&mine, "ca = '''", "'''"), other.cert_pem());
    let wrong = cluster.dir.path().join("wrong.toml");
    std::fs::write(&wrong, theirs).unwrap();
    let (code, _, err) = said(&mut cluster.ctl_with(&wrong, &["ls"]));
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("another cluster's CA"), "{err}");
    let (code, _, err) = run(&cluster, &["--server", "https://127.0.0.1:1", "ls"]);
    assert_eq!(code, 6, "{err}");
    assert!(err.contains("connection refused"), "{err}");
    assert_eq!(run(&cluster, &["--server", "127.0.0.1", "ls"]).0, 2);
}

fn between(text: &str, from: &str, to: &str) -> String {
    let rest = text.split_once(from).unwrap().1;
    rest.split_once(to).unwrap().0.to_owned()
}

#[test]
fn contexts_are_imported_shown_used_and_removed() {
    let cluster = Cluster::start();
    let file = cluster.context("lab.toml", OperatorRole::Viewer, SystemTime::now());
    let config = cluster.dir.path().join("new/config.toml");
    let ctl = |args: &[&str]| said(&mut cluster.ctl_with(&config, args));
    let (code, _, err) = ctl(&["ls"]);
    assert_eq!(code, 2);
    assert!(err.contains("context import"), "{err}");
    let file = file.display().to_string();
    assert_eq!(ctl(&["context", "import", &file, "--name", "prod"]).0, 0);
    assert_eq!(
        ctl(&["context", "import", &file, "--name", "prod"]).0,
        0,
        "the same again"
    );
    let other = cluster.context("other.toml", OperatorRole::Admin, SystemTime::now());
    let other = other.display().to_string();
    let (code, _, err) = ctl(&["context", "import", &other, "--name", "prod"]);
    assert!(code == 1 && err.contains("--force"), "{err}");
    let force = ["context", "import", &other, "--name", "prod", "--force"];
    assert_eq!(ctl(&force).0, 0);
    assert_eq!(ctl(&["context", "import", &file]).0, 0);
    assert_eq!(ctl(&["context", "ls", "-q"]).1, "lab\nprod\n");
    assert!(
        ctl(&["context", "show", "-o", "json"])
            .1
            .contains("\"current\": true")
    );
    assert!(
        !ctl(&["context", "show", "-o", "json"])
            .1
            .contains("PRIVATE")
    );
    assert_eq!(ctl(&["context", "use", "lab"]).0, 0);
    assert_eq!(ctl(&["status"]).0, 0);
    assert_eq!(ctl(&["--context", "prod", "status"]).0, 0);
    assert!(
        ctl(&["context", "export", "prod"])
            .1
            .contains("[context.prod]")
    );
    assert_eq!(ctl(&["context", "rm", "lab"]).0, 0);
    assert_eq!(ctl(&["context", "rm", "lab"]).0, 2);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&config).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_file_that_cannot_be_meant_is_refused_in_words_for_people() {
    let cluster = Cluster::start();
    let dir = cluster.dir.path().join("Ünï");
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("compose.yaml");
    let file = path.display().to_string();
    std::fs::write(&path, "services:\n  a: { image: x }\n").unwrap();
    let (code, _, err) = run(&cluster, &["config", "-f", &file]);
    assert!(code == 1 && err.contains("-p "), "{err}");
    let twice = "name: a\nservices:\n  a: { image: x }\n  a: { image: y }\n";
    let deep = format!("name: {}", "[".repeat(1_000));
    let wide = format!("name: [{}]", "1,".repeat(120_000));
    for (text, words) in [
        (twice, "key a is there twice"),
        (&deep, "at most"),
        (&wide, "at most"),
    ] {
        std::fs::write(&path, text).unwrap();
        let (code, _, err) = run(&cluster, &["config", "-f", &file]);
        assert!(code == 1 && err.contains(words), "{words}: {err}");
        for library in ["Policy", "Options", "budget", "{"] {
            assert!(!err.contains(library) || text.contains(library), "{err}");
        }
    }
}

#[test]
fn a_broken_compose_file_is_drawn_and_nothing_is_asked_of_the_controller() {
    let cluster = Cluster::start();
    let path = cluster.dir.path().join("bad.yaml");
    let text = "name: bad\nservices:\n  web:\n    image: x\n    deploy:\n      replcas: 3\n";
    std::fs::write(&path, text).unwrap();
    let file = path.display().to_string();
    let (code, out, err) = run(&cluster, &["up", "-f", &file, "-y"]);
    assert_eq!((code, out.as_str()), (1, ""));
    for word in [
        "replcas",
        "did you mean `replicas`",
        ":6:7",
        "nothing was changed",
    ] {
        assert!(err.contains(word), "no {word}: {err}");
    }
    let (code, out, _) = run(&cluster, &["config", "--check", "-f", &file, "-o", "json"]);
    assert_eq!(code, 1);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["ok"], &report["problems"][0]["line"]),
        (&false.into(), &6.into())
    );
    assert_eq!(run(&cluster, &["up", "-f", "absent.yaml", "-y"]).0, 1);
    assert_eq!(run(&cluster, &["plan"]).0, 2, "no file here");
}

#[test]
fn init_writes_a_file_that_is_taken_and_never_overwrites() {
    let cluster = Cluster::start();
    assert_eq!(run(&cluster, &["init"]).0, 0);
    let (code, out, err) = run(&cluster, &["config", "--check"]);
    assert_eq!(code, 0, "{out}{err}");
    assert_eq!(run(&cluster, &["plan"]).0, 0);
    assert!(run(&cluster, &["config"]).1.contains("image: nginx:1.29"));
    assert_eq!(json(&cluster, &["config", "-o", "json"])["name"], "my-app");
    let (code, _, err) = run(&cluster, &["init"]);
    assert_eq!(code, 1);
    assert!(err.contains("compose.yaml"), "{err}");
}

#[test]
fn help_version_and_completion_need_no_controller() {
    let cluster = Cluster::start();
    assert!(
        run(&cluster, &["help", "exit-codes"])
            .1
            .contains("4  the rollout failed")
    );
    assert!(
        run(&cluster, &["help", "node", "drain"])
            .1
            .contains("--deadline")
    );
    assert_eq!(run(&cluster, &["help", "nothing"]).0, 2);
    assert!(run(&cluster, &["version"]).1.starts_with("controllerctl "));
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&cluster, &["completion", shell]).1;
        assert!(
            script.contains("COMPLETE") && script.len() < 4_000,
            "{shell}: {script}"
        );
    }
    assert_eq!(run(&cluster, &["nope"]).0, 2);
    let (code, out, _) = said(
        cluster
            .ctl(&["--", "controllerctl", "ps", ""])
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", "2")
            .env("_CLAP_COMPLETE_COMP_TYPE", "9"),
    );
    assert_eq!(code, 0);
    assert!(out.contains("hello"), "live names: {out}");
}
