//! YAML as a tree in which each key and value knows its place.
//!
//! Typed deserialisation stops at the first mistake and loses places; the tree keeps both, so
//! that the reader above it can say everything that is wrong with a file at once.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Location, Spanned, Tagged};

use super::problem::{Level, Problem};
use super::source::{Place, Source};

/// Longest key that YAML takes.
const KEY_CHARS_MAX: usize = 1_024;
/// Largest file that is read.
pub const INPUT_BYTES_MAX: usize = 256 * 1024;
/// Most nodes of one file, aliases counted as often as they are used.
pub const NODES_MAX: usize = 50_000;
/// Most documents of one file: each is merged as a file of its own would be.
pub const DOCUMENTS_MAX: usize = 16;
/// Deepest nesting.
pub const DEPTH_MAX: usize = 64;
/// Parsing recurses with large frames: [`DEPTH_MAX`] levels do not fit a thread of 2 MiB in a
/// build without optimisation.
const STACK_BYTES: usize = 32 << 20;

/// A value and where it stands.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Its place: of an alias, the place of what it stands for.
    pub place: Place,
    /// What its tag says about what stands below it in other files.
    pub mark: Option<Mark>,
}

/// Tags of the specification for several files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// `!reset`: as if nobody had written the key.
    Reset,
    /// `!override`: instead of what the files below say, not merged with it.
    Override,
}

/// A value.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing after the key, `~` or `null`.
    Null,
    /// One scalar, as written.
    Scalar {
        /// Its text, quotes and escapes resolved.
        text: String,
        /// True when YAML reads it as a number or a truth value.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Debug, Clone)]
pub struct Key {
    /// Its text.
    pub name: String,
    /// Its place.
    pub place: Place,
}

impl Node {
    /// A node without a mark.
    #[must_use]
    pub fn new(value: Value, place: Place) -> Self {
        let mark = None;
        Self { value, place, mark }
    }

    /// A text, as if it stood in quotes.
    #[must_use]
    pub fn text(text: impl Into<String>, place: Place) -> Self {
        let text = text.into();
        Self::new(Value::Scalar { text, plain: false }, place)
    }

    /// The text of a scalar.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The entries of a mapping.
    pub fn entries_mut(&mut self) -> Option<&mut Vec<(Key, Node)>> {
        match &mut self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under `name`, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        let mut entries = self.entries_mut()?.iter_mut();
        let (_, node) = entries.find(|(key, _)| key.name == name)?;
        Some(node)
    }

    /// Takes an entry out.
    pub fn remove(&mut self, name: &str) -> Option<(Key, Node)> {
        let entries = self.entries_mut()?;
        let at = entries.iter().position(|(key, _)| key.name == name)?;
        Some(entries.remove(at))
    }

    /// The value under `name`, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        entries
            .iter()
            .find(|(key, _)| key.name == name)
            .map(|(_, node)| node)
    }

    /// What it is, in words for a message.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Scalar { .. } => "a single value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Reads a file of one document.
///
/// # Errors
/// One [`Problem`] with the place of the first thing that is not YAML, that goes over a limit, or
/// where a second document begins.
pub fn parse(source: &Source, file: usize) -> Result<Node, Box<Problem>> {
    let (documents, problems) = read(source, file);
    if let Some(problem) = problems.into_iter().next() {
        return Err(Box::new(problem));
    }
    let mut documents = documents.into_iter();
    let first = documents.next();
    if let Some(second) = documents.next() {
        let message = "a second document begins (---), and one is read here".into();
        let help = Some("put it into a file of its own");
        return Err(problem("yaml", second.place, message, help));
    }
    first.ok_or_else(|| problem("yaml", Place::default(), UNREAD.into(), None))
}

const UNREAD: &str = "the file could not be read";

/// Reads the documents of a file and says all that is wrong with them. There is one at least unless
/// it is no YAML; empty ones beside others are left out. Of a key that is there twice they have the
/// first value.
pub fn read(source: &Source, file: usize) -> (Vec<Node>, Vec<Problem>) {
    let at = |offset: usize| Place {
        file,
        offset,
        bytes: 0,
    };
    let only = |problem: Box<Problem>| (Vec::new(), vec![*problem]);
    if source.text.len() > INPUT_BYTES_MAX {
        let message = format!(
            "the file has {} bytes; at most {INPUT_BYTES_MAX} are read",
            source.text.len()
        );
        return only(problem("too_large", at(0), message, None));
    }
    if let Some(offset) = source.text.find('\0') {
        let message = "the file holds a NUL byte: it is not text".into();
        return only(problem("not_text", at(offset), message, None));
    }
    let placed = |duplicates| {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            let parse = || placed(&source.text, file, duplicates);
            thread.spawn_scoped(scope, parse).ok()?.join().ok()
        })
    };
    let fault = |error: &serde_saphyr::Error| {
        let place = error.location();
        let place = place.map_or(at(0), |l| place_of(l, file, &source.text));
        let (line, help) = said(&error.without_snippet().to_string(), &source.text, place);
        *problem("yaml", place, line, Some(help))
    };
    match placed(DuplicateKeyPolicy::Error) {
        Some(Ok(read)) => read,
        Some(Err(error)) if is_duplicate(&error) => {
            // The parser stops at the first of them.
            let first = fault(&error);
            let (documents, mut problems) = match placed(DuplicateKeyPolicy::LastWins) {
                Some(Ok(read)) => read,
                Some(Err(error)) => (Vec::new(), vec![fault(&error)]),
                None => (Vec::new(), Vec::new()),
            };
            if !problems.iter().any(|problem| problem.place == first.place) {
                problems.insert(0, first);
            }
            (documents, problems)
        }
        Some(Err(error)) => (Vec::new(), vec![fault(&error)]),
        None => only(problem("yaml", at(0), UNREAD.into(), None)),
    }
}

