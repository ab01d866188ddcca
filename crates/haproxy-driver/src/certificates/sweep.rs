//! Files among the certificates that nothing names: drafts that an end in between left, and what
//! somebody put there. Keys are not to be left lying about.
//!
//! Only names that the driver may have given are looked at: HAProxy reads further files beside a
//! certificate (`.ocsp`), which are somebody's own.

use std::collections::BTreeSet;
use std::path::Path;

use super::FILES_MAX;
use crate::blocking::blocking;
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::files;
use crate::render::{certificate_path, list_path};

/// Removes drafts that an earlier process left.
pub(super) fn drafts(dir: &Path) -> Result<(), EdgeError> {
    let names = files::names(dir, FILES_MAX)?.into_iter();
    for name in names.filter(|name| name.ends_with(".new")) {
        files::remove_now(&dir.join(name))?;
    }
    Ok(())
}

impl Edge {
    /// Removes what neither the files in place nor the configuration names.
    pub(super) async fn sweep_certificates(&mut self) -> Result<(), EdgeError> {
        let names = self.certificates.files.keys();
        let paths = names.map(|name| certificate_path(&self.settings, name));
        let ports = self.certificates.lists.keys();
        let lists = ports.map(|port| list_path(&self.settings, *port));
        let kept: BTreeSet<String> = paths
            .chain(lists)
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        let now = (kept, self.written_at);
        if self.certificates.swept.as_ref() == Some(&now) {
            return Ok(());
        }
        let dir = self.settings.certificates_path.clone();
        let names = blocking({
            let dir = dir.clone();
            move || files::names(&dir, FILES_MAX)
        });
        let file = self.written.as_deref().unwrap_or_default();
        for name in names.await? {
            let is_ours = [".pem", ".list", ".new"]
                .iter()
                .any(|end| name.ends_with(end));
            let path = dir.join(&name);
            if is_ours && !now.0.contains(&name) && !file.contains(&*path.to_string_lossy()) {
                tracing::info!(name, "removed: nothing names it");
                files::remove(&path).await?;
            }
        }
        self.certificates.swept = Some(now);
        Ok(())
    }
}
