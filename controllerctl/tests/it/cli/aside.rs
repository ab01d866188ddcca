//! `proxy drain`, `proxy ready`.

use super::fake::Cluster;
use super::{json, run};

#[test]
fn a_replica_is_drained_shown_and_let_back() {
    let cluster = Cluster::start();
    cluster.fake.world().sessions = 3;
    let drain = ["proxy", "drain", "hello.2", "-m", "disk swap"];
    let (code, out, err) = run(&cluster, &drain);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(
        err.contains("Drained") && err.contains("proxy ready hello/hello.2"),
        "{err}"
    );
    assert_eq!(cluster.fake.world().sessions, 0, "it did not wait: {err}");
    let (_, out, _) = run(&cluster, &["proxy", "backends"]);
    let line = out.lines().find(|line| line.contains("hello.2")).unwrap();
    assert!(
        line.contains("drain") && line.contains("by ana: disk swap"),
        "{out}"
    );
    let backends = json(&cluster, &["proxy", "backends", "-o", "json"]);
    assert_eq!(backends[1]["aside"]["why"], "disk swap");
    assert!(backends[0].get("aside").is_none());
    let replicas = json(&cluster, &["ps", "-o", "json"]);
    assert_eq!(replicas[1]["aside"]["by"], "ana");

    let (code, _, err) = run(&cluster, &["proxy", "ready", "hello.2"]);
    assert!(code == 0 && err.contains("takes requests again"), "{err}");
    let (code, _, err) = run(&cluster, &["proxy", "ready", "hello.2"]);
    assert!(code == 0 && err.contains("nobody kept it out"), "{err}");
    let calls = cluster.fake.world().calls.clone();
    assert_eq!(calls[0], "traffic true hello/hello.2: disk swap");
}

#[test]
fn sessions_that_do_not_end_are_not_waited_for_for_ever() {
    let cluster = Cluster::start();
    cluster.fake.world().sessions = u32::MAX;
    let drain = ["proxy", "drain", "hello.1", "--wait-timeout", "200ms"];
    let (code, _, err) = run(&cluster, &drain);
    assert!(code == 7 && err.contains("still has sessions"), "{err}");
    let document = json(&cluster, &["proxy", "drain", "hello.1", "-d", "-o", "json"]);
    assert_eq!(
        (&document["traffic"], &document["done"]),
        (&"drain".into(), &false.into())
    );
    let (code, _, err) = run(&cluster, &["proxy", "drain", "hello.2", "-d"]);
    assert!(code == 1 && err.contains("nobody else"), "{err}");
    let forced = ["proxy", "drain", "hello.2", "-d", "--force"];
    assert_eq!(run(&cluster, &forced).0, 0);
    assert_eq!(run(&cluster, &["proxy", "drain", "nobody.1"]).0, 1);
    assert_eq!(run(&cluster, &["proxy", "drain"]).0, 2);
}
