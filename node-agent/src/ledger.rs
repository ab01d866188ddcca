//! What the node was told last, on disk: the fence, its assignment, its routes, its names, and which
//! replicas have failed for good. It is written and synced before anything is obeyed, so that an
//! agent that restarts without a controller goes on with exactly this.
//!
//! A lower fence, an older generation, and the same generation with other content are refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use longshore_model::plan::AssignedReplica;
use longshore_model::reason::FailReason;
use longshore_model::{Assignment, ContainerSpec, Names, ReplicaId, Routes};
use longshore_wire::Fence;
use serde::{Deserialize, Serialize};

use crate::files::{FileError, read_optional, write_atomic};

/// Content of the file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Book {
    /// Highest fence ever obeyed.
    pub fence: Fence,
    /// Last assignment accepted.
    #[serde(default)]
    pub assignment: Option<Arc<Assignment>>,
    /// Last routes accepted.
    #[serde(default)]
    pub routes: Option<Arc<Routes>>,
    /// Last directory of names accepted.
    #[serde(default)]
    pub names: Option<Arc<Names>>,
    /// The fence that it came under.
    #[serde(default)]
    pub names_fence: Fence,
    /// The cluster generation that the assignment came under; none: a version wrote it that did not
    /// say.
    #[serde(default)]
    pub assigned_under: Option<u64>,
    /// What it ran when the cluster was restored from a copy that does not know it.
    #[serde(default)]
    pub unclaimed: Unclaimed,
    /// Replicas that failed for good, so that a restart of the agent does not try them again.
    #[serde(default)]
    pub failed: BTreeMap<ReplicaId, FailReason>,
}

/// Containers that no assignment names since the cluster was restored: they are kept as they are
/// until a person decides (docs/decisions/0076).
pub type Unclaimed = BTreeMap<ReplicaId, Kept>;

/// One of these, as it was last assigned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What it was.
    pub assigned: AssignedReplica,
    /// What it runs.
    pub spec: Arc<ContainerSpec>,
}

impl Book {
    /// A restored cluster does not know what was decided after its copy was taken: what of that runs
    /// here is kept. What was to stop already stops.
    fn keep_unknown(&mut self) {
        let before = self.assignment.iter().flat_map(|before| {
            let kept = before.replicas.iter().filter(|replica| !replica.stop);
            kept.filter_map(|replica| {
                let spec = Arc::clone(before.templates.get(&replica.template)?);
                let assigned = replica.clone();
                Some((replica.id, Kept { assigned, spec }))
            })
        });
        self.unclaimed.extend(before);
    }

    /// Takes an assignment in, or refuses it and stays as it is.
    ///
    /// # Errors
    /// [`Refusal`]: it is not to be obeyed.
    pub fn take_assignment(
        &mut self,
        fence: Fence,
        assignment: Arc<Assignment>,
    ) -> Result<Accepted, Refusal> {
        let have = self.assignment.as_ref();
        let have = have.map(|have| (have.generation, **have == *assignment));
        let accepted = admit(self.fence, have, fence, assignment.generation)?;
        let under = self.assigned_under;
        let under = under.unwrap_or(self.fence.cluster_generation);
        if fence.cluster_generation > under {
            self.keep_unknown();
        }
        self.assigned_under = Some(fence.cluster_generation);
        self.unclaimed
            .retain(|id, _| assignment.replicas.iter().all(|r| r.id != *id));
        self.failed
            .retain(|id, _| assignment.replicas.iter().any(|r| r.id == *id));
        self.fence = fence;
        self.assignment = Some(assignment);
        Ok(accepted)
    }

    /// Takes routes in, or refuses them and stays as it is.
    ///
    /// # Errors
    /// As [`Self::take_assignment`].
    pub fn take_routes(&mut self, fence: Fence, routes: Arc<Routes>) -> Result<Accepted, Refusal> {
        let have = self.routes.as_ref();
        let have = have.map(|have| (have.generation, **have == *routes));
        let accepted = admit(self.fence, have, fence, routes.generation)?;
        self.fence = fence;
        self.routes = Some(routes);
        Ok(accepted)
    }
}

