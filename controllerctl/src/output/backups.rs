//! `system backups`.

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::views::time;
use super::{Row, Shown, age, size};

/// One backup.
#[derive(Debug, Serialize)]
pub struct BackupRow {
    /// Its path on the controller's machine.
    pub file: String,
    /// Of when it is.
    pub time: Option<String>,
    /// Length.
    pub bytes: u64,
    #[serde(skip)]
    time_ms: u64,
}

impl From<&pb::Backup> for BackupRow {
    fn from(b: &pb::Backup) -> Self {
        Self {
            file: b.file.clone(),
            time: time(b.time_ms),
            bytes: b.bytes,
            time_ms: b.time_ms,
        }
    }
}

impl Row for BackupRow {
    fn titles(_: bool) -> Vec<&'static str> {
        vec!["AGE", "SIZE", "FILE"]
    }

    fn cells(&self, _: bool, now_ms: u64) -> Vec<Shown> {
        vec![
            age(self.time_ms, now_ms).into(),
            size(self.bytes).into(),
            Shown::from(&self.file),
        ]
    }

    fn name(&self) -> String {
        self.file.clone()
    }
}
