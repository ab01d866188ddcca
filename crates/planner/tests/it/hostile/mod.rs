//! Bad input from bytes: a deserializer that reads a good state and, wherever the bytes say so,
//! gives another value of the type that is asked for. All fields of all types are reached, those
//! of tomorrow as well, and what a type refuses is refused here, too. It knows nothing of
//! proptest: any source of bytes may drive it.

mod access;
pub(crate) mod state;
mod values;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use access::{Fields, Items, Variant};
pub(crate) use values::Words;

/// Deeper than any type of the model; what is made up ends there.
const DEPTH_MAX: u8 = 32;

/// Where changes come from: after each, how many leaves stay as they are.
pub(crate) struct Changes<'a> {
    bytes: &'a [u8],
    stay: u32,
    words: &'a Words,
}

impl<'a> Changes<'a> {
    pub(crate) fn new(bytes: &'a [u8], words: &'a Words) -> Self {
        let mut changes = Self {
            bytes,
            stay: 0,
            words,
        };
        changes.skip();
        changes
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        *first
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    fn skip(&mut self) {
        let byte = u32::from(self.byte());
        // Near or far: a state has some thousand leaves.
        self.stay = if byte < 128 { byte } else { (byte - 127) * 32 };
    }

    /// Is the leaf at hand to be changed, and how?
    fn hit(&mut self) -> Option<u8> {
        if self.stay > 0 {
            self.stay -= 1;
            return None;
        }
        if self.bytes.is_empty() {
            return None;
        }
        let how = self.byte();
        self.skip();
        Some(how)
    }
}

/// What a value is read from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// Nothing: it is made up.
    Nothing,
    Key(&'a str),
    Value(&'a Value),
}

impl<'a> Source<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Key(text) => Some(text),
            Self::Value(value) => value.as_str(),
            Self::Nothing => None,
        }
    }

    fn number(self) -> Option<u64> {
        match self {
            Self::Key(text) => text.parse().ok(),
            Self::Value(value) => value.as_u64(),
            Self::Nothing => None,
        }
    }

    fn get(self, field: &str) -> Option<Self> {
        match self {
            Self::Value(value) => value.get(field).map(Self::Value),
            _ => None,
        }
    }
}

/// Reads one value of which it may change every part.
pub(crate) struct Reader<'c, 'a> {
    changes: &'c mut Changes<'a>,
    source: Source<'a>,
    /// The field that the value belongs to: it tells which words fit.
    field: &'a str,
    depth: u8,
}

impl<'c, 'a> Reader<'c, 'a> {
    pub(crate) fn new(changes: &'c mut Changes<'a>, good: &'a Value) -> Self {
        Self {
            changes,
            source: Source::Value(good),
            field: "",
            depth: 0,
        }
    }

    fn inner<'n>(
        changes: &'n mut Changes<'a>,
        source: Source<'a>,
        field: &'a str,
        depth: u8,
    ) -> Reader<'n, 'a> {
        Reader {
            changes,
            source,
            field,
            depth: depth.saturating_add(1),
        }
    }

    fn unsigned(&mut self, max: u64) -> u64 {
        let good = self.source.number().unwrap_or(0);
        let value = match self.changes.hit() {
            Some(how) => values::number(how, good, self.changes),
            None => good,
        };
        value.min(max)
    }

    fn signed(&mut self) -> i64 {
        let good = match self.source {
            Source::Value(value) => value.as_i64().unwrap_or(0),
            _ => 0,
        };
        match self.changes.hit() {
            Some(how) => values::number(how, good.unsigned_abs(), self.changes).cast_signed(),
            None => good,
        }
    }

    fn float(&mut self) -> f64 {
        let good = match self.source {
            Source::Value(value) => value.as_f64().unwrap_or(0.0),
            _ => 0.0,
        };
        match self.changes.hit() {
            Some(how) => values::float(how, good, self.changes),
            None => good,
        }
    }

    fn word(&mut self) -> String {
        let good = self.source.text();
        let made_up = good.is_none();
        match self.changes.hit() {
            Some(how) => self
                .changes
                .words
                .word(self.field, how, self.changes.byte()),
            None if made_up => self.changes.words.word(self.field, 255, 0),
            None => good.unwrap_or_default().to_owned(),
        }
    }
}

macro_rules! unsigned {
    ($($method:ident, $max:expr;)*) => {
        $(fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_u64(self.unsigned($max))
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_, '_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.source {
            Source::Key(_) | Source::Value(Value::String(_)) => self.deserialize_string(visitor),
            Source::Value(Value::Bool(_)) => self.deserialize_bool(visitor),
            Source::Value(Value::Number(number)) if number.is_u64() => {
                self.deserialize_u32(visitor)
            }
            Source::Value(Value::Number(_)) => self.deserialize_f64(visitor),
            Source::Value(Value::Array(_)) => self.deserialize_seq(visitor),
            Source::Value(Value::Object(_)) => self.deserialize_map(visitor),
            Source::Value(Value::Null) => visitor.visit_unit(),
            Source::Nothing => Err(Error::custom("not made up")),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let good = matches!(self.source, Source::Value(Value::Bool(true)));
        visitor.visit_bool(good != self.changes.hit().is_some())
    }

    unsigned! {
        deserialize_u8, u8::MAX.into();
        deserialize_u16, u16::MAX.into();
        deserialize_u32, u32::MAX.into();
        deserialize_u64, u64::MAX;
    }

    fn deserialize_i32<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        let value = self.signed();
        visitor.visit_i64(value.clamp(i32::MIN.into(), i32::MAX.into()))
    }

    fn deserialize_i64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_i64(self.signed())
    }

    fn deserialize_f64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.float())
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.word())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let none = matches!(self.source, Source::Nothing | Source::Value(Value::Null));
        let hit = self.changes.hit().is_some() && self.depth < DEPTH_MAX;
        match (none, hit) {
            (true, true) => {
                let source = Source::Nothing;
                visitor.visit_some(Reader { source, ..self })
            }
            (false, false) => visitor.visit_some(self),
            _ => visitor.visit_none(),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items::list(self))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items::tuple(self, len))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Items::map(self))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields::new(self, fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(Variant::new(self, variants)?)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let text: StrDeserializer<'_, Error> =
            self.source.text().unwrap_or_default().into_deserializer();
        text.deserialize_identifier(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i8 i16 f32 char bytes byte_buf unit unit_struct tuple_struct
    }
}
