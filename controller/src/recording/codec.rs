//! Points in few bytes: of each point only what differs from the one before.
//!
//! A load is kept with 11 bits after its first one, so that what is read differs by less than 0.03 %
//! from what was measured. A chunk that says the same all the time takes two bytes a point.

use std::collections::BTreeMap;

use longshore_model::TimeMs;
use longshore_model::recording::{Load, Point, QUERIES_MAX, RESOLUTION_MS};

/// Points of one chunk: ten minutes.
pub const CHUNK_POINTS_MAX: u32 = 60;

const LOADS: usize = Load::ALL.len();
/// Gap to the point before, wanted, ready, loads, answers from outside.
const FIELDS: usize = 3 + LOADS + QUERIES_MAX;
/// Bits of a single-precision number that are left out.
const DROPPED_BITS: u32 = 12;
const QUERY_BYTES_MAX: u64 = 4_096;

type Codes = [u32; FIELDS];

/// Points in a row of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    queries: Vec<String>,
    start_ms: TimeMs,
    end_ms: TimeMs,
    count: u32,
    last: Codes,
    bytes: Vec<u8>,
}

impl Chunk {
    /// With one point.
    #[must_use]
    pub fn begin(point: &Point) -> Self {
        let queries = point.external.keys().take(QUERIES_MAX).cloned().collect();
        let mut chunk = Self {
            queries,
            start_ms: point.at_ms,
            end_ms: point.at_ms,
            count: 0,
            last: [0; FIELDS],
            bytes: Vec::new(),
        };
        chunk.append(point, 0);
        chunk
    }

    /// Adds a point; false: it belongs into a new chunk.
    pub fn push(&mut self, point: &Point) -> bool {
        let known = point.external.keys().take(QUERIES_MAX);
        let gap = point.at_ms.saturating_sub(self.end_ms) / RESOLUTION_MS;
        let Ok(gap) = u32::try_from(gap) else {
            return false;
        };
        if gap == 0 || self.count >= CHUNK_POINTS_MAX || !known.eq(&self.queries) {
            return false;
        }
        self.append(point, gap - 1);
        true
    }

    fn append(&mut self, point: &Point, gap: u32) {
        let mut codes: Codes = [0; FIELDS];
        (codes[0], codes[1], codes[2]) = (gap, point.wanted, point.ready);
        let answers = self.queries.iter().map(|query| point.external.get(query));
        let loads = point.loads.iter().map(Option::as_ref).chain(answers);
        for (code, load) in codes[3..].iter_mut().zip(loads) {
            *code = encoded(load.copied());
        }
        let changed = codes.iter().zip(self.last).enumerate();
        let changed = changed.filter(|(_, (now, before))| **now != *before);
        let mask = changed.fold(0, |mask, (at, _)| mask | 1_u64 << at);
        varint(&mut self.bytes, mask);
        for (at, (now, before)) in codes.iter().zip(self.last).enumerate() {
            if mask & (1 << at) != 0 {
                let by = i64::from(*now) - i64::from(before);
                varint(&mut self.bytes, ((by << 1) ^ (by >> 63)).cast_unsigned());
            }
        }
        self.end_ms = point.at_ms;
        self.last = codes;
        self.count += 1;
    }

    /// Its first point.
    #[must_use]
    pub fn start_ms(&self) -> TimeMs {
        self.start_ms
    }

    /// Its last point.
    #[must_use]
    pub fn end_ms(&self) -> TimeMs {
        self.end_ms
    }

    /// What it takes in memory, about.
    #[must_use]
    pub fn size(&self) -> usize {
        let queries = self.queries.iter().map(String::len).sum::<usize>();
        size_of::<Self>() + self.bytes.capacity() + queries
    }

    /// All points, oldest first.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        let mut at = self.bytes.as_slice();
        let (mut codes, mut end_ms) = ([0; FIELDS], self.start_ms);
        let mut points = Vec::new();
        for number in 0..self.count {
            // Written by `append`, or checked when it was read.
            if read_point(&mut at, &mut codes).is_none() {
                break;
            }
            if number > 0 {
                end_ms += (u64::from(codes[0]) + 1) * RESOLUTION_MS;
            }
            let mut loads = [None; LOADS];
            for (load, code) in loads.iter_mut().zip(&codes[3..]) {
                *load = decoded(*code);
            }
            let answers = self.queries.iter().zip(&codes[3 + LOADS..]);
            let external =
                answers.filter_map(|(query, code)| Some((query.clone(), decoded(*code)?)));
            points.push(Point {
                at_ms: end_ms,
                wanted: codes[1],
                ready: codes[2],
                loads,
                external: external.collect::<BTreeMap<_, _>>(),
            });
        }
        points
    }

    /// As it is stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        varint(&mut bytes, self.start_ms);
        varint(&mut bytes, self.count.into());
        varint(&mut bytes, self.queries.len() as u64);
        for query in &self.queries {
            varint(&mut bytes, query.len() as u64);
            bytes.extend(query.as_bytes());
        }
        bytes.extend(&self.bytes);
        bytes
    }

    /// Reads what was stored; none: it is damaged.
    #[must_use]
    pub fn from_bytes(mut at: &[u8]) -> Option<Self> {
        let start_ms = read_varint(&mut at)?;
        let count = u32::try_from(read_varint(&mut at)?).ok()?;
        let queries = usize::try_from(read_varint(&mut at)?).ok()?;
        if count == 0 || count > CHUNK_POINTS_MAX || queries > QUERIES_MAX {
            return None;
        }
        let query = |at: &mut &[u8]| {
            let length = read_varint(at).filter(|length| *length <= QUERY_BYTES_MAX)?;
            let (text, rest) = at.split_at_checked(usize::try_from(length).ok()?)?;
            *at = rest;
            Some(std::str::from_utf8(text).ok()?.to_owned())
        };
        let queries = (0..queries)
            .map(|_| query(&mut at))
            .collect::<Option<_>>()?;
        let bytes = at.to_vec();
        let (mut codes, mut end_ms) = ([0; FIELDS], start_ms);
        for number in 0..count {
            read_point(&mut at, &mut codes)?;
            let gap_ms = (u64::from(codes[0]) + 1) * RESOLUTION_MS;
            end_ms = end_ms.checked_add(if number > 0 { gap_ms } else { 0 })?;
        }
        at.is_empty().then_some(Self {
            queries,
            start_ms,
            end_ms,
            count,
            last: codes,
            bytes,
        })
    }
}

