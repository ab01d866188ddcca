//! Files of variables and profiles.

use std::path::Path;

use controllerctl::compose::interpolate::Variables;
use controllerctl::compose::{ComposeError, Loaded, Request, load};

use crate::compose::drawn;

/// A directory with files.
pub(crate) fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory
}

pub(crate) fn load_with(
    directory: &Path,
    set: &[(&str, &str)],
    change: impl FnOnce(&mut Request),
) -> Result<Loaded, ComposeError> {
    let pairs = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let mut request = Request {
        directory: directory.to_owned(),
        ..Request::default()
    };
    change(&mut request);
    load(&request, &Variables::new(pairs))
}

pub(crate) fn taken(result: Result<Loaded, ComposeError>) -> Loaded {
    result.unwrap_or_else(|error| panic!("{}", drawn(&error)))
}

pub(crate) fn refused(result: Result<Loaded, ComposeError>) -> String {
    match result {
        Ok(loaded) => panic!("taken: {:?}", loaded.services),
        Err(error) => drawn(&error),
    }
}

/// `NAME=value` of the service `web`.
fn environment(loaded: &Loaded) -> String {
    let web = loaded
        .services
        .iter()
        .find(|(name, _)| name.as_str() == "web");
    let env = web.unwrap().1.container.env.iter();
    let pairs: Vec<String> = env.map(|(k, v)| format!("{k}={v}")).collect();
    pairs.join(" ")
}

const NAMED: &str = "services: { web: { image: \"${IMAGE}\" } }\n";

#[test]
fn the_environment_wins_over_env_files_and_a_later_one_over_an_earlier() {
    let dir = directory(&[
        ("compose.yaml", NAMED),
        (".env", "IMAGE=dot\n"),
        ("a.env", "IMAGE=a\nBASE=x\n"),
        ("b.env", "IMAGE=b-$BASE\n"),
    ]);
    let image = |set: &[(&str, &str)], env_files: &[&str]| {
        let loaded = taken(load_with(dir.path(), set, |request| {
            request.env_files = env_files.iter().map(Into::into).collect();
        }));
        let spec = loaded.services.into_values().next().unwrap();
        spec.container.image
    };
    assert_eq!(image(&[], &[]), "dot");
    assert_eq!(image(&[], &["a.env"]), "a");
    assert_eq!(image(&[], &["a.env", "b.env"]), "b-x");
    assert_eq!(image(&[("IMAGE", "env")], &["a.env", "b.env"]), "env");
    assert_eq!(image(&[("COMPOSE_ENV_FILES", "b.env,a.env")], &[]), "a");
}

#[test]
fn a_wrong_line_of_an_env_file_is_named() {
    let dir = directory(&[("compose.yaml", NAMED), (".env", "A=1\nhun ter2\n")]);
    let said = refused(load_with(dir.path(), &[], |_| {}));
    assert!(said.contains(".env:2: a name cannot hold ' '"), "{said}");
    assert!(!said.contains("hun"), "{said}");
    let said = refused(load_with(dir.path(), &[], |request| {
        request.env_files = vec!["none.env".into()];
    }));
    assert!(said.contains("none.env"), "{said}");
}

#[test]
fn a_service_gets_what_its_files_say_below_what_it_says_itself() {
    let dir = directory(&[
        (
            "compose.yaml",
            "services:\n  web:\n    image: a\n    env_file:\n      - a.env\n      - { path: ./b.env, required: true }\n      \
             - { path: none.env, required: false }\n      - { path: raw.env, format: raw }\n    \
             environment: [OWN=1, A, SET, FILE]\n",
        ),
        ("a.env", "A=a\nB=a\nOWN=a\nFILE=f\n"),
        ("b.env", "B=b-$OWN-$SET-$A\n"),
        ("raw.env", "RAW='$x'\n"),
    ]);
    let loaded = taken(load_with(
        dir.path(),
        &[("SET", "s"), ("A", "shell")],
        |_| {},
    ));
    let wanted = "A=shell B=b-1-s-shell FILE=f OWN=1 RAW='$x' SET=s";
    assert_eq!(environment(&loaded), wanted);
}

#[test]
fn env_file_may_be_one_word_and_merges_with_other_files() {
    let dir = directory(&[
        (
            "compose.yaml",
            "services: { web: { image: a, env_file: a.env } }\n",
        ),
        (
            "compose.override.yaml",
            "services: { web: { env_file: b.env, environment: {} } }\n",
        ),
        ("a.env", "A=a\nB=a\n"),
        ("b.env", "B=b\n"),
    ]);
    assert_eq!(
        environment(&taken(load_with(dir.path(), &[], |_| {}))),
        "A=a B=b"
    );
}

