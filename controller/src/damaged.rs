//! What helps when the store is damaged: the newest good backup, and the command that restores it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::backup::About;
use crate::backups::{Entry, Folder};
use crate::init::DataDir;
use crate::seal::KeyFile;

/// The way out, in words.
#[derive(Debug)]
pub struct WayOut {
    data_dir: PathBuf,
    folder: PathBuf,
    seal_key: Option<PathBuf>,
    newest: Option<(Entry, About)>,
}

impl WayOut {
    /// Looks for the newest good backup in `folder`. `seal_key` is the configuration's.
    #[must_use]
    pub fn find(data: &DataDir, folder: &Folder, seal_key: Option<&Path>) -> Self {
        let key = KeyFile::of_service(seal_key, data.seal_key()).there();
        // Without its key no backup is good; with the folder's error there is none to name.
        let newest = folder.newest_good(key.ok().flatten().as_ref());
        Self {
            data_dir: data.path().to_owned(),
            folder: folder.path().to_owned(),
            seal_key: seal_key.map(Path::to_owned),
            newest: newest.ok().flatten(),
        }
    }
}

impl fmt::Display for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = match &self.newest {
            Some((entry, about)) => {
                let time = UNIX_EPOCH + Duration::from_millis(about.time_ms);
                let time = humantime::format_rfc3339_seconds(time);
                let rows = about.rows;
                writeln!(
                    f,
                    "the newest good backup is of {time}, {rows} rows; to restore it:"
                )?;
                word(&entry.path)
            }
            None => {
                let folder = self.folder.display();
                writeln!(
                    f,
                    "{folder} has no good backup; with a copy from elsewhere:"
                )?;
                "COPY".to_owned()
            }
        };
        write!(
            f,
            "  controller restore --data-dir {} --replace",
            word(&self.data_dir)
        )?;
        if let Some(key) = &self.seal_key {
            write!(f, " --seal-key {}", word(key))?;
        }
        write!(
            f,
            " {file}\nwhat was changed since then is forgotten; containers are not touched"
        )
    }
}

/// A path as a shell takes it for one word.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_one_word() {
        let said = [
            ("/var/lib/x-1", "/var/lib/x-1"),
            ("/a b/$x'", r"'/a b/$x'\'''"),
        ];
        for (path, wanted) in said {
            assert_eq!(word(Path::new(path)), wanted);
        }
    }
}
