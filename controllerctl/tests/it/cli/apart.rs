//! `secret create|inspect|rm` and `registry`: what is kept, what is asked, and what is never shown.

use super::fake::Cluster;
use super::{json, run, said};

const CANARY: &str = "canary-33d0";

fn piped(cluster: &Cluster, args: &[&str], stdin: &str) -> (i32, String, String) {
    let done = said(cluster.ctl(args).write_stdin(stdin.to_owned()));
    assert!(
        !(done.1.contains(CANARY) || done.2.contains(CANARY)),
        "{done:?}"
    );
    done
}

fn kept(cluster: &Cluster, name: &str) -> Option<String> {
    let contents = cluster.fake.world().apart.secrets.get(name).cloned();
    contents.map(|contents| String::from_utf8(contents).unwrap())
}

#[test]
fn a_secret_comes_from_stdin_or_a_file_and_is_not_replaced_by_chance() {
    let cluster = Cluster::start();
    let contents = format!("{CANARY}\n");
    let (code, out, err) = piped(&cluster, &["secret", "create", "db", "-"], &contents);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.starts_with("secret db created: 12 B, sha256:"), "{err}");
    assert_eq!(kept(&cluster, "db").unwrap(), contents, "as it came");
    // Without FILE, from a pipe; the same again is no question.
    let (code, _, err) = piped(&cluster, &["secret", "create", "db"], &contents);
    assert!(
        code == 0 && err.contains("secret db is so already"),
        "{err}"
    );
    let (code, _, err) = piped(&cluster, &["secret", "create", "db"], "other");
    assert!(
        code == 1 && err.contains("is there already") && err.contains("--replace"),
        "{err}"
    );
    assert_eq!(kept(&cluster, "db").unwrap(), contents);
    let other = piped(&cluster, &["secret", "create", "db", "--replace"], "other");
    assert_eq!(other.0, 0, "{}", other.2);
    assert_eq!(kept(&cluster, "db").unwrap(), "other");
    std::fs::write(cluster.dir.path().join("used.txt"), CANARY).unwrap();
    let document = json(
        &cluster,
        &["secret", "create", "used", "used.txt", "-o", "json"],
    );
    assert_eq!(
        (&document["action"], &document["name"]),
        (&"created".into(), &"used".into())
    );
    let (code, _, err) = piped(&cluster, &["secret", "create", "used", "-y"], "new");
    assert!(
        code == 0 && err.contains("shop/api still have the one before"),
        "{err}"
    );
    let (code, _, err) = run(&cluster, &["secret", "create", "x", "nope.txt"]);
    assert!(code == 1 && err.contains("cannot read nope.txt"), "{err}");
    let long = "x".repeat((500 << 10) + 1);
    assert_eq!(piped(&cluster, &["secret", "create", "x"], &long).0, 2);
}

#[test]
fn secrets_apart_from_apps_are_listed_first_looked_at_and_removed() {
    let cluster = Cluster::start();
    for name in ["db", "used"] {
        assert_eq!(piped(&cluster, &["secret", "create", name], CANARY).0, 0);
    }
    let names = run(&cluster, &["secret", "ls", "-q"]).1;
    assert!(names.starts_with("db\nused\nshop/cert\n"), "{names}");
    let rows = run(&cluster, &["secret", "ls"]).1;
    let first: Vec<&str> = rows.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(first[..5], ["-", "db", "secret", "11", "B"]);
    let (code, out, _) = run(&cluster, &["secret", "inspect", "db", "shop/db_password"]);
    assert!(
        code == 0 && out.contains("by: ana") && out.contains("2026-11-18T"),
        "{out}"
    );
    assert!(out.contains("app: shop") && !out.contains(CANARY), "{out}");
    let (code, _, err) = run(&cluster, &["secret", "inspect", "db_password"]);
    assert!(
        code == 1 && err.contains("those of apps are APP/NAME"),
        "{err}"
    );
    for (name, words) in [
        ("used", "is used by shop/api; nothing was removed"),
        ("shop/db_password", "is of app shop"),
        ("nope", "there is no secret \"nope\""),
    ] {
        let (code, _, err) = run(&cluster, &["secret", "rm", "db", name, "-y"]);
        assert!(code == 1 && err.contains(words), "{err}");
    }
    assert_eq!(
        run(&cluster, &["secret", "rm", "db"]).0,
        2,
        "nobody can be asked"
    );
    assert!(kept(&cluster, "db").is_some());
    let (code, _, err) = run(&cluster, &["secret", "rm", "db", "-y"]);
    assert!(code == 0 && err.contains("secret db: removed"), "{err}");
    assert!(kept(&cluster, "db").is_none());
}

#[test]
fn registries_are_logged_in_to_from_stdin_listed_and_logged_out_of() {
    let cluster = Cluster::start();
    let server = "https://Registry.example.com:5000/";
    let login = ["registry", "login", server, "-u", "ana", "--password-stdin"];
    let (code, out, err) = piped(&cluster, &login, &format!("{CANARY}\r\n"));
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(
        err.contains("images of registry.example.com:5000 are pulled as ana"),
        "{err}"
    );
    let known = cluster.fake.world().apart.logins["registry.example.com:5000"].clone();
    assert_eq!(known, ("ana".into(), CANARY.into()));
    let hub = [
        "registry",
        "login",
        "-u",
        "bob",
        "--password-stdin",
        "-o",
        "json",
    ];
    let (code, out, _) = piped(&cluster, &hub, CANARY);
    assert!(code == 0 && out.contains("\"docker.io\""), "{out}");
    let rows = run(&cluster, &["registry", "ls"]).1;
    let row: Vec<&str> = rows.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(
        row[..4],
        ["registry.example.com:5000", "ana", "shop/api", "ana"]
    );
    assert_eq!(
        json(&cluster, &["registry", "ls", "-o", "json"])[0]["user"],
        "bob"
    );
    let out = [
        "registry",
        "logout",
        "registry.example.com:5000",
        "-o",
        "json",
    ];
    assert_eq!(
        json(&cluster, &out)["servers"][0],
        "registry.example.com:5000"
    );
    let (code, _, err) = run(&cluster, &["registry", "logout", "x.example.com"]);
    assert!(
        code == 1 && err.contains("there are no credentials"),
        "{err}"
    );
    for (args, stdin) in [
        (
            &["registry", "login", "a b", "-u", "ana", "--password-stdin"][..],
            "x",
        ),
        (
            &["registry", "login", "-u", "ana", "--password-stdin"],
            "\n",
        ),
        (&["registry", "login", "-u", "ana"], "x"),
        (&["registry", "login"], "x"),
    ] {
        assert_eq!(piped(&cluster, args, stdin).0, 2, "{args:?}");
    }
    assert_eq!(run(&cluster, &["registry", "ls", "-q"]).1, "docker.io\n");
}
