//! Typed reading of the node tree: each reader says what is wrong and goes on.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::super::node::{Key, Node, Value};
use super::super::problem::{
    Draft, NOT_SUPPORTED, Problems, UNKNOWN_KEY, WRONG_TYPE, did_you_mean,
};
use super::super::source::Place;
use super::super::units;
use super::keys;

/// Most entries of any list or mapping of one key.
pub(super) const ENTRIES_MAX: usize = 1024;

/// A node with the way to it.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
    /// The place of its key, or its own where there is none.
    pub(super) key: Place,
}

impl<'a> Item<'a> {
    pub(super) fn root(node: &'a Node) -> Self {
        Self {
            node,
            path: String::new(),
            key: node.place,
        }
    }

    pub(super) fn child(&self, key: &Key, node: &'a Node) -> Self {
        Self {
            node,
            path: join(&self.path, &key.name),
            key: key.place,
        }
    }

    /// The entry `name` of a mapping, or the item itself where there is none: the best place to
    /// point at.
    pub(super) fn at(&self, name: &str) -> Self {
        match &self.node.value {
            Value::Map(entries) => match entries.iter().find(|(key, _)| key.name == name) {
                Some((key, node)) => self.child(key, node),
                None => self.clone(),
            },
            _ => self.clone(),
        }
    }

    /// Is there such a key in it?
    pub(super) fn has(&self, name: &str) -> bool {
        self.node.get(name).is_some()
    }

    /// The place to underline: the value if it is one line, else the key.
    pub(super) fn place(&self) -> Place {
        match self.node.value {
            Value::Scalar { .. } if self.node.place.bytes > 0 => self.node.place,
            _ => self.key,
        }
    }

    pub(super) fn invalid(&self, p: &mut Problems, message: impl Into<String>) {
        p.error("invalid", self.place(), &self.path, message).file();
    }

    pub(super) fn invalid_help(
        &self,
        p: &mut Problems,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        p.error("invalid", self.place(), &self.path, message)
            .help(help)
            .file();
    }

    /// None of `keys` is there. Where one is and is only misspelt, that is said already.
    pub(super) fn lacks(
        &self,
        p: &mut Problems,
        keys: &[&str],
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if !p.misspelt(&self.path, keys) && !p.is_partial_at(&self.path) {
            self.invalid_help(p, message, help);
        }
    }

    pub(super) fn unsupported(&self, p: &mut Problems, reason: &str) {
        self.unsupported_draft(p, reason).file();
    }

    /// The same with the way out.
    pub(super) fn unsupported_help(&self, p: &mut Problems, reason: &str, help: String) {
        self.unsupported_draft(p, reason).help(help).file();
    }