fn is_duplicate(error: &serde_saphyr::Error) -> bool {
    matches!(
        error.without_snippet(),
        serde_saphyr::Error::DuplicateMappingKey { .. }
    )
}

fn problem(code: &'static str, place: Place, message: String, help: Option<&str>) -> Box<Problem> {
    Box::new(Problem {
        level: Level::Error,
        code,
        path: String::new(),
        message,
        label: "here".into(),
        help: help.map(str::to_owned),
        place,
    })
}

/// The trees of a text, and what is wrong with their tags and keys.
fn placed(
    text: &str,
    file: usize,
    duplicates: DuplicateKeyPolicy,
) -> Result<(Vec<Node>, Vec<Problem>), Box<serde_saphyr::Error>> {
    let mut options = options();
    options.duplicate_keys = duplicates;
    let raw: Vec<Marked> = serde_saphyr::from_multiple_with_options(text, options)?;
    let mut placing = Placing {
        text,
        file,
        path: String::new(),
        problems: Vec::new(),
        said: BTreeSet::new(),
    };
    let place = Place {
        file,
        ..Place::default()
    };
    let mut documents: Vec<Node> = raw.into_iter().map(|raw| placing.node(raw)).collect();
    if documents.is_empty() {
        documents.push(Node::new(Value::Null, place));
    }
    Ok((documents, placing.problems))
}

/// A message of the parser in our words, and the way out.
fn said(error: &str, text: &str, place: Place) -> (String, &'static str) {
    const HELP: &str = "YAML nests by spaces, `key: value` needs the space, and text with \
                        `: ` or ` #` or a leading `*`, `&`, `%`, `@` needs quotes; brackets and quotes must be \
                        closed";
    // Its first line is the message; the rest would be an excerpt, which we draw.
    let line = error.lines().next().unwrap_or_default();
    let is_key = line.contains("mapping values are not allowed");
    if is_key && key_before(text, place) > KEY_CHARS_MAX {
        let message = format!("the key is too long: at most {KEY_CHARS_MAX} characters");
        return (message, "shorten it");
    }
    in_words(line, HELP)
}

