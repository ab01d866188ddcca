//! Where the engine is, as docker's own client finds it.

use std::fmt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::EngineError;

const SOCKET: &str = "/var/run/docker.sock";
/// Largest file of docker's own that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How the engine is reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host {
    Unix(PathBuf),
    Tcp(String),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    #[serde(rename = "currentContext")]
    current: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Endpoint,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host")]
    host: String,
}

/// `DOCKER_HOST`, else the context that `DOCKER_CONTEXT` or docker's configuration names, else the
/// usual socket.
pub(super) fn choose(var: &dyn Fn(&str) -> Option<String>) -> Result<Host, EngineError> {
    let set = |name: &str| var(name).filter(|value| !value.is_empty());
    if let Some(host) = set("DOCKER_HOST") {
        return parse("DOCKER_HOST", &host, set("DOCKER_TLS_VERIFY").is_some());
    }
    let directory = set("DOCKER_CONFIG").map(PathBuf::from);
    let directory = directory.or_else(|| Some(PathBuf::from(set("HOME")?).join(".docker")));
    let Some(directory) = directory else {
        return Ok(Host::Unix(SOCKET.into()));
    };
    let config = directory.join("config.json");
    let named = match set("DOCKER_CONTEXT") {
        Some(name) => Some(name),
        None if config.is_file() => json::<Config>(&config)?.current,
        None => None,
    };
    match named.filter(|name| !name.is_empty() && name != "default") {
        Some(name) => {
            let id = HEXLOWER.encode(&Sha256::digest(name.as_bytes()));
            let meta = directory.join("contexts/meta").join(id).join("meta.json");
            let host = json::<Meta>(&meta)?.endpoints.docker.host;
            parse(&format!("docker's context {name:?}"), &host, false)
        }
        None => Ok(Host::Unix(SOCKET.into())),
    }
}

fn json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, EngineError> {
    let cannot = |why: String| EngineError::Address(format!("{}: {why}", path.display()));
    let bytes = std::fs::metadata(path).map_err(|e| cannot(e.to_string()))?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(cannot(format!("{} bytes are too many", bytes.len())));
    }
    let text = std::fs::read(path).map_err(|e| cannot(e.to_string()))?;
    serde_json::from_slice(&text).map_err(|e| cannot(e.to_string()))
}

fn parse(who: &str, host: &str, wants_tls: bool) -> Result<Host, EngineError> {
    let no = |why: &str| Err(EngineError::Address(format!("{who} is {host:?}: {why}")));
    match host.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => Ok(Host::Unix(path.into())),
        Some(("tcp" | "http", authority)) if !wants_tls && !authority.is_empty() => {
            Ok(Host::Tcp(authority.trim_end_matches('/').to_owned()))
        }
        Some(("tcp" | "https", _)) => {
            no("an engine behind TLS is not talked to; forward its socket: ssh -L")
        }
        Some(("ssh", _)) => no("no shell is opened; forward its socket: ssh -L"),
        _ => no("write unix:///path or tcp://host:port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)]) -> Result<Host, String> {
        let find = |name: &str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        choose(&find).map_err(|error| error.to_string())
    }

    #[test]
    fn the_engine_is_found_as_docker_finds_it() {
        let unix = |path: &str| Ok(Host::Unix(path.into()));
        assert_eq!(with(&[]), unix(SOCKET));
        assert_eq!(
            with(&[("DOCKER_HOST", "unix:///run/x.sock")]),
            unix("/run/x.sock")
        );
        let tcp = Ok(Host::Tcp("10.0.0.5:2375".into()));
        assert_eq!(with(&[("DOCKER_HOST", "tcp://10.0.0.5:2375")]), tcp);
        for bad in ["ssh://ana@host", "unix://", "somewhere", "https://host"] {
            let said = with(&[("DOCKER_HOST", bad)]).unwrap_err();
            assert!(said.starts_with("DOCKER_HOST is"), "{said}");
        }
        let tls = [("DOCKER_HOST", "tcp://h:2376"), ("DOCKER_TLS_VERIFY", "1")];
        assert!(with(&tls).unwrap_err().contains("TLS"));
    }

    #[test]
    fn the_context_of_docker_is_followed() {
        let home = tempfile::tempdir().unwrap();
        let docker = home.path().join(".docker");
        let home = home.path().to_str().unwrap();
        assert_eq!(with(&[("HOME", home)]), Ok(Host::Unix(SOCKET.into())));
        std::fs::create_dir(&docker).unwrap();
        std::fs::write(docker.join("config.json"), r#"{"currentContext":"vm"}"#).unwrap();
        let said = with(&[("HOME", home)]).unwrap_err();
        assert!(said.contains("meta.json"), "{said}");
        let id = HEXLOWER.encode(&Sha256::digest(b"vm"));
        let meta = docker.join("contexts/meta").join(id);
        std::fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"vm","Endpoints":{"docker":{"Host":"unix:///vm.sock"}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        assert_eq!(with(&[("HOME", home)]), Ok(Host::Unix("/vm.sock".into())));
        let set = [("HOME", home), ("DOCKER_CONTEXT", "default")];
        assert_eq!(with(&set), Ok(Host::Unix(SOCKET.into())));
    }
}
