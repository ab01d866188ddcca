//! Images of the engine here become the controller's; services with `build` are built before they
//! are applied.

use super::engine::{Engine, Image, Layout, layer};
use super::fake::Cluster;
use super::{json, said};

/// A controller, and an engine at a socket of its own.
pub(super) struct Both {
    pub(super) cluster: Cluster,
    pub(super) engine: Engine,
}

const SMALL: usize = 20_000;

pub(super) fn image(layout: Layout, seed: u64) -> Image {
    let layers = vec![
        layer("base", 300_000, 1),
        layer("libs", 100_000, 2),
        layer("app", SMALL, seed),
    ];
    Image {
        layers,
        layout,
        arm: Vec::new(),
    }
}

impl Both {
    pub(super) fn start() -> Self {
        let cluster = Cluster::start();
        let engine = Engine::start(&cluster.dir.path().join("engine.sock"));
        cluster.fake.world().images.names.clear();
        Self { cluster, engine }
    }

    pub(super) fn run(&self, args: &[&str]) -> (i32, String, String) {
        let socket = self.cluster.dir.path().join("engine.sock");
        let mut command = self.cluster.ctl(args);
        command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        said(&mut command)
    }

    pub(super) fn document(&self, args: &[&str]) -> serde_json::Value {
        let (code, out, err) = self.run(args);
        assert_eq!(code, 0, "{args:?}: {err}");
        serde_json::from_str(&out).unwrap()
    }

    pub(super) fn has(&self, name: &str, image: Image) {
        self.engine.state().images.insert(name.into(), image);
    }

    pub(super) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.engine.state().calls)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.cluster.dir.path().join(name), text).unwrap();
    }
}

#[test]
fn a_push_sends_what_is_missing_and_nothing_twice() {
    for layout in [Layout::Classic, Layout::Oci, Layout::OciGzip] {
        let both = Both::start();
        let first = image(layout, 3);
        both.has("shop/web:1", first.clone());
        let pushed = &both.document(&["push", "shop/web:1", "-o", "json"])[0];
        assert_eq!(
            (&pushed["layers"], &pushed["layers_sent"]),
            (&3.into(), &3.into())
        );
        let mut held = first.diff_ids();
        held.push(controllerctl::engine::archive::digest(&first.config()));
        held.sort();
        let world = both.cluster.fake.world();
        assert!(world.images.blobs.keys().eq(&held), "{layout:?}");
        assert!(
            world
                .calls
                .contains(&"record shop/web:1 linux/amd64".into())
        );
        assert_eq!(pushed["bytes_sent"], world.images.wire_bytes);
        drop(world);
        assert_eq!(both.calls(), ["GET /images/shop/web:1/get"]);

        let again = &both.document(&["image", "push", "shop/web:1", "-o", "json"])[0];
        assert_eq!(
            (&again["layers_sent"], &again["bytes_sent"]),
            (&0.into(), &0.into())
        );
        assert_eq!(again["changed"], false);
        // Where the engine's name of an image is that of its configuration, it need not be read.
        assert_eq!(
            both.calls().is_empty(),
            layout != Layout::OciGzip,
            "{layout:?}"
        );

        both.has("shop/web:1", image(layout, 4));
        let changed = &both.document(&["push", "shop/web:1", "-o", "json"])[0];
        assert_eq!(changed["layers_sent"], 1, "{layout:?}");
        let bytes = changed["bytes_sent"].as_u64().unwrap();
        let most = SMALL as u64 * 12 / 10;
        assert!(bytes <= most, "{layout:?}: {bytes} of {most}");
    }
}

