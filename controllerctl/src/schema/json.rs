//! The table as JSON schema (draft 7, which editors know best).

use serde_json::{Value, json};

use super::{EXTENSIONS, Form, Key};

const DRAFT: &str = "http://json-schema.org/draft-07/schema#";
/// The specification's own schema: ours only adds to it.
const COMPOSE: &str =
    "https://raw.githubusercontent.com/compose-spec/compose-spec/main/schema/compose-spec.json";

/// The files of `docs/schema`, by name.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let mut files: Vec<(String, Value)> = EXTENSIONS
        .iter()
        .map(|(_, key)| (format!("{}.json", key.name), document(key)))
        .collect();
    files.push(("compose.json".into(), whole()));
    let text = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
    files
        .iter()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// The schema of what stands at one of our extensions.
#[must_use]
pub fn document(key: &Key) -> Value {
    let mut schema = described(key);
    if let Value::Object(fields) = &mut schema {
        fields.insert("$schema".into(), DRAFT.into());
        fields.insert("title".into(), key.name.into());
    }
    schema
}

/// A Compose file with our extensions.
fn whole() -> Value {
    let of = |at: &str| {
        let ours = EXTENSIONS.iter().filter(|(place, _)| *place == at);
        let ours = ours.map(|(_, key)| (key.name.to_owned(), described(key)));
        Value::Object(ours.collect())
    };
    let mut top = of("");
    if let Value::Object(top) = &mut top {
        let service = json!({ "properties": of("services.NAME") });
        top.insert(
            "services".into(),
            json!({ "additionalProperties": service }),
        );
    }
    json!({
        "$schema": DRAFT,
        "title": "Compose file for Longshore",
        "allOf": [{ "$ref": COMPOSE }],
        "properties": top,
    })
}

fn described(key: &Key) -> Value {
    let mut schema = form(&key.form);
    if let Value::Object(fields) = &mut schema {
        let doc = match key.default {
            Some(default) => format!("{} Default: {default}.", key.doc),
            None => key.doc.to_owned(),
        };
        fields.insert("description".into(), doc.into());
    }
    schema
}

/// A value, or a text with a variable in it, of which nothing is known yet.
fn or_variable(mut forms: Vec<Value>) -> Value {
    forms.push(json!({ "type": "string", "pattern": "\\$" }));
    json!({ "anyOf": forms })
}

fn matching(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn form(form: &Form) -> Value {
    const NUMBER: &str = "^[0-9]+(\\.[0-9]+)?$";
    match form {
        Form::Text => json!({ "type": ["string", "number"] }),
        Form::Texts => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" } },
        ] }),
        Form::Choice(words) => {
            let mut all: Vec<Value> = words.iter().map(|word| Value::from(*word)).collect();
            // What some editors make of `on`.
            all.extend(words.contains(&"on").then_some(Value::Bool(true)));
            or_variable(vec![json!({ "enum": all })])
        }
        Form::Boolean => or_variable(vec![
            json!({ "type": "boolean" }),
            matching("^(true|false|yes|no|on|off)$"),
        ]),
        Form::Whole(least, most) => or_variable(vec![
            json!({ "type": "integer", "minimum": least, "maximum": most }),
            matching("^[0-9]+$"),
        ]),
        Form::Decimal(most) => or_variable(vec![
            json!({ "type": "number", "minimum": 0, "maximum": most }),
            matching(NUMBER),
        ]),
        Form::Amount => or_variable(vec![
            json!({ "type": "number", "exclusiveMinimum": 0 }),
            matching(NUMBER),
        ]),
        Form::Time => or_variable(vec![
            json!({ "enum": [0, "0"] }),
            matching("^\\s*([0-9]+(\\.[0-9]+)?\\s*[a-z]+\\s*)+$"),
        ]),
        Form::Share => or_variable(vec![
            json!({ "type": "number", "minimum": 0, "maximum": 1 }),
            matching("^\\s*[0-9]+(\\.[0-9]+)?\\s*%?$"),
        ]),
        Form::Rate => or_variable(vec![matching("^[0-9]+(\\.[0-9]+)?\\s*/(s|m|min|h)$")]),
        Form::Map(keys, needed) => map(keys, needed),
        Form::List(keys, needed) => json!({ "type": "array", "items": map(keys, needed) }),
        Form::Steps => json!({
            "type": "object",
            "minProperties": 1,
            "properties": { "each": { "type": ["string", "number"] } },
            "additionalProperties": { "type": ["integer", "string"] },
        }),
        Form::Either(a, b) => json!({ "anyOf": [self::form(a), self::form(b)] }),
    }
}

fn map(keys: &[Key], needed: &[&str]) -> Value {
    let properties = keys.iter();
    let properties = properties.map(|key| (key.name.to_owned(), described(key)));
    let mut schema = json!({
        "type": "object",
        "properties": Value::Object(properties.collect()),
        "patternProperties": { "^x-": {} },
        "additionalProperties": false,
    });
    if let (Value::Object(fields), false) = (&mut schema, needed.is_empty()) {
        fields.insert("required".into(), needed.to_vec().into());
    }
    schema
}