    fn unsupported_draft<'p>(&self, p: &'p mut Problems, reason: &str) -> Draft<'p> {
        let (place, path) = (self.key, &self.path);
        let draft = if p.ignores_unsupported() {
            let message = format!("left out, not supported: {reason}");
            p.warn(NOT_SUPPORTED, place, path, message)
        } else {
            let message = format!("not supported: {reason}");
            p.error(NOT_SUPPORTED, place, path, message)
        };
        draft.label("not supported here")
    }

    /// It names what nobody describes, unless a file that was not read does.
    pub(super) fn undefined(
        &self,
        p: &mut Problems,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if !p.is_partial() {
            self.invalid_help(p, message, help);
        }
    }

    /// The key is taken, and something about it is worth a word.
    pub(super) fn note(&self, p: &mut Problems, code: &'static str, message: &str) {
        p.warn(code, self.key, &self.path, message).file();
    }

    fn expected(&self, p: &mut Problems, what: &str) {
        let kind = self.node.kind();
        p.error(
            WRONG_TYPE,
            self.place(),
            &self.path,
            format!("must be {what}, not {kind}"),
        )
        .file();
    }

    /// The entries of a mapping; anything else is an error.
    pub(super) fn entries(&self, p: &mut Problems) -> Option<Vec<(&'a Key, Item<'a>)>> {
        let Value::Map(entries) = &self.node.value else {
            self.expected(p, "a mapping");
            return None;
        };
        if entries.len() > ENTRIES_MAX {
            self.invalid(
                p,
                format!("has {} entries; at most {ENTRIES_MAX}", entries.len()),
            );
            return None;
        }
        Some(
            entries
                .iter()
                .map(|(key, node)| (key, self.child(key, node)))
                .collect(),
        )
    }

    /// The keys of a mapping with a fixed set of them.
    pub(super) fn fields(&self, p: &mut Problems) -> Option<Fields<'a>> {
        let entries = self
            .entries(p)?
            .into_iter()
            .map(|(k, i)| (k, i, false))
            .collect();
        Some(Fields {
            entries,
            known: Vec::new(),
            path: self.path.clone(),
        })
    }

    /// The items of a list; anything else is an error.
    pub(super) fn items(&self, p: &mut Problems) -> Vec<Item<'a>> {
        let Value::List(items) = &self.node.value else {
            self.expected(p, "a list");
            return Vec::new();
        };
        if items.len() > ENTRIES_MAX {
            self.invalid(
                p,
                format!("has {} items; at most {ENTRIES_MAX}", items.len()),
            );
            return Vec::new();
        }
        let item = |(index, node): (usize, &'a Node)| {
            // A mapping of several lines has no length.
            let has_place = node.place.bytes > 0 || !matches!(node.value, Value::Null);
            let key = if has_place { node.place } else { self.key };
            Self {
                node,
                path: format!("{}[{index}]", self.path),
                key,
            }
        };
        items.iter().enumerate().map(item).collect()
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    /// `KEY: value` entries alone, without the form of a list.
    pub(super) fn table(&self, p: &mut Problems) -> BTreeMap<String, (Option<String>, Item<'a>)> {
        match self.is_list() {
            true => {
                self.expected(p, "a mapping");
                BTreeMap::new()
            }
            false => self.pairs(p),
        }
    }

    pub(super) fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// The text of a scalar.
    pub(super) fn text(&self, p: &mut Problems) -> Option<&'a str> {
        let Value::Scalar { text, .. } = &self.node.value else {
            self.expected(p, "a single value");
            return None;
        };
        if text.contains('\0') {
            self.invalid(p, "holds a NUL byte");
            return None;
        }
        Some(text)
    }

    /// As [`Self::text`], and not empty.
    pub(super) fn word(&self, p: &mut Problems) -> Option<String> {
        let text = self.text(p)?;
        if text.trim().is_empty() {
            self.invalid(p, "must not be empty");
            return None;
        }
        Some(text.to_owned())
    }

    fn with<T>(&self, p: &mut Problems, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(p)?;
        read(text).map_err(|message| self.invalid(p, message)).ok()
    }

    pub(super) fn boolean(&self, p: &mut Problems) -> Option<bool> {
        self.with(p, |text| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Ok(true),
            "false" | "no" | "off" | "n" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        })
    }

    pub(super) fn number<T: FromStr + PartialOrd + std::fmt::Display>(
        &self,
        p: &mut Problems,
        least: T,
        most: T,
    ) -> Option<T> {
        self.with(p, |text| {
            let plain = text.trim().bytes().all(|b| b.is_ascii_digit());
            match text.trim().parse::<T>() {
                Ok(number) if plain && number >= least && number <= most => Ok(number),
                _ => Err(format!(
                    "{text:?} must be a whole number from {least} to {most}"
                )),
            }
        })
    }

    pub(super) fn decimal(&self, p: &mut Problems, most: f64) -> Option<f64> {
        self.with(p, |text| match text.trim().parse::<f64>() {
            Ok(value) if (0.0..=most).contains(&value) => Ok(value),
            _ => Err(format!("{text:?} must be a number from 0 to {most}")),
        })
    }

    pub(super) fn duration_ms(&self, p: &mut Problems) -> Option<u64> {
        self.with(p, units::duration_ms)
    }

    /// The same, longer than a day.
    pub(super) fn long_duration_ms(&self, p: &mut Problems) -> Option<u64> {
        self.with(p, units::long_duration_ms)
    }

    /// A time in which something happens: there is no such thing as none.
    pub(super) fn span_ms(&self, p: &mut Problems) -> Option<u64> {
        let ms = self.duration_ms(p)?;
        if ms == 0 {
            let help = "leave it away for the default";
            self.invalid_help(p, "must be longer than 0", help);
        }
        Some(ms)
    }

    pub(super) fn bytes(&self, p: &mut Problems) -> Option<u64> {
        self.with(p, units::bytes)
    }

    pub(super) fn cpu_milli(&self, p: &mut Problems) -> Option<u64> {
        self.with(p, units::cpu_milli)
    }

    pub(super) fn share(&self, p: &mut Problems) -> Option<f64> {
        self.with(p, units::share)
    }

    /// One of the given words.
    pub(super) fn choice<T: Copy>(
        &self,
        p: &mut Problems,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.text(p)?;
        let found = choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            let message = format!("{text:?} is none of: {}", words.join(", "));
            match keys::nearest(text, words.iter().copied()) {
                Some(near) => self.invalid_help(p, message, did_you_mean(near)),
                None => self.invalid(p, message),
            }
        }
        found
    }

    /// A list of non-empty words.
    pub(super) fn words(&self, p: &mut Problems) -> Vec<String> {
        self.items(p)
            .iter()
            .filter_map(|item| item.word(p))
            .collect()
    }

    /// One word or a list of them.
    pub(super) fn word_or_words(&self, p: &mut Problems) -> Vec<String> {
        if self.is_list() {
            self.words(p)
        } else {
            self.word(p).into_iter().collect()
        }
    }

    /// A command: a list as it is, a text split like a shell would, without a shell.
    pub(super) fn command(&self, p: &mut Problems) -> Option<Vec<String>> {
        if self.is_list() {
            return Some(
                self.items(p)
                    .iter()
                    .filter_map(|item| item.text(p).map(str::to_owned))
                    .collect(),
            );
        }
        self.with(p, |text| {
            shell_words::split(text).map_err(|_| "has a quote without its twin".to_owned())
        })
    }

    /// `KEY: value` entries or `KEY=value` items. A key without a value gives none.
    pub(super) fn pairs(&self, p: &mut Problems) -> BTreeMap<String, (Option<String>, Item<'a>)> {
        let mut pairs = BTreeMap::new();
        if self.is_list() {
            for item in self.items(p) {
                let Some(text) = item.text(p) else { continue };
                let (name, value) = match text.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (text, None),
                };
                pairs.insert(name.to_owned(), (value, item.clone()));
            }
        } else {
            for (key, item) in self.entries(p).unwrap_or_default() {
                let value = match item.node.value {
                    Value::Null => None,
                    _ => match item.text(p) {
                        Some(text) => Some(text.to_owned()),
                        None => continue,
                    },
                };
                pairs.insert(key.name.clone(), (value, item));
            }
        }
        pairs.retain(|name, (_, item): &mut (_, Item<'a>)| {
            let fault = match name {
                name if name.trim().is_empty() => "has an empty name",
                name if name.contains('\0') => "has a name with a NUL byte",
                _ => return true,
            };
            item.invalid(p, fault);
            false
        });
        pairs
    }
}

