//! `why`, `autoscale`, `approve`, and streams that outlive the controller.

use super::fake::Cluster;
use super::{json, run};

#[test]
fn why_looks_back_and_gives_the_records() {
    let cluster = Cluster::start();
    let whole = json(&cluster, &["why", "hello", "-o", "json"]);
    assert_eq!(whole["decisions"][0]["record"]["result"], 2);
    assert_eq!(whole["decisions"][0]["count"], 61);
    assert_eq!(run(&cluster, &["why", "hello", "--at", "1795000000"]).0, 0);
    assert_eq!(cluster.fake.world().calls, ["why at 1795000000000"]);
    let (code, _, err) = run(&cluster, &["why", "hello", "--at", "noon"]);
    assert_eq!(code, 2);
    assert!(err.contains("is no time"), "{err}");
    let (code, _, err) = run(&cluster, &["why", "hello", "--at", "0"]);
    assert_eq!(code, 2);
    assert!(err.contains("nothing is recorded of that time"), "{err}");
}

/// Two apps may have a service of the same name.
#[test]
fn what_a_service_waits_for_names_its_app() {
    let cluster = Cluster::start();
    cluster.fake.world().services[0].waits = vec!["0 of 1 node fits".into()];
    let ls = run(&cluster, &["ls"]).1;
    assert!(ls.contains("\n! hello/hello: 0 of 1 node fits\n"), "{ls}");
}

#[test]
fn autoscalers_are_listed_shown_and_told() {
    let cluster = Cluster::start();
    let ls = run(&cluster, &["autoscale", "ls"]).1;
    assert!(
        ls.contains("1..6") && ls.contains("waits for approval of 3"),
        "{ls}"
    );
    cluster.fake.world().autoscale.awaits_approval = None;
    let ls = run(&cluster, &["autoscale", "ls"]).1;
    assert!(ls.contains("cpu 86 % of target 60 % asks for 3;"), "{ls}");
    assert!(!ls.contains("would be 3"), "a lesser reason: {ls}");
    cluster.fake.world().autoscale.awaits_approval = Some(3);
    let show = run(&cluster, &["autoscale", "show", "hello"]).1;
    insta::assert_snapshot!("autoscale_show", show);
    let history = run(
        &cluster,
        &["autoscale", "history", "hello", "--since", "1h"],
    )
    .1;
    assert!(history.contains("stays 2: cpu 58 %"), "{history}");
    let changes = json(
        &cluster,
        &["autoscale", "history", "--changes", "-o", "json"],
    );
    assert_eq!(changes, serde_json::json!([]));

    for (args, word) in [
        (
            &["autoscale", "pause", "hello", "--for", "2h"][..],
            "paused by ana until",
        ),
        (&["autoscale", "pause", "hello"], "until it is resumed"),
        (
            &["autoscale", "set", "hello", "--min", "2"],
            "bounds set by ana",
        ),
        (&["autoscale", "set", "hello", "--clear"], "paused by ana"),
        (&["autoscale", "resume", "hello"], "asks for 3"),
        (&["approve", "hello", "--count", "3"], "3 approved by ana"),
    ] {
        let (code, out, err) = run(&cluster, args);
        assert_eq!(code, 0, "{args:?}: {err}");
        assert!(out.contains(word), "{args:?}: {out}");
    }
    for args in [
        &["autoscale", "pause", "hello", "--for", "0s"][..],
        &["scale", "hello=2", "--hold", "0s"],
    ] {
        let (code, _, err) = run(&cluster, args);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("no time at all"), "{err}");
    }
    let (code, _, err) = run(&cluster, &["autoscale", "approve", "hello"]);
    assert_eq!(code, 1);
    assert!(err.contains("asks for nothing"), "{err}");
    assert_eq!(
        run(&cluster, &["autoscale", "set", "hello"]).0,
        2,
        "sets nothing"
    );
    let (code, _, err) = run(&cluster, &["autoscale", "show", "helo"]);
    assert_eq!(code, 1);
    assert!(err.contains("did you mean hello"), "{err}");
}

#[test]
fn events_are_filtered_by_type_service_and_node() {
    let cluster = Cluster::start();
    let filters = [
        "--filter",
        "type=scaled",
        "--filter",
        "service=hello",
        "--filter",
        "node=a",
    ];
    let args: Vec<&str> = ["events"].into_iter().chain(filters).collect();
    assert_eq!(run(&cluster, &args).0, 0);
    assert_eq!(
        cluster.fake.world().calls,
        ["[[\"scaled\"], [\"hello\"], [\"a\"]]"]
    );
    let (code, _, err) = run(&cluster, &["events", "--filter", "kind=scaled"]);
    assert_eq!(code, 2);
    assert!(err.contains("type=, service= or node="), "{err}");
}

#[test]
fn followed_events_go_on_where_they_were_cut() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["events", "-f"]);
    assert_eq!(code, 6, "{err}");
    let messages: Vec<&str> = out
        .lines()
        .filter_map(|line| line.split("  ").nth(1))
        .collect();
    assert_eq!(messages, ["hello/hello: 1 -> 2", "hello/hello: 2 -> 3"]);
    assert!(err.contains("the controller is away"), "{err}");
    assert_eq!(
        cluster.fake.world().calls,
        ["events after 0", "events after 41", "events after 42"]
    );
}

#[test]
fn followed_logs_go_on_without_a_line_twice() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["logs", "-f", "--no-prefix", "hello"]);
    assert_eq!(code, 6, "{err}");
    assert_eq!(out, "GET / 200\nsame time\nlater\n");
    assert_eq!(
        cluster.fake.world().calls,
        [
            "logs after [] tail Some(100)",
            "logs after [(7, false, 5, 2)] tail None",
            "logs after [(7, false, 9, 1)] tail None",
        ]
    );
}
