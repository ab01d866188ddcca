//! `${VARIABLE}` in values, by the rules of the Compose specification.

use std::collections::BTreeMap;

use super::node::{Mark, Node, Value};
use super::problem::Problems;
use super::source::Place;

/// Deepest `${A:-${B:-…}}`.
const NESTING_MAX: usize = 16;

/// Where variables come from: the process environment, then the `.env` file.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    values: BTreeMap<String, String>,
}

impl Variables {
    /// From pairs; a later pair does not replace an earlier one.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut variables = Self::default();
        variables.add(pairs);
        variables
    }

    /// Adds pairs of lower precedence.
    pub fn add(&mut self, pairs: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in pairs {
            self.values.entry(name).or_insert(value);
        }
    }

    /// Sets one, whatever it was.
    pub fn set(&mut self, name: &str, value: &str) {
        self.values.insert(name.to_owned(), value.to_owned());
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// What was found on the way through one text.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// `${` without its end, or a name that is none.
    Form(String),
    /// `${NAME:?message}` and no value.
    Required { name: String, message: String },
}

/// All that is found on the way through one text.
#[derive(Default)]
struct Found {
    /// Variables without a value.
    unset: Vec<String>,
    faults: Vec<Fault>,
}

fn said(found: Found, place: Place, path: &str, problems: &mut Problems) {
    for fault in found.faults {
        match fault {
            Fault::Form(detail) => {
                let message = format!("not a variable: {detail}");
                problems
                    .error("interpolation", place, path, message)
                    .help("write ${NAME}, ${NAME:-default}, or $$ for a single $")
                    .file();
            }
            Fault::Required { name, message } => {
                let message = format!("variable {name} is required: {message}");
                problems
                    .error("variable_missing", place, path, message)
                    .help(format!("set {name} in the environment or in the .env file"))
                    .file();
            }
        }
    }
    for name in found.unset {
        let message = format!("variable {name} is not set; an empty string takes its place");
        problems
            .warn("variable_unset", place, path, message)
            .help(format!("give it a default: ${{{name}:-…}}"))
            .file();
    }
}

/// Replaces variables in all values of the tree, never in keys.
pub fn interpolate(node: &mut Node, path: &str, variables: &Variables, problems: &mut Problems) {
    // Nothing of it stays.
    if node.mark == Some(Mark::Reset) {
        return;
    }
    match &mut node.value {
        Value::Null => {}
        Value::Scalar { text, .. } if !text.contains('$') => {}
        Value::Scalar { text, plain } => {
            let mut found = Found::default();
            let expanded = expand(text, variables, &mut found, 0);
            if found.faults.is_empty() {
                *text = expanded;
                *plain = false;
            }
            said(found, node.place, path, problems);
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                interpolate(item, &format!("{path}[{index}]"), variables, problems);
            }
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                let path = if path.is_empty() {
                    key.name.clone()
                } else {
                    format!("{path}.{}", key.name)
                };
                interpolate(value, &path, variables, problems);
            }
        }
    }
}

/// Writes each dollar of a value as two: [`interpolate`] makes one of them again.
pub fn escape(node: &mut Node) {
    match &mut node.value {
        Value::Null => {}
        Value::Scalar { text, .. } if !text.contains('$') => {}
        Value::Scalar { text, .. } => *text = text.replace('$', "$$"),
        Value::List(items) => items.iter_mut().for_each(escape),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, node)| escape(node)),
    }
}

/// The text with its variables filled in; what is none stays away, and is said.
fn expand(text: &str, variables: &Variables, found: &mut Found, depth: usize) -> String {
    if depth > NESTING_MAX {
        let detail = format!("more than {NESTING_MAX} variables inside each other");
        found.faults.push(Fault::Form(detail));
        return String::new();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('{') {
            let Some(end) = closing(inside) else {
                found
                    .faults
                    .push(Fault::Form(format!("${rest} has no end")));
                return out;
            };
            out.push_str(&braced(&inside[..end], variables, found, depth));
            rest = &inside[end + 1..];
        } else {
            let name = name_of(rest);
            if name.is_empty() {
                found.faults.push(Fault::Form("a single $".into()));
                continue;
            }
            out.push_str(&plain(name, variables, found));
            rest = &rest[name.len()..];
        }
    }
    out.push_str(rest);
    out
}

fn name_of(text: &str) -> &str {
    let ok =
        |(i, b): (usize, u8)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit());
    let bytes = text
        .bytes()
        .enumerate()
        .take_while(|&pair| ok(pair))
        .count();
    &text[..bytes]
}

/// Offset of the brace that closes, given that one is open. Braces of a default, as JSON has them,
/// belong to it where they come in pairs.
fn closing(text: &str) -> Option<usize> {
    pair(text, |_| true).or_else(|| pair(text, |before| before == '$'))
}