impl Book {
    /// Takes a directory of names in, or refuses it and stays as it is. Each leader works it out and
    /// counts its generations anew.
    ///
    /// # Errors
    /// As [`Self::take_assignment`].
    pub fn take_names(&mut self, fence: Fence, names: Arc<Names>) -> Result<Accepted, Refusal> {
        let have = self.names.as_ref().filter(|_| fence <= self.names_fence);
        let have = have.map(|have| (have.generation, **have == *names));
        let accepted = admit(self.fence, have, fence, names.generation)?;
        (self.fence, self.names_fence) = (fence, fence);
        self.names = Some(names);
        Ok(accepted)
    }
}

/// The file: a book and the checksum of its JSON form.
#[derive(Serialize, Deserialize)]
struct Sealed {
    crc32: u32,
    book: Box<serde_json::value::Value>,
}

/// Why a command was refused; the ledger keeps what it has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}; this node has (generation {}, term {}), content {have_generation}",
    have.cluster_generation, have.term)]
pub struct Refusal {
    /// The fence that this node has obeyed.
    pub have: Fence,
    /// The generation of what it keeps.
    pub have_generation: u64,
    /// In words.
    pub why: String,
}

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its content is not what was written.
    #[error("{} is damaged ({detail}); it was set aside as {}", path.display(), aside.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
        /// Where it is now.
        aside: PathBuf,
    },
    /// It was not written: the thread that writes it is gone.
    #[error("the ledger could not be written: {0}")]
    Thread(String),
    /// The command is not to be obeyed.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is new: obey it.
    New,
    /// It is what the node has already.
    Same,
}

/// The ledger of one agent.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    book: Mutex<Book>,
}

impl Ledger {
    /// Loads `path`. A damaged file is set aside and reported beside an empty ledger: the agent
    /// then touches no container until it is told what to run.
    ///
    /// # Errors
    /// [`FileError`] if the file is there and cannot be read.
    pub fn open(path: &Path) -> Result<(Self, Option<LedgerError>), FileError> {
        let (book, damage) = match read_optional(path)? {
            None => (Book::default(), None),
            Some(text) => match unseal(&text) {
                Ok(book) => (book, None),
                Err(detail) => (Book::default(), Some(set_aside(path, detail)?)),
            },
        };
        Ok((
            Self {
                path: path.to_owned(),
                book: Mutex::new(book),
            },
            damage,
        ))
    }

    /// Reads a ledger without touching it, for people.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read or is damaged.
    pub fn peek(path: &Path) -> Result<Book, FileError> {
        let damaged = |detail| std::io::Error::new(std::io::ErrorKind::InvalidData, detail);
        read_optional(path)?.map_or(Ok(Book::default()), |text| {
            unseal(&text)
                .map_err(damaged)
                .map_err(FileError::at("use", path))
        })
    }

