//! What happens now: a tree on a terminal, a line for each change elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli;
use crate::output::{jsonl, note};
use crate::text::printable;

/// Most lines of the tree; the rest is told in its head.
const LINES_MAX: usize = 20;

/// Where something is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Under way.
    Working,
    /// There.
    Done,
    /// Wrong.
    Error,
}

/// One object of `--progress json`; the names are Compose's.
#[derive(Serialize)]
struct Record<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<&'a str>,
    status: &'static str,
    text: &'a str,
}

/// Shows progress on stderr.
pub struct Reporter {
    form: cli::Progress,
    tree: MultiProgress,
    head: Option<ProgressBar>,
    lines: BTreeMap<String, (Option<ProgressBar>, String)>,
}

impl Reporter {
    /// `title` heads the tree.
    #[must_use]
    pub fn new(form: cli::Progress, title: &str) -> Self {
        let tree = MultiProgress::new();
        let head = (form == cli::Progress::Tty).then(|| {
            let bar = ProgressBar::new_spinner().with_style(plain_style());
            let bar = tree.add(bar);
            bar.set_message(format!("[+] {}", printable(title)));
            bar
        });
        if form == cli::Progress::Plain {
            note(&printable(title));
        }
        Self {
            form,
            tree,
            head,
            lines: BTreeMap::new(),
        }
    }

    /// Says where `id` is now. Said again, it is silent.
    pub fn say(&mut self, id: &str, parent: Option<&str>, stage: Stage, text: &str) {
        let text = printable(text);
        if self.lines.get(id).is_some_and(|(_, last)| *last == text) {
            return;
        }
        let id_shown = printable(id);
        match self.form {
            cli::Progress::Quiet | cli::Progress::Auto => {}
            cli::Progress::Plain => note(&format!("{id_shown}  {text}")),
            cli::Progress::Json => {
                let status = match stage {
                    Stage::Working => "Working",
                    Stage::Done => "Done",
                    Stage::Error => "Error",
                };
                let record = Record {
                    id: &id_shown,
                    parent_id: parent,
                    status,
                    text: &text,
                };
                note(jsonl(&record).trim_end());
            }
            cli::Progress::Tty => self.paint(id, &id_shown, stage, &text),
        }
        let bar = self.lines.remove(id).and_then(|(bar, _)| bar);
        self.lines.insert(id.to_owned(), (bar, text));
    }

    /// Says how far `id` is: only where it can be painted over.
    pub fn moved(&self, id: &str, text: &str) {
        if let Some((Some(bar), _)) = self.lines.get(id) {
            let shown = printable(id);
            bar.set_message(format!("{shown:<28} {}", printable(text)));
        }
    }

    fn paint(&mut self, id: &str, shown: &str, stage: Stage, text: &str) {
        let room = self.lines.values().filter(|(bar, _)| bar.is_some()).count() < LINES_MAX;
        let entry = self
            .lines
            .entry(id.to_owned())
            .or_insert((None, String::new()));
        if entry.0.is_none() && room {
            let bar = self.tree.add(ProgressBar::new_spinner());
            bar.enable_steady_tick(Duration::from_millis(100));
            entry.0 = Some(bar);
        }
        let Some(bar) = &entry.0 else { return };
        bar.set_style(style(stage));
        bar.set_message(format!("{shown:<28} {text}"));
        match stage {
            Stage::Working => bar.reset_elapsed(),
            Stage::Done | Stage::Error => bar.abandon(),
        }
    }

    /// Changes the head of the tree.
    pub fn head(&self, text: &str) {
        if let Some(bar) = &self.head {
            bar.set_message(format!("[+] {}", printable(text)));
        }
    }

    /// Leaves what was painted and stops repainting.
    pub fn finish(&mut self) {
        for (bar, _) in self.lines.values() {
            if let Some(bar) = bar {
                bar.abandon();
            }
        }
        if let Some(bar) = self.head.take() {
            bar.abandon();
        }
    }
}

fn plain_style() -> ProgressStyle {
    ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn style(stage: Stage) -> ProgressStyle {
    let template = match stage {
        Stage::Working => " {spinner:.yellow} {wide_msg} {elapsed}",
        Stage::Done => " ✔ {wide_msg} {elapsed}",
        Stage::Error => " ✘ {wide_msg} {elapsed}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
