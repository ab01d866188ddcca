//! A sorted map whose copies share what did not change: a copy costs a step per chunk, a change
//! copies one chunk, and two copies are compared without looking into the chunks that they share.
//!
//! Plans, reports and memories of a large cluster differ from the ones before in a few services.
//! A `BTreeMap` would have to be copied whole for each.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Index;
use std::slice;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most entries of a chunk: few enough that copying one is cheap, enough that there are few.
const CHUNK_MAX: usize = 64;

/// Some entries in key order; never empty. Keys and values are shared apart: a change of a value
/// copies neither the keys nor what they share with others.
#[derive(Debug)]
struct Chunk<K, V> {
    keys: Arc<Vec<K>>,
    /// As many as keys, in their order.
    values: Arc<Vec<V>>,
}

impl<K, V> Chunk<K, V> {
    fn new(keys: Vec<K>, values: Vec<V>) -> Self {
        Self {
            keys: Arc::new(keys),
            values: Arc::new(values),
        }
    }

    /// The same `Arc`s?
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.values, &other.values) && Arc::ptr_eq(&self.keys, &other.keys)
    }
}

impl<K, V> Clone for Chunk<K, V> {
    fn clone(&self) -> Self {
        Self {
            keys: Arc::clone(&self.keys),
            values: Arc::clone(&self.values),
        }
    }
}

/// A sorted map with cheap copies. Keys are unique; iteration is in key order.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    /// In key order.
    chunks: Vec<Chunk<K, V>>,
    len: usize,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<K, V> SharedMap<K, V> {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Has it no entries?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries in key order.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter {
            chunks: self.chunks.iter(),
            keys: [].iter(),
            values: [].iter(),
        }
    }

    /// Keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// Values in key order.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// Do both hold the same chunks? Then they are equal; otherwise they may be.
    #[must_use]
    pub fn shares_all(&self, other: &Self) -> bool {
        self.chunks.len() == other.chunks.len()
            && self.chunks.iter().zip(&other.chunks).all(|(a, b)| a.is(b))
    }

    /// Of entries with keys in ascending order, none twice.
    fn from_sorted(len: usize, entries: impl Iterator<Item = (K, V)>) -> Self {
        let mut entries = entries.peekable();
        let mut chunks = Vec::with_capacity(len.div_ceil(CHUNK_MAX));
        while entries.peek().is_some() {
            let mut keys = Vec::with_capacity(CHUNK_MAX);
            let mut values = Vec::with_capacity(CHUNK_MAX);
            for (key, value) in entries.by_ref().take(CHUNK_MAX) {
                keys.push(key);
                values.push(value);
            }
            chunks.push(Chunk::new(keys, values));
        }
        Self { chunks, len }
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    /// The chunk in which `key` is, or belongs.
    fn chunk<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
    {
        let after = self.chunks.partition_point(|chunk| {
            let first = chunk.keys.first();
            first.is_some_and(|first| first.borrow() <= key)
        });
        after.saturating_sub(1)
    }

    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(usize, usize)>
    where
        K: Borrow<Q>,
    {
        let number = self.chunk(key);
        let keys = &self.chunks.get(number)?.keys;
        let at = keys.binary_search_by(|known| known.borrow().cmp(key));
        Some((number, at.ok()?))
    }

    /// Key and value of an entry.
    #[must_use]
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (number, at) = self.find(key)?;
        let chunk = self.chunks.get(number)?;
        Some((chunk.keys.get(at)?, chunk.values.get(at)?))
    }

    /// Value of an entry.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        Some(self.get_key_value(key)?.1)
    }

    /// Is there an entry?
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_some()
    }

    /// Calls `tell` with each key whose values differ by `same`, or that only one of the maps has,
    /// in order. Chunks that both share are passed over.
    pub fn differing<'a>(
        &'a self,
        now: &'a Self,
        same: impl Fn(&V, &V) -> bool,
        mut tell: impl FnMut(&'a K),
    ) {
        let (mut old, mut new) = (self.iter(), now.iter());
        loop {
            Iter::skip_shared(&mut old, &mut new);
            let now = new.peek();
            let gone = old.peek().map(|(before, _)| before);
            if let Some(gone) = gone.filter(|gone| now.is_none_or(|(key, _)| *gone < key)) {
                tell(gone);
                old.next();
                continue;
            }
            let Some((key, value)) = now else { return };
            let known = old.peek().filter(|(before, _)| *before == key);
            if known.is_none_or(|(_, known)| !same(known, value)) {
                tell(key);
            }
            if known.is_some() {
                old.next();
            }
            new.next();
        }
    }

    /// Entries with keys above `key`, in order.
    #[must_use]
    pub fn after<Q: Ord + ?Sized>(&self, key: &Q) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let rest = self.chunks.get(self.chunk(key)..).unwrap_or_default();
        let mut chunks = rest.iter();
        let first = chunks.next();
        let keys = first.map_or(&[][..], |chunk| &chunk.keys);
        let values = first.map_or(&[][..], |chunk| &chunk.values);
        let at = keys.partition_point(|known| known.borrow() <= key);
        Iter {
            chunks,
            keys: keys.get(at..).unwrap_or_default().iter(),
            values: values.get(at..).unwrap_or_default().iter(),
        }
    }
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// Value of an entry, for a change; only the values of its chunk are copied.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (number, at) = self.find(key)?;
        let values = Arc::make_mut(&mut self.chunks.get_mut(number)?.values);
        values.get_mut(at)
    }

    /// Values in key order, for a change of many: the values of every chunk that is shared are
    /// copied.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        let chunks = self.chunks.iter_mut();
        chunks.flat_map(|chunk| Arc::make_mut(&mut chunk.values).iter_mut())
    }

    /// Puts an entry in; gives the value that it replaces.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let number = self.chunk(&key);
        let Some(chunk) = self.chunks.get_mut(number) else {
            self.chunks.push(Chunk::new(vec![key], vec![value]));
            self.len = 1;
            return None;
        };
        let at = match chunk.keys.binary_search(&key) {
            Ok(at) => {
                let values = Arc::make_mut(&mut chunk.values);
                return Some(std::mem::replace(&mut values[at], value));
            }
            Err(at) => at,
        };
        let keys = Arc::make_mut(&mut chunk.keys);
        let values = Arc::make_mut(&mut chunk.values);
        keys.insert(at, key);
        values.insert(at, value);
        self.len += 1;
        if keys.len() > CHUNK_MAX {
            let half = keys.len() / 2;
            let rest = Chunk::new(keys.split_off(half), values.split_off(half));
            self.chunks.insert(number + 1, rest);
        }
        None
    }

    /// Takes an entry out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (number, at) = self.find(key)?;
        let chunk = self.chunks.get_mut(number)?;
        Arc::make_mut(&mut chunk.keys).remove(at);
        let value = Arc::make_mut(&mut chunk.values).remove(at);
        if chunk.keys.is_empty() {
            self.chunks.remove(number);
        }
        self.len -= 1;
        Some(value)
    }
}

