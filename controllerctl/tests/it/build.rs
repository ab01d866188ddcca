//! `build`: how images of services are made.

use std::path::Path;

use controllerctl::compose::Loaded;
use controllerctl::compose::build::{Build, Dockerfile};
use longshore_model::spec::{Platform, PullPolicy};

use crate::compose_env::{directory, load_with, refused, taken};

fn loaded(keys: &str) -> Loaded {
    let text = format!("name: shop\nservices:\n  web:\n{keys}");
    let dir = directory(&[("compose.yaml", &text)]);
    taken(load_with(dir.path(), &[("TOKEN", "t")], |_| {}))
}

fn faults(keys: &str) -> String {
    let text = format!("name: shop\nservices:\n  web:\n{keys}");
    let dir = directory(&[("compose.yaml", &text)]);
    let said = refused(load_with(dir.path(), &[], |_| {}));
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn only(loaded: &Loaded) -> (&str, &Build) {
    let (name, build) = loaded.builds.first_key_value().unwrap();
    (&loaded.services[name].container.image, build)
}

#[test]
fn the_short_form_names_the_context_and_the_image_gets_the_name_of_docker_compose() {
    let text = "name: shop\nservices:\n  web: { build: ./web }\n  api: { build: ., image: \"acme/api:2\" }\n  db: { image: db }\n";
    let dir = directory(&[("compose.yaml", text)]);
    let loaded = taken(load_with(dir.path(), &[], |_| {}));
    let images: Vec<&str> = loaded
        .services
        .values()
        .map(|spec| spec.container.image.as_str())
        .collect();
    assert_eq!(images, ["acme/api:2", "db", "shop-web:latest"]);
    let built: Vec<(&str, &Path)> = loaded
        .builds
        .iter()
        .map(|(name, build)| (name.as_str(), build.context.as_path()))
        .collect();
    let beside = dir.path().canonicalize().unwrap();
    let contexts = built.iter().map(|(_, path)| path.canonicalize());
    assert_eq!((built[0].0, built[1].0), ("api", "web"));
    assert!(
        contexts.into_iter().flatten().all(|path| path == beside),
        "{built:?}"
    );
    assert_eq!(built[1].1.file_name().unwrap(), "web");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    // The name of the app counts, not that of the file.
    let loaded = taken(load_with(dir.path(), &[], |r| {
        r.project = Some("other".into());
    }));
    let web = loaded.services.values().next_back().unwrap();
    assert_eq!(web.container.image, "other-web:latest");
}

#[test]
fn the_long_form_is_taken_whole() {
    let loaded = loaded(
        "    platform: linux/arm64\n    pull_policy: build\n    build:\n      context: app\n      \
         dockerfile: ../Dockerfile.prod\n      args: [TOKEN, UNSET, A=1]\n      target: run\n      \
         labels: { a: b }\n      network: none\n      no_cache: true\n      pull: \"true\"\n      \
         extra_hosts: [\"db:10.0.0.5\"]\n      shm_size: 64m\n      platforms: [linux/aarch64]\n      \
         tags: [\"acme/web:2\"]\n      cache_from: [\"acme/web:1\"]\n      x-mine: 1\n",
    );
    let (image, build) = only(&loaded);
    assert_eq!(image, "shop-web:latest");
    assert_eq!(build.context.file_name().unwrap(), "app");
    let text = |text: &str| text.to_owned();
    let wanted = Build {
        context: build.context.clone(),
        dockerfile: Dockerfile::File("../Dockerfile.prod".into()),
        args: [(text("A"), text("1")), (text("TOKEN"), text("t"))].into(),
        target: Some("run".into()),
        labels: [(text("a"), text("b"))].into(),
        network: Some("none".into()),
        no_cache: true,
        pull: true,
        extra_host: Some("db:10.0.0.5".into()),
        shm_bytes: 64 << 20,
        platform: Platform::parse("linux/arm64"),
        tags: vec!["acme/web:2".into()],
        cache_from: vec!["acme/web:1".into()],
        always: true,
        ..Build::default()
    };
    assert_eq!(*build, wanted);
    let web = loaded.services.values().next().unwrap();
    assert_eq!(web.container.pull_policy, PullPolicy::Missing);
}

#[test]
fn steps_may_stand_in_the_file() {
    let loaded = loaded("    build:\n      dockerfile_inline: |\n        FROM scratch\n");
    let (_, build) = only(&loaded);
    let steps = Dockerfile::Inline("FROM scratch\n".into());
    assert_eq!(build.dockerfile, steps);
}

/// Value, message, and what else is said.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "{ contxt: . }",
        "unknown key `contxt`",
        "did you mean `context`?",
    ),
    ("{ context: 5 }", "must be a text", "compose.yaml:4"),
    ("5", "must be a text", "compose.yaml:4"),
    ("[.]", "must be a single value", "compose.yaml:4"),
    (
        "{ context: [a] }",
        "must be a single value",
        "build.context",
    ),
    ("{ context: \"\" }", "must not be empty", "build.context"),
    (
        "{ dockerfile: }",
        "there is nothing after the key",
        "build.dockerfile",
    ),
    (
        "{ dockerfile: a, dockerfile_inline: b }",
        "there is dockerfile, too",
        "drop one",
    ),
    ("{ args: x }", "must be a mapping", "build.args"),
    (
        "{ args: { A: [1] } }",
        "must be a single value",
        "build.args.A",
    ),
    ("{ args: [A=1, A=1] }", "is there twice", "build.args"),
    ("{ target: {} }", "must be a single value", "build.target"),
    ("{ labels: 7 }", "must be a mapping", "build.labels"),
    ("{ network: [] }", "must be a single value", "build.network"),
    (
        "{ no_cache: maybe }",
        "neither true nor false",
        "build.no_cache",
    ),
    ("{ pull: 2 }", "neither true nor false", "build.pull"),
    (
        "{ extra_hosts: [db] }",
        "names no address",
        "build.extra_hosts",
    ),
    (
        "{ extra_hosts: [\"a:1.1.1.1\", \"b:1.1.1.2\"] }",
        "not supported",
        "keep one",
    ),
    ("{ shm_size: 1.5 }", "no whole number", "64m"),
    ("{ shm_size: 2g }", "too much", "2047m"),
    ("{ shm_size: much }", "\"much\"", "build.shm_size"),
    (
        "{ platforms: linux/amd64 }",
        "must be a list",
        "build.platforms",
    ),
    ("{ platforms: [amd64] }", "is no platform", "linux/arm64"),
    (
        "{ tags: [\"a b\"] }",
        "is no image reference",
        "build.tags[0]",
    ),
    ("{ cache_from: a }", "must be a list", "build.cache_from"),
    (
        "{ secrets: [a] }",
        "there is no secret \"a\"",
        "build.secrets[0]",
    ),
    (
        "{ secrets: [{ target: a }] }",
        "names no secret",
        "source: NAME",
    ),
    (
        "{ secrets: [{ source: a, mode: 0400 }] }",
        "not supported",
        "--mount=type=secret",
    ),
    ("{ ssh: [\"a b\"] }", "is no agent of ssh", "write default"),
    (
        "{ ssh: { key: \"/a,b\" } }",
        "is no agent of ssh",
        "build.ssh",
    ),
    ("{ privileged: true }", "not supported", "no rights"),
    (
        "{ platforms: [linux/amd64, linux/arm64] }",
        "not supported",
        "one platform",
    ),
    ("https://example.org/a.git", "not supported", "clone it"),
    (
        "{ platforms: [linux/arm64] }\n    platform: linux/amd64",
        "this is built for",
        "drop one",
    ),
];

#[test]
fn what_is_wrong_below_build_is_said_with_its_line() {
    for (value, message, further) in WRONG {
        let said = faults(&format!("    build: {value}\n"));
        assert!(
            said.contains(message) && said.contains(further),
            "{value}: {said}"
        );
    }
    let said = faults("    image: a\n    pull_policy: build\n");
    assert!(said.contains("there is nothing to build"), "{said}");
}