/// Characters of the line before a place, without what it is indented by.
fn key_before(text: &str, place: Place) -> usize {
    let before = text.get(..place.offset).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    line.trim_start().chars().count()
}

const TWICE_HELP: &str = "keep one of them: the other would be lost";

/// What the parser says to programmers, said to people.
fn in_words<'h>(line: &str, help: &'h str) -> (String, &'h str) {
    if let Some(rest) = line.strip_prefix("duplicate mapping key: ") {
        let key = rest.split(", set ").next().unwrap_or(rest);
        return (format!("key {key} is there twice"), TWICE_HELP);
    }
    if let Some(number) = line.strip_prefix("non-finite float ") {
        let number = number.split(" rejected").next().unwrap_or(number);
        return (
            format!("{number} is no number that can be counted with"),
            "write a finite one, for example 0.7",
        );
    }
    if line.contains("budget") && line.contains("ocuments") {
        return (
            format!("more than {DOCUMENTS_MAX} documents (---) are in one file"),
            "merge some of them",
        );
    }
    if line.contains("budget") || line.contains("recursion limit") {
        return (
            format!(
                "the file is larger than any Compose file should be: at most {NODES_MAX} values, \
                 {DEPTH_MAX} deep, in one file"
            ),
            "split it, or write fewer aliases and merges",
        );
    }
    (line.to_owned(), help)
}

fn options() -> serde_saphyr::Options {
    let budget = serde_saphyr::budget! {
        max_nodes: NODES_MAX,
        max_depth: DEPTH_MAX,
        max_events: 4 * NODES_MAX,
        max_merge_keys: 1_000,
        max_documents: DOCUMENTS_MAX,
        max_total_scalar_bytes: 4 * INPUT_BYTES_MAX,
        // Large real files use one anchor a hundred times; the node limit bounds bombs.
        enforce_alias_anchor_ratio: false,
    };
    serde_saphyr::options! {
        budget: budget,
        strict_booleans: true,
        with_snippet: false,
    }
}

fn place_of(location: Location, file: usize, text: &str) -> Place {
    let span = location.span();
    let offset = span.byte_offset().and_then(|o| usize::try_from(o).ok());
    let bytes = span
        .byte_len()
        .and_then(|b| usize::try_from(b).ok())
        .unwrap_or(0);
    let offset = offset
        .unwrap_or_else(|| offset_of_line(text, location))
        .min(text.len());
    Place {
        file,
        offset,
        bytes: bytes.min(text.len() - offset),
    }
}

/// For the locations that carry no byte offset.
fn offset_of_line(text: &str, location: Location) -> usize {
    let from_one = |number: u64| usize::try_from(number).unwrap_or(1).saturating_sub(1);
    let mut lines = text.split_inclusive('\n');
    let before = lines.by_ref().take(from_one(location.line()));
    let start: usize = before.map(str::len).sum();
    // Columns count characters.
    let line = lines.next().unwrap_or_default().trim_end();
    let column = line.char_indices().nth(from_one(location.column()));
    start + column.map_or(line.len(), |(at, _)| at)
}

/// The tree as serde sees it, before scalars got their text back.
enum Raw {
    Null,
    Text(String),
    /// A number or truth value; its own rendering, used if the source does not have it.
    Plain(String),
    List(Vec<Marked>),
    Map(Vec<(Spanned<Tagged<String>>, Marked)>),
}

type Marked = Spanned<Tagged<Raw>>;

/// Puts places and texts of one file into its tree.
struct Placing<'t> {
    text: &'t str,
    file: usize,
    /// Of the mapping that is looked at.
    path: String,
    problems: Vec<Problem>,
    /// Where something was said: an alias is looked at as often as it is used.
    said: BTreeSet<Place>,
}

