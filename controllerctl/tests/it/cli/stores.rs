//! `secret`: what is kept, and never what is in it.

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
