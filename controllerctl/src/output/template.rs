//! `--format TEMPLATE`: each document through a template, with its fields as they are in JSON.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, UndefinedBehavior, Value};
use serde::Serialize;
use serde_json::Value as Json;

use crate::failure::{Exit, Failure};
use crate::text::printable;

/// Longer is no line on a command line.
const TEMPLATE_BYTES_MAX: usize = 16 << 10;
const NAME: &str = "--format";

/// What was given with `--format`.
#[derive(Debug, Clone)]
pub struct Template(String);

impl Template {
    /// From the command line: `\t` and `\n` are what they are to docker, and so is the dot of
    /// `{{.Name}}`.
    #[must_use]
    pub fn new(given: &str) -> Self {
        Self(plain(&given.replace("\\t", "\t").replace("\\n", "\n")))
    }

    /// Says what is wrong with it, before anything is done.
    ///
    /// # Errors
    /// Exit 2.
    pub fn check(&self) -> Result<(), Failure> {
        if self.0.len() > TEMPLATE_BYTES_MAX {
            let most = TEMPLATE_BYTES_MAX;
            return Err(
                Failure::new(format!("--format: longer than {most} bytes")).exit(Exit::Usage)
            );
        }
        let template = environment().template_from_str(&self.0).map(|_| ());
        template.map_err(|error| {
            failure(&error).hint("write --format '{{ name }} {{ node }}'; -o json has the names")
        })
    }

    /// One document, and the end of its line.
    ///
    /// # Errors
    /// Exit 2: a field that the document does not have, with those that it has.
    pub fn render(&self, document: &impl Serialize) -> Result<String, Failure> {
        let json = serde_json::to_value(document).unwrap_or_default();
        let fields = match &json {
            Json::Object(fields) => fields.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        let fields = fields.join(", ");
        let rendered = environment().render_str(&self.0, value(&json));
        let text = rendered
            .map_err(|error| failure(&error).hint(format!("there are the fields {fields}")))?;
        Ok(text + "\n")
    }
}

fn failure(error: &Error) -> Failure {
    let detail = error
        .detail()
        .map_or_else(String::new, |d| format!(": {d}"));
    Failure::new(format!("{NAME}: {}{detail}", error.kind())).exit(Exit::Usage)
}

/// An unknown field is an error; nothing is nothing, and no value reaches a terminal unread.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_formatter(|out, _, value| {
        let text = match value.kind() {
            ValueKind::None => String::new(),
            // As JSON has it.
            ValueKind::Bool => value.is_true().to_string(),
            _ => printable(&value.to_string()),
        };
        Ok(out.write_str(&text)?)
    });
    environment
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(is) => Value::from(*is),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(n), _) => Value::from(n),
            (None, Some(n)) => Value::from(n),
            _ => Value::from(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(fields) => {
            let fields = fields.iter();
            Value::from_pairs(fields.map(|(name, field)| (name.clone(), value(field))))
        }
    }
}

/// `{{.Name}}`, as docker writes it, is `{{ name }}`; whatever else begins with a dot stays, and is
/// an error.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, inside)) = rest.split_once("{{") {
        out.push_str(before);
        out.push_str("{{");
        rest = inside;
        let Some((expression, after)) = inside.split_once("}}") else {
            break;
        };
        let is_plain = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let name = expression.trim().strip_prefix('.').filter(is_plain);
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            out.push_str(&format!(" {} }}}}", snake(name)));
            rest = after;
        }
    }
    out + rest
}

/// `RoutesGeneration` is `routes_generation`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut was_small = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && was_small {
            out.push('_');
        }
        was_small = c.is_ascii_lowercase() || c.is_ascii_digit();
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn says(template: &str) -> Result<String, Failure> {
        let template = Template::new(template);
        template.check()?;
        template.render(&json!({
            "name": "web.1", "node": null, "wanted": 3, "is_up": true, "share": 0.5,
            "labels": { "zone": "a" }, "waits": ["one", "tw\u{1b}[31mo"],
        }))
    }

    #[test]
    fn fields_are_those_of_json() {
        for (template, said) in [
            ("{{ name }} {{ wanted + 1 }}", "web.1 4\n"),
            ("{{.Name}}\\t{{ .IsUp }}", "web.1\ttrue\n"),
            ("[{{ node }}]", "[]\n"),
            ("{{ labels.zone }} {{ share }}", "a 0.5\n"),
            ("{{ waits | join('; ') }}", "one; two\n"),
            (
                "{% for wait in waits %}{{ wait }},{% endfor %}",
                "one,two,\n",
            ),
            ("{{ node or 'none' }} {{ name", ""),
        ] {
            match says(template) {
                Ok(text) => assert_eq!(text, said, "{template}"),
                Err(failure) => assert!(said.is_empty(), "{template}: {failure}"),
            }
        }
    }

    #[test]
    fn what_is_not_there_is_an_error_with_what_is() {
        let failure = says("{{ nam }}").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        let hint = failure.hint.unwrap();
        assert!(hint.contains("is_up, labels, name"), "{hint}");
        for wrong in ["{{ name", "{% if %}", "{{json .}}", "{{ .a.b }}"] {
            assert_eq!(says(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
        let long = "x".repeat(TEMPLATE_BYTES_MAX + 1);
        assert!(Template::new(&long).check().is_err());
    }
}
