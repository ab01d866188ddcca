//! What people write for programs: arguments, settings, policies, contexts, files of variables, lists of what a
//! build leaves out, Dockerfiles, archives.

#![no_main]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use clap::Parser;
use controllerctl::cli::Cli;
use controllerctl::compose::dotenv;
use controllerctl::compose::interpolate::Variables;
use controllerctl::context::Contexts;
use controllerctl::engine::{archive, dockerfile, ignored::Ignored};
use libfuzzer_sys::fuzz_target;

static FILE: OnceLock<tempfile::TempPath> = OnceLock::new();

/// A file with this text.
fn file(text: &str) -> &'static Path {
    let file = FILE.get_or_init(|| {
        tempfile::NamedTempFile::new()
            .expect("a file")
            .into_temp_path()
    });
    std::fs::write(file, text).expect("written");
    file
}

fn contexts(text: &str) {
    let Ok(contexts) = toml::from_str::<Contexts>(text) else {
        return;
    };
    let again = toml::to_string(&contexts).expect("what was read can be written");
    let again: Contexts = toml::from_str(&again).expect("and read again");
    assert_eq!(again, contexts);
}

fn variables(text: &str) {
    let none = Variables::default();
    for read in [dotenv::parse(text, &none), dotenv::parse_raw(text, &none)] {
        let names = read.into_iter().flatten();
        assert!(
            names
                .map(|(name, _)| name)
                .all(|name| !name.is_empty() && !name.contains('='))
        );
    }
}

fn build(text: &str) {
    if let Ok(ignored) = Ignored::parse(text) {
        let _ = (ignored.has(Path::new("a/b.c")), ignored.has_exceptions());
    }
    let _ = dockerfile::needs_buildkit(text, &BTreeMap::new());
    for step in 0..4 {
        let _ = dockerfile::line_of_step(text, step);
    }
    for line in text.lines() {
        let _ = dockerfile::step(line);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((which, rest)) = input.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    match which % 8 {
        0 => {
            let words = std::iter::once("controllerctl").chain(text.split('\0'));
            let _ = Cli::try_parse_from(words);
        }
        1 => drop(node_agent::config::Config::load(file(&text))),
        2 => drop(node_agent::policy::Policy::load(file(&text))),
        3 => drop(controller::config::Config::read(file(&text), true)),
        4 => contexts(&text),
        5 => variables(&text),
        6 => build(&text),
        _ => drop(archive::members(rest)),
    }
});
