//! `token ls` and `token revoke`.

use longshore_proto::control::v1 as pb;

use super::fake::{Cluster, NOW_MS};
use super::{json, run};

fn cluster() -> Cluster {
    let cluster = Cluster::start();
    let token = |id: &str, state: &str, used_by: &str| pb::TokenInfo {
        id: id.into(),
        state: state.into(),
        roles: vec!["worker".into()],
        expires_ms: NOW_MS,
        by: "ana".into(),
        used_by: used_by.into(),
        ..Default::default()
    };
    let tokens = vec![token("aaaa", "open", ""), token("bbbb", "used", "node7")];
    cluster.fake.world().tokens = tokens;
    cluster
}

#[test]
fn tokens_are_listed_without_their_secrets() {
    let cluster = cluster();
    let (code, out, err) = run(&cluster, &["token", "ls"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let rows: Vec<Vec<&str>> = out
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(rows[0][..3], ["ID", "STATE", "ROLES"]);
    assert_eq!(rows[1][..3], ["aaaa", "open", "worker"]);
    assert_eq!(rows[2].last(), Some(&"node7"));
    let all = json(&cluster, &["token", "ls", "-o", "json"]);
    assert_eq!(
        (&all[0]["used_by"], &all[1]["used_by"]),
        (&().into(), &"node7".into())
    );
    assert_eq!(run(&cluster, &["token", "ls", "-q"]).1, "aaaa\nbbbb\n");
}

#[test]
fn a_token_is_revoked_by_its_id_or_whole() {
    let cluster = cluster();
    let (code, out, err) = run(
        &cluster,
        &["token", "revoke", "lsj1.ca.aaaa.secret", "bbbb"],
    );
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains("aaaa: nobody joins with it any more"), "{err}");
    assert!(err.contains("node7, which joined with it, stays"), "{err}");
    assert!(!err.contains("secret") && cluster.fake.world().tokens.is_empty());
    let (code, _, err) = run(&cluster, &["token", "revoke", "cccc"]);
    assert!(
        code == 1 && err.contains("hint: controllerctl token ls"),
        "{err}"
    );
}
