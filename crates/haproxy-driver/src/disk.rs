//! The files on disk stay as this driver wrote them: whatever starts or reloads HAProxy reads them.
//!
//! They are compared with what is in memory, and placed again as a whole where they differ. What an
//! operator edits are inputs (`node-agent.toml`, `haproxy/`), never these.

use std::path::{Path, PathBuf};
use std::time::Duration;

use longshore_model::SecretText;
use longshore_model::repair::RepairKind;
use tokio::time::Instant;

use crate::blocking::blocking;
use crate::converge::Outcome;
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::files;
use crate::reload::EMPTY_STATE;
use crate::repairs::Repaired;
use crate::seal::seal;

/// Between two looks while HAProxy runs.
const LOOK_MS: u64 = 2_000;
/// A worker that is new within so long after the configuration file was found changed may have
/// read it before it was placed again.
const UNCERTAIN_MS: u64 = 10_000;

/// What is known of the files.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    looked_at: Option<Instant>,
    /// When the configuration file was last found changed.
    changed_at: Option<Instant>,
    /// The configuration file is as somebody left it while no driver was there.
    is_config_strange: bool,
    /// What was changed while no driver was there: said once it is written anew.
    unsaid: Vec<Repaired>,
}

impl Disk {
    /// Somebody changed or removed this file while no driver was there.
    pub(crate) fn was_changed(&mut self, path: &Path) {
        let what = format!(
            "{} was changed or removed by somebody else while the agent was away, and is written \
             anew",
            path.display()
        );
        self.unsaid.push(Repaired::new(RepairKind::File, what));
    }

    /// That file is the configuration, and is read for what the worker may have.
    pub(crate) fn config_is_strange(&mut self) {
        self.is_config_strange = true;
    }

    /// It was written.
    pub(crate) fn config_is_ours(&mut self) {
        self.is_config_strange = false;
    }

    /// What was changed meanwhile, once.
    pub(crate) fn take_unsaid(&mut self) -> Vec<Repaired> {
        std::mem::take(&mut self.unsaid)
    }

    fn is_due(&self, now: Instant) -> bool {
        let pause = Duration::from_millis(LOOK_MS);
        self.looked_at.is_none_or(|at| now >= at + pause)
    }

    /// May a worker that is seen for the first time have read another configuration file?
    pub(crate) fn is_uncertain(&self, now: Instant) -> bool {
        let lasts = Duration::from_millis(UNCERTAIN_MS);
        self.changed_at.is_some_and(|at| now < at + lasts)
    }
}

/// What a file holds.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    Plain(String),
    /// Only for its owner.
    Secret(SecretText),
}

impl Text {
    /// Is it what the file holds? One of another length is not read, nor what is no file.
    fn is_at(&self, path: &Path) -> bool {
        let text = match self {
            Self::Plain(text) => text.as_str(),
            Self::Secret(text) => text.expose(),
        };
        let same_length = |data: std::fs::Metadata| {
            data.is_file() && usize::try_from(data.len()).is_ok_and(|len| len == text.len())
        };
        std::fs::metadata(path).is_ok_and(same_length)
            && std::fs::read(path).is_ok_and(|bytes| bytes == text.as_bytes())
    }

    async fn place(self, path: &Path) -> Result<(), EdgeError> {
        match self {
            Self::Plain(text) => files::replace(path, text).await,
            Self::Secret(text) => {
                files::write_secret_draft(path, text).await?;
                files::commit_draft(path).await
            }
        }
    }
}

impl Edge {
    /// Looks from time to time, or `at_once`, whether somebody else changed the files, and places those
    /// again. What cannot be placed is a problem; it is tried again at the next look.
    pub(crate) async fn mend_files(&mut self, at_once: bool, outcome: &mut Outcome) {
        let now = Instant::now();
        if !at_once && !self.disk.is_due(now) {
            return;
        }
        self.disk.looked_at = Some(now);
        // A strange one is written anew once it is known what it should be.
        let config = self
            .written
            .as_ref()
            .filter(|_| !self.disk.is_config_strange);
        let config = config.cloned().map(seal).map(Text::Plain);
        let config = config.map(|text| (self.settings.config_path.clone(), text));
        let state = Text::Plain(EMPTY_STATE.to_owned());
        let mut written = vec![(self.settings.state_path.clone(), state)];
        // What a file names is there before it.
        written.extend(self.certificates.in_place(&self.settings));
        written.extend(config);
        let differ = |(path, text): &(PathBuf, Text)| !text.is_at(path);
        let changed: Vec<_> = blocking(move || written.into_iter().filter(differ).collect()).await;
        for (path, text) in changed {
            if path == self.settings.config_path {
                self.disk.changed_at = Some(now);
            }
            let shown = path.display();
            match text.place(&path).await {
                Ok(()) => {
                    let what = format!(
                        "{shown} was changed or removed by somebody else, and is as it was"
                    );
                    let file = Repaired::new(RepairKind::File, what);
                    outcome.repaired.push(file);
                }
                Err(error) => {
                    self.disk.looked_at = None;
                    outcome.problems.push(error.chain());
                }
            }
            self.certificates.look_at_worker();
        }
    }

    /// As [`Edge::mend_files`], while HAProxy is down: its next start must not fail for them.
    pub(crate) async fn mend_files_while_down(&mut self) {
        let mut outcome = Outcome::default();
        self.mend_files(true, &mut outcome).await;
        self.say_mended_while_down(std::mem::take(&mut outcome.repaired));
        self.last_problems.append(&mut outcome.problems);
    }

    /// There is no result that its caller could say it from.
    pub(crate) fn say_mended_while_down(&mut self, found: Vec<Repaired>) {
        self.repairs.note_down(&found, Instant::now());
        for repaired in found {
            tracing::warn!(
                %repaired,
                "HAProxy is down, and one of its files was not as written"
            );
        }
    }
}