#[test]
fn a_push_says_what_went_by() {
    let both = Both::start();
    both.has("web", image(Layout::Classic, 3));
    let (code, out, err) = both.run(&["push", "web"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("web:latest") && out.contains("3 of 3"),
        "{out}"
    );
    for words in [
        "Reading: 3 of 3 layers are missing",
        "Pushed: 3 of 3 layers, 4",
    ] {
        assert!(err.contains(words), "no {words}: {err}");
    }
    assert_eq!(both.run(&["push", "web", "-q"]).1, "web:latest\n");
}

#[test]
fn a_push_that_fails_says_where_and_names_nothing() {
    let both = Both::start();
    both.has("web", image(Layout::Oci, 3));
    let fails = |args: &[&str], words: &[&str]| {
        let (code, out, err) = both.run(args);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        for words in words {
            assert!(err.contains(words), "no {words}: {err}");
        }
        let world = both.cluster.fake.world();
        assert!(!world.calls.iter().any(|call| call.starts_with("record")));
    };
    fails(
        &["push", "nope"],
        &["has no image \"nope\"", "hint: docker images"],
    );
    both.engine.state().no_looks = true;
    fails(
        &["push", "web"],
        &["cannot look at image \"web\"", "the disk is gone"],
    );
    both.engine.state().no_looks = false;
    both.engine.state().breaks_off = true;
    fails(
        &["push", "web"],
        &["cannot read the image from the engine", "caused by"],
    );
    both.engine.state().breaks_off = false;
    for kind in ["config", "layer"] {
        both.cluster.fake.world().images.blobs.clear();
        both.cluster.fake.world().images.refuses = Some(kind);
        fails(
            &["push", "web"],
            &["cannot send sha256:", "the disk is full", "push again"],
        );
    }
    // Nothing listens.
    let mut command = both.cluster.ctl(&["push", "web"]);
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let (code, _, err) = said(&mut command);
    assert_eq!(code, 1);
    let words = [
        "no Docker engine at unix:///nowhere/docker.sock",
        "hint: start it",
    ];
    assert!(words.iter().all(|words| err.contains(words)), "{err}");
}

#[test]
fn images_are_listed_removed_and_pruned() {
    let cluster = Cluster::start();
    let names = [
        ("shop/web:1", "a"),
        ("shop/web:2", "b"),
        ("shop/api:1", "c"),
    ];
    let names = names.map(|(name, config)| (name.to_owned(), config.to_owned()));
    cluster.fake.world().images.names = names.into();
    let run = |args: &[&str]| said(&mut cluster.ctl(args));
    let (code, out, err) = run(&["image", "ls"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("IMAGE") && out.contains("40.3 MB"), "{out}");
    assert!(
        run(&["image", "ls", "-o", "wide"])
            .1
            .contains("revision (shop/web@3)")
    );
    assert_eq!(
        run(&["image", "ls", "-q"]).1,
        "shop/api:1\nshop/web:1\nshop/web:2\n"
    );
    let all = json(&cluster, &["image", "ls", "-o", "json"]);
    assert_eq!(
        (&all[0]["tag"], &all[0]["layers"]),
        (&"1".into(), &3.into())
    );

    for args in [&["image", "rm", "shop/web:1"][..], &["image", "prune"]] {
        let (code, _, err) = run(args);
        assert!(code == 2 && err.contains("add -y"), "{err}");
    }
    assert_eq!(cluster.fake.world().images.names.len(), 3);
    let (code, out, err) = run(&["image", "rm", "shop/web:1", "-y"]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(
        err.contains("shop/web:1: removed") && err.contains("1.2 MB freed"),
        "{err}"
    );
    let (code, _, err) = run(&["image", "rm", "shop/web:1", "-y"]);
    assert!(
        code == 1 && err.contains("hint: controllerctl image ls"),
        "{err}"
    );

    // The same for the whole system, which has no more than that to forget.
    let (code, _, err) = run(&["system", "prune", "--dry-run"]);
    assert!(code == 0 && err.contains("volumes stay"), "{err}");
    assert!(err.contains("freed"), "{err}");
    let (code, _, err) = run(&["system", "prune"]);
    assert!(code == 2 && err.contains("add -y"), "{err}");
    let (code, _, err) = run(&["image", "prune", "--dry-run"]);
    assert!(code == 0 && err.contains("- shop/web:2"), "{err}");
    assert_eq!(cluster.fake.world().images.names.len(), 2);
    let done = json(
        &cluster,
        &["image", "prune", "--keep", "2", "-y", "-o", "json"],
    );
    assert_eq!(
        done["removed"],
        serde_json::json!(["shop/api:1", "shop/web:2"])
    );
    assert!(
        cluster
            .fake
            .world()
            .calls
            .contains(&"prune Some(2) false".into())
    );
    // Nothing is left to ask about.
    assert_eq!(run(&["image", "prune"]).0, 0);
}

const FILE: &str = "name: shop\nservices:\n  web: { build: { context: ., args: { A: '1' } } }\n  db: { image: fine }\n";

pub(super) fn app() -> Both {
    let both = Both::start();
    both.write("compose.yaml", FILE);
    both.write(
        "Dockerfile",
        "# web\nFROM scratch\nCOPY a \\\n  /\nRUN make\n",
    );
    both.engine.state().makes = Some(image(Layout::Classic, 3));
    both
}

#[test]
fn what_is_missing_is_built_pushed_and_applied_in_one_command() {
    let both = app();
    let plan = both.document(&["plan", "-o", "json"]);
    assert_eq!(plan["builds"][0]["action"], "build");
    assert_eq!(plan["builds"][0]["image"], "shop-web:latest");
    assert!(
        both.run(&["plan"])
            .1
            .contains("web  shop-web:latest is built from")
    );
    assert_eq!(both.calls(), Vec::<String>::new());

    // Nobody waits for a build to be told that there is no terminal.
    let (code, _, err) = both.run(&["up"]);
    assert!(code == 2 && err.contains("add -y"), "{err}");
    assert_eq!(both.calls(), Vec::<String>::new());

    let (code, _, err) = both.run(&["up", "-y"]);
    assert_eq!(code, 0, "{err}");
    for words in [
        "build web  Step 1/1 : FROM scratch",
        "3 of 3 layers sent",
        "Deploying shop rev 1",
    ] {
        assert!(err.contains(words), "no {words}: {err}");
    }
    assert_eq!(
        both.calls(),
        ["POST /build", "GET /images/shop-web:latest/get"]
    );
    let (files, query) = both.engine.state().built.clone();
    assert!(files.contains(&"compose.yaml".into()), "{files:?}");
    assert!(
        query.contains("dockerfile=Dockerfile") && query.contains("buildargs=%7B%22A%22"),
        "{query}"
    );
    let calls = both.cluster.fake.world().calls.clone();
    let record = calls
        .iter()
        .position(|call| call.starts_with("record shop-web:latest"));
    assert!(
        record < calls.iter().position(|call| call == "apply"),
        "{calls:?}"
    );

    // The controller has it: nobody asks the engine.
    assert_eq!(both.run(&["up", "-yd"]).0, 0);
    assert_eq!(both.calls(), Vec::<String>::new());
    // What the engine has is only sent.
    both.cluster.fake.world().images.names.clear();
    let plan = both.document(&["plan", "-o", "json"]);
    assert_eq!(plan["builds"][0]["action"], "push");
    assert_eq!(both.run(&["up", "-yd"]).0, 0);
    assert_eq!(both.calls(), Vec::<String>::new());
    assert_eq!(both.run(&["up", "-yd", "--build"]).0, 0);
    assert_eq!(both.calls(), ["POST /build"]);
    both.cluster.fake.world().images.names.clear();
    assert_eq!(both.run(&["up", "-yd", "--no-build"]).0, 0);
    assert_eq!(both.calls(), Vec::<String>::new());
}

#[test]
fn a_build_that_fails_says_at_which_line_and_nothing_is_applied() {
    let both = app();
    both.engine.state().build_fails = Some(
        "{\"stream\":\"Step 3/3 : RUN make\\n\"}\r\n{\"stream\":\"no rule to make target\\n\"}\r\n\
         {\"errorDetail\":{\"code\":2,\"message\":\"returned a non-zero code: 2\"},\
         \"error\":\"returned a non-zero code: 2\"}\r\n"
            .into(),
    );
    let (code, _, err) = both.run(&["up", "-y", "--build"]);
    assert_eq!(code, 1, "{err}");
    for words in [
        "cannot build shop-web:latest: ",
        "Dockerfile:5: RUN make",
        "  no rule to make target",
        "  returned a non-zero code: 2",
    ] {
        assert!(err.contains(words), "no {words}: {err}");
    }
    assert_eq!(both.cluster.fake.world().calls, Vec::<String>::new());
    std::fs::remove_file(both.cluster.dir.path().join("Dockerfile")).unwrap();
    let (code, _, err) = both.run(&["build"]);
    assert!(code == 1 && err.contains("there is no Dockerfile"), "{err}");
}

#[test]
fn build_builds_what_is_named_and_pushes_if_asked() {
    let both = app();
    let (code, out, err) = both.run(&["build"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("shop-web:latest"), "{out}");
    assert!(both.cluster.fake.world().images.names.is_empty());
    let built = both.document(&["build", "web", "--push", "--no-cache", "-o", "json"]);
    assert!(built[0]["digest"].as_str().unwrap().starts_with("sha256:"));
    assert!(both.engine.state().built.1.contains("nocache=true"));
    let (code, _, err) = both.run(&["build", "db"]);
    assert!(
        code == 2 && err.contains("those that have it: web"),
        "{err}"
    );
}
