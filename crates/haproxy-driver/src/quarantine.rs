//! Ways in that HAProxy does not take: who is to blame, and what is served instead.
//!
//! Pure: what HAProxy said comes in as text, what is to be tried goes out as an intent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_model::ServiceKey;
use longshore_model::routes::Backend;
use longshore_model::spec::RouteSpec;
use tokio::time::Instant;

use crate::intent::{BackendIntent, Intent};
use crate::name::BackendName;

/// After so long a way in that HAProxy did not take is tried again: HAProxy may be another one.
const AGAIN_MS: u64 = 600_000;
/// Most bytes of HAProxy's words that are said of one service.
const WORDS_BYTES_MAX: usize = 500;

/// Ways in that HAProxy does not take.
#[derive(Debug, Clone, Default)]
pub(crate) struct Quarantine {
    culprits: BTreeMap<BackendName, Culprit>,
}

#[derive(Debug, Clone)]
struct Culprit {
    service: ServiceKey,
    route: RouteSpec,
    words: String,
    again_at: Instant,
    /// What was said of it when it was last held: with its last good structure, or left out.
    served_as_before: bool,
}

impl Quarantine {
    /// Holds a way in as it is wanted now.
    pub(crate) fn hold(&mut self, backend: &BackendIntent, words: &str, now: Instant) {
        let culprit = Culprit {
            service: backend.service.clone(),
            route: backend.route.clone(),
            words: bounded(words),
            again_at: now + Duration::from_millis(AGAIN_MS),
            served_as_before: false,
        };
        self.culprits.insert(backend.name.clone(), culprit);
    }

    /// What can be served of `wanted`: a culprit as it was last `loaded`, with the servers of now,
    /// or not at all. Forgets culprits that are wanted otherwise now, and those whose time is up.
    pub(crate) fn hold_back(
        &mut self,
        wanted: &Intent,
        loaded: &BTreeMap<String, RouteSpec>,
        reserved_ports: &[u16],
        now: Instant,
    ) -> Intent {
        self.culprits.retain(|name, culprit| {
            let same = |backend: &BackendIntent| backend.route == culprit.route;
            culprit.again_at > now && wanted.backends.get(name).is_some_and(same)
        });
        let mut intent = wanted.clone();
        intent
            .backends
            .retain(|name, _| !self.culprits.contains_key(name));
        for (name, culprit) in &mut self.culprits {
            let before = loaded.get(name.as_str()).filter(|r| **r != culprit.route);
            let before = before.zip(wanted.backends.get(name));
            culprit.served_as_before = before.is_some_and(|(route, backend)| {
                let before = with_route(backend, route);
                // Meanwhile another service may have what it had.
                intent.admit(&before, reserved_ports).is_ok()
            });
        }
        intent
    }

    /// What is to be said of each service, in HAProxy's words.
    pub(crate) fn says(&self) -> impl Iterator<Item = (&ServiceKey, String)> {
        self.culprits.values().map(|culprit| {
            let words = &culprit.words;
            let said = match culprit.served_as_before {
                true => {
                    format!("HAProxy refuses it as it is now; served as it was before: {words}")
                }
                false => format!("HAProxy refuses it: {words}"),
            };
            (&culprit.service, said)
        })
    }
}

/// The backend with another structure.
pub(crate) fn with_route(backend: &BackendIntent, route: &RouteSpec) -> Backend {
    Backend {
        service: backend.service.clone(),
        route: route.clone(),
        servers: backend.servers.values().cloned().collect(),
        holds: backend.holds,
    }
}

/// HAProxy's words without what a terminal would obey, and not too many.
pub(crate) fn bounded(words: &str) -> String {
    let mut out = String::new();
    for c in words.chars().filter(|c| !c.is_control()) {
        if out.len() + c.len_utf8() > WORDS_BYTES_MAX {
            break;
        }
        out.push(c);
    }
    out
}

/// Backends that HAProxy's words are about: by the numbers of lines in `file`, and by name.
pub(crate) fn blamed(file: &str, words: &str) -> BTreeSet<BackendName> {
    let lines: Vec<&str> = file.lines().collect();
    let mut names = BTreeSet::new();
    for number in line_numbers(words) {
        names.append(&mut owners(&lines, number));
    }
    for (number, line) in lines.iter().enumerate() {
        let Some(front) = line.strip_prefix("frontend ") else {
            continue;
        };
        if tokens(words).any(|token| token == front) {
            names.append(&mut owners(&lines, number + 1));
        }
    }
    names.extend(backends_in(words));
    names
}

/// Numbers in `[PATH:NUMBER]`.
fn line_numbers(words: &str) -> impl Iterator<Item = usize> {
    words.split(']').filter_map(|part| {
        let (_, place) = part.rsplit_once('[')?;
        let (path, digits) = place.rsplit_once(':')?;
        // Addresses look alike.
        digits.parse().ok().filter(|_| path.starts_with('/'))
    })
}

/// Whose line it is, counted from 1. A line of a frontend that names no backend belongs to all of
/// that frontend's.
fn owners(lines: &[&str], number: usize) -> BTreeSet<BackendName> {
    let Some(index) = number.checked_sub(1).filter(|index| *index < lines.len()) else {
        return BTreeSet::new();
    };
    let is_head = |line: &str| !line.starts_with(' ') && !line.is_empty();
    let (until, after) = lines.split_at(index + 1);
    let Some(start) = until.iter().rposition(|line| is_head(line)) else {
        return BTreeSet::new();
    };
    let section = &until[start..];
    let ends = section.first().into_iter().chain(section.last());
    let named: BTreeSet<_> = ends.flat_map(|line| backends_in(line)).collect();
    if !named.is_empty() {
        return named;
    }
    let rest = after.iter().take_while(|line| !is_head(line));
    let section = section.iter().chain(rest);
    section.flat_map(|line| backends_in(line)).collect()
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))
}

fn backends_in(text: &str) -> impl Iterator<Item = BackendName> {
    tokens(text).filter_map(|token| {
        let (service, port) = BackendName::parse(token)?;
        Some(BackendName::of(&service, port))
    })
}

/// Finds one culprit where HAProxy's words name none: halves those that are new.
#[derive(Debug)]
pub(crate) struct Search {
    /// Together with what was loaded before they pass.
    good: Vec<BackendName>,
    /// One of them does not.
    suspects: Vec<BackendName>,
}

impl Search {
    pub(crate) fn among(suspects: Vec<BackendName>) -> Self {
        let good = Vec::new();
        Self { good, suspects }
    }

    fn half(&self) -> usize {
        self.suspects.len() / 2
    }

    /// Suspects to be held back for the next question; none when one is left.
    pub(crate) fn hold_next(&self, all: &[BackendName]) -> Option<Vec<BackendName>> {
        if self.suspects.len() < 2 {
            return None;
        }
        let asked = &self.suspects[..self.half()];
        let others = all.iter().filter(|name| !asked.contains(name));
        Some(others.filter(|n| !self.good.contains(n)).cloned().collect())
    }

    /// Did the rest pass?
    pub(crate) fn answered(&mut self, passed: bool) {
        let second = self.suspects.split_off(self.half());
        if passed {
            self.good.append(&mut self.suspects);
            self.suspects = second;
        }
    }

    /// Those who may be to blame.
    pub(crate) fn suspects(self) -> Vec<BackendName> {
        self.suspects
    }
}

#[cfg(test)]
#[path = "quarantine_tests.rs"]
mod tests;
