//! What a key does, in words.

use std::fmt;

use serde::Serialize;

use super::{EXTENSIONS, Key, compose};
use crate::compose::support;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Where it stands.
    pub path: String,
    /// What may stand there; none: as the Compose Specification says.
    pub form: Option<String>,
    /// What it does.
    pub doc: String,
    /// What follows when it is left away.
    pub default: Option<&'static str>,
    /// Values as one writes them in YAML.
    pub examples: &'static [&'static str],
    /// Keys below it.
    pub keys: Vec<Below>,
}

/// A key below another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Below {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Nothing is known of such a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nothing is known of a key {path:?}")]
pub struct NoSuchKey {
    /// As asked.
    pub path: String,
    /// What may be meant.
    pub near: Option<String>,
}

/// The documentation of a key: `services.x-autoscale.metrics`, with or without the service's name,
/// or from the extension on.
///
/// # Errors
/// [`NoSuchKey`] names the nearest one that there is.
pub fn explain(path: &str) -> Result<Page, NoSuchKey> {
    let is_step = |part: &&str| !part.is_empty() && !part.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = path.split(['.', '[', ']']).filter(is_step).collect();
    let Some(start) = parts.iter().position(|part| part.starts_with("x-")) else {
        return compose(path, &parts);
    };
    let name = parts[start];
    let tops = EXTENSIONS.iter();
    let Some((at, key)) = tops.clone().find(|(_, key)| key.name == name) else {
        return Err(none(path, name, tops.map(|(_, key)| key.name)));
    };
    let (mut key, mut way) = (key, vec![*at, name]);
    way.retain(|part| !part.is_empty());
    for part in &parts[start + 1..] {
        let keys = key.form.keys();
        let Some(next) = keys.iter().find(|key| key.name == *part) else {
            return Err(none(path, part, keys.iter().map(|key| key.name)));
        };
        key = next;
        way.push(key.name);
    }
    Ok(page(way.join("."), key))
}

/// Keys that may follow `path`, as [`explain`] reads it; of an empty one, where it may begin.
#[must_use]
pub fn keys_below(path: &str) -> Vec<&'static str> {
    if path.is_empty() {
        let ours = EXTENSIONS.iter().map(|(_, key)| key.name);
        return compose::TOP
            .iter()
            .map(|word| word.name)
            .chain(ours)
            .collect();
    }
    let page = explain(path);
    let keys = page.map(|page| page.keys).unwrap_or_default();
    keys.into_iter().map(|below| below.name).collect()
}

fn none<'w>(path: &str, part: &str, words: impl Iterator<Item = &'w str>) -> NoSuchKey {
    NoSuchKey {
        path: path.to_owned(),
        near: crate::compose::nearest(part, words).map(str::to_owned),
    }
}

/// A key of the Compose Specification itself: what it does here, and on which condition.
fn compose(path: &str, parts: &[&str]) -> Result<Page, NoSuchKey> {
    let found = match compose::find(parts) {
        Ok(found) => found,
        Err(unknown) => return unsupported(path, parts, unknown),
    };
    let mut doc = found.word.doc.to_owned();
    if found.level == SERVICE
        && let Some((status, why)) = support::of_service(found.word.name)
    {
        doc.push_str(&format!(" Supported {status}: {why}."));
    }
    let below = found.word.below.iter().map(|word| Below {
        name: word.name,
        doc: word.doc,
    });
    let level = match found.word.is_named && !found.way.ends_with(".NAME") {
        true => format!("{}.NAME", found.way),
        false => found.way.clone(),
    };
    let ours = EXTENSIONS.iter().filter(|(at, _)| *at == level);
    let ours = ours.map(|(_, key)| Below {
        name: key.name,
        doc: key.doc,
    });
    Ok(Page {
        path: found.way.clone(),
        form: None,
        doc,
        default: None,
        examples: &[],
        keys: below.chain(ours).collect(),
    })
}

const SERVICE: &str = "services.NAME";

/// A key that is known and not supported, or nobody knows.
fn unsupported(
    path: &str,
    parts: &[&str],
    unknown: compose::Unknown<'_>,
) -> Result<Page, NoSuchKey> {
    let is_last = parts.last() == Some(&unknown.part);
    let of_service = support::of_service(unknown.part);
    if let (true, SERVICE, Some((status, why))) = (is_last, unknown.level.as_str(), of_service) {
        return Ok(Page {
            path: format!("{SERVICE}.{}", unknown.part),
            form: None,
            doc: format!("{status}: {why}. docs/compose.md"),
            default: None,
            examples: &[],
            keys: Vec::new(),
        });
    }
    let mut words = unknown.words;
    if unknown.level == SERVICE {
        words.extend(support::service_keys());
    }
    let ours = EXTENSIONS.iter().filter(|(at, _)| *at == unknown.level);
    words.extend(ours.map(|(_, key)| key.name));
    Err(none(path, unknown.part, words.into_iter()))
}

fn page(path: String, key: &Key) -> Page {
    let below = |key: &Key| Below {
        name: key.name,
        doc: key.doc,
    };
    Page {
        path,
        form: Some(key.form.words()),
        doc: key.doc.to_owned(),
        default: key.default,
        examples: key.examples,
        keys: key.form.keys().iter().map(below).collect(),
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n\n  {}\n", self.path, self.doc)?;
        if let Some(form) = &self.form {
            writeln!(f, "  takes    {form}")?;
        }
        if let Some(default) = self.default {
            writeln!(f, "  default  {default}")?;
        }
        let name = self.path.rsplit('.').next().unwrap_or_default();
        for example in self.examples {
            writeln!(f, "  example  {name}: {example}")?;
        }
        if self.keys.is_empty() {
            return Ok(());
        }
        let wide = self.keys.iter().map(|key| key.name.len()).max();
        let wide = wide.unwrap_or(0);
        writeln!(f, "\nKeys below it:\n")?;
        for key in &self.keys {
            writeln!(f, "  {:wide$}  {}", key.name, key.doc)?;
        }
        Ok(())
    }
}