#[test]
fn what_is_wrong_with_env_file_is_said_at_its_line() {
    let cases = [
        ("none.env", "cannot read", "required: false"),
        (
            "bad.env",
            "bad.env:2: the quote ' has no end",
            "format: raw",
        ),
        (
            "{ path: bad.env, format: yaml }",
            "is no format",
            "format: raw",
        ),
        (
            "{ path: bad.env, requird: no }",
            "unknown key `requird`",
            "did you mean `required`?",
        ),
        (
            "{ required: false }",
            "names no file",
            "env_file: ./app.env",
        ),
        (
            "[]\n    environment: 5",
            "must be a mapping",
            "compose.yaml:5",
        ),
    ];
    for (value, message, help) in cases {
        let text = format!("services:\n  web:\n    image: a\n    env_file: {value}\n");
        let dir = directory(&[("compose.yaml", &text), ("bad.env", "A=1\nB='hunter2\n")]);
        let said = refused(load_with(dir.path(), &[], |_| {}));
        // Lines are broken where they are long.
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            said.contains(message) && said.contains(help),
            "{value}: {said}"
        );
        assert!(
            said.contains("compose.yaml:") && !said.contains("hunter2"),
            "{said}"
        );
    }
}

const PROFILES: &str = "services:\n  web: { image: a }\n  tools: { image: b, profiles: [debug, \
                        dev], gpus: all, env_file: none.env }\n  db: { image: c, \
                        profiles: [data] }\n";

#[test]
fn services_of_profiles_are_there_when_somebody_asks() {
    let dir = directory(&[("compose.yaml", PROFILES)]);
    let names = |set: &[(&str, &str)], profiles: &[&str]| {
        let loaded = taken(load_with(dir.path(), set, |request| {
            request.profiles = profiles.iter().map(|p| (*p).to_owned()).collect();
        }));
        let names: Vec<String> = loaded.services.keys().map(ToString::to_string).collect();
        let out: Vec<String> = loaded.left_out.into_iter().map(|out| out.service).collect();
        (names.join(" "), out.join(" "))
    };
    assert_eq!(names(&[], &[]), ("web".into(), "tools db".into()));
    assert_eq!(names(&[], &["data"]), ("db web".into(), "tools".into()));
    let set = [("COMPOSE_PROFILES", "data, x")];
    assert_eq!(names(&set, &[]), ("db web".into(), "tools".into()));
    let said = refused(load_with(dir.path(), &[], |r| {
        r.profiles = vec!["*".into()];
    }));
    assert!(said.contains("services.tools.gpus"), "{said}");
    let said = refused(load_with(dir.path(), &[], |r| {
        r.profiles = vec!["dev".into()];
    }));
    assert!(said.contains("none.env"), "{said}");
}

#[test]
fn wrong_profiles_and_those_that_others_need_are_said() {
    let cases = [
        ("profiles: debug", "must be a list"),
        ("profiles: [\"\"]", "is no name of a profile"),
        ("profiles: [\"-x\"]", "is no name of a profile"),
        ("profiles: [debug]", "all are left out"),
        ("depends_on: [db]", "--profile data"),
        (
            "depends_on: { db: { condition: service_started } }",
            "`db` is left out",
        ),
    ];
    for (key, wanted) in cases {
        let mut text = format!("services:\n  web:\n    image: a\n    {key}\n");
        if key.contains("db") {
            text.push_str("  db: { image: b, profiles: [data] }\n");
        }
        let dir = directory(&[("compose.yaml", &text)]);
        let said = refused(load_with(dir.path(), &[], |_| {}));
        assert!(said.contains(wanted), "{key}: {said}");
        assert!(!said.contains("which is not in the app"), "{key}: {said}");
    }
    // It can do without.
    let text = "services:\n  web: { image: a, depends_on: { db: { condition: service_healthy, required: false } } }\n  \
                db: { image: b, profiles: [data] }\n";
    let dir = directory(&[("compose.yaml", text)]);
    taken(load_with(dir.path(), &[], |_| {}));
    let dir = directory(&[("compose.yaml", PROFILES)]);
    let loaded = taken(load_with(dir.path(), &[], |r| {
        r.profiles = vec!["dat".into()];
    }));
    let said = &loaded.warnings[0];
    assert_eq!(said.help.as_deref(), Some("did you mean `data`?"), "{said}");
}

#[test]
fn label_files_give_labels_below_those_of_the_service() {
    let text = "services:\n  web:\n    image: a\n    label_file: [one.labels, two.labels]\n    labels: [own=1, HOME]\n";
    let files = [
        ("compose.yaml", text),
        ("one.labels", "own=0\nfirst=1\nboth=1\n"),
        ("two.labels", "both=2\nquoted=\"a b\"\n"),
    ];
    let dir = directory(&files);
    let loaded = taken(load_with(dir.path(), &[("HOME", "/root")], |_| {}));
    let labels = &loaded.services.values().next().unwrap().container.labels;
    let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        labels,
        ["HOME=", "both=2", "first=1", "own=1", "quoted=a b"]
    );
    let wrong = [
        ("none.labels", "cannot read"),
        ("{ path: one.labels }", "names no file; write label_file"),
    ];
    for (value, words) in wrong {
        let text = format!("services: {{ web: {{ image: a, label_file: {value} }} }}\n");
        let dir = directory(&[("compose.yaml", &text), files[1]]);
        let said = refused(load_with(dir.path(), &[], |_| {}));
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(words.split(';').next().unwrap()), "{said}");
    }
}
