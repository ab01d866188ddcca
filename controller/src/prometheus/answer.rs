//! Reading answers of the instant query API, `/api/v1/query` (Prometheus HTTP API, version 1).

use serde::Deserialize;

/// Longest words of the server that are passed on.
const WORDS_CHARS_MAX: usize = 200;

/// Why an answer is no number.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum AnswerError {
    /// The server refused the query, in its words.
    #[error("the server says {kind}: {words}")]
    Refused { kind: String, words: String },
    /// It is no JSON, or not of that API.
    #[error("the answer is not of the Prometheus query API: {0}")]
    Form(String),
    /// A matrix, or a text.
    #[error("the query gives a {0}; it must give one number")]
    Kind(String),
    /// No series.
    #[error("the query gives no series")]
    Empty,
    /// Several series.
    #[error("the query gives {0} series; it must give one number, as sum(…) does")]
    Several(usize),
    /// A sample that is no number.
    #[error("the query gives {0:?}, which is no number to scale by")]
    Value(String),
}

#[derive(Deserialize)]
struct Envelope {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct Series {
    value: Pair,
}

/// Time in seconds and value as text. The time is the server's own: the controller's counts here.
#[derive(Deserialize)]
struct Pair(serde::de::IgnoredAny, String);

/// The one finite number of an answer.
pub(super) fn read(body: &[u8]) -> Result<f64, AnswerError> {
    let form = |error: serde_json::Error| AnswerError::Form(words(&error.to_string()));
    let envelope: Envelope = serde_json::from_slice(body).map_err(form)?;
    if envelope.status != "success" {
        return Err(AnswerError::Refused {
            kind: words(&envelope.error_type),
            words: words(&envelope.error),
        });
    }
    let data = envelope
        .data
        .ok_or_else(|| AnswerError::Form("it has no data".to_owned()))?;
    let text = match data.kind.as_str() {
        "scalar" => serde_json::from_value::<Pair>(data.result).map_err(form)?.1,
        "vector" => {
            let mut series: Vec<Series> = serde_json::from_value(data.result).map_err(form)?;
            let count = series.len();
            match (series.pop(), count) {
                (Some(only), 1) => only.value.1,
                (None, _) => return Err(AnswerError::Empty),
                _ => return Err(AnswerError::Several(count)),
            }
        }
        other => return Err(AnswerError::Kind(words(other))),
    };
    let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
    value.ok_or_else(|| AnswerError::Value(words(&text)))
}

/// Somebody else's words: short, and nothing in them moves a terminal.
pub(super) fn words(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(WORDS_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(kind: &str, result: &str) -> Result<f64, AnswerError> {
        let text =
            format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":{result}}}}}"#);
        read(text.as_bytes())
    }

    #[test]
    fn one_number_is_read_and_everything_else_is_named() {
        let series = r#"{"metric":{"job":"a"},"value":[1435781451.781,"12.5"]}"#;
        assert_eq!(answer("scalar", r#"[1435781451.781,"-3"]"#), Ok(-3.0));
        assert_eq!(answer("vector", &format!("[{series}]")), Ok(12.5));
        let cases = [
            (answer("vector", "[]"), "no series"),
            (
                answer("vector", &format!("[{series},{series}]")),
                "2 series",
            ),
            (answer("scalar", r#"[1,"NaN"]"#), "NaN"),
            (answer("scalar", r#"[1,"+Inf"]"#), "+Inf"),
            (answer("scalar", r#"[1,"twelve"]"#), "twelve"),
            (answer("scalar", r#"[1,12]"#), "not of the Prometheus"),
            (answer("matrix", "[]"), "a matrix"),
            (answer("string", r#"[1,"12"]"#), "a string"),
            (read(b"<html>"), "not of the Prometheus"),
            (read(br#"{"status":"success"}"#), "no data"),
            (
                read(br#"{"status":"error","errorType":"bad_data","error":"parse\u001b error"}"#),
                "bad_data: parse  error",
            ),
        ];
        for (result, part) in cases {
            let text = result.unwrap_err().to_string();
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_finite_number_or_a_short_reason(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            text in ".{0,20}",
        ) {
            let quoted = serde_json::to_string(&text).unwrap();
            for result in [read(&bytes), answer("scalar", &format!("[1,{quoted}]"))] {
                match result {
                    Ok(value) => prop_assert!(value.is_finite()),
                    Err(error) => prop_assert!(error.to_string().chars().count() < 600),
                }
            }
        }
    }
}
