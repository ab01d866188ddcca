//! Laws of the repository that a reviewer should not have to check by eye.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test crate: a panic is its answer

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;
const MAIN_LINES_MAX: usize = 30;

/// Who may depend on whom among our own crates (ARCHITECTURE.md draws the same picture).
const EDGES: &[(&str, &[&str])] = &[
    ("crates/model", &[]),
    ("proto", &[]),
    ("crates/planner", &["longshore-model"]),
    ("crates/haproxy-driver", &["longshore-model"]),
    ("crates/identity", &["longshore-model"]),
    ("crates/etcd", &["longshore-etcd-host"]),
    ("crates/etcd-host", &["longshore-etcd"]),
    ("crates/wire", &["longshore-model", "longshore-proto"]),
    ("crates/reach", &["longshore-identity", "longshore-proto"]),
    (
        "controller",
        &[
            "longshore-etcd",
            "longshore-etcd-host",
            "longshore-model",
            "longshore-planner",
            "longshore-identity",
            "longshore-proto",
            "longshore-reach",
            "longshore-wire",
        ],
    ),
    (
        "node-agent",
        &[
            "longshore-model",
            "longshore-haproxy-driver",
            "longshore-identity",
            "longshore-proto",
            "longshore-reach",
            "longshore-wire",
        ],
    ),
    (
        "controllerctl",
        &[
            "longshore-model",
            "longshore-identity",
            "longshore-proto",
            "longshore-reach",
            "longshore-wire",
        ],
    ),
    ("crates/fence-model", &["longshore-model", "longshore-wire"]),
    (
        "crates/sim",
        &[
            "longshore-model",
            "longshore-planner",
            "longshore-haproxy-driver",
            "longshore-identity",
            "longshore-wire",
        ],
    ),
    ("lab", &[]),
    ("crates/tidy", &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn sources(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![below.to_path_buf()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if name != "target" && !name.to_string_lossy().starts_with('.') {
                    todo.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no sources below {}", below.display());
    found
}

fn offenders(found: impl IntoIterator<Item = String>) {
    let found: Vec<String> = found.into_iter().collect();
    assert!(
        found.is_empty(),
        "{} offence(s):\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn crates_depend_only_on_whom_they_may() {
    let root = root();
    let manifest = |path: &Path| -> toml::Table {
        fs::read_to_string(path.join("Cargo.toml"))
            .unwrap()
            .parse()
            .unwrap()
    };
    let members: BTreeSet<String> = manifest(&root)["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member.as_str().unwrap().to_owned())
        .collect();
    let known: BTreeSet<String> = EDGES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(members, known, "each member needs its line in EDGES");
    offenders(EDGES.iter().flat_map(|(path, allowed)| {
        let manifest = manifest(&root.join(path));
        let used: Vec<String> = manifest
            .get("dependencies")
            .and_then(toml::Value::as_table)
            .into_iter()
            .flat_map(|table| table.keys().cloned().collect::<Vec<_>>())
            .filter(|name| name.starts_with("longshore-") && !allowed.contains(&name.as_str()))
            .collect();
        used.into_iter()
            .map(move |name| format!("{path} may not depend on {name}"))
    }));
}

#[test]
fn files_stay_short() {
    offenders(sources(&root()).into_iter().filter_map(|path| {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        let max = match path.ends_with("src/main.rs") {
            true => MAIN_LINES_MAX,
            false => LINES_MAX,
        };
        (lines > max).then(|| format!("{}: {lines} lines, at most {max}", path.display()))
    }));
}

#[test]
fn the_core_has_no_clock_no_io_and_no_chance() {
    const WORDS: &[&str] = &[
        "SystemTime",
        "Instant::",
        "tokio",
        "async fn",
        "std::fs",
        "std::process",
        "HashMap",
        "HashSet",
        "rand::",
        "getrandom",
        "println!",
        "thread::",
    ];
    let root = root();
    let core = ["crates/model/src", "crates/planner/src"];
    offenders(
        core.iter()
            .flat_map(|below| sources(&root.join(below)))
            .flat_map(|path| {
                let text = fs::read_to_string(&path).unwrap();
                WORDS
                    .iter()
                    .filter(|word| {
                        text.lines().any(|line| {
                            !line.trim_start().starts_with("//") && line.contains(**word)
                        })
                    })
                    .map(|word| format!("{} uses {word}", path.display()))
                    .collect::<Vec<_>>()
            }),
    );
}

#[test]
fn protobuf_stops_at_the_border() {
    // The planner, the model and the HAProxy driver never see a message.
    let root = root();
    let inner = [
        "crates/model/src",
        "crates/planner/src",
        "crates/haproxy-driver/src",
    ];
    offenders(
        inner
            .iter()
            .flat_map(|below| sources(&root.join(below)))
            .filter_map(|path| {
                let text = fs::read_to_string(&path).unwrap();
                text.contains("longshore_proto")
                    .then(|| format!("{} knows protobuf", path.display()))
            }),
    );
}

#[test]
fn nobody_shells_out_to_docker() {
    offenders(
        [
            "controller/src",
            "node-agent/src",
            "controllerctl/src",
            "crates",
        ]
        .iter()
        .flat_map(|below| sources(&root().join(below)))
        .filter_map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let call = ["Command::new(\"", "docker\")"].concat();
            text.contains(&call)
                .then(|| format!("{} runs docker", path.display()))
        }),
    );
}

#[test]
fn only_the_simulation_asks_for_seeded_mistakes() {
    let root = root();
    offenders(EDGES.iter().flat_map(|(path, _)| {
        let text = fs::read_to_string(root.join(path).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let features = manifest.get("features").and_then(toml::Value::as_table);
        let by_default = features
            .and_then(|features| features.get("default"))
            .is_some_and(|default| default.to_string().contains("mutants"));
        let rest = text.replace("mutants = [", "");
        let asked = rest.contains("features = [\"mutants\"") || rest.contains("\"mutants\"");
        [
            by_default.then(|| format!("{path} has mutants by default")),
            asked.then(|| format!("{path} asks for mutants of another crate")),
        ]
        .into_iter()
        .flatten()
    }));
}