impl Placing<'_> {
    fn node(&mut self, raw: Marked) -> Node {
        let place = place_of(raw.defined, self.file, self.text);
        let Tagged(value, tag) = raw.value;
        let mark = match tag.as_deref() {
            Some("!reset") => Some(Mark::Reset),
            Some("!override") => Some(Mark::Override),
            tag => {
                self.tag(tag, place);
                None
            }
        };
        let value = match value {
            Raw::Null => Value::Null,
            Raw::Text(text) => Value::Scalar { text, plain: false },
            Raw::Plain(rendered) => {
                // `1.10` stays `1.10`: an image tag or a variable is no number to us.
                let written = self.text.get(place.offset..place.offset + place.bytes);
                let written = written
                    .map(str::trim)
                    .filter(|w| !w.is_empty() && !w.starts_with(['"', '\'', '!', '&', '|', '>']));
                Value::Scalar {
                    text: written.map_or(rendered, str::to_owned),
                    plain: true,
                }
            }
            Raw::List(items) => Value::List(items.into_iter().map(|i| self.node(i)).collect()),
            Raw::Map(entries) => Value::Map(self.entries(entries)),
        };
        Node { value, place, mark }
    }

    fn entries(&mut self, raw: Vec<(Spanned<Tagged<String>>, Marked)>) -> Vec<(Key, Node)> {
        let mut entries: Vec<(Key, Node)> = Vec::with_capacity(raw.len());
        let mut seen = BTreeSet::new();
        let above = self.path.len();
        for (key, node) in raw {
            let place = place_of(key.defined, self.file, self.text);
            let Tagged(name, tag) = key.value;
            self.tag(tag.as_deref(), place);
            if !seen.insert(name.clone()) {
                let message = format!("key {name} is there twice");
                self.wrong("yaml", place, message, TWICE_HELP);
                continue;
            }
            if above > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name);
            let node = self.node(node);
            self.path.truncate(above);
            entries.push((Key { name, place }, node));
        }
        entries
    }

    fn wrong(&mut self, code: &'static str, place: Place, message: String, help: &str) {
        if self.said.insert(place) {
            let mut wrong = *problem(code, place, message, Some(help));
            wrong.path.clone_from(&self.path);
            self.problems.push(wrong);
        }
    }

    /// YAML's own tags were followed already.
    fn tag(&mut self, tag: Option<&str>, place: Place) {
        const OWN: &str = "tag:yaml.org,2002:";
        const KNOWN: [&str; 10] = [
            "str",
            "int",
            "float",
            "bool",
            "null",
            "seq",
            "map",
            "timestamp",
            "binary",
            "merge",
        ];
        let Some(tag) = tag else { return };
        let is_known = tag == "!" || tag.strip_prefix(OWN).is_some_and(|t| KNOWN.contains(&t));
        if !is_known {
            let message = format!("the tag {tag:?} means nothing here");
            let help = "drop it; of tags, !reset and !override are read";
            self.wrong("tag", place, message, help);
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawVisitor;

        impl<'de> Visitor<'de> for RawVisitor {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a scalar, a list or a mapping")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_none<E: de::Error>(self) -> Result<Raw, E> {
                Ok(Raw::Null)
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }
            fn visit_i128<E: de::Error>(self, value: i128) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }
            fn visit_u128<E: de::Error>(self, value: u128) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::Plain(value.to_string()))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }

        deserializer.deserialize_any(RawVisitor)
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Scalar { text, plain: false } => serializer.serialize_str(text),
            Value::Scalar { text, plain: true } => match text.as_str() {
                "true" => serializer.serialize_bool(true),
                "false" => serializer.serialize_bool(false),
                // Only what prints back as it was written; `1.10` and `0x1f` become strings.
                _ => match text.parse::<i64>() {
                    Ok(number) if number.to_string() == *text => serializer.serialize_i64(number),
                    _ => serializer.serialize_str(text),
                },
            },
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, node) in entries {
                    map.serialize_entry(&key.name, node)?;
                }
                map.end()
            }
        }
    }
}
