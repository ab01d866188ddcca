//! What the laws of the file start from; the fuzzer shares it.

use std::collections::{BTreeMap, BTreeSet};

use longshore_haproxy_driver::decide::{Worker, decide};
use longshore_haproxy_driver::{Intent, ProcessSettings, RouteError, Settings, SlotMap};
use longshore_model::routes::{Backend, Routes};

pub(crate) fn settings() -> Settings {
    Settings {
        process: ProcessSettings {
            user: None,
            group: None,
            chroot: None,
            socket_group: None,
        },
        ..Settings::default()
    }
}

pub(crate) fn compile(backends: Vec<Backend>) -> (Intent, Vec<RouteError>) {
    Intent::compile(
        &Routes {
            generation: 1,
            backends,
            ..Routes::default()
        },
        &BTreeSet::new(),
        &[8404],
    )
}

/// The slot map of a first start.
pub(crate) fn first_slots(intent: &Intent) -> SlotMap {
    let worker = Worker {
        running: None,
        version: None,
        vouched: &BTreeSet::new(),
        over: &BTreeSet::new(),
    };
    decide(intent, &SlotMap::default(), worker, &settings()).slots
}

/// Sections of a file by their first line.
pub(crate) fn sections(file: &str) -> BTreeMap<String, Vec<String>> {
    let mut sections: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut title = String::new();
    for line in file
        .lines()
        .filter(|l| !l.trim().is_empty() && !l.trim().starts_with('#'))
    {
        if line.starts_with(' ') {
            sections
                .entry(title.clone())
                .or_default()
                .push(line.trim().to_owned());
        } else {
            title = line.to_owned();
            assert!(
                sections.insert(title.clone(), Vec::new()).is_none(),
                "{title} twice"
            );
        }
    }
    sections
}
