//! Batches that are larger than one transaction of etcd may be.
//!
//! The batch is written in parts beside the rows; then one transaction, with the batch's guards,
//! writes the row that says how many parts there are and what they sum up to. From then on the
//! batch counts: its rows are put in place in as many transactions as it takes, by this store or
//! by the next leader's, and nothing else is read or written before. Parts without that row count
//! for nothing and are deleted.

use longshore_etcd::{Op, Range, Span};
use prost::Message;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::step::Chain;
use super::{EtcdStore, Folded, pack};
use crate::store::{Change, Guard, StoreError, Table};

/// A batch that counts and whose rows are not all in place.
pub(super) type Pending = Option<Vec<Change>>;

/// Bytes of one part: well below what a transaction takes.
const CHUNK_BYTES: usize = 1 << 20;
/// Largest batch: four times what all contents of files may be. etcd's default quota is 2 GiB.
const BYTES_MAX: usize = 256 << 20;
/// Parts that are read at a time, so that an answer is not too large.
const CHUNKS_READ: u32 = 8;

/// What makes a journal count.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    chunks: usize,
    sha256: String,
}

impl Head {
    fn of(bytes: &[u8]) -> Self {
        Self {
            chunks: bytes.len().div_ceil(CHUNK_BYTES),
            sha256: data_encoding::HEXLOWER.encode(&Sha256::digest(bytes)),
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Journal {
    #[prost(message, repeated, tag = "1")]
    changes: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    table: String,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "3")]
    value: Option<Vec<u8>>,
}

fn encode(changes: &Folded<'_>) -> Vec<u8> {
    let entry = |change: &&Change| Entry {
        table: change.table.name().to_owned(),
        key: change.key.clone(),
        value: change.value.clone(),
    };
    let changes = changes.iter().map(entry).collect();
    Journal { changes }.encode_to_vec()
}

fn decode(bytes: &[u8]) -> Result<Vec<Change>, String> {
    let journal = Journal::decode(bytes).map_err(|error| error.to_string())?;
    let change = |entry: Entry| {
        let Entry { table, key, value } = entry;
        let known = Table::ALL.into_iter().find(|known| known.name() == table);
        let table = known.ok_or_else(|| format!("table {table:?} is not known"))?;
        Ok(Change { table, key, value })
    };
    journal.changes.into_iter().map(change).collect()
}

impl EtcdStore {
    /// Writes a batch through the journal. Once it counts, it is written: rows that cannot be put
    /// in place now are before anything else is done.
    pub(super) fn write_large(
        &self,
        chain: &mut Chain,
        guards: &[Guard],
        changes: &Folded<'_>,
    ) -> Result<(), StoreError> {
        let bytes = encode(changes);
        pack::refuse_above(BYTES_MAX, bytes.len(), "bytes of one write")?;
        if chain.stray {
            self.clear(chain)?;
        }
        chain.stray = true;
        for (n, chunk) in bytes.chunks(CHUNK_BYTES).enumerate() {
            self.step(chain, &[], vec![Op::put(self.keys.chunk(n), chunk)])?;
        }
        let head = serde_json::to_vec(&Head::of(&bytes)).map_err(|source| StoreError::Io {
            attempted: "encoding a journal",
            place: self.place.clone(),
            source: Box::new(source),
        })?;
        let mut pending = self.pending_mut();
        if let Err(error) = self.step(chain, guards, vec![Op::put(self.keys.journal(), head)]) {
            return self.tidy_up(chain).and(Err(error));
        }
        *pending = Some(changes.iter().map(|change| (*change).clone()).collect());
        if let Err(error) = self.settle(chain, &mut pending) {
            let error = crate::chain(&error);
            tracing::warn!(error, "a large write is made, but not all in place yet");
        }
        Ok(())
    }

    /// Puts in place what counts already, if there is any. Beginning again does no harm: nothing
    /// else was written since.
    pub(super) fn settle(
        &self,
        chain: &mut Chain,
        pending: &mut Pending,
    ) -> Result<(), StoreError> {
        let Some(changes) = pending else {
            return Ok(());
        };
        for part in pack::parts(&self.keys, changes) {
            let ops = part.iter().map(|change| self.keys.op(change)).collect();
            self.step(chain, &[], ops)?;
        }
        self.clear(chain)?;
        *pending = None;
        Ok(())
    }

    /// Deletes parts that do not count; if that cannot be done now, before the next large write.
    pub(super) fn tidy_up(&self, chain: &mut Chain) -> Result<(), StoreError> {
        match self.clear(chain) {
            Err(error) if !error.is_fatal() => {
                let error = crate::chain(&error);
                tracing::warn!(error, "parts of a write that was not made stay for now");
                Ok(())
            }
            cleared => cleared,
        }
    }

    /// Deletes the journal, in one step.
    fn clear(&self, chain: &mut Chain) -> Result<(), StoreError> {
        let all = [
            Span::key(self.keys.journal()),
            Span::prefix(self.keys.chunks()),
        ];
        self.step(chain, &[], all.into_iter().map(Op::Delete).collect())?;
        chain.stray = false;
        Ok(())
    }

    /// What an earlier writer left: a batch that counts, or parts that do not.
    pub(super) fn left_over(&self, chain: &mut Chain) -> Result<Pending, StoreError> {
        let chunks = self.read_chunks()?;
        let Some(head) = self.read_row(self.keys.journal())? else {
            chain.stray = !chunks.is_empty();
            return Ok(None);
        };
        let corrupt = |detail: String| StoreError::Corrupt {
            place: format!("the journal in {}", self.place),
            detail,
        };
        let head: Head = serde_json::from_slice(&head.value)
            .map_err(|error| corrupt(format!("its head: {error}")))?;
        let bytes = chunks.concat();
        let found = Head::of(&bytes);
        if (chunks.len(), &found.sha256) != (head.chunks, &head.sha256) {
            let (found, wanted) = (chunks.len(), head.chunks);
            return Err(corrupt(format!(
                "{found} parts of {wanted}, and their checksum does not match"
            )));
        }
        decode(&bytes).map(Some).map_err(corrupt)
    }

    pub(super) fn read_chunks(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut chunks = Vec::new();
        loop {
            let (from, end) = (self.keys.chunk(chunks.len()), self.keys.chunks_end());
            let range = Range::of(Span::between(from, end)).limit(CHUNKS_READ);
            let client = self.calls.client();
            let found = self.read("a read", async move { client.range(range).await })?;
            let cut = found.is_cut();
            chunks.extend(found.rows.into_iter().map(|row| row.value));
            if !cut {
                return Ok(chunks);
            }
        }
    }
}