/// Where a key stands in the document.
pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The keys of a mapping, taken one by one; what is left at the end was a mistake.
pub(super) struct Fields<'a> {
    entries: Vec<(&'a Key, Item<'a>, bool)>,
    known: Vec<&'static str>,
    path: String,
}

impl<'a> Fields<'a> {
    /// The value of a key. A key with nothing after it counts as absent: where that is wrong, it
    /// is said elsewhere.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Item<'a>> {
        self.known.push(name);
        let (_, item, taken) = self.entries.iter_mut().find(|(key, ..)| key.name == name)?;
        *taken = true;
        (!matches!(item.node.value, Value::Null)).then(|| item.clone())
    }

    /// As [`Self::take`]; an empty text, as of a variable that is not set, counts as absent, too.
    pub(super) fn filled(&mut self, name: &'static str) -> Option<Item<'a>> {
        let item = self.take(name)?;
        let is_empty = item
            .node
            .as_text()
            .is_some_and(|text| text.trim().is_empty());
        (!is_empty).then_some(item)
    }

    /// The value of a key that somebody else takes.
    pub(super) fn peek(&self, name: &str) -> Option<Item<'a>> {
        let mut entries = self.entries.iter();
        let (_, item, _) = entries.find(|(key, ..)| key.name == name)?;
        Some(item.clone())
    }

    /// Is there such a key, taken or not?
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, ..)| key.name == name)
    }

    /// The key, where it has nothing after it.
    pub(super) fn empty(&self, name: &str) -> Option<Item<'a>> {
        let mut entries = self.entries.iter();
        let (_, item, _) = entries.find(|(key, ..)| key.name == name)?;
        matches!(item.node.value, Value::Null).then(|| item.clone())
    }

    /// Reports what was not taken: keys of the specification that we cannot do, with the reason
    /// from `reasons`, and keys that nobody knows, with the nearest that somebody does.
    pub(super) fn finish(self, p: &mut Problems, reasons: &[(&'static str, &'static str)]) {
        for (key, item, taken) in &self.entries {
            if *taken {
                continue;
            }
            if let Some((_, reason)) = reasons.iter().find(|(name, _)| *name == key.name) {
                item.unsupported(p, reason);
            } else if let Some(at) = keys::misplaced(&key.name, &self.path) {
                p.error(
                    "misplaced_key",
                    key.place,
                    &item.path,
                    format!("`{}` is not read here", key.name),
                )
                .label("nothing would follow from it")
                .help(format!("it belongs to {at}"))
                .file();
            } else if let Some(name) = key.name.strip_prefix("x-") {
                // What all extensions begin with makes none alike.
                let ours = self.known.iter().filter_map(|k| k.strip_prefix("x-"));
                if let Some(near) = keys::nearest(name, ours) {
                    p.warn(
                        "extension",
                        key.place,
                        &item.path,
                        "an extension that nobody reads",
                    )
                    .help(did_you_mean(&format!("x-{near}")))
                    .file();
                }
            } else {
                let candidates = self
                    .known
                    .iter()
                    .chain(reasons.iter().map(|(name, _)| name));
                let ours = self.path.split('.').any(|part| part.starts_with("x-"));
                let label = match ours {
                    true => "not one of the keys here",
                    false => "not in the Compose Specification",
                };
                let draft = p
                    .error(
                        UNKNOWN_KEY,
                        key.place,
                        &self.path,
                        format!("unknown key `{}`", key.name),
                    )
                    .label(label);
                match way_out(&key.name, &self.path, candidates.copied()) {
                    Some(help) => draft.help(help).file(),
                    None => draft.file(),
                }
            }
        }
    }
}

/// What an unknown key may be meant to be: another one here, or one of another place.
fn way_out<'w>(name: &str, path: &str, here: impl Iterator<Item = &'w str>) -> Option<String> {
    let here = keys::nearest_scored(name, here);
    let elsewhere = keys::elsewhere(name, path);
    match (here, elsewhere) {
        (Some((score, near)), Some((other, _))) if score >= other => Some(did_you_mean(near)),
        (_, Some((_, help))) => Some(help),
        (Some((_, near)), None) => Some(did_you_mean(near)),
        (None, None) => None,
    }
}
