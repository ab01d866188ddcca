//! `inspect`, `stats`, `top`, `proxy`, `doctor`, `system`, and what shells and packages ask for.

use longshore_proto::control::v1 as pb;

use super::fake::{Cluster, service};
use super::{json, run, said};

#[test]
fn inspect_prints_whole_objects_in_each_form() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["inspect", "hello", "node1"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for line in [
        "- kind: service\n",
        "  key: hello/hello\n",
        "  - listen_port: 8080\n",
        "  - name: hello.1\n",
        "- kind: node\n",
        "    hello/hello.2: healthy\n",
    ] {
        assert!(out.contains(line), "no {line:?}: {out}");
    }
    let all = json(&cluster, &["inspect", "app/hello", "hello.2", "-o", "json"]);
    assert_eq!(
        (&all[0]["kind"], &all[0]["services"][0]["wanted"]),
        (&"app".into(), &2.into())
    );
    assert_eq!(
        (&all[1]["kind"], &all[1]["id"]),
        (&"replica".into(), &"r2".into())
    );
    assert_eq!(
        run(&cluster, &["inspect", "r1", "node/node1", "-q"]).1,
        "hello.1\nnode1\n"
    );
    let (_, lines, _) = run(&cluster, &["inspect", "r1", "r2", "-o", "jsonl"]);
    assert_eq!(lines.lines().count(), 2, "{lines}");
}

