//! `secret`: what is kept, and never what is in it. `run`: a container of its own.

use std::os::unix::fs::PermissionsExt;

use super::fake::Cluster;
use super::{json, run};

#[test]
fn secrets_are_listed_in_every_form() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["secret", "ls"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows[0],
        ["APP", "NAME", "KIND", "SIZE", "DIGEST", "SERVICES"]
    );
    assert_eq!(rows[2][1..5], ["./nginx.conf", "config", "812", "B"]);
    assert_eq!(rows[3].last(), Some(&"api,worker"));
    let wide = run(&cluster, &["secret", "ls", "shop", "-o", "wide"]).1;
    assert!(
        wide.contains("UNTIL") && wide.contains("2026-11-18T"),
        "{wide}"
    );
    let all = json(&cluster, &["secret", "ls", "-o", "json"]);
    assert_eq!(all[0]["until"], "2026-11-18T11:06:40.000Z");
    assert_eq!(
        (&all[2]["bytes"], &all[2]["until"]),
        (&24.into(), &().into())
    );
    let names = "shop/cert\nshop/./nginx.conf\nshop/db_password\n";
    assert_eq!(run(&cluster, &["secret", "ls", "-q"]).1, names);
    let (code, _, err) = run(&cluster, &["secret", "ls", "shp"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("there is no app \"shp\""), "{err}");
}

#[test]
fn run_says_where_on_stderr_and_ends_with_the_commands_own_code() {
    let cluster = Cluster::start();
    let args = [
        "run", "--rm", "-e", "A=1", "hello", "migrate", "--all", "-v",
    ];
    let (code, out, err) = run(&cluster, &args);
    assert_eq!((code, out.as_str()), (42, "migrate --all -v A=1"));
    assert_eq!(err, "hello/hello on node1 (run ab12)\n");
    let quiet = run(&cluster, &["run", "-q", "--entrypoint", "sh", "hello"]);
    assert_eq!(quiet, (42, "sh".into(), String::new()));
    let (code, _, err) = run(&cluster, &["run", "huge"]);
    assert_eq!(code, 125, "{err}");
    assert!(err.contains("no node takes the run"), "{err}");
    assert!(err.contains("node1: memory: 512 MiB free"), "{err}");
    assert_eq!(run(&cluster, &["run", "-t", "hello"]).0, 2);
    assert_eq!(run(&cluster, &["run", "-e", "A", "hello"]).0, 2);
}

#[test]
fn a_backup_is_whole_or_not_written_and_for_its_owner_alone() {
    let cluster = Cluster::start();
    let file = cluster.dir.path().join("b.tar");
    let (code, out, err) = run(&cluster, &["system", "backup", "b.tar"]);
    assert_eq!((code, out.as_str()), (0, "b.tar\n"), "{err}");
    assert!(
        err.contains("4 B, sha256 ") && err.contains("secrets"),
        "{err}"
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"copy");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // What is there stays.
    let (code, _, err) = run(&cluster, &["system", "backup", "b.tar"]);
    assert!(code == 1 && err.contains("not there yet"), "{err}");
    assert_eq!(run(&cluster, &["system", "backup", "-"]).1, "copy");
    let document = json(&cluster, &["system", "backup", "c.tar", "-o", "json"]);
    assert_eq!(document["bytes"], 4);
    cluster.fake.world().cuts_backups = true;
    let (code, _, err) = run(&cluster, &["system", "backup", "d.tar"]);
    assert!(code == 1 && err.contains("did not arrive whole"), "{err}");
    assert!(!cluster.dir.path().join("d.tar").exists());
}

#[test]
fn backups_are_listed_newest_first_with_what_is_wrong() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["system", "backups"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert!(
        lines[0].starts_with("AGE") && lines[0].ends_with("FILE"),
        "{out}"
    );
    assert!(
        lines[1].contains("10.2 kB  /data/backups/backup-7200000.tar"),
        "{out}"
    );
    assert_eq!(lines.len(), 3);
    cluster.fake.world().cuts_backups = true;
    let (code, _, err) = run(&cluster, &["system", "backups"]);
    assert!(
        code == 0 && err.contains("the last one could not be made: no room"),
        "{err}"
    );
    let listed = json(&cluster, &["system", "backups", "-o", "json"]);
    assert_eq!(listed[0]["time"], "1970-01-01T02:00:00.000Z");
}

#[test]
fn what_takes_room_is_told_by_node_and_who_is_silent_fails() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["system", "df"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[1].starts_with("node1"), "{out}");
    for words in [
        "4.2 GB of 68.7 GB",
        "1 of 3, 838.8 MB",
        "1 of 1  ",
        "421.5 MB",
    ] {
        assert!(lines[1].contains(words), "{words}: {out}");
    }
    assert!(
        lines[3].starts_with("controller") && lines[3].contains("3.1 MB"),
        "{out}"
    );
    let all = json(&cluster, &["system", "df", "-o", "json"]);
    assert_eq!(all[0]["volumes"]["bytes"], serde_json::Value::Null);
    assert_eq!(all[2]["store_bytes"], 3 << 20);
    let (code, out, err) = run(&cluster, &["system", "df", "--node", "node3", "-q"]);
    assert_eq!((code, out.as_str()), (1, "node3\n"));
    assert!(err.contains("! node3: it is not connected"), "{err}");
}

#[test]
fn volumes_are_listed_and_only_unused_ones_removed_where_it_is_clear() {
    let cluster = Cluster::start();
    let names = |args: &[&str]| run(&cluster, args).1;
    assert_eq!(
        names(&["volume", "ls", "-q"]),
        "shop_data\nshop_old\nshop_old\n"
    );
    assert_eq!(names(&["volume", "ls", "other", "-q"]), "");
    assert_eq!(
        names(&["volume", "ls", "shop", "--node", "node2", "-q"]),
        "shop_old\n"
    );
    let known = json(&cluster, &["volume", "inspect", "shop_data", "-o", "json"]);
    assert_eq!(
        (&known[0]["node"], &known[0]["used_by"][0]),
        (&"node1".into(), &"shop/db.1".into())
    );
    assert!(names(&["volume", "inspect", "shop_data"]).contains("driver: local"));
    for (args, code, words) in [
        (
            &["volume", "rm", "nosuch", "-y"][..],
            1,
            "no app has a volume",
        ),
        (
            &["volume", "rm", "shop_old", "-y"],
            2,
            "on several nodes: node1, node2",
        ),
        (
            &["volume", "rm", "shop_data", "-y"],
            1,
            "in use by shop/db.1",
        ),
        (
            &["volume", "rm", "shop_old", "--node", "node2"],
            2,
            "add -y",
        ),
    ] {
        let (found, _, err) = run(&cluster, args);
        assert!(
            found == code && err.contains(words),
            "{args:?}: {found} {err}"
        );
    }
    assert!(cluster.fake.world().calls.is_empty());
    let (code, _, err) = run(
        &cluster,
        &["volume", "rm", "shop_old", "--node", "node2", "-y"],
    );
    assert_eq!(code, 0, "{err}");
    assert_eq!(cluster.fake.world().calls, ["rm shop_old on node2"]);
}
