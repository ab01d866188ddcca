//! `node-agent.toml`: where things are on this host. Absent means: all defaults.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use longshore_haproxy_driver::Settings;
use serde::Deserialize;

use crate::files::{FileError, read_optional};
use crate::mesh::Range;

/// Settings of the host's owner.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The container engine's socket.
    pub engine_socket: PathBuf,
    /// What containers may ask of this host.
    pub policy_file: PathBuf,
    /// HAProxy, on edges.
    pub haproxy: Settings,
    /// The addresses that services have by name on this node.
    pub names_range: Range,
    /// Port on which this node's agent takes connections of other nodes' agents to services here;
    /// 0: it takes none.
    pub names_peer_port: u16,
    /// Port of 127.0.0.1 on which this node's engine gets images that the controller holds; 0: none,
    /// they are loaded whole.
    pub images_port: u16,
    /// Networks beyond the bridges of this host whose machines may call services by name here.
    pub names_callers: Vec<Range>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine_socket: PathBuf::from("/var/run/docker.sock"),
            policy_file: PathBuf::from("/etc/longshore/policy.toml"),
            haproxy: Settings::default(),
            names_range: Range::around(Ipv4Addr::new(10, 213, 0, 0), 16),
            names_peer_port: 7447,
            images_port: 5071,
            names_callers: Vec::new(),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there but cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It says something that is not understood.
    #[error("{} is not valid: {detail}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, key and rule.
        detail: String,
    },
}

impl Config {
    /// Reads `path`; all defaults where there is no such file.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, and the line and key that is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let Some(text) = read_optional(path)? else {
            return Ok(Self::default());
        };
        toml::from_str(&text).map_err(|error| ConfigError::Invalid {
            path: path.to_owned(),
            detail: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-agent.toml");
        std::fs::write(&path, "engine_sock = \"/x\"\n").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(
            error.contains("engine_sock") && error.contains("node-agent.toml"),
            "{error}"
        );
    }

    #[test]
    fn a_range_that_is_none_is_an_error_that_says_what_one_looks_like() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-agent.toml");
        std::fs::write(
            &path,
            "names_range = \"10.77.0.0/16\"\nnames_peer_port = 0\n",
        )
        .unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.names_range.to_string(), "10.77.0.0/16");
        assert_eq!(config.names_peer_port, 0);
        std::fs::write(&path, "names_range = \"10.77.0.1/16\"\n").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("10.213.0.0/16"), "{error}");
    }

    #[test]
    fn a_further_statistics_page_has_a_place_of_plain_words() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node-agent.toml");
        let page = |uri| format!("[haproxy.stats_also]\nport = 5050\nuri = \"{uri}\"\n");
        std::fs::write(&path, page("/haproxy?stats")).unwrap();
        let also = Config::load(&path).unwrap().haproxy.stats_also.unwrap();
        assert_eq!((also.port, also.uri.as_str()), (5050, "/haproxy?stats"));
        std::fs::write(&path, page("/x if TRUE")).unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("/haproxy?stats"), "{error}");
    }

    #[test]
    fn no_file_means_defaults() {
        assert_eq!(
            Config::load(Path::new("/nonexistent/x.toml")).unwrap(),
            Config::default()
        );
    }
}
