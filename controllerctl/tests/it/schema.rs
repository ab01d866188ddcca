//! The table of our keys: against the reader, against the files in `docs/schema`, and in words.

use std::path::{Path, PathBuf};

use controllerctl::compose::node::{self, Node};
use controllerctl::compose::problem::{Level, UNKNOWN_KEY};
use controllerctl::compose::source::Source;
use controllerctl::compose::{ComposeError, support};
use controllerctl::schema::{self, EXTENSIONS, Key};
use serde_json::{Value, json};

use crate::compose::read;
use crate::compose_corpus::{json as typed, ways_of_the_specification};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn tree(text: &str) -> Node {
    node::parse(&Source::new("f", text), 0).unwrap_or_else(|p| panic!("{p}\n{text}"))
}

fn validator(key: &Key) -> jsonschema::Validator {
    jsonschema::draft7::new(&schema::document(key)).unwrap()
}

/// Is told a key, and what puts a value of it where it belongs.
type Tell<'t> = dyn FnMut(&Key, &dyn Fn(String) -> String) + 't;

/// Calls `tell` with each key and what stands around a value of it.
fn each(key: &Key, around: &dyn Fn(String) -> String, tell: &mut Tell<'_>) {
    tell(key, around);
    for below in key.form.keys() {
        let is_list = matches!(key.form, schema::Form::List(..));
        let inside = |value: String| {
            let map = format!("{{ {}: {value} }}", below.name);
            around(if is_list { format!("[{map}]") } else { map })
        };
        each(below, &inside, tell);
    }
}

fn service(extension: &str, value: &str) -> String {
    format!(
        "secrets: {{ shop-cert: {{ environment: PEM }} }}\nservices:\n  web:\n    image: a\n    ports: \
         [\"80:8000\"]\n    {extension}: {value}\n"
    )
}

#[test]
fn each_example_of_each_key_is_right_by_the_schema_and_known_to_the_reader() {
    let mut count = 0;
    for (at, extension) in EXTENSIONS.iter().filter(|(at, _)| !at.is_empty()) {
        assert_eq!(*at, "services.NAME");
        let validator = validator(extension);
        each(extension, &|value| value, &mut |key, around| {
            assert!(
                !key.examples.is_empty() && key.doc.ends_with(['.', 'd']),
                "{}",
                key.name
            );
            for example in key.examples {
                let value = around((*example).to_owned());
                let json = typed(&tree(&value));
                // Around it there may be too little: what must be there beside it.
                let wrong = validator.iter_errors(&json);
                let wrong: Vec<String> = wrong
                    .map(|error| error.to_string())
                    .filter(|error| {
                        !error.contains("is a required property") && !error.contains("anyOf")
                    })
                    .collect();
                assert!(wrong.is_empty(), "{value}: {wrong:?}");
                let text = service(extension.name, &value);
                let Err(ComposeError::Problems { problems, .. }) = read(&text) else {
                    count += 1;
                    continue;
                };
                let kinds = [UNKNOWN_KEY, "type", "not_supported"];
                let bad = problems
                    .iter()
                    .find(|p| p.level == Level::Error && kinds.contains(&p.code));
                assert!(bad.is_none(), "{text}{}", bad.unwrap());
                count += 1;
            }
        });
    }
    assert!(count > 60, "{count}");
}

#[test]
fn the_table_has_every_key_that_the_reader_takes() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/compose/read");
    let files = [
        (
            "x-autoscale",
            vec![
                "autoscale.rs",
                "autoscale/behavior.rs",
                "autoscale/schedules.rs",
                "autoscale/signals.rs",
            ],
        ),
        ("x-haproxy", vec!["haproxy.rs"]),
    ];
    for (extension, files) in files {
        let (_, extension) = EXTENSIONS
            .iter()
            .find(|(_, key)| key.name == extension)
            .unwrap();
        // `each` is a form of thresholds.
        let mut known = vec!["each"];
        each(extension, &|value| value, &mut |key, _| {
            known.push(key.name);
        });
        for file in files {
            let text = std::fs::read_to_string(directory.join(file)).unwrap();
            for call in ["take(\"", "flag(\"", "time(\""] {
                for part in text.split(call).skip(1) {
                    let name = part.split('"').next().unwrap();
                    assert!(known.contains(&name), "{file}: {name}");
                }
            }
        }
    }
}

#[test]
fn wrong_keys_and_values_are_wrong_by_the_schema_too() {
    let wrong = [
        ("x-autoscale", "{ max: 0 }"),
        ("x-autoscale", "{ min: 1 }"),
        ("x-autoscale", "{ max: 3, cpu: high }"),
        ("x-autoscale", "{ max: 3, requests: 100 }"),
        ("x-autoscale", "{ max: 3, mode: off }"),
        ("x-autoscale", "{ max: 3, metrics: { cpu: 60% } }"),
        (
            "x-autoscale",
            "{ max: 3, schedules: [{ for: 1h, min: 2 }] }",
        ),
        ("x-autoscale", "{ max: 3, window: 30 }"),
        ("x-autoscale", "{ max: 3, frob: 1 }"),
        ("x-haproxy", "{ balance: fast }"),
        ("x-haproxy", "{ check: { fall: 1 } }"),
        ("x-haproxy", "{ timeouts: { client: 1s } }"),
        ("x-haproxy", "{ http2: maybe }"),
        ("x-haproxy", "[]"),
    ];
    for (name, value) in wrong {
        let (_, key) = EXTENSIONS.iter().find(|(_, key)| key.name == name).unwrap();
        assert!(
            !validator(key).is_valid(&typed(&tree(value))),
            "{name}: {value}"
        );
        assert!(read(&service(name, value)).is_err(), "{name}: {value}");
    }
    // Of a variable an editor knows nothing.
    let (_, key) = &EXTENSIONS[0];
    assert!(validator(key).is_valid(&json!({ "max": "${MAX}", "cpu": "${CPU:-60%}" })));
}