    /// A copy of what it holds; the large parts are shared.
    #[must_use]
    pub fn book(&self) -> Book {
        self.book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes an assignment in, or refuses it. On return it is on disk.
    ///
    /// # Errors
    /// [`LedgerError::Refused`], or the file's error: then nothing must be obeyed either.
    pub async fn accept_assignment(
        self: &Arc<Self>,
        fence: Fence,
        assignment: Arc<Assignment>,
    ) -> Result<Accepted, LedgerError> {
        self.write(move |book| book.take_assignment(fence, assignment))
            .await
    }

    /// Takes routes in, or refuses them. On return they are on disk.
    ///
    /// # Errors
    /// As [`Self::accept_assignment`].
    pub async fn accept_routes(
        self: &Arc<Self>,
        fence: Fence,
        routes: Arc<Routes>,
    ) -> Result<Accepted, LedgerError> {
        self.write(move |book| book.take_routes(fence, routes))
            .await
    }

    /// Takes a directory of names in, or refuses it. On return it is on disk.
    ///
    /// # Errors
    /// As [`Self::accept_assignment`].
    pub async fn accept_names(
        self: &Arc<Self>,
        fence: Fence,
        names: Arc<Names>,
    ) -> Result<Accepted, LedgerError> {
        self.write(move |book| book.take_names(fence, names)).await
    }

    /// Remembers which replicas have failed for good.
    ///
    /// # Errors
    /// The file's error.
    pub async fn record_failed(
        self: &Arc<Self>,
        failed: BTreeMap<ReplicaId, FailReason>,
    ) -> Result<(), LedgerError> {
        self.write(move |book| {
            book.failed = failed;
            Ok(Accepted::New)
        })
        .await
        .map(|_| ())
    }

    /// Forgets what was kept and is no longer there.
    ///
    /// # Errors
    /// The file's error.
    pub async fn forget_unclaimed(
        self: &Arc<Self>,
        gone: Vec<ReplicaId>,
    ) -> Result<(), LedgerError> {
        self.write(move |book| {
            book.unclaimed.retain(|id, _| !gone.contains(id));
            Ok(Accepted::New)
        })
        .await
        .map(|_| ())
    }

    /// Changes a copy, writes it if it changed, and only then makes it the book. Runs on the
    /// blocking pool: a slow disk must not hold up the answers to the controller's pings.
    async fn write(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Book) -> Result<Accepted, Refusal> + Send + 'static,
    ) -> Result<Accepted, LedgerError> {
        let ledger = Arc::clone(self);
        let work = move || {
            let mut book = ledger.book.lock().unwrap_or_else(PoisonError::into_inner);
            let mut next = book.clone();
            let accepted = change(&mut next)?;
            if next != *book {
                write_atomic(&ledger.path, seal(&next).as_bytes(), 0o600)?;
                *book = next;
            }
            Ok(accepted)
        };
        // Threads come in an order of their own.
        #[cfg(feature = "simulated")]
        return work();
        #[cfg(not(feature = "simulated"))]
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| LedgerError::Thread(error.to_string()))?
    }
}

/// The law of the fence. `have`: the generation that is kept, and whether its content is the same.
fn admit(
    have_fence: Fence,
    have: Option<(u64, bool)>,
    fence: Fence,
    generation: u64,
) -> Result<Accepted, Refusal> {
    let have_generation = have.map_or(0, |(generation, _)| generation);
    let refuse = |why: &str| {
        Err(Refusal {
            have: have_fence,
            have_generation,
            why: why.to_owned(),
        })
    };
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::NoFence) {
        return Ok(Accepted::New);
    }
    if fence < have_fence {
        return refuse("an older leadership");
    }
    // A restored cluster counts its generations anew.
    if fence.cluster_generation > have_fence.cluster_generation {
        return Ok(Accepted::New);
    }
    #[cfg(feature = "mutants")]
    if longshore_model::mutant::is(longshore_model::Mutant::OlderGenerationObeyed) {
        return Ok(Accepted::New);
    }
    match have {
        Some((have, _)) if generation < have => refuse("an older generation"),
        Some((have, false)) if generation == have => {
            refuse("the same generation with other content")
        }
        Some((have, true)) if generation == have => Ok(Accepted::Same),
        _ => Ok(Accepted::New),
    }
}

fn seal(book: &Book) -> String {
    // Maps with string keys, numbers and strings always serialise; `Value` keeps keys sorted, so
    // reading and writing again gives the same bytes to sum.
    let value = serde_json::to_value(book).unwrap_or_default();
    let crc32 = crc32fast::hash(value.to_string().as_bytes());
    serde_json::to_string(&Sealed {
        crc32,
        book: Box::new(value),
    })
    .unwrap_or_default()
}