/// The same; a brace opens if `opens` says so of the character before it.
fn pair(text: &str, opens: impl Fn(char) -> bool) -> Option<usize> {
    let mut open = 1usize;
    let mut previous = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '{' if opens(previous) => open += 1,
            '}' => {
                open -= 1;
                if open == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        previous = c;
    }
    None
}

fn plain(name: &str, variables: &Variables, found: &mut Found) -> String {
    let value = variables.get(name).map(str::to_owned);
    value.unwrap_or_else(|| {
        found.unset.push(name.to_owned());
        String::new()
    })
}

fn braced(inside: &str, variables: &Variables, found: &mut Found, depth: usize) -> String {
    let name = name_of(inside);
    let rest = &inside[name.len()..];
    if !name.is_empty() && rest.is_empty() {
        return plain(name, variables, found);
    }
    // With a colon, an empty value counts as none.
    let (colon, rest) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let value = variables
        .get(name)
        .filter(|value| !(colon && value.is_empty()));
    let mut chars = rest.chars();
    let operator = chars.next().filter(|_| !name.is_empty());
    let argument = chars.as_str();
    match (operator, value) {
        (Some('-' | '?'), Some(value)) => value.to_owned(),
        (Some('-'), None) | (Some('+'), Some(_)) => expand(argument, variables, found, depth + 1),
        (Some('+'), None) => String::new(),
        (Some('?'), None) => {
            let message = match expand(argument, variables, found, depth + 1) {
                message if message.is_empty() => "it has no value".into(),
                message => message,
            };
            let name = name.to_owned();
            found.faults.push(Fault::Required { name, message });
            String::new()
        }
        _ => {
            found.faults.push(Fault::Form(format!("${{{inside}}}")));
            String::new()
        }
    }
}

/// What a text of a file of variables stands for.
pub(super) enum Expansion {
    Text(String),
    /// It holds a dollar that begins no variable.
    NoVariable,
    Missing {
        name: String,
        message: String,
    },
}

pub(super) fn expansion(text: &str, variables: &Variables) -> Expansion {
    let mut found = Found::default();
    let text = expand(text, variables, &mut found, 0);
    match found.faults.into_iter().next() {
        None => Expansion::Text(text),
        Some(Fault::Form(_)) => Expansion::NoVariable,
        Some(Fault::Required { name, message }) => Expansion::Missing { name, message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(text: &str) -> Result<String, Fault> {
        let set = [("A", "1"), ("EMPTY", ""), ("B", "two")];
        let set = set.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let mut found = Found::default();
        let text = expand(text, &Variables::new(set), &mut found, 0);
        found.faults.into_iter().next().map_or(Ok(text), Err)
    }

    #[test]
    fn every_form_of_the_specification_works() {
        let facts = [
            ("$A-${A}", "1-1"),
            ("${A:-x}${NONE:-x}${EMPTY:-x}${EMPTY-x}", "1xx"),
            ("${NONE-x}", "x"),
            ("${A:+y}${NONE:+y}${EMPTY:+y}${EMPTY+y}", "yy"),
            ("${A:?must}${EMPTY?may be empty}", "1"),
            ("$$A and $${A}", "$A and ${A}"),
            ("${NONE:-${NONE:-${B}}}", "two"),
            ("${A:-{\"x\": {}}}${NONE:-{\"x\": {}}}!", "1{\"x\": {}}!"),
            ("${NONE:-a{b}${A}", "a{b1"),
            ("${NONE:-http://x:80/?a=b}", "http://x:80/?a=b"),
            ("$NONE.", "."),
        ];
        for (text, wanted) in facts {
            assert_eq!(run(text).as_deref(), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn a_required_variable_says_its_own_message() {
        let fault = Fault::Required {
            name: "V".into(),
            message: "set V please".into(),
        };
        assert_eq!(run("${V:?set V please}"), Err(fault));
        assert!(matches!(run("${EMPTY:?no}"), Err(Fault::Required { .. })));
    }

    #[test]
    fn broken_forms_are_refused() {
        for bad in [
            "$", "a $ b", "${", "${A", "${}", "${1A}", "${A!x}", "${A:}", "$-",
        ] {
            assert!(matches!(run(bad), Err(Fault::Form(_))), "{bad}");
        }
        let deep = format!("{}x{}", "${N:-".repeat(40), "}".repeat(40));
        assert!(matches!(run(&deep), Err(Fault::Form(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,60}|[${}A:?+-]{0,40}") {
            let _ = run(&text);
        }

        #[test]
        fn text_without_a_dollar_stays(text in "[^$]{0,60}") {
            prop_assert_eq!(run(&text), Ok(text));
        }
    }
}