#[test]
fn the_repositorys_own_files_are_right_by_the_schema() {
    let mut seen = 0;
    for path in crate::compose_corpus::files_below(root().join("examples")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let Ok(tree) = node::parse(&Source::new("f", &text), 0) else {
            continue;
        };
        let file: Value = typed(&tree);
        for (_, service) in file["services"].as_object().into_iter().flatten() {
            for (_, key) in &EXTENSIONS {
                if let Some(value) = service.get(key.name) {
                    let fault = validator(key).validate(value).err().map(|e| e.to_string());
                    assert_eq!(fault, None, "{}: {}", path.display(), key.name);
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 0);
}

/// After a change of the table: UPDATE_SCHEMA=1 cargo test -p controllerctl --test it schema
#[test]
fn the_published_files_are_fresh() {
    let directory = root().join("docs/schema");
    for (name, text) in schema::files() {
        let path = directory.join(&name);
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            there, text,
            "{name} is old: run this test with UPDATE_SCHEMA=1"
        );
    }
}

#[test]
fn explain_says_what_a_key_takes_and_does() {
    let page = schema::explain("services.x-autoscale.behavior.scale_up").unwrap();
    insta::assert_snapshot!(page.to_string());
    for way in [
        "services.web.x-autoscale.metrics[0].cpu",
        "x-autoscale.metrics.0.cpu",
    ] {
        let page = schema::explain(way).unwrap();
        assert_eq!(page.path, "services.NAME.x-autoscale.metrics.cpu");
    }
    assert_eq!(schema::explain("x-context").unwrap().path, "x-context");
    let near = |path: &str| schema::explain(path).unwrap_err().near;
    assert_eq!(
        near("services.x-autoscale.metrisc").as_deref(),
        Some("metrics")
    );
    assert_eq!(near("x-autscale").as_deref(), Some("x-autoscale"));
    assert_eq!(
        near("services.web.dependson").as_deref(),
        Some("depends_on")
    );
    assert_eq!(near("frob"), None);
    let page = schema::explain("services.web.gpus").unwrap();
    assert!(
        page.doc.starts_with("not supported: devices are"),
        "{}",
        page.doc
    );
    let page = schema::explain("services.depends_on").unwrap();
    assert!(
        page.doc.contains("Supported with a condition: "),
        "{}",
        page.doc
    );
    assert!(support::of_service("image").is_none());
}

#[test]
fn keys_of_compose_are_explained_with_or_without_the_services_name() {
    for (asked, path) in [
        ("services.ports", "services.NAME.ports"),
        ("services.web.ports", "services.NAME.ports"),
        (
            "services.web.ports[1].published",
            "services.NAME.ports.published",
        ),
        ("services.deploy.replicas", "services.NAME.deploy.replicas"),
        (
            "services.web.deploy.update_config.order",
            "services.NAME.deploy.update_config.order",
        ),
        (
            "services.web.deploy.placement",
            "services.NAME.deploy.placement",
        ),
        ("services.web.healthcheck", "services.NAME.healthcheck"),
        // Services may be called as keys are.
        ("services.secrets.image", "services.NAME.image"),
        ("services.secrets", "services.NAME.secrets"),
        ("services.web", "services.NAME"),
        (
            "services.web.networks.back.aliases",
            "services.NAME.networks.NAME.aliases",
        ),
        ("networks.back.internal", "networks.NAME.internal"),
        ("networks.internal", "networks.NAME.internal"),
        ("volumes.data.external", "volumes.NAME.external"),
        ("secrets", "secrets"),
        ("configs.app.content", "configs.NAME.content"),
        ("include", "include"),
        ("name", "name"),
    ] {
        let page = schema::explain(asked).unwrap_or_else(|error| panic!("{asked}: {error}"));
        assert_eq!(page.path, path, "{asked}");
        assert!(!page.doc.is_empty(), "{asked}");
    }
    let page = schema::explain("services").unwrap();
    for key in ["ports", "x-autoscale", "x-haproxy"] {
        assert!(page.keys.iter().any(|below| below.name == key), "{key}");
    }
    let near = |path: &str| schema::explain(path).unwrap_err().near;
    assert_eq!(
        near("services.web.deploy.replcas").as_deref(),
        Some("replicas")
    );
    assert_eq!(near("servces.web").as_deref(), Some("services"));
    assert_eq!(
        near("services.web.x-autscale").as_deref(),
        Some("x-autoscale")
    );
}

/// Each key of a service, of what is below `deploy` and of each section at the top.
#[test]
fn no_key_of_the_specification_is_without_an_explanation() {
    let Some(ways) = ways_of_the_specification() else {
        eprintln!("skipped: no schema beside the repository");
        return;
    };
    let words = |way: &[String]| way.iter().filter(|part| *part != "0").count();
    let mut missing: Vec<String> = Vec::new();
    for way in ways.iter().filter(|way| words(way) <= 3) {
        let path = way.join(".");
        // Read as what it stood for before.
        if way[0] != "models" && schema::explain(&path).is_err() {
            missing.push(path);
        }
    }
    let refused = [
        "driver",
        "driver_opts",
        "labels",
        "name",
        "template_driver",
        "external",
        "content",
    ];
    missing.retain(|path| {
        let of_file = path.starts_with("secrets.") || path.starts_with("configs.");
        let path = path.trim_end_matches(".0");
        let last = path.rsplit('.').next().unwrap();
        !(of_file && refused.contains(&last))
    });
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
