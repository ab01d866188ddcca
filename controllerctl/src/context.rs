//! Which cluster, as whom: the context file.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure};
use crate::output::note;

/// Most controllers of a context that are kept in mind.
const SERVERS_MAX: usize = 16;
/// Largest context file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// All contexts of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contexts {
    /// The one that is used where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// By name.
    #[serde(default)]
    pub context: BTreeMap<String, Context>,
}

/// One cluster and the credentials for it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// `https://host:port`, tried in order.
    pub servers: Vec<String>,
    /// The cluster's CA, PEM: nobody else is trusted. Empty: the one that the token names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ca: String,
    /// Own certificate, PEM; empty with a token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cert: String,
    /// Its key, PEM; empty with a token.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// An operator's token, instead of a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A command that prints one, word for word; no shell reads it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub token_command: Vec<String>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The key stays out of every log.
        f.debug_struct("Context")
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

/// Where the file is: `CONTROLLERCTL_CONFIG`, else in the user's configuration directory.
#[must_use]
pub fn path() -> PathBuf {
    let var = |name| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    var("CONTROLLERCTL_CONFIG").unwrap_or_else(|| {
        let base = var("XDG_CONFIG_HOME")
            .or_else(|| var("HOME").map(|home| home.join(".config")))
            .unwrap_or_else(|| PathBuf::from("."));
        base.join("controllerctl").join("config.toml")
    })
}

/// Reads a file of contexts.
///
/// # Errors
/// A [`Failure`] that names the file.
pub fn read(path: &Path) -> Result<Contexts, Failure> {
    let cannot = || format!("cannot read {}", path.display());
    let size = std::fs::metadata(path)
        .map_err(|e| Failure::new(cannot()).because(e))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(Failure::new(format!(
            "{}: {size} bytes; that is no context file",
            cannot()
        )));
    }
    let text = std::fs::read_to_string(path).map_err(|e| Failure::new(cannot()).because(e))?;
    toml::from_str(&text).map_err(|error| {
        // Its full text would quote the line, and the line may be a key.
        let message = error.message().to_owned();
        Failure::new(format!(
            "{}: it is no context file: {message}",
            path.display()
        ))
    })
}

/// As [`read`]; a file that is not there holds nothing.
///
/// # Errors
/// As [`read`].
pub fn read_or_empty(path: &Path) -> Result<Contexts, Failure> {
    if path.exists() {
        read(path)
    } else {
        Ok(Contexts::default())
    }
}

/// Keeps in mind where else controllers are. What cannot be written is learned again.
pub fn learn(path: &Path, name: &str, controllers: &[String]) {
    let Ok(mut contexts) = read(path) else { return };
    let Some(context) = contexts.context.get_mut(name) else {
        return;
    };
    let is_new = |server: &&String| !context.servers.contains(server);
    let new: Vec<String> = controllers.iter().filter(is_new).cloned().collect();
    if new.is_empty() || context.servers.len() + new.len() > SERVERS_MAX {
        return;
    }
    context.servers.extend(new);
    if let Err(failure) = write(path, &contexts) {
        note(&format!("controllers are not kept in mind: {failure}"));
    }
}

/// Writes the file whole, readable by its owner alone.
///
/// # Errors
/// A [`Failure`] that names the file; the old one stays then.
pub fn write(path: &Path, contexts: &Contexts) -> Result<(), Failure> {
    let cannot = |e| Failure::new(format!("cannot write {}", path.display())).because(e);
    let text = toml::to_string(contexts)
        .map_err(|e| Failure::new("cannot render the contexts").because(e))?;
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(cannot)?;
    }
    let draft = path.with_extension(format!("tmp{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    let written = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
        })
        .and_then(|()| std::fs::rename(&draft, path));
    if let Err(error) = written {
        // The draft holds a key: do not leave it behind. It may not exist.
        let _ = std::fs::remove_file(&draft);
        return Err(cannot(error));
    }
    Ok(())
}

/// True if others than the owner can read the file.
#[must_use]
pub fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0)
}

