//! Pushes to nodes and of one platform; builds by docker's own client.

use std::os::unix::fs::PermissionsExt as _;

use controllerctl::engine::archive::digest;

use super::engine::{Layout, layer};
use super::images::{Both, app, image};
use super::said;

#[test]
fn a_push_to_nodes_waits_until_they_have_it() {
    let both = Both::start();
    both.has("web:1", image(Layout::Classic, 3));
    let says = |steps: &[(&'static str, &'static str)]| {
        both.cluster.fake.world().images.says = steps.to_vec();
    };
    says(&[
        ("ordered", ""),
        ("waiting", "a replica here waits"),
        ("fetching", ""),
        ("here", ""),
    ]);
    let (code, out, err) = both.run(&["image", "push", "web:1", "--node", "node1", "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let pushed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(pushed[0]["nodes"], serde_json::json!(["node1"]));
    for words in [
        "Waiting: a replica here waits",
        "node node1  Fetching",
        "node node1  Fetched",
    ] {
        assert!(err.contains(words), "no {words}: {err}");
    }
    says(&[("fetching", ""), ("failed", "no space left on device")]);
    let (code, _, err) = both.run(&["push", "web:1", "--node", "node1"]);
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("node node1 does not get web:1: no space left on device"),
        "{err}"
    );
    let (code, _, err) = both.run(&["push", "web:1", "--node", "nowhere"]);
    assert!(
        code != 0 && err.contains("there is no node \"nowhere\""),
        "{err}"
    );
    says(&[]);
    let (code, _, err) = both.run(&["push", "web:1", "--node", "node1"]);
    assert!(code == 1 && err.contains("has forgotten it"), "{err}");
}

#[test]
fn what_nodes_fetch_ahead_is_shown_with_its_reason() {
    let both = Both::start();
    let mut world = both.cluster.fake.world();
    world.images.ordered = Some(("web:1".into(), String::new()));
    world.images.says = vec![("failed", "no room")];
    drop(world);
    let (_, out, _) = both.run(&["node", "ls", "-o", "wide"]);
    assert!(
        out.contains("AHEAD") && out.contains("0 of 1, web:1 failed"),
        "{out}"
    );
    let (_, _, err) = both.run(&["node", "ps", "node1"]);
    assert!(
        err.contains("node1: web:1 failed, no room: ana asked for it"),
        "{err}"
    );
    let node = &both.document(&["inspect", "node/node1", "-o", "json"])[0];
    assert_eq!(node["images_ahead"][0]["why"], "asked");
}

#[test]
fn one_of_several_platforms_is_pushed_if_asked() {
    let both = Both::start();
    let mut both_platforms = image(Layout::Oci, 3);
    both_platforms.arm = vec![layer("base", 300_000, 1), layer("arm", 20_000, 9)];
    let config = both_platforms.arm_config().unwrap();
    let layers: Vec<String> = both_platforms
        .arm
        .iter()
        .map(|layer| digest(layer))
        .collect();
    both.has("web:1", both_platforms);
    let push = ["push", "web:1", "--platform", "linux/arm64", "-o", "json"];
    let pushed = &both.document(&push)[0];
    assert_eq!(
        (&pushed["layers"], &pushed["layers_sent"]),
        (&2.into(), &2.into())
    );
    let world = both.cluster.fake.world();
    assert!(world.images.blobs.contains_key(&digest(&config)));
    assert!(
        layers
            .iter()
            .all(|layer| world.images.blobs.contains_key(layer))
    );
    assert!(
        world.calls.contains(&"record web:1 linux/arm64/v8".into()),
        "{:?}",
        world.calls
    );
    drop(world);
    both.calls();
    let own = &both.document(&["push", "web:1", "--platform", "linux/x86_64", "-o", "json"])[0];
    assert_eq!(
        (&own["layers"], &own["layers_sent"]),
        (&3.into(), &2.into())
    );
    assert_eq!(
        both.calls().len(),
        1,
        "the engine's own platform is not looked for"
    );
    let (code, _, err) = both.run(&["push", "web:1", "--platform", "linux/s390x"]);
    assert_eq!(code, 1, "{err}");
    for words in [
        "linux/amd64",
        "linux/arm64/v8, not for linux/s390x",
        "docker pull --platform",
    ] {
        assert!(err.contains(words), "no {words}: {err}");
    }
    let (code, _, err) = both.run(&["push", "web:1", "--platform", "arm"]);
    assert!(code == 2 && err.contains("is no platform"), "{err}");
}

/// Exit code, stdout, stderr.
type Ended = (i32, String, String);

/// Steps that need BuildKit, and a docker that is `like` this.
fn with_docker(like: &str) -> (Both, impl Fn(&Both, &[&str]) -> Ended) {
    let both = app();
    both.write(
        "Dockerfile",
        "FROM scratch\nRUN --mount=type=cache,target=/c make\n",
    );
    let directory = both.cluster.dir.path().join("bin");
    std::fs::create_dir(&directory).unwrap();
    if !like.is_empty() {
        let docker = directory.join("docker");
        std::fs::write(&docker, format!("#!/bin/sh\n{like}\n")).unwrap();
        std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = move |both: &Both, args: &[&str]| {
        let socket = both.cluster.dir.path().join("engine.sock");
        let mut command = both.cluster.ctl(args);
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        command.env("PATH", &directory);
        said(&mut command)
    };
    (both, run)
}

/// As the first client since the plugin; writes down what it is called with.
const WITH_PLUGIN: &str = r##"PATH=/usr/bin:/bin
case "$1" in
buildx) exit 0 ;;
build) printf '%s\n' "$@" "$DOCKER_BUILDKIT" "$DOCKER_HOST" "$LONGSHORE_BUILD_SECRET_1" >"$0.called"
  echo "#1 reading" >&2; cat >"$0.input"; [ ! -e "$0.fails" ] || { echo "ERROR: exit code: 2" >&2; exit 1; } ;;
