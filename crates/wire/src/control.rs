//! Events and free-form details of `longshore.control.v1`.

use longshore_model::{Event, EventKind};
use longshore_proto::control::v1 as pb;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde::Serialize;
use serde_json::Value as Json;

/// An event with its place in the log.
#[must_use]
pub fn event_to_pb(event: &Event, sequence: u64) -> pb::EventsResponse {
    let detail = to_struct(&event.kind);
    pb::EventsResponse {
        sequence,
        time_ms: event.at_ms,
        r#type: word(&detail),
        message: event.kind.to_string(),
        detail: Some(detail),
    }
}

/// The type of an event in one word, as the API has it.
#[must_use]
pub fn event_type(kind: &EventKind) -> String {
    word(&to_struct(kind))
}

fn word(detail: &Struct) -> String {
    let kind = detail.fields.get("type");
    match kind.and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(kind)) => kind.clone(),
        _ => String::new(),
    }
}

/// Anything that serialises to a JSON object; anything else becomes `{"value": …}`.
#[must_use]
pub fn to_struct(value: &impl Serialize) -> Struct {
    json_to_struct(serde_json::to_value(value).unwrap_or(Json::Null))
}

/// As [`to_struct`], from JSON.
#[must_use]
pub fn json_to_struct(json: Json) -> Struct {
    let object = match json {
        Json::Object(object) => object,
        other => serde_json::Map::from_iter([("value".to_owned(), other)]),
    };
    Struct {
        fields: object
            .into_iter()
            .map(|(key, value)| (key, to_value(value)))
            .collect(),
    }
}

fn to_value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(values) => Kind::ListValue(ListValue {
            values: values.into_iter().map(to_value).collect(),
        }),
        object @ Json::Object(_) => Kind::StructValue(json_to_struct(object)),
    };
    Value { kind: Some(kind) }
}

/// Back to JSON. Whole numbers come back as integers.
#[must_use]
pub fn struct_to_json(value: &Struct) -> Json {
    let mut fields: Vec<_> = value.fields.iter().collect();
    fields.sort_by_key(|(key, _)| *key);
    Json::Object(
        fields
            .into_iter()
            .map(|(key, value)| (key.clone(), from_value(value)))
            .collect(),
    )
}

fn from_value(value: &Value) -> Json {
    // Integers up to 2^53 are exact in a double; every number of ours is below that.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(*value),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < EXACT => {
            // In range and whole, so the cast is exact.
            #[allow(clippy::cast_possible_truncation)]
            Json::from(*number as i64)
        }
        Some(Kind::NumberValue(number)) => {
            serde_json::Number::from_f64(*number).map_or(Json::Null, Json::Number)
        }
        Some(Kind::StringValue(text)) => Json::String(text.clone()),
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(from_value).collect()),
        Some(Kind::StructValue(value)) => struct_to_json(value),
    }
}
