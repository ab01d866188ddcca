//! Refusals of messages.

use longshore_model::NameError;

/// Why a message was refused: the field and the rule.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// Path of the field.
        field: &'static str,
    },
    /// A value outside its range or set.
    #[error("{field}: {rule}")]
    Invalid {
        /// Path of the field.
        field: &'static str,
        /// What it must be.
        rule: String,
    },
    /// A list longer than allowed.
    #[error("{field} has {length} entries; at most {max} are allowed")]
    TooMany {
        /// Path of the field.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A bad name.
    #[error("{field}")]
    Name {
        /// Path of the field.
        field: &'static str,
        /// Which rule.
        #[source]
        source: NameError,
    },
}

pub(crate) fn invalid(field: &'static str, rule: impl Into<String>) -> WireError {
    WireError::Invalid {
        field,
        rule: rule.into(),
    }
}

pub(crate) fn named(field: &'static str) -> impl Fn(NameError) -> WireError {
    move |source| WireError::Name { field, source }
}

pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError::Missing { field })
}

/// Converts a list that has at most `max` entries.
pub(crate) fn list<A, B>(
    field: &'static str,
    max: usize,
    from: Vec<A>,
    convert: impl Fn(A) -> Result<B, WireError>,
) -> Result<Vec<B>, WireError> {
    if from.len() > max {
        return Err(WireError::TooMany {
            field,
            length: from.len(),
            max,
        });
    }
    from.into_iter().map(convert).collect()
}

/// A list of things that need no conversion.
pub(crate) fn bounded<T>(
    field: &'static str,
    max: usize,
    from: Vec<T>,
) -> Result<Vec<T>, WireError> {
    list(field, max, from, Ok)
}

pub(crate) fn map_bounded(
    field: &'static str,
    max: usize,
    from: std::collections::HashMap<String, String>,
) -> Result<std::collections::BTreeMap<String, String>, WireError> {
    if from.len() > max {
        return Err(WireError::TooMany {
            field,
            length: from.len(),
            max,
        });
    }
    Ok(from.into_iter().collect())
}

/// A port: 1 to 65,535.
pub(crate) fn port(field: &'static str, value: u32) -> Result<u16, WireError> {
    u16::try_from(value)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| invalid(field, format!("{value} is no port (1 to 65535)")))
}