/// Applies the next point's differences.
fn read_point(at: &mut &[u8], codes: &mut Codes) -> Option<()> {
    let mask = read_varint(at)?;
    if mask >> FIELDS != 0 {
        return None;
    }
    for (field, code) in codes.iter_mut().enumerate() {
        if mask & (1 << field) != 0 {
            let by = read_varint(at)?;
            let by = (by >> 1).cast_signed() ^ -(by & 1).cast_signed();
            *code = u32::try_from(i64::from(*code).checked_add(by)?).ok()?;
        }
    }
    Some(())
}

/// 0: not measured.
fn encoded(value: Option<f64>) -> u32 {
    let Some(value) = value.filter(|value| value.is_finite() && *value >= 0.0) else {
        return 0;
    };
    // The nearest single-precision number; huge ones are its largest.
    #[allow(clippy::cast_possible_truncation)]
    let single = (value as f32).min(f32::MAX).abs();
    let half = 1 << (DROPPED_BITS - 1);
    let rounded = (single.to_bits() + half).min(f32::MAX.to_bits());
    (rounded >> DROPPED_BITS) + 1
}

fn decoded(code: u32) -> Option<f64> {
    let bits = code.checked_sub(1)?.checked_shl(DROPPED_BITS)?;
    let value = f64::from(f32::from_bits(bits));
    (value.is_finite() && value >= 0.0).then_some(value)
}

fn varint(bytes: &mut Vec<u8>, value: u64) {
    prost::encoding::encode_varint(value, bytes);
}

fn read_varint(at: &mut &[u8]) -> Option<u64> {
    prost::encoding::decode_varint(at).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load() -> impl Strategy<Value = Option<f64>> {
        prop::option::of(prop_oneof![Just(0.0), 1e-3..1e13_f64])
    }

    fn points() -> impl Strategy<Value = Vec<Point>> {
        let external = prop::option::of(0.0..1e6_f64);
        let one = (
            1..400_u64,
            0..10_000_u32,
            0..10_000_u32,
            prop::array::uniform8(load()),
            external,
        );
        prop::collection::vec(one, 1..90).prop_map(|all| {
            let mut at_ms = 1_760_000_000_000;
            let point = |(gap, wanted, ready, loads, external): (u64, u32, u32, _, Option<f64>)| {
                at_ms += gap * RESOLUTION_MS;
                let external = external.map(|value| ("jobs".to_owned(), value));
                Point {
                    at_ms,
                    wanted,
                    ready,
                    loads,
                    external: external.into_iter().collect(),
                }
            };
            all.into_iter().map(point).collect()
        })
    }

    fn chunks(points: &[Point]) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for point in points {
            if !chunks.last_mut().is_some_and(|chunk| chunk.push(point)) {
                chunks.push(Chunk::begin(point));
            }
        }
        chunks
    }

    fn near(kept: Option<f64>, was: Option<f64>) -> bool {
        match (kept, was) {
            (Some(kept), Some(was)) => (kept - was).abs() <= was * 0.000_3,
            (kept, was) => kept == was,
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written_but_for_its_last_digits(points in points()) {
            let read: Vec<Point> = chunks(&points).iter().flat_map(|chunk| {
                let again = Chunk::from_bytes(&chunk.to_bytes()).unwrap();
                assert_eq!(&again, chunk);
                again.points()
            }).collect();
            prop_assert_eq!(read.len(), points.len());
            for (kept, was) in read.iter().zip(&points) {
                prop_assert_eq!((kept.at_ms, kept.wanted, kept.ready), (was.at_ms, was.wanted, was.ready));
                prop_assert!(kept.loads.iter().zip(was.loads).all(|(k, w)| near(*k, w)));
                prop_assert!(near(kept.external.get("jobs").copied(), was.external.get("jobs").copied()));
            }
        }

        #[test]
        fn no_bytes_make_it_fail(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(chunk) = Chunk::from_bytes(&bytes) {
                prop_assert!(chunk.points().len() <= CHUNK_POINTS_MAX as usize);
            }
        }
    }

    #[test]
    fn a_service_at_rest_takes_two_bytes_a_point_and_chunks_end() {
        let at = |number: u64| Point {
            at_ms: number * RESOLUTION_MS,
            wanted: 2,
            ready: 2,
            loads: [Some(0.125); LOADS],
            ..Point::default()
        };
        let all: Vec<Point> = (1..=120).map(at).collect();
        let chunks = chunks(&all);
        assert_eq!(chunks.len(), 2);
        assert!(
            chunks[0].bytes.len() < 2 * 60 + 40,
            "{}",
            chunks[0].bytes.len()
        );
        assert_eq!(
            (chunks[0].start_ms(), chunks[0].end_ms()),
            (10_000, 600_000)
        );
        // No point twice, and none of before.
        assert!(!chunks[1].clone().push(&at(120)) && !chunks[1].clone().push(&at(3)));
    }
}
