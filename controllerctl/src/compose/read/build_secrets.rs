//! `build.secrets` and `build.ssh`: what steps of a build are given with `RUN --mount`. It stays
//! where the command runs.

use std::collections::BTreeMap;

use super::super::build::BuildSecret;
use super::super::problem::Problems;
use super::engine::limited;
use super::files::Source;
use super::item::Item;
use super::{Shared, keys};

/// Most entries of one list.
const ENTRIES_MAX: usize = 64;

/// Letters, digits, `_ . - /`: what docker's client takes apart at commas and `=` has none.
fn is_plain(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-/".contains(&b);
    !text.is_empty() && text.len() <= 256 && text.bytes().all(plain)
}

/// Secrets by the id that steps name.
pub(super) fn read(
    item: &Item<'_>,
    shared: &Shared<'_>,
    p: &mut Problems,
) -> BTreeMap<String, BuildSecret> {
    let mut all = BTreeMap::new();
    for item in limited(item, item.items(p), ENTRIES_MAX, p) {
        let Some((id, secret)) = one(&item, shared, p) else {
            continue;
        };
        if all.insert(id.clone(), secret).is_some() {
            item.invalid_help(p, format!("{id} is given twice"), "drop one of the two");
        }
    }
    all
}

fn one(item: &Item<'_>, shared: &Shared<'_>, p: &mut Problems) -> Option<(String, BuildSecret)> {
    let mut target = None;
    let name = match item.is_map() {
        false => item.word(p)?,
        true => {
            let mut fields = item.fields(p)?;
            let source = fields.take("source");
            target = fields.take("target").and_then(|item| item.word(p));
            fields.finish(p, keys::BUILD_SECRET);
            let Some(source) = source else {
                item.invalid_help(p, "names no secret", "add source: NAME");
                return None;
            };
            source.word(p)?
        }
    };
    let id = target.unwrap_or_else(|| name.clone());
    if !is_plain(&id) {
        let message = format!("{id:?} is no id of a secret");
        item.invalid_help(p, message, "write letters, digits, _ . - /");
        return None;
    }
    let Some(top) = shared.files.for_build(&name) else {
        let message = format!("there is no secret {name:?}");
        let help = format!("add at the top: secrets: {{ {name}: {{ file: ./{name}.txt }} }}");
        item.invalid_help(p, message, help);
        return None;
    };
    let secret = match top.source.as_ref()? {
        Source::File(_, path) if path.contains([',', '"', '\n']) => {
            let help = "name a file without commas and quotes";
            item.invalid_help(
                p,
                format!("docker's client cannot be told of {path:?}"),
                help,
            );
            return None;
        }
        Source::File(_, path) => BuildSecret::File(path.into()),
        Source::Text(_, text) => BuildSecret::Text(text.clone()),
        Source::External(_) => {
            let message = format!("secret {name:?} is external: the controller gives it to nobody");
            item.invalid_help(p, message, "name a file or a variable for the build");
            return None;
        }
    };
    Some((id, secret))
}

/// `default`, or `id=path` of a key or of an agent's socket; as a list or a map.
pub(super) fn ssh(item: &Item<'_>, p: &mut Problems) -> Vec<String> {
    let items = match item.is_map() {
        // A value is a path; none is the agent here.
        true => {
            let pairs = limited(item, item.pairs(p), ENTRIES_MAX, p).into_iter();
            let word = |(id, (path, _)): (String, (Option<String>, _))| match path {
                Some(path) => format!("{id}={path}"),
                None => id,
            };
            pairs.map(word).collect()
        }
        false => item.words(p),
    };
    let mut all = Vec::new();
    for text in items.into_iter().take(ENTRIES_MAX) {
        let (id, path) = text.split_once('=').unwrap_or((&text, "/"));
        if all.contains(&text) {
            let message = format!("{text:?} is there twice");
            item.invalid_help(p, message, "drop one of the two");
        } else if is_plain(id) && !path.is_empty() && !path.contains([',', '"', '\n']) {
            all.push(text);
        } else {
            let message = format!("{text:?} is no agent of ssh");
            item.invalid_help(p, message, "write default, or ID=PATH of a key");
        }
    }
    all
}
