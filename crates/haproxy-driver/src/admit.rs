//! Finds a file that HAProxy takes: a service whose way in it refuses costs itself alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use crate::blocking::blocking;
use crate::decide::{Worker, decide};
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::intent::Intent;
use crate::name::BackendName;
use crate::quarantine::{Quarantine, Search, blamed};
use crate::render::{render, structure};
use crate::settings::Settings;
use crate::slots::{SlotMap, for_reload};

/// Questions to `haproxy -c` within one search; each takes 30 to 500 ms. What is left to suspect
/// then is held back as a whole.
const QUESTIONS_MAX: usize = 8;

/// A file that may be put in place, and what it was made of.
pub(crate) struct Draft {
    pub(crate) slots: SlotMap,
    pub(crate) text: String,
    pub(crate) structure: String,
}

impl Draft {
    /// Work for a thread that may block: megabytes, where there are thousands of servers.
    pub(crate) fn of(intent: &Intent, slots: SlotMap, settings: &Settings) -> Self {
        let text = render(intent, &slots, settings);
        let structure = structure(&text);
        Self {
            slots,
            text,
            structure,
        }
    }
}

impl Edge {
    /// The file for the present intent, without asking haproxy. `worker_is_gone`: slots are given
    /// out by the map alone.
    pub(crate) async fn draft(&self, worker_is_gone: bool) -> Draft {
        self.draft_of(Arc::clone(&self.intent), worker_is_gone)
            .await
    }

    async fn draft_of(&self, intent: Arc<Intent>, worker_is_gone: bool) -> Draft {
        let (mut slots, settings) = (self.slots.clone(), self.settings.clone());
        blocking(move || {
            if worker_is_gone {
                slots = decide(&intent, &slots, Worker::GONE, &settings).slots;
            }
            let known: BTreeSet<&str> = intent.backends.keys().map(BackendName::as_str).collect();
            slots
                .backends
                .retain(|name, _| known.contains(name.as_str()));
            Draft::of(&intent, for_reload(&slots, &settings), &settings)
        })
        .await
    }

    /// The file for the present intent once haproxy has taken it. Ways in that it does not take
    /// are held back on the way; none if nothing is left to load then. `wants_load`: backends that
    /// want a reload although the structure is the same.
    pub(crate) async fn admitted(
        &mut self,
        worker_is_gone: bool,
        wants_load: &BTreeMap<BackendName, &'static str>,
    ) -> Result<Option<Draft>, EdgeError> {
        let mut questions = QUESTIONS_MAX;
        loop {
            let draft = self.draft(worker_is_gone).await;
            let must_load = worker_is_gone
                || self.slots.reload_owed
                || wants_load
                    .keys()
                    .any(|name| self.intent.backends.contains_key(name));
            if !must_load && self.loaded.as_ref() == Some(&draft.structure) {
                return Ok(None);
            }
            let Err(error) = self.check_config(&draft.text).await else {
                return Ok(Some(draft));
            };
            let EdgeError::Refused { output } = &error else {
                return Err(error);
            };
            questions = questions.saturating_sub(1);
            if questions > 0 && self.place_again(output).await {
                continue;
            }
            let suspects = self.suspects(worker_is_gone);
            let named = blamed(&draft.text, output);
            let mut culprits: Vec<BackendName> = suspects
                .iter()
                .filter(|name| named.contains(*name))
                .cloned()
                .collect();
            if culprits.is_empty() && questions > 0 {
                culprits = self
                    .search(suspects, worker_is_gone, &mut questions)
                    .await?;
            } else if culprits.is_empty() {
                culprits = suspects;
            }
            if culprits.is_empty() {
                return Err(error);
            }
            let words = output.clone();
            self.hold(&culprits, &words);
        }
    }

    /// Holds these ways in back, with HAProxy's words.
    pub(crate) fn hold(&mut self, culprits: &[BackendName], words: &str) {
        for name in culprits {
            if let Some(backend) = self.intent.backends.get(name) {
                tracing::warn!(backend = %name, words, "HAProxy does not take a way in");
                self.quarantine.hold(backend, words, Instant::now());
            }
        }
        self.hold_back();
    }

    /// Ways in that HAProxy has not taken before. While it is down it may be another HAProxy that
    /// comes: then all of them.
    pub(crate) fn suspects(&self, worker_is_gone: bool) -> Vec<BackendName> {
        let backends = self.intent.backends.values();
        let new = backends.filter(|backend| {
            worker_is_gone || self.slots.loaded.get(backend.name.as_str()) != Some(&backend.route)
        });
        new.map(|backend| backend.name.clone()).collect()
    }

    /// Who of the suspects is to blame, by leaving them out in turn; nobody where haproxy refuses
    /// the file without all of them as well.
    async fn search(
        &self,
        suspects: Vec<BackendName>,
        worker_is_gone: bool,
        questions: &mut usize,
    ) -> Result<Vec<BackendName>, EdgeError> {
        if suspects.is_empty() || !self.passes_without(&suspects, worker_is_gone).await? {
            return Ok(Vec::new());
        }
        *questions = questions.saturating_sub(1);
        let mut search = Search::among(suspects.clone());
        while *questions > 0
            && let Some(held) = search.hold_next(&suspects)
        {
            *questions -= 1;
            search.answered(self.passes_without(&held, worker_is_gone).await?);
        }
        Ok(search.suspects())
    }

    async fn passes_without(
        &self,
        held: &[BackendName],
        worker_is_gone: bool,
    ) -> Result<bool, EdgeError> {
        let now = Instant::now();
        let mut quarantine: Quarantine = self.quarantine.clone();
        for backend in held
            .iter()
            .filter_map(|name| self.intent.backends.get(name))
        {
            quarantine.hold(backend, "", now);
        }
        let (loaded, reserved) = (&self.slots.loaded, self.settings.reserved_ports());
        let intent = quarantine.hold_back(&self.wanted, loaded, &reserved, now);
        let draft = self.draft_of(Arc::new(intent), worker_is_gone).await;
        match self.check_config(&draft.text).await {
            Ok(()) => Ok(true),
            Err(EdgeError::Refused { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