esac"##;

#[test]
fn what_needs_buildkit_is_built_by_dockers_own_client() {
    let (both, run) = with_docker(WITH_PLUGIN);
    let text = "name: shop\nservices:\n  web:\n    build:\n      context: .\n      args: { A: '1' }\n      \
                ssh: [default]\n      secrets: [pw, { source: key, target: id_key }]\n      \
                dockerfile_inline: |\n        FROM scratch\n        RUN <<E\n        make\n        E\n\
                secrets:\n  pw: { environment: PW }\n  key: { file: ./key }\n";
    both.write("compose.yaml", text);
    both.write(".env", "PW=hunter2\n");
    let (code, _, err) = run(&both, &["build"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("build web  #1 reading"), "{err}");
    assert!(!err.contains("no service uses it"), "{err}");
    assert_eq!(both.calls(), Vec::<String>::new());
    let file = |name: &str| {
        let path = both.cluster.dir.path().join("bin").join(name);
        std::fs::read_to_string(path).unwrap()
    };
    let called = file("docker.called");
    let directory = both.cluster.dir.path().canonicalize().unwrap();
    for line in [
        "--tag=shop-web:latest",
        "--build-arg=A=1",
        "--ssh=default",
        "--secret=id=pw,env=LONGSHORE_BUILD_SECRET_1",
        "--file=-",
        "hunter2",
    ] {
        assert!(
            called.lines().any(|said| said == line),
            "no {line}: {called}"
        );
    }
    let key = called
        .lines()
        .find_map(|line| line.strip_prefix("--secret=id=id_key,src="));
    assert!(key.is_some_and(|path| path.ends_with("/key")), "{called}");
    let tail: Vec<&str> = called.lines().rev().take(4).collect();
    assert_eq!(tail[2], "1", "{called}");
    let context = std::path::Path::new(tail[3]).canonicalize().unwrap();
    assert_eq!(context, directory);
    assert_eq!(file("docker.input"), "FROM scratch\nRUN <<E\nmake\nE\n");
}

#[test]
fn a_build_with_buildkit_that_cannot_be_says_why() {
    let (both, run) = with_docker(WITH_PLUGIN);
    both.write("bin/docker.fails", "");
    let (code, _, err) = run(&both, &["build"]);
    assert_eq!(code, 1, "{err}");
    for words in [
        "cannot build shop-web:latest from ",
        "/Dockerfile",
        "ERROR: exit code: 2",
    ] {
        assert!(err.contains(words), "no {words}: {err}");
    }
    let old = r#"case "$1" in buildx) exit 1 ;; --version) echo "Docker version 28.2.2, build x" ;; esac"#;
    let (both, run) = with_docker(old);
    let (code, _, err) = run(&both, &["up", "-y"]);
    assert_eq!(code, 1, "{err}");
    for words in [
        "RUN --mount (",
        "Dockerfile:2) needs BuildKit",
        "(Docker version 28.2.2) has no buildx plugin",
    ] {
        assert!(err.contains(words), "no {words}: {err}");
    }
    assert_eq!(both.calls(), Vec::<String>::new());
    assert_eq!(both.cluster.fake.world().calls, Vec::<String>::new());
}
