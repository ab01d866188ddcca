//! What is picked of lists and logs, and in which form: `--filter`, `--format`, `--node`, `--until`;
//! and all of it in one file.

use std::collections::BTreeMap;
use std::io::Read;

use longshore_proto::control::v1 as pb;

use super::fake::{Cluster, service};
use super::{json, run};

/// A cluster with two replicas that are well and one that is not.
fn cluster() -> Cluster {
    let cluster = Cluster::start();
    let mut web = service("shop", "web", 1);
    web.serving = 0;
    cluster.fake.world().services.push(web);
    cluster
}

#[test]
fn ps_shows_what_the_filters_leave() {
    let cluster = cluster();
    let names = |filters: &[&str]| {
        let filters = filters.iter().flat_map(|f| ["--filter", f]);
        let args: Vec<&str> = ["ps", "-a", "-q"].into_iter().chain(filters).collect();
        let (code, out, err) = run(&cluster, &args);
        assert_eq!(code, 0, "{args:?}: {err}");
        out.replace('\n', " ")
    };
    let all = "hello.1 hello.2 web.1 ";
    for (filters, wanted) in [
        (&[][..], all),
        (&["state=healthy"], "hello.1 hello.2 "),
        (&["state=starting"], "web.1 "),
        (&["app=shop"], "web.1 "),
        (&["service=hello/hello"], "hello.1 hello.2 "),
        (&["service=web", "service=hello"], all),
        (&["service=web", "traffic=serve"], ""),
        (&["node=node1", "traffic=out"], "web.1 "),
    ] {
        assert_eq!(names(filters), wanted, "{filters:?}");
    }
    for wrong in ["color=red", "state", "state="] {
        let (code, _, err) = run(&cluster, &["ps", "--filter", wrong]);
        assert!(code == 2 && err.contains("state=failed"), "{wrong}: {err}");
    }
}

#[test]
fn a_template_prints_fields_of_each_document() {
    let cluster = cluster();
    for (args, wanted) in [
        (
            &["ps", "--format", "{{.Name}}\\t{{ node }} {{ id }}"][..],
            "hello.1\tnode1 r1\nhello.2\tnode1 r2\nweb.1\tnode1 r1\n",
        ),
        (&["status", "--format", "{{ nodes_ready }}"], "1\n"),
        (&["inspect", "web.1", "--format", "{{ kind }}"], "replica\n"),
        (
            &["logs", "hello", "--format", "{{ stream }} {{ line }}"],
            "stdout GET / 200\nnotice left (scaled in)\n",
        ),
        (&["events", "--format", "{{ type }}"], "scaled\n"),
    ] {
        let (code, out, err) = run(&cluster, args);
        assert_eq!(
            (code, out.as_str(), err.as_str()),
            (0, wanted, ""),
            "{args:?}"
        );
    }
    let (code, out, err) = run(&cluster, &["ps", "--format", "{{ nam }}"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.contains("there are the fields") && err.contains("node"),
        "{err}"
    );
    // A template that is none changes nothing.
    let args = ["scale", "hello=3", "--format", "{{ service"];
    let (code, _, err) = run(&cluster, &args);
    assert!(code == 2 && err.contains("--format: syntax error"), "{err}");
    assert_eq!(cluster.fake.world().services[0].wanted, 2);
    assert_eq!(run(&cluster, &["ps", "-q", "--format", "x"]).0, 2);
}

#[test]
fn logs_can_be_of_one_node_up_to_a_time_or_of_stderr_only() {
    let cluster = Cluster::start();
    let lines = |more: &[&str]| {
        let args = [&["logs", "hello"], more].concat();
        let (code, out, err) = run(&cluster, &args);
        assert_eq!(code, 0, "{args:?}: {err}");
        out.lines().count()
    };
    assert_eq!(lines(&[]), 1);
    assert_eq!(lines(&["--until", "10m"]), 1);
    assert_eq!(lines(&["--until", "0"]), 0);
    assert_eq!(lines(&["--node", "node1"]), 1);
    assert_eq!(lines(&["--stderr-only"]), 0);
    for (more, words) in [
        (&["--until", "10m", "-f"][..], "cannot be used with"),
        (&["--until", "noon"], "is no time"),
        (&["--node", "nope"], "there is no node \"nope\""),
    ] {
        let (code, _, err) = run(&cluster, &[&["logs", "hello"], more].concat());
        assert!(code != 0 && err.contains(words), "{more:?}: {err}");
    }
}

#[test]
fn plan_takes_counts_and_hands_them_on() {
    let cluster = Cluster::start();
    let file = cluster.compose("fine");
    let plan = ["plan", "-f", &file, "--scale", "web=4"];
    let (code, out, err) = run(&cluster, &plan);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("up --check-revision 0 --scale web=4\n"),
        "{out}"
    );
    let mut there = service("app", "web", 2);
    there.image = "fine".into();
    cluster.fake.world().services.push(there);
    let (code, out, _) = run(&cluster, &[&plan[..], &["--detailed-exitcode"]].concat());
    assert!(code == 3 && out.contains("* app/web  scaled to 4"), "{out}");
    let document = json(&cluster, &[&plan[..], &["-o", "json"]].concat());
    assert_eq!(document["scale"][0]["count"], 4);
    let without = json(&cluster, &["plan", "-f", &file, "-o", "json"]);
    assert_eq!(
        (&without["changed"], &without["scale"]),
        (&false.into(), &().into())
    );
    let up = ["up", "-f", &file, "-y", "-d", "--remove-orphans"];
    assert_eq!(run(&cluster, &up).0, 0);
}

