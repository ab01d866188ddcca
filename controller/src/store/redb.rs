//! The store in one file, by redb.
//!
//! redb refuses every call after an I/O error until it is reopened. So a write that the disk has
//! no room for is refused before the engine sees it: reads go on, and nothing is half done. Where
//! the disk fills up in between, the handle is dropped and each later write tries to reopen the
//! file first. Everything else ends the process (see [`StoreError::is_fatal`]).

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use ::redb::{
    CommitError, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition, TableError, TransactionError,
};

use super::ballast::Ballast;
use super::{Batch, Change, Row, Store, StoreError, Table, readable};

/// Pages kept in memory; the state itself is small.
const CACHE_BYTES: usize = 2 << 20;

/// Room that a write leaves untouched: the engine's own pages, twice over.
const RESERVE_BYTES: u64 = 1 << 20;
/// A batch that makes the store larger by no more than this may have the room that is set aside: what
/// removes things says so in an event.
const SMALL_BYTES: i64 = 4 << 10;
/// Pages that a write copies, as a multiple of what it says: each row may cost a path of pages.
const COPIES: u64 = 8;

/// What a panic of the engine is called.
const GAVE_UP: &str = "the engine gave up while reading it";

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn definition(table: Table) -> Definition {
    TableDefinition::new(table.name())
}

type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// Bytes that the disk under the store still takes.
type Room = Box<dyn Fn() -> io::Result<u64> + Send + Sync>;

/// One redb file.
pub struct RedbStore {
    open: Opener,
    room: Room,
    place: String,
    ballast: Option<Ballast>,
    database: RwLock<Option<Database>>,
}

impl RedbStore {
    /// Opens or makes the file and checks all of it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] with the file's name if it is damaged, [`StoreError::Full`] if
    /// there is no space to open it, [`StoreError::Io`] otherwise.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = path.to_owned();
        let open = move || {
            Database::builder()
                .set_cache_size(CACHE_BYTES)
                .create(&file)
        };
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        let room = move || {
            let disk = rustix::fs::statvfs(&folder)?;
            Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
        };
        let store = Self::with_opener(Box::new(open), Box::new(room), path.display().to_string())?;
        // Keys of certificates are in it.
        let private = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, private).map_err(|source| StoreError::Io {
            attempted: "making it private",
            place: path.display().to_string(),
            source: Box::new(source),
        })?;
        Ok(store)
    }

    /// Opens what `open` gives, on a disk that has `room`; `place` names it in errors.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_opener(open: Opener, room: Room, place: String) -> Result<Self, StoreError> {
        let database = checked(&open, &place)?;
        Ok(Self {
            open,
            room,
            place,
            ballast: None,
            database: RwLock::new(Some(database)),
        })
    }

    /// With room set aside for a full disk.
    #[must_use]
    pub fn with_ballast(mut self, ballast: Ballast) -> Self {
        if let Ok(room) = (self.room)() {
            ballast.hold(room);
        }
        self.ballast = Some(ballast);
        self
    }

    fn lost(&self) -> StoreError {
        StoreError::Full {
            place: self.place.clone(),
        }
    }

    /// Refuses what the disk has no room for. A disk that cannot be asked is tried.
    ///
    /// Where room is set aside, batches that make the store smaller, or hardly larger, get it; the others
    /// must leave it alone, also once it is given back: what frees room must have some until the end.
    fn check_room(&self, batch: &Batch) -> Result<(), StoreError> {
        let sizes = batch.changes.iter().map(|change| {
            let value = change.value.as_ref().map_or(0, Vec::len);
            (change.key.len() + value) as u64
        });
        let needed = sizes
            .fold(0, u64::saturating_add)
            .saturating_mul(COPIES)
            .saturating_add(RESERVE_BYTES);
        let Ok(room) = (self.room)() else {
            return Ok(());
        };
        let Some(ballast) = &self.ballast else {
            return self.enough(room >= needed);
        };
        ballast.hold(room);
        let kept = if ballast.is_held() {
            0
        } else {
            ballast.bytes()
        };
        if room >= needed.saturating_add(kept) {
            return Ok(());
        }
        if self.growth_bytes(batch)? > SMALL_BYTES {
            return Err(self.lost());
        }
        if room < needed {
            ballast.release();
        }
        self.enough((self.room)().is_ok_and(|room| room >= needed))
    }

    fn enough(&self, is_enough: bool) -> Result<(), StoreError> {
        match is_enough {
            true => Ok(()),
            false => Err(self.lost()),
        }
    }

    /// By how much the rows of a batch are longer than those in their places.
    fn growth_bytes(&self, batch: &Batch) -> Result<i64, StoreError> {
        let length = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        let mut growth: i64 = 0;
        for Change { table, key, value } in &batch.changes {
            let row = |value: &Vec<u8>| length(key.len()).saturating_add(length(value.len()));
            let new = value.as_ref().map_or(0, row);
            let old = self.get(*table, key)?.as_ref().map_or(0, row);
            growth = growth.saturating_add(new.saturating_sub(old));
        }
        Ok(growth)
    }

    fn failed(&self, attempted: &'static str, error: redb::Error) -> StoreError {
        engine_error(attempted, &self.place, error)
    }

    fn write_to(&self, database: &Database, batch: &Batch) -> Result<(), StoreError> {
        let failed = |error| self.failed("a write", error);
        let transaction = database
            .begin_write()
            .map_err(|e: TransactionError| failed(e.into()))?;
        // Dropping the transaction on any error aborts it.
        for guard in &batch.guards {
            let table = transaction
                .open_table(definition(guard.table))
                .map_err(|e: TableError| failed(e.into()))?;
            let found = table
                .get(guard.key.as_slice())
                .map_err(|e| failed(e.into()))?;
            if found.as_ref().map(redb::AccessGuard::value) != guard.expected.as_deref() {
                let (table, key) = (guard.table.name(), readable(&guard.key));
                return Err(StoreError::Conflict { table, key });
            }
        }
        for change in &batch.changes {
            let mut table = transaction
                .open_table(definition(change.table))
                .map_err(|e: TableError| failed(e.into()))?;
            let key = change.key.as_slice();
            match &change.value {
                Some(value) => table.insert(key, value.as_slice()).map(drop),
                None => table.remove(key).map(drop),
            }
            .map_err(|e: StorageError| failed(e.into()))?;
        }
        transaction
            .commit()
            .map_err(|e: CommitError| failed(e.into()))
    }

    fn read<T>(
        &self,
        table: Table,
        none: T,
        read: impl FnOnce(&redb::ReadOnlyTable<&'static [u8], &'static [u8]>) -> Result<T, StorageError>,
    ) -> Result<T, StoreError> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = guard.as_ref().ok_or_else(|| self.lost())?;
        let failed = |error| self.failed("a read", error);
        self.guarded(|| {
            let transaction = database.begin_read().map_err(|e| failed(e.into()))?;
            match transaction.open_table(definition(table)) {
                Ok(table) => read(&table).map_err(|e| failed(e.into())),
                // Tables are made by their first write.
                Err(TableError::TableDoesNotExist(_)) => Ok(none),
                Err(error) => Err(failed(error.into())),
            }
        })
    }

    /// On damaged data the engine may panic; after an error of this kind nobody asks it again.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            Err(StoreError::Corrupt {
                place: self.place.clone(),
                detail: GAVE_UP.to_owned(),
            })
        })
    }
}

