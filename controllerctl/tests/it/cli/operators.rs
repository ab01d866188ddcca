//! `operator`, `context join`, and tokens of operators.

use std::fs;

use longshore_identity::{CaDigest, Token, TokenKind};
use longshore_proto::operators::v1 as pb;

use super::fake::Cluster;
use super::{json, run};

fn said(command: &mut assert_cmd::Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap();
    (code, text(&output.stdout), text(&output.stderr))
}

#[test]
fn operators_are_let_in_changed_and_removed() {
    let cluster = Cluster::start();
    let (code, out, err) = run(&cluster, &["operator", "add", "bob", "--role", "deployer"]);
    assert_eq!(code, 0, "{err}");
    let line = format!(
        "controllerctl --server https://{} context join lsi1.",
        cluster.address
    );
    assert!(out.starts_with(&line), "{out}");
    assert!(err.contains("bob runs that line once"), "{err}");
    let token = json(
        &cluster,
        &[
            "operator", "add", "ci", "--role", "viewer", "--token", "-o", "json",
        ],
    );
    assert_eq!(
        (&token["name"], &token["kind"]),
        (&"ci".into(), &"token".into())
    );
    let secret = token["secret"].as_str().unwrap();
    assert!(secret.starts_with("lsb1."), "{secret}");
    assert!(
        !token["command"].as_str().unwrap().contains(secret),
        "no line for a shell's history"
    );

    assert_eq!(run(&cluster, &["operator", "ls", "-q"]).1, "bob\nci\n");
    let (_, _, err) = run(&cluster, &["operator", "role", "bob", "admin"]);
    assert!(err.contains("bob: deployer -> admin"), "{err}");
    let (_, _, err) = run(&cluster, &["operator", "role", "bob", "admin"]);
    assert!(err.contains("bob: is admin already"), "{err}");
    let (code, out, _) = run(&cluster, &["operator", "rotate", "bob", "--now"]);
    assert!(code == 0 && out.contains("context join lsi1."), "{out}");
    let (_, _, err) = run(&cluster, &["operator", "rm", "bob", "ci"]);
    assert!(
        err.contains("bob: removed") && err.contains("ci: removed"),
        "{err}"
    );
    assert_eq!(run(&cluster, &["operator", "ls", "-q"]).1, "");
}

#[test]
fn operators_are_listed_with_what_they_show() {
    let cluster = Cluster::start();
    cluster.fake.world().known.operators = vec![pb::Operator {
        name: "admin".into(),
        role: "admin".into(),
        shows: "certificate".into(),
        you: true,
        ..Default::default()
    }];
    let (code, out, err) = run(&cluster, &["operator", "ls"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words[..6], ["NAME", "ROLE", "SHOWS", "ENDS", "BY", "YOU"]);
    assert_eq!(words[6..], ["admin", "admin", "certificate", "-", "-", "*"]);
    let all = json(&cluster, &["operator", "ls", "-o", "json"]);
    assert_eq!((&all[0]["by"], &all[0]["you"]), (&().into(), &true.into()));
}

#[test]
fn an_invite_becomes_a_context_whose_key_was_made_here() {
    let cluster = Cluster::start();
    let server = format!("https://{}", cluster.address);
    let invite = cluster.fake.world().known.secret(false).text;
    let config = cluster.dir.path().join("bob.toml");
    let join = ["--server", &server, "context", "join"];
    let (code, _, err) = said(&mut cluster.ctl_with(&config, &[&join[..], &[&invite]].concat()));
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("context lab: joined, as operator bob (deployer); it is current"),
        "{err}"
    );
    let (code, out, err) = said(&mut cluster.ctl_with(&config, &["ls", "-q"]));
    assert_eq!((code, out.as_str()), (0, "hello/hello\n"), "{err}");
    // Once more, on stdin: nothing that is there is lost.
    let again = [&join[..], &["-"]].concat();
    let (code, _, err) = said(
        cluster
            .ctl_with(&config, &again)
            .write_stdin(invite.clone()),
    );
    assert!(code == 0 && err.contains("context lab-2: joined"), "{err}");
    let taken = [&join[..], &[&invite, "--name", "lab"]].concat();
    let (code, _, err) = said(&mut cluster.ctl_with(&config, &taken));
    assert!(
        code == 1 && err.contains("there is a context \"lab\" already"),
        "{err}"
    );
    let other = Token::generate(TokenKind::Join, CaDigest([7; 32]))
        .unwrap()
        .to_string();
    let (code, _, err) = said(&mut cluster.ctl_with(&config, &[&join[..], &[&other]].concat()));
    assert!(code == 2 && err.contains("this is a join token"), "{err}");
    let foreign = Token::generate(TokenKind::Invite, CaDigest([7; 32]))
        .unwrap()
        .to_string();
    let (code, _, err) = said(&mut cluster.ctl_with(&config, &[&join[..], &[&foreign]].concat()));
    assert!(code == 6 && !err.contains(&foreign), "{err}");
}

#[test]
fn a_token_is_shown_from_the_environment_a_context_or_a_command() {
    let cluster = Cluster::start();
    let server = format!("https://{}", cluster.address);
    let token = cluster.fake.world().known.secret(true).text;
    let shown = || cluster.fake.world().known.shown.take();
    let bearer = Some(format!("Bearer {token}"));
    let none = cluster.dir.path().join("none.toml");
    let mut by_variable = cluster.ctl_with(&none, &["operator", "ls"]);
    by_variable.env("CONTROLLERCTL_TOKEN", &token);
    let (code, _, err) = said(by_variable.env("CONTROLLERCTL_SERVER", &server));
    assert_eq!((code, shown()), (0, bearer.clone()), "{err}");

    let file = cluster.dir.path().join("token");
    fs::write(&file, format!("{token}\n")).unwrap();
    let file = file.display().to_string();
    let config = cluster.dir.path().join("ci.toml");
    let create = ["--server", &server, "context", "create"];
    let cat = format!("cat {file}");
    for (name, how) in [("a", ["--token", &file]), ("b", ["--token-command", &cat])] {
        let args = [&create[..], &[name], &how].concat();
        let (code, _, err) = said(&mut cluster.ctl_with(&config, &args));
        assert!(code == 0 && err.contains("created, with a token"), "{err}");
        let (code, _, err) = said(&mut cluster.ctl_with(&config, &["-c", name, "operator", "ls"]));
        assert_eq!((code, shown()), (0, bearer.clone()), "{err}");
        let (_, out, _) = said(&mut cluster.ctl_with(&config, &["context", "show", name]));
        assert!(out.contains("token") && !out.contains(&token), "{out}");
    }
    let broken = [&create[..], &["c", "--token-command", "false"]].concat();
    said(&mut cluster.ctl_with(&config, &broken));
    let (code, _, err) = said(&mut cluster.ctl_with(&config, &["-c", "c", "operator", "ls"]));
    assert!(
        code == 6 && err.contains("token_command of context \"c\" (false)"),
        "{err}"
    );
    let mut invite = cluster.ctl_with(&none, &["--server", &server, "operator", "ls"]);
    invite.env(
        "CONTROLLERCTL_TOKEN",
        cluster.fake.world().known.secret(false).text,
    );
    let (code, _, err) = said(&mut invite);
    assert!(code == 6 && err.contains("this is an invite"), "{err}");
}