#[test]
fn doctor_tells_all_that_a_node_complains_of_and_no_engine_of_an_edge() {
    let cluster = Cluster::start();
    let node = pb::Node {
        id: "edge1".into(),
        state: "ready".into(),
        roles: vec!["edge".into()],
        agent_version: "0.1.0".into(),
        problems: vec!["no port is free".into(), "its disk is full".into()],
        advice: vec![
            "its clock is off: set \"ntp\": on".into(),
            "it is old".into(),
        ],
        ..Default::default()
    };
    cluster.fake.world().nodes.push(node);
    let (_, out, _) = run(&cluster, &["doctor", "--node", "edge1"]);
    let wanted = "ok    edge1: ready, agent 0.1.0\n\
        warn  edge1: no port is free\n      fix: controllerctl why edge1\n\
        warn  edge1: its disk is full\n      fix: controllerctl why edge1\n\
        warn  edge1: its clock is off\n      fix: set \"ntp\": on\n\
        warn  edge1: it is old\n";
    assert!(out.contains(wanted), "{out}");
}

#[test]
fn a_support_bundle_has_what_the_verbs_say_and_is_written_once() {
    let cluster = cluster();
    cluster.fake.world().no_autoscale = true;
    let (code, out, err) = run(&cluster, &["system", "support-bundle", "all.tar"]);
    assert_eq!((code, out.as_str()), (0, "all.tar\n"), "{err}");
    let path = cluster.dir.path().join("all.tar");
    let mut archive = tar::Archive::new(std::fs::File::open(&path).unwrap());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name.replace("longshore-support-lab/", ""), text);
    }
    for (name, word) in [
        ("README.txt", "no secrets"),
        ("versions.json", "\"controller\": \"0.1.0\""),
        ("replicas.json", "web.1"),
        ("events.jsonl", "1 -> 2"),
        ("why/shop.web.txt", "runs 2, wants 2"),
        ("why/node1.txt", "node1"),
        ("missing.txt", "autoscale.json: cannot read autoscalers"),
    ] {
        let text = files.get(name).map(String::as_str).unwrap_or_default();
        assert!(text.contains(word), "{name}: no {word}: {files:?}");
    }
    let all = files.into_values().collect::<String>();
    assert!(!all.contains("PRIVATE KEY"), "{all}");
    assert!(err.contains("! not in it: autoscale.json"), "{err}");
    let (code, _, err) = run(&cluster, &["system", "support-bundle", "all.tar"]);
    assert!(code == 1 && err.contains("not there yet"), "{err}");
}
