//! Values that programs stumble over.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Changes;

/// A number near `good`, at an end of a type, or any.
pub(super) fn number(how: u8, good: u64, changes: &mut Changes<'_>) -> u64 {
    match how % 20 {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => good.wrapping_sub(1),
        5 => good.wrapping_add(1),
        6 => good.wrapping_mul(2),
        7 => good / 2,
        8 => u64::MAX,
        9 => u64::MAX - 1,
        10 => 1 << 63,
        11 => i64::MAX.unsigned_abs(),
        12 => u32::MAX.into(),
        13 => u64::from(u32::MAX) + 1,
        14 => u16::MAX.into(),
        15 => 1_001,
        16 => good.wrapping_add(changes.byte().into()),
        17 => good.wrapping_sub(changes.u64() % 1_000_000),
        18 => good.wrapping_add(changes.u64() % 1_000_000),
        _ => changes.u64(),
    }
}

/// Not a number, endless, negative, next to nothing, or any bits.
pub(super) fn float(how: u8, good: f64, changes: &mut Changes<'_>) -> f64 {
    match how % 14 {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => 0.0,
        4 => -0.0,
        5 => -good,
        6 => f64::from_bits(1),
        7 => f64::MIN_POSITIVE,
        8 => f64::MAX,
        9 => f64::MIN,
        10 => good * 1e300,
        11 => good / 1e300,
        12 => good * 10.0,
        _ => f64::from_bits(changes.u64()),
    }
}

/// The words of a good state by the field they stand in, so that what is made up may refer to
/// what is there; and bad ones.
pub(crate) struct Words {
    by_field: BTreeMap<String, Vec<String>>,
    /// Names of the keys of a map, by the field of the map.
    keys: BTreeMap<String, String>,
    bad: Vec<String>,
}

impl Words {
    pub(crate) fn of<'v>(states: impl IntoIterator<Item = &'v Value>) -> Self {
        let mut words = Self {
            by_field: BTreeMap::new(),
            keys: BTreeMap::new(),
            bad: bad(),
        };
        for state in states {
            words.collect("", state);
        }
        for of_field in words.by_field.values_mut() {
            of_field.sort();
            of_field.dedup();
        }
        words
    }

    fn collect(&mut self, field: &str, value: &Value) {
        match value {
            Value::String(text) => {
                let of_field = self.by_field.entry(field.to_owned()).or_default();
                of_field.push(text.clone());
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect(field, item)),
            Value::Object(entries) => {
                let keys = format!("{field}#");
                let of_keys = self.by_field.entry(keys.clone()).or_default();
                of_keys.extend(entries.keys().cloned());
                self.keys.insert(field.to_owned(), keys);
                for (key, value) in entries {
                    self.collect(key, value);
                    // A map of texts: its values stand in the map's field.
                    if let Value::String(_) = value {
                        self.collect(field, value);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn key_of(&self, field: &str) -> &str {
        self.keys.get(field).map_or("", String::as_str)
    }

    /// One of the field's own words mostly, else a bad one.
    pub(super) fn word(&self, field: &str, how: u8, which: u8) -> String {
        let own = self.by_field.get(field).filter(|_| how >= 96);
        let words = own.unwrap_or(&self.bad);
        let word = words.get(usize::from(which) % words.len().max(1));
        word.cloned().unwrap_or_default()
    }
}

fn bad() -> Vec<String> {
    let long = [
        "x".repeat(10_000),
        "é".repeat(10_000),
        "1,".repeat(5_000),
        format!("app/{}", "x".repeat(63)),
        "x".repeat(63),
    ];
    let short = [
        "",
        " ",
        "/",
        "app/web",
        "app/none",
        "other/web",
        "none",
        "node1",
        "r0",
        "r18446744073709551615",
        "00000000000000000000000000000000",
        "* * * * *",
        "0 0 29 2 *",
        "0 0 30 2 *",
        "UTC",
        "Europe/Brussels",
        "0.0.0.0",
        "::1",
        "{\"a\":[]}",
        "a\nb\0c\u{202e}",
    ];
    long.into_iter().chain(short.map(str::to_owned)).collect()
}
