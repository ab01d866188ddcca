//! Lists, maps, structs and enums whose parts may be missing, doubled, made up.

use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde_json::Value;

use super::{Changes, DEPTH_MAX, Reader, Source};

/// Most copies of one element; enough to be more than any limit on lists.
const COPIES_MAX: usize = 200;

/// Elements of a list, a tuple or a map.
pub(super) struct Items<'c, 'a> {
    changes: &'c mut Changes<'a>,
    field: &'a str,
    depth: u8,
    /// Keys (none in lists) and values, last first.
    left: Vec<(Source<'a>, Source<'a>)>,
    value: Source<'a>,
}

impl<'c, 'a> Items<'c, 'a> {
    fn new(reader: Reader<'c, 'a>, left: Vec<(Source<'a>, Source<'a>)>) -> Self {
        Self {
            changes: reader.changes,
            field: reader.field,
            depth: reader.depth,
            left,
            value: Source::Nothing,
        }
    }

    pub(super) fn list(reader: Reader<'c, 'a>) -> Self {
        let mut left: Vec<_> = match reader.source {
            Source::Value(Value::Array(items)) => {
                let items = items.iter().rev();
                items.map(|v| (Source::Nothing, Source::Value(v))).collect()
            }
            _ => Vec::new(),
        };
        if let Some(how) = reader.changes.hit().filter(|_| reader.depth < DEPTH_MAX) {
            match (how % 5, left.first().copied()) {
                (0, _) => left.clear(),
                (1, Some(last)) => left.push(last),
                (2, Some(last)) => left.extend(std::iter::repeat_n(last, COPIES_MAX)),
                (3, Some(_)) => left.reverse(),
                _ => left.insert(0, (Source::Nothing, Source::Nothing)),
            }
        }
        Self::new(reader, left)
    }

    pub(super) fn tuple(reader: Reader<'c, 'a>, len: usize) -> Self {
        let nothing = (Source::Nothing, Source::Nothing);
        let items = match reader.source {
            Source::Value(Value::Array(items)) => items.as_slice(),
            _ => &[],
        };
        let at = |n| match items.get(n) {
            Some(value) => (Source::Nothing, Source::Value(value)),
            None => nothing,
        };
        let left = (0..len).rev().map(at).collect();
        Self::new(reader, left)
    }

    pub(super) fn map(reader: Reader<'c, 'a>) -> Self {
        let mut left: Vec<_> = match reader.source {
            Source::Value(Value::Object(entries)) => {
                let entries = entries.iter().rev();
                entries
                    .map(|(k, v)| (Source::Key(k), Source::Value(v)))
                    .collect()
            }
            _ => Vec::new(),
        };
        if let Some(how) = reader.changes.hit().filter(|_| reader.depth < DEPTH_MAX) {
            match (how % 4, left.len()) {
                (0, _) => left.clear(),
                (1, 1..) => drop(left.remove(usize::from(how) % left.len())),
                // Another key with a value that is known, or with one that nobody knows.
                (2, 1..) => left[0].0 = Source::Nothing,
                _ => left.insert(0, (Source::Nothing, Source::Nothing)),
            }
        }
        Self::new(reader, left)
    }
}

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some((_, value)) = self.left.pop() else {
            return Ok(None);
        };
        let reader = Reader::inner(self.changes, value, self.field, self.depth);
        seed.deserialize(reader).map(Some)
    }
}

impl<'de> MapAccess<'de> for Items<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.left.pop() else {
            return Ok(None);
        };
        self.value = value;
        let field = self.changes.words.key_of(self.field);
        let reader = Reader::inner(self.changes, key, field, self.depth);
        seed.deserialize(reader).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let reader = Reader::inner(self.changes, self.value, self.field, self.depth);
        seed.deserialize(reader)
    }
}

/// The fields of a struct: all of them when it is made up.
pub(super) struct Fields<'c, 'a> {
    changes: &'c mut Changes<'a>,
    source: Source<'a>,
    depth: u8,
    left: std::slice::Iter<'static, &'static str>,
    field: &'static str,
    value: Source<'a>,
}

impl<'c, 'a> Fields<'c, 'a> {
    pub(super) fn new(reader: Reader<'c, 'a>, fields: &'static [&'static str]) -> Self {
        Self {
            changes: reader.changes,
            source: reader.source,
            depth: reader.depth,
            left: fields.iter(),
            field: "",
            value: Source::Nothing,
        }
    }
}

impl<'de> MapAccess<'de> for Fields<'_, '_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        for field in self.left.by_ref() {
            let known = self.source.get(field);
            let made_up = matches!(self.source, Source::Nothing);
            if known.is_none() && !made_up && self.changes.hit().is_none() {
                continue;
            }
            (self.field, self.value) = (field, known.unwrap_or(Source::Nothing));
            let name: StrDeserializer<'_, Error> = field.into_deserializer();
            return seed.deserialize(name).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let reader = Reader::inner(self.changes, self.value, self.field, self.depth);
        seed.deserialize(reader)
    }
}

/// One variant of an enum.
pub(super) struct Variant<'c, 'a> {
    changes: &'c mut Changes<'a>,
    name: &'a str,
    content: Source<'a>,
    field: &'a str,
    depth: u8,
}

impl<'c, 'a> Variant<'c, 'a> {
    pub(super) fn new(
        reader: Reader<'c, 'a>,
        variants: &'static [&'static str],
    ) -> Result<Self, Error> {
        let known = match reader.source {
            Source::Nothing => None,
            Source::Value(Value::Object(entries)) => {
                let first = entries.iter().next();
                first.map(|(name, value)| (name.as_str(), Source::Value(value)))
            }
            other => other.text().map(|name| (name, Source::Nothing)),
        };
        let chosen = |how: u8| {
            let name = variants.get(usize::from(how) % variants.len().max(1));
            name.map(|name| (*name, Source::Nothing))
        };
        let (name, content) = match (reader.changes.hit(), known) {
            (None, Some(known)) => known,
            (how, _) => chosen(how.unwrap_or(0)).ok_or_else(|| Error::custom("no variant"))?,
        };
        Ok(Self {
            changes: reader.changes,
            name,
            content,
            field: reader.field,
            depth: reader.depth,
        })
    }

    fn reader(self) -> Reader<'c, 'a> {
        Reader::inner(self.changes, self.content, self.field, self.depth)
    }
}

impl<'de> EnumAccess<'de> for Variant<'_, '_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name: StrDeserializer<'_, Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, '_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.reader())
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items::tuple(self.reader(), len))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields::new(self.reader(), fields))
    }
}
