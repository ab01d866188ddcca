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

// A cast of what is in range and whole, or saturates at the end of the range.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]
fn from_value(value: &Value) -> Json {
    // Integers up to 2^53 are exact in a double; every sensible number of ours is below that.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::BoolValue(value)) => Json::Bool(*value),
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() < EXACT => {
            Json::from(*number as i64)
        }
        // An absurd number is still a whole one: who reads it as an integer must not fail.
        Some(Kind::NumberValue(number)) if *number >= EXACT && *number <= u64::MAX as f64 => {
            Json::from(*number as u64)
        }
        Some(Kind::NumberValue(number)) => {
            serde_json::Number::from_f64(*number).map_or(Json::Null, Json::Number)
        }
        Some(Kind::StringValue(text)) => Json::String(text.clone()),
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(from_value).collect()),
        Some(Kind::StructValue(value)) => struct_to_json(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn huge_integers_come_back_as_integers() {
        for number in [0, 1 << 53, u64::MAX] {
            let sent = to_struct(&serde_json::json!({"bytes": number}));
            let read = struct_to_json(&sent);
            assert_eq!(read["bytes"].as_u64(), Some(number), "{read}");
        }
        let sent = to_struct(&serde_json::json!({"share": 0.5, "less": -3}));
        let read = struct_to_json(&sent);
        assert_eq!((&read["share"], &read["less"]), (&0.5.into(), &(-3).into()));
    }
}