/// Entries of a [`SharedMap`] in key order.
pub struct Iter<'a, K, V> {
    chunks: slice::Iter<'a, Chunk<K, V>>,
    keys: slice::Iter<'a, K>,
    /// As many as keys.
    values: slice::Iter<'a, V>,
}

impl<'a, K, V> Iter<'a, K, V> {
    /// The next entry, which stays.
    fn peek(&self) -> Option<(&'a K, &'a V)> {
        if let Some(key) = self.keys.as_slice().first() {
            return Some((key, self.values.as_slice().first()?));
        }
        let next = self.chunks.as_slice().first()?;
        Some((next.keys.first()?, next.values.first()?))
    }

    /// Both stand at the start of a chunk: passes over those that are the same.
    fn skip_shared(a: &mut Self, b: &mut Self) {
        while a.keys.as_slice().is_empty()
            && b.keys.as_slice().is_empty()
            && let (Some(left), Some(right)) =
                (a.chunks.as_slice().first(), b.chunks.as_slice().first())
            && left.is(right)
        {
            a.chunks.next();
            b.chunks.next();
        }
    }
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.clone(),
            keys: self.keys.clone(),
            values: self.values.clone(),
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.keys.next() {
                return Some((key, self.values.next()?));
            }
            let chunk = self.chunks.next()?;
            (self.keys, self.values) = (chunk.keys.iter(), chunk.values.iter());
        }
    }
}

impl<K, V> FusedIterator for Iter<'_, K, V> {}

impl<K, V> fmt::Debug for Iter<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

impl<'a, K, V> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let entries: Vec<(K, V)> = entries.into_iter().collect();
        if entries.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Self::from_sorted(entries.len(), entries.into_iter());
        }
        entries.into_iter().collect::<BTreeMap<K, V>>().into()
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K, V> From<BTreeMap<K, V>> for SharedMap<K, V> {
    fn from(map: BTreeMap<K, V>) -> Self {
        Self::from_sorted(map.len(), map.into_iter())
    }
}

impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for SharedMap<K, V> {
    type Output = V;

    /// # Panics
    /// If there is no such entry, as for a `BTreeMap`.
    fn index(&self, key: &Q) -> &V {
        match self.get(key) {
            Some(value) => value,
            None => panic!("no entry found for key"),
        }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && (self.shares_all(other) || self.iter().eq(other.iter()))
    }
}

impl<K: Eq, V: Eq> Eq for SharedMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Serialize, V: Serialize> Serialize for SharedMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, K, V> Deserialize<'de> for SharedMap<K, V>
where
    K: Deserialize<'de> + Ord,
    V: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is done to a map.
    #[derive(Debug, Clone)]
    enum Act {
        Insert(u16, u8),
        Remove(u16),
        Change(u16, u8),
    }

    fn act() -> impl Strategy<Value = Act> {
        let key = 0..600_u16;
        prop_oneof![
            3 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Act::Insert(key, value)),
            1 => key.clone().prop_map(Act::Remove),
            1 => (key, any::<u8>()).prop_map(|(key, value)| Act::Change(key, value)),
        ]
    }

    fn apply(act: &Act, map: &mut SharedMap<u16, u8>, model: &mut BTreeMap<u16, u8>) {
        match *act {
            Act::Insert(key, value) => {
                assert_eq!(map.insert(key, value), model.insert(key, value));
            }
            Act::Remove(key) => assert_eq!(map.remove(&key), model.remove(&key)),
            Act::Change(key, value) => {
                let (known, modelled) = (map.get_mut(&key), model.get_mut(&key));
                assert_eq!(known, modelled);
                if let (Some(known), Some(modelled)) = (known, modelled) {
                    (*known, *modelled) = (value, value);
                }
            }
        }
    }

    proptest! {
        /// It holds what a `BTreeMap` holds, its copies do not change with it, and what differs
        /// between them is found.
        #[test]
        fn it_is_a_map(
            start in proptest::collection::btree_map(0..600_u16, any::<u8>(), 0..400),
            acts in proptest::collection::vec(act(), 0..300),
        ) {
            let mut model = start.clone();
            let mut map: SharedMap<u16, u8> = start.clone().into();
            let before = map.clone();
            for act in &acts {
                apply(act, &mut map, &mut model);
            }
            prop_assert!(map.iter().eq(model.iter()));
            prop_assert!(before.iter().eq(start.iter()), "a copy changed");
            prop_assert_eq!(map.len(), model.len());
            prop_assert_eq!(before == map, start == model);
            for key in 0..600 {
                prop_assert_eq!(map.get(&key), model.get(&key));
                let after = model.range(key + 1..).next();
                prop_assert_eq!(map.after(&key).next(), after);
            }
            let mut told = Vec::new();
            before.differing(&map, PartialEq::eq, |key| told.push(*key));
            let differs = |key: &u16| start.get(key) != model.get(key);
            let differing: Vec<u16> = (0..600).filter(differs).collect();
            prop_assert_eq!(told, differing);
            let longest = map.chunks.iter().map(|chunk| chunk.keys.len()).max();
            prop_assert!(longest.is_none_or(|longest| longest <= CHUNK_MAX));
            let whole = |chunk: &Chunk<_, _>| {
                !chunk.keys.is_empty() && chunk.keys.len() == chunk.values.len()
            };
            prop_assert!(map.chunks.iter().all(whole));
        }
    }

    /// A change copies the values of the chunk it is in, and no other.
    #[test]
    fn copies_share_what_did_not_change() {
        let map: SharedMap<u32, u32> = (0..1_000).map(|n| (n, n)).collect();
        let mut changed = map.clone();
        changed.insert(500, 1);
        let shared = map.chunks.iter().zip(&changed.chunks);
        let copied = shared.filter(|(a, b)| !a.is(b)).count();
        let keys = map.chunks.iter().zip(&changed.chunks);
        assert!(keys.clone().all(|(a, b)| Arc::ptr_eq(&a.keys, &b.keys)));
        assert_eq!((map.chunks.len(), copied), (16, 1));
        assert_eq!((map[&500], changed[&500]), (500, 1));
    }

    /// Stored data has the form of any map, so that old data loads.
    #[test]
    fn it_is_stored_as_a_map() {
        let map: SharedMap<String, u8> = [("b".to_owned(), 2), ("a".to_owned(), 1)]
            .into_iter()
            .collect();
        let text = serde_json::to_string(&map).unwrap();
        assert_eq!(text, r#"{"a":1,"b":2}"#);
        let read: SharedMap<String, u8> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, map);
    }
}
