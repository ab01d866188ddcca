//! `node logs`.

use super::fake::Cluster;
use super::run;

#[test]
fn the_agents_lines_come_in_every_form_and_without_escapes() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["node", "logs", "node1"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.lines().nth(1).unwrap().contains("  WARN  no session"),
        "{out}"
    );
    assert!(!out.contains('\u{1b}'), "{out}");
    assert_eq!(
        run(&cluster, &["node", "logs", "node1", "-q"])
            .1
            .lines()
            .count(),
        2
    );
    for form in ["json", "jsonl"] {
        let lines = run(&cluster, &["node", "logs", "node1", "-o", form]).1;
        let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&first["level"], &first["node"]),
            (&"info".into(), &"node1".into())
        );
        assert_eq!(first["time"], "2026-11-18T11:06:40.000Z");
    }
    assert!(
        run(&cluster, &["node", "logs", "node1", "-o", "yaml"])
            .1
            .contains("level: warn")
    );
    let of = ["node", "logs", "node1", "--format", "{{ level }}"];
    assert_eq!(run(&cluster, &of).1, "info\nwarn\n");
}

#[test]
fn how_much_is_asked_for_follows_from_what_was_said() {
    let cluster = Cluster::start();
    for (args, asked) in [
        (&["-n", "5"][..], "said after (0, 0) tail Some(5) since 0"),
        (&["-n", "all"], "said after (0, 0) tail None since 0"),
        (
            &["--since", "60"],
            "said after (0, 0) tail None since 60000",
        ),
        (&[], "said after (0, 0) tail Some(100) since 0"),
    ] {
        let args = [&["node", "logs", "node1"], args].concat();
        assert_eq!(run(&cluster, &args).0, 0);
        assert_eq!(cluster.fake.world().calls.pop().unwrap(), asked);
    }
}

#[test]
fn who_follows_reads_on_where_it_stopped_and_a_node_that_is_away_is_said() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["node", "logs", "-f", "node1"]);
    assert_eq!(code, 6, "{err}");
    assert!(
        out.ends_with("INFO  later\n") && out.lines().count() == 3,
        "{out}"
    );
    assert!(err.contains("-- the agent started again --"), "{err}");
    let calls = cluster.fake.world().calls.clone();
    assert_eq!(calls[1], "said after (7, 2) tail None since 0");
    let (code, out, err) = run(&cluster, &["node", "logs", "node2"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("cannot be read: not connected"), "{err}");
}
