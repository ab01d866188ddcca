//! Our extensions of Compose, key by key: what `explain` prints, and the JSON schema for editors.
//! One table for both; tests hold it against the reader.

mod autoscale;
mod compose;
mod explain;
mod haproxy;
mod json;

pub use explain::{Below, NoSuchKey, Page, explain, keys_below};
pub use json::{document, files};

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// What follows when it is left away.
    pub default: Option<&'static str>,
    /// What may stand there.
    pub form: Form,
    /// Values as one writes them in YAML.
    pub examples: &'static [&'static str],
}

/// What may stand at a key.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// Any text.
    Text,
    /// One text, or a list of them.
    Texts,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// True or false.
    Boolean,
    /// A whole number within these bounds.
    Whole(u64, u64),
    /// A number from 0 to this.
    Decimal(u64),
    /// A number above 0, as itself or as a text.
    Amount,
    /// `10s`, `1m30s`, `0`.
    Time,
    /// `60%`, `0.6`.
    Share,
    /// `100/s`.
    Rate,
    /// Keys of its own; those that must be there.
    Map(&'static [Key], &'static [&'static str]),
    /// Entries with keys of their own.
    List(&'static [Key], &'static [&'static str]),
    /// Thresholds of a signal, each with a count: `20%: 2`, `80%: +2`, or `each: 10%`.
    Steps,
    /// Either of the two.
    Either(&'static Form, &'static Form),
}

impl Form {
    /// For people.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Texts => "text, or a list of texts".into(),
            Self::Choice(words) => words.join(" | "),
            Self::Boolean => "true | false".into(),
            Self::Whole(least, most) => format!("whole number, {least} to {most}"),
            Self::Decimal(most) => format!("number, 0 to {most}"),
            Self::Amount => "number above 0".into(),
            Self::Time => "time: 500ms, 10s, 1m30s".into(),
            Self::Share => "share: 60% or 0.6".into(),
            Self::Rate => "rate: 100/s, 6000/m".into(),
            Self::Map(..) => "mapping".into(),
            Self::List(..) => "list of mappings".into(),
            Self::Steps => "mapping of thresholds to counts, or { each: AMOUNT }".into(),
            Self::Either(a, b) => format!("{}, or {}", a.words(), b.words()),
        }
    }

    /// Keys below it.
    #[must_use]
    pub fn keys(&self) -> &'static [Key] {
        match self {
            Self::Map(keys, _) | Self::List(keys, _) => keys,
            Self::Either(a, b) => match a.keys() {
                [] => b.keys(),
                keys => keys,
            },
            _ => &[],
        }
    }
}

const fn key(
    name: &'static str,
    form: Form,
    doc: &'static str,
    examples: &'static [&'static str],
) -> Key {
    Key {
        name,
        doc,
        default: None,
        form,
        examples,
    }
}

impl Key {
    const fn or(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
}

/// Our extensions, and where each belongs.
pub static EXTENSIONS: [(&str, Key); 3] = [
    ("services.NAME", autoscale::KEY),
    ("services.NAME", haproxy::KEY),
    (
        "",
        key(
            "x-context",
            Form::Text,
            "The context (cluster and person) that the file is applied with where -c names none.",
            &["production"],
        ),
    ),
];

/// The level of a mapping in a file: `services.web.deploy` is `services.NAME.deploy`.
#[must_use]
pub fn level(path: &str) -> String {
    compose::level(path)
}

/// Keys of services, of Compose and of ours, each with what it belongs to:
/// `("services.NAME.deploy", "replicas")`.
pub fn homes() -> impl Iterator<Item = (String, &'static str)> {
    let ours = EXTENSIONS.iter().filter(|(at, _)| !at.is_empty());
    let ours = ours.flat_map(|(at, key)| {
        let below = key.form.keys().iter();
        below.map(move |below| (format!("{at}.{}", key.name), below.name))
    });
    compose::homes().chain(ours)
}