#[test]
fn inspect_says_what_a_name_may_mean() {
    let cluster = Cluster::start();
    cluster
        .fake
        .world()
        .services
        .push(service("shop", "hello", 1));
    let (code, out, err) = run(&cluster, &["inspect", "hello"]);
    assert_eq!((code, out.as_str()), (2, ""));
    for name in ["app/hello", "service/hello/hello", "service/shop/hello"] {
        assert!(err.contains(name), "no {name}: {err}");
        assert_eq!(run(&cluster, &["inspect", name]).0, 0, "{name}");
    }
    let (code, _, err) = run(&cluster, &["inspect", "nde1"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("nothing called \"nde1\"") && err.contains("did you mean node1?"),
        "{err}"
    );
}

#[test]
fn yaml_is_the_same_document_as_json() {
    let cluster = Cluster::start();
    for args in [
        &["ls"][..],
        &["ps"],
        &["node", "ls"],
        &["why", "hello"],
        &["events"],
        &["status"],
    ] {
        let wanted = json(&cluster, &[args, &["-o", "json"]].concat());
        let (code, out, err) = run(&cluster, &[args, &["-o", "yaml"]].concat());
        assert_eq!(code, 0, "{err}");
        let read: serde_json::Value = serde_saphyr::from_str(&out).unwrap();
        assert_eq!(read, wanted, "{args:?}: {out}");
    }
    let (code, _, err) = run(&cluster, &["ps", "-w", "-o", "yaml"]);
    assert!(code == 2 && err.contains("-o jsonl"), "{err}");
}

#[test]
fn stats_show_what_was_asked_for_and_end_without_a_stream() {
    let cluster = Cluster::start();
    cluster
        .fake
        .world()
        .services
        .push(service("shop", "web", 3));
    let (code, out, err) = run(&cluster, &["stats", "--no-stream", "web.2", "hello"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("NAME "), "{out}");
    let names: Vec<&str> = out
        .lines()
        .skip(1)
        .filter_map(|l| l.split(' ').next())
        .collect();
    assert_eq!(names, ["hello.1", "hello.2", "web.2"]);
    // An app is all its services.
    let shop = json(&cluster, &["stats", "shop", "-o", "json"]);
    assert_eq!(shop.as_array().unwrap().len(), 3, "{shop}");
    let all = json(&cluster, &["stats", "-o", "json"]);
    assert_eq!(
        (all.as_array().unwrap().len(), &all[0]["traffic"]),
        (5, &"serve".into())
    );
}

#[test]
fn top_prints_its_screen_once_where_there_is_none() {
    let cluster = Cluster::start();
    for args in [&["top", "--once"][..], &["top"]] {
        let (code, out, err) = run(&cluster, args);
        assert_eq!((code, err.as_str()), (0, ""));
        for part in [
            "lab  context lab",
            "node1 ",
            "hello/hello ",
            "2/2",
            "hello/hello.2",
        ] {
            assert!(out.contains(part), "no {part}: {out}");
        }
        assert!(!out.contains('\u{1b}') && !out.contains("q quit"), "{out}");
    }
    let (code, _, err) = run(&cluster, &["top", "-o", "json"]);
    assert!(code == 2 && err.contains("controllerctl stats"), "{err}");
}

#[test]
fn proxy_shows_edges_and_what_is_behind_them() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["proxy", "backends", "hello"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let row = out.lines().nth(1).unwrap_or_default();
    for part in ["hello/hello", "8080", "hello.1", "serve"] {
        assert!(row.contains(part), "no {part}: {out}");
    }
    let rows = json(&cluster, &["proxy", "backends", "-o", "json"]);
    assert_eq!(
        (&rows[1]["replica"], &rows[1]["mode"]),
        (&"hello.2".into(), &"http".into())
    );
    assert!(run(&cluster, &["proxy", "status"]).1.starts_with("EDGE "));
    let config = "global\n    maxconn 10\n";
    for args in [&["proxy", "config"][..], &["proxy", "config", "edge1"]] {
        assert_eq!(run(&cluster, args), (0, config.to_owned(), String::new()));
    }
    let document = json(&cluster, &["proxy", "config", "-o", "json"]);
    assert_eq!(document["config"], config);
    assert_eq!(run(&cluster, &["proxy", "config", "nope"]).0, 1);
    let (code, out, _) = run(&cluster, &["proxy", "config", "--diff"]);
    assert!(
        code == 0 && out.ends_with("-    maxconn 10\n+    maxconn 20\n"),
        "{out}"
    );
    let diff = [
        "proxy",
        "config",
        "--diff",
        "--detailed-exitcode",
        "-o",
        "json",
    ];
    let (code, out, _) = run(&cluster, &diff);
    assert!(code == 3 && out.contains("\"differs\": true"), "{out}");
}

#[test]
fn doctor_names_each_fault_with_the_way_out_and_ends_with_1() {
    let cluster = Cluster::start();
    let mut dark = service("shop", "web", 1);
    (dark.serving, dark.urls) = (0, Vec::new());
    cluster.fake.world().services.push(dark);
    cluster.fake.world().problems.push(pb::Problem {
        about: "hello/hello".into(),
        message: "something else".into(),
        reason: None,
    });
    let (code, out, err) = run(&cluster, &["doctor"]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    for line in [
        "ok    controller: answers, release 0.1.0\n",
        "warn  clock: the controller's and this machine's differ by ",
        "fail  edges: there are none: nobody outside reaches a service\n      fix: controllerctl node join --role edge",
        "ok    node1: ready, engine 29.1.0, agent unknown\n",
        "fail  shop/web: nobody listens on its port 8080\n      fix: controllerctl proxy status\n",
        "warn  hello/hello: something else\n      fix: controllerctl why hello/hello\n",
    ] {
        assert!(out.contains(line), "no {line:?}: {out}");
    }
    let (code, out, _) = run(&cluster, &["doctor", "--node", "node1", "-o", "json"]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, found.as_array().unwrap().len()), (0, 1), "{out}");
    // It has just come back: its first report is waited for.
    cluster.fake.world().late_reports = 1;
    let (_, out, _) = run(&cluster, &["doctor", "--node", "node1"]);
    assert!(out.contains("node1: ready, engine 29.1.0"), "{out}");
    let (code, _, err) = run(&cluster, &["doctor", "--node", "nope"]);
    assert!(code == 1 && err.contains("controllerctl node ls"), "{err}");
}

#[test]
fn system_info_has_versions_and_counts() {
    let cluster = Cluster::start();
    let (code, out, _) = run(&cluster, &["system", "info"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("controller  0.1.0 at https://127.0.0.1:")
            && out.contains("nodes       1 of 1 ready"),
        "{out}"
    );
    let info = json(&cluster, &["system", "info", "-o", "json"]);
    assert_eq!(
        (&info["apps"], &info["cluster"]),
        (&1.into(), &"lab".into())
    );
}

/// What bash would be offered for the last word.
fn offered(cluster: &Cluster, words: &[&str]) -> String {
    let index = words.len() - 1;
    let mut command = cluster.ctl(&[&["--"], words].concat());
    command
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", index.to_string())
        .env("_CLAP_COMPLETE_COMP_TYPE", "9");
    let (code, out, err) = said(&mut command);
    assert_eq!(code, 0, "{err}");
    out
}

#[test]
fn shells_are_offered_names_that_are_there() {
    let cluster = Cluster::start();
    cluster.fake.world().nodes.push(pb::Node {
        id: "node-edge".into(),
        roles: vec!["edge".into()],
        ..pb::Node::default()
    });
    let edges = offered(&cluster, &["controllerctl", "proxy", "config", ""]);
    assert!(
        edges.contains("node-edge") && !edges.contains("node1"),
        "{edges}"
    );
    for (words, wanted) in [
        (
            &["controllerctl", "explain", "services.x-auto"][..],
            &["services.x-autoscale"][..],
        ),
        (
            &["controllerctl", "explain", "x-autoscale.m"],
            &["x-autoscale.metrics", "x-autoscale.min"],
        ),
        (&["controllerctl", "explain", "serv"], &["services"]),
        (&["controllerctl", "wait", "no"], &["node1"]),
        (
            &["controllerctl", "logs", "hello."],
            &["hello.1", "hello.2"],
        ),
        (
            &["controllerctl", "exec", "-i", "he"],
            &["hello", "hello.1"],
        ),
        (&["controllerctl", "inspect", "no"], &["node1"]),
        (&["controllerctl", "scale", "he"], &["hello="]),
        (&["controllerctl", "down", ""], &["hello"]),
        (&["controllerctl", "node", "drain", ""], &["node1"]),
        (&["controllerctl", "-c", ""], &["lab"]),
        (&["controllerctl", "proxy", ""], &["status", "backends"]),
    ] {
        let out = offered(&cluster, words);
        let lines: Vec<&str> = out.split(['\n', '\u{b}']).map(str::trim).collect();
        for name in wanted {
            assert!(lines.contains(name), "{words:?}: no {name}: {lines:?}");
        }
    }
    // Nobody answers: nothing is offered, and nothing is said.
    let other = cluster.write("nobody.toml", "", "", "");
    let mut command = cluster.ctl_with(&other, &["--", "controllerctl", "down", ""]);
    command
        .env("COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", "2");
    let (_, out, err) = said(&mut command);
    assert!(!out.contains("hello") && err.is_empty(), "{out}{err}");
}

#[test]
fn there_is_a_page_for_each_command_and_the_first_has_the_exit_codes() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["man", "pages"]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let pages = cluster.dir.path().join("pages");
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("controllerctl.1").contains("timed out waiting"));
    assert!(page("controllerctl-node-drain.1").contains("deadline"));
    assert!(
        !run(&cluster, &["help"]).1.contains("manual pages"),
        "it is for packages"
    );
}