impl Store for RedbStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(table, None, |rows| {
            Ok(rows.get(key)?.map(|value| value.value().to_vec()))
        })
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        self.read(table, Vec::new(), |rows| {
            rows.range(from..)?
                .take(limit)
                .map(|row| row.map(|(key, value)| (key.value().to_vec(), value.value().to_vec())))
                .collect()
        })
    }

    fn bytes(&self) -> Option<u64> {
        std::fs::metadata(&self.place).ok().map(|file| file.len())
    }

    fn strain(&self) -> Option<String> {
        let ballast = self.ballast.as_ref().filter(|ballast| !ballast.is_held())?;
        let room_mib = (self.room)().ok()? >> 20;
        let (place, wanted_mib) = (&self.place, ballast.bytes() >> 20);
        Some(format!(
            "the disk under {place} has {room_mib} MiB left: the {wanted_mib} MiB that the store sets \
             aside cannot be kept, and only small changes are taken; free some space there"
        ))
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.check_room(batch)?;
        let mut guard = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let database = match guard.take() {
            Some(database) => database,
            None => checked(&self.open, &self.place)?,
        };
        let result = self.guarded(|| self.write_to(&database, batch));
        // After a full disk the handle is of no more use: the next write opens a new one.
        if !matches!(result, Err(StoreError::Full { .. })) {
            *guard = Some(database);
        }
        if result.is_err() && guard.is_none() {
            // Reads go on if the file can be opened as it is.
            *guard = checked(&self.open, &self.place).ok();
        }
        result
    }
}

/// Opens and checks; a panic of the engine on damaged data counts as damage.
fn checked(open: &Opener, place: &str) -> Result<Database, StoreError> {
    let corrupt = |detail: &str| StoreError::Corrupt {
        place: place.to_owned(),
        detail: detail.to_owned(),
    };
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let mut database = open()?;
        let intact = database.check_integrity()?;
        Ok::<_, DatabaseError>((database, intact))
    }));
    match opened {
        Ok(Ok((database, true))) => Ok(database),
        Ok(Ok((_, false))) => Err(corrupt("the integrity check failed")),
        Ok(Err(error)) => Err(engine_error("opening", place, error.into())),
        Err(_) => Err(corrupt(GAVE_UP)),
    }
}

fn engine_error(attempted: &'static str, place: &str, error: redb::Error) -> StoreError {
    let place = place.to_owned();
    match error {
        redb::Error::Io(source) if is_full(&source) => StoreError::Full { place },
        redb::Error::Corrupted(detail) => StoreError::Corrupt { place, detail },
        other => StoreError::Io {
            attempted,
            place,
            source: Box::new(other),
        },
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