fn unseal(text: &str) -> Result<Book, String> {
    let sealed: Sealed = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if crc32fast::hash(sealed.book.to_string().as_bytes()) != sealed.crc32 {
        return Err("its checksum does not match".into());
    }
    serde_json::from_value(*sealed.book).map_err(|error| error.to_string())
}

fn set_aside(path: &Path, detail: String) -> Result<LedgerError, FileError> {
    let aside = path.with_extension("damaged");
    std::fs::rename(path, &aside).map_err(FileError::at("set aside", path))?;
    Ok(LedgerError::Damaged {
        path: path.to_owned(),
        detail,
        aside,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assignment, replica};

    fn fence(cluster_generation: u64, term: u64) -> Fence {
        Fence {
            cluster_generation,
            term,
        }
    }

    fn open(dir: &tempfile::TempDir) -> Arc<Ledger> {
        let (ledger, damage) = Ledger::open(&dir.path().join("ledger.json")).unwrap();
        assert!(damage.is_none(), "{damage:?}");
        Arc::new(ledger)
    }

    fn why(result: Result<Accepted, LedgerError>) -> String {
        match result {
            Err(LedgerError::Refused(refusal)) => refusal.why,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[tokio::test]
    async fn what_was_accepted_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Arc::new(assignment(7, &[replica(1), replica(2)]));
        open(&dir)
            .accept_assignment(fence(1, 3), Arc::clone(&wanted))
            .await
            .unwrap();
        let book = open(&dir).book();
        assert_eq!((book.fence, book.assignment), (fence(1, 3), Some(wanted)));
    }

    #[tokio::test]
    async fn what_a_restored_cluster_does_not_know_is_kept_until_it_is_claimed_or_gone() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(&dir);
        let mut stops = replica(4);
        stops.stop = true;
        let accept = |fence, assignment| {
            let ledger = Arc::clone(&ledger);
            async move {
                let accepted = ledger.accept_assignment(fence, Arc::new(assignment)).await;
                accepted.unwrap();
                let book = ledger.book();
                book.unclaimed.keys().map(|id| id.0).collect::<Vec<_>>()
            }
        };
        let all = [replica(1), replica(2), replica(3), replica(5)];
        assert_eq!(accept(fence(1, 3), assignment(6, &all)).await, [0_u64; 0]);
        let all = [replica(1), replica(2), replica(3), stops];
        let kept = accept(fence(1, 4), assignment(7, &all)).await;
        assert_eq!(kept, [0_u64; 0], "a new leader is no restored cluster");
        // The routes of the restored cluster may come first.
        let routes = Arc::new(Routes::default());
        ledger.accept_routes(fence(2, 1), routes).await.unwrap();
        let kept = accept(fence(2, 1), assignment(9, &[replica(1)])).await;
        assert_eq!(kept, [2, 3]);
        let kept = open(&dir).book().unclaimed;
        assert_eq!(kept.len(), 2, "also on disk");
        let kept = accept(fence(2, 1), assignment(10, &[])).await;
        assert_eq!(kept, [2, 3], "what it knew it may stop");
        let kept = accept(fence(2, 1), assignment(11, &[replica(3)])).await;
        assert_eq!(kept, [2]);
        ledger.forget_unclaimed(vec![ReplicaId(2)]).await.unwrap();
        assert!(open(&dir).book().unclaimed.is_empty());
    }

    #[tokio::test]
    async fn an_older_leader_takes_no_route_away() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(&dir);
        let routes = |generation| {
            Arc::new(Routes {
                generation,
                ..Routes::default()
            })
        };
        let accepted = ledger.accept_routes(fence(1, 3), routes(7)).await;
        assert_eq!(accepted.unwrap(), Accepted::New);
        for (fence, generation) in [(fence(1, 2), 8), (fence(0, 9), 8)] {
            let refused = why(ledger.accept_routes(fence, routes(generation)).await);
            assert_eq!(refused, "an older leadership");
        }
        let refused = why(ledger.accept_routes(fence(1, 3), routes(6)).await);
        assert_eq!(refused, "an older generation");
        assert_eq!(open(&dir).book().routes, Some(routes(7)), "also on disk");
    }

    #[tokio::test]
    async fn names_are_there_after_a_restart_and_an_older_leader_changes_none() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(&dir);
        let names = |generation| {
            Arc::new(Names {
                generation,
                ..Names::default()
            })
        };
        let accepted = ledger.accept_names(fence(1, 3), names(7)).await;
        assert_eq!(accepted.unwrap(), Accepted::New);
        let refused = why(ledger.accept_names(fence(1, 2), names(8)).await);
        assert_eq!(refused, "an older leadership");
        let refused = why(ledger.accept_names(fence(1, 3), names(6)).await);
        assert_eq!(refused, "an older generation");
        assert_eq!(open(&dir).book().names, Some(names(7)), "also on disk");
        let accepted = ledger.accept_names(fence(1, 4), names(1)).await;
        assert_eq!(accepted.unwrap(), Accepted::New, "a new leader counts anew");
        let accepted = open(&dir).accept_names(fence(1, 4), names(1)).await;
        assert_eq!(accepted.unwrap(), Accepted::Same);
    }

    #[tokio::test]
    async fn older_and_forged_commands_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = open(&dir);
        let first = Arc::new(assignment(7, &[replica(1)]));
        ledger
            .accept_assignment(fence(1, 3), Arc::clone(&first))
            .await
            .unwrap();
        let accept = |fence, generation, replicas: &[_]| {
            let ledger = Arc::clone(&ledger);
            let next = Arc::new(assignment(generation, replicas));
            async move { ledger.accept_assignment(fence, next).await }
        };
        assert_eq!(
            why(accept(fence(1, 2), 8, &[]).await),
            "an older leadership"
        );
        assert_eq!(
            why(accept(fence(0, 9), 8, &[]).await),
            "an older leadership"
        );
        assert_eq!(
            why(accept(fence(1, 3), 6, &[]).await),
            "an older generation"
        );
        assert_eq!(
            why(accept(fence(1, 4), 6, &[]).await),
            "an older generation"
        );
        let same = accept(fence(1, 3), 7, &[]).await;
        assert_eq!(why(same), "the same generation with other content");
        assert_eq!(ledger.book().assignment, Some(Arc::clone(&first)));
        assert_eq!(
            accept(fence(1, 4), 7, &[replica(1)]).await.unwrap(),
            Accepted::Same
        );
        assert_eq!(
            ledger.book().fence,
            fence(1, 4),
            "the higher term is remembered"
        );
        assert_eq!(accept(fence(2, 1), 1, &[]).await.unwrap(), Accepted::New);
    }

    #[tokio::test]
    async fn every_flipped_byte_is_noticed_and_the_file_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        let wanted = assignment(7, &[replica(1)]);
        open(&dir)
            .accept_assignment(fence(1, 3), Arc::new(wanted))
            .await
            .unwrap();
        let good = std::fs::read(&path).unwrap();
        let want = unseal(std::str::from_utf8(&good).unwrap()).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let read = std::str::from_utf8(&bad)
                .map_err(|e| e.to_string())
                .and_then(unseal);
            assert!(
                read.is_err() || read == Ok(want.clone()),
                "byte {at} changed unnoticed"
            );
        }
        std::fs::write(&path, b"{\"crc32\":1,\"book\":{}}").unwrap();
        let (ledger, damage) = Ledger::open(&path).unwrap();
        assert_eq!(ledger.book(), Book::default());
        assert!(damage.unwrap().to_string().contains("checksum"));
        assert!(!path.exists() && dir.path().join("ledger.damaged").exists());
    }
}