/// Takes a file that holds keys away from others, and says so: whoever read it may act as its
/// owner until the certificate is over.
pub fn close_to_others(path: &Path) {
    if !is_open_to_others(path) {
        return;
    }
    let shown = path.display();
    let closed = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
    note(&match closed {
        Ok(()) => format!(
            "warning: {shown} holds keys and could be read by others; its mode is 0600 now. If \
             somebody may have read it, ask an admin for a new context"
        ),
        Err(error) => format!(
            "warning: {shown} holds keys and can be read by others, and chmod 600 failed: {error}"
        ),
    });
}

/// Removes a file that holds nothing any more, and its directory if nothing else is in it.
///
/// # Errors
/// A [`Failure`] that names the file.
pub fn remove(path: &Path) -> Result<(), Failure> {
    let cannot = |e| Failure::new(format!("cannot remove {}", path.display())).because(e);
    std::fs::remove_file(path).map_err(cannot)?;
    if let Some(parent) = path.parent() {
        // Others keep things there: it stays.
        let _ = std::fs::remove_dir(parent);
    }
    Ok(())
}

/// Picks the context: by name, else the current one, else the only one.
///
/// # Errors
/// A [`Failure`] that lists what there is.
pub fn pick(contexts: &Contexts, name: Option<&str>) -> Result<(String, Context), Failure> {
    let names = || {
        contexts
            .context
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(", ")
    };
    let chosen = match (name, &contexts.current) {
        (Some(name), _) => name.to_owned(),
        (None, Some(current)) => current.clone(),
        (None, None) => match contexts.context.keys().next() {
            Some(only) if contexts.context.len() == 1 => only.clone(),
            Some(_) => {
                return Err(
                    Failure::new(format!("no context is current; there are: {}", names()))
                        .exit(Exit::Usage)
                        .hint("controllerctl context use NAME"),
                );
            }
            None => {
                return Err(Failure::new("there is no context yet").exit(Exit::Usage).hint(
                    "controllerctl context import FILE (controller init writes it: --context-out)",
                ));
            }
        },
    };
    match contexts.context.get(&chosen) {
        Some(context) => Ok((chosen, context.clone())),
        None => Err(Failure::new(format!("there is no context {chosen:?}"))
            .exit(Exit::Usage)
            .hint(format!("there are: {}", names()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        let text = String::from;
        Context {
            servers: vec![text("https://10.0.0.1:7443")],
            ca: text("CA"),
            cert: text("CERT"),
            key: text("KEY"),
            token: None,
            token_command: Vec::new(),
        }
    }

    #[test]
    fn the_file_is_its_owners_alone_and_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/config.toml");
        let contexts = Contexts {
            current: Some("a".into()),
            context: BTreeMap::from([("a".into(), context())]),
        };
        write(&path, &contexts).unwrap();
        assert!(!is_open_to_others(&path));
        assert_eq!(read(&path).unwrap(), contexts);
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no draft left"
        );
        assert!(!format!("{contexts:?}").contains("KEY"));
        let mode = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&path, mode).unwrap();
        close_to_others(&path);
        assert!(!is_open_to_others(&path));
        remove(&path).unwrap();
        assert!(!path.parent().unwrap().exists(), "nothing empty is left");
    }

    #[test]
    fn a_broken_file_is_named_without_quoting_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "[context.a]\nkey = \"SECRET\"\nservers = 3\n").unwrap();
        let failure = read(&path).unwrap_err().render(false);
        assert!(
            failure.contains("config.toml") && !failure.contains("SECRET"),
            "{failure}"
        );
    }

    #[test]
    fn one_context_needs_no_choice_and_two_do() {
        let mut contexts = Contexts::default();
        assert!(pick(&contexts, None).is_err());
        contexts.context.insert("a".into(), context());
        assert_eq!(pick(&contexts, None).unwrap().0, "a");
        contexts.context.insert("b".into(), context());
        assert_eq!(pick(&contexts, None).unwrap_err().exit, Exit::Usage);
        assert_eq!(pick(&contexts, Some("b")).unwrap().0, "b");
        contexts.current = Some("a".into());
        assert_eq!(pick(&contexts, None).unwrap().0, "a");
        assert!(
            pick(&contexts, Some("c"))
                .unwrap_err()
                .hint
                .unwrap()
                .contains("a, b")
        );
    }
}
