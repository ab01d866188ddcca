//! Registries that images come from.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most registries that a cluster has credentials for.
pub const REGISTRIES_MAX: usize = 64;
/// Longest user and longest password of one.
pub const CREDENTIAL_BYTES_MAX: usize = 16 << 10;
const HOST_BYTES_MAX: usize = 255;
/// Where images come from whose name says no registry.
const HUB: &str = "docker.io";
/// Names that people know the hub by.
const HUB_ALIASES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "hub.docker.com"];

/// A registry, as names of images say it: `docker.io`, `ghcr.io`, `registry.example.com:5000`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryHost(String);

/// It is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no registry: write its host as images name it, such as registry.example.com:5000"
)]
pub struct NoRegistryHost(String);

impl RegistryHost {
    /// Where an image comes from, as the engine reads its name. None: its name is no image's.
    #[must_use]
    pub fn of_image(image: &str) -> Option<Self> {
        let host = match image.split_once('/') {
            // A first part without these is a part of the repository (distribution's reference).
            Some((first, _))
                if first == "localhost"
                    || first.contains(['.', ':'])
                    || first.bytes().any(|b| b.is_ascii_uppercase()) =>
            {
                first
            }
            _ => HUB,
        };
        host.parse().ok()
    }

    /// The host, with its port if one was said.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As engines and docker's own client call it when they log in.
    #[must_use]
    pub fn server_address(&self) -> &str {
        match self.0.as_str() {
            HUB => "https://index.docker.io/v1/",
            host => host,
        }
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for RegistryHost {
    type Err = NoRegistryHost;

    /// Takes what `docker login` takes: a scheme and a path are left away.
    fn from_str(text: &str) -> Result<Self, NoRegistryHost> {
        let bare = text.strip_prefix("https://");
        let bare = bare
            .or_else(|| text.strip_prefix("http://"))
            .unwrap_or(text);
        let host = bare.split('/').next().unwrap_or_default();
        let host = host.to_ascii_lowercase();
        if HUB_ALIASES.contains(&host.as_str()) {
            return Ok(Self(HUB.to_owned()));
        }
        match host.len() <= HOST_BYTES_MAX && is_host(&host) {
            true => Ok(Self(host)),
            false => Err(NoRegistryHost(text.chars().take(HOST_BYTES_MAX).collect())),
        }
    }
}

fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return false;
            };
            let is_address = address.parse::<std::net::Ipv6Addr>().is_ok();
            return is_address
                && (after.is_empty() || after.strip_prefix(':').is_some_and(is_port));
        }
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let is_label = |label: &str| {
        !(label.is_empty() || label.starts_with('-') || label.ends_with('-'))
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(is_label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0) && text.bytes().all(|b| b.is_ascii_digit())
}

impl TryFrom<String> for RegistryHost {
    type Error = NoRegistryHost;
    fn try_from(text: String) -> Result<Self, NoRegistryHost> {
        text.parse()
    }
}

impl From<RegistryHost> for String {
    fn from(host: RegistryHost) -> String {
        host.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_registry_as_engines_read_it() {
        let table = [
            ("web", "docker.io"),
            ("shop/web:1", "docker.io"),
            ("docker.io/library/web", "docker.io"),
            ("index.docker.io/shop/web", "docker.io"),
            ("ghcr.io/shop/web:1", "ghcr.io"),
            ("localhost/web", "localhost"),
            ("127.0.0.1:5000/web:1", "127.0.0.1:5000"),
            ("Registry/web", "registry"),
            ("[::1]:5000/web", "[::1]:5000"),
            ("r.example.com/a/b@sha256:00", "r.example.com"),
        ];
        for (image, host) in table {
            let found = RegistryHost::of_image(image).unwrap();
            assert_eq!(found.as_str(), host, "{image}");
        }
        assert_eq!(RegistryHost::of_image("a.b:c:d/web"), None);
    }

    #[test]
    fn servers_are_taken_as_docker_login_takes_them() {
        let table = [
            ("docker.io", Some("docker.io")),
            ("https://index.docker.io/v1/", Some("docker.io")),
            (
                "https://Registry.Example.com/",
                Some("registry.example.com"),
            ),
            (
                "registry.example.com:5000",
                Some("registry.example.com:5000"),
            ),
            ("ana@registry.example.com", None),
            ("registry.example.com:0", None),
            ("registry.example.com:+5", None),
            ("a b", None),
            ("a\nb", None),
            ("", None),
            ("-a", None),
            ("[::1", None),
            ("[x]:1", None),
        ];
        for (text, host) in table {
            let read = text.parse::<RegistryHost>().ok();
            assert_eq!(read.as_ref().map(RegistryHost::as_str), host, "{text}");
        }
        let hub: RegistryHost = "docker.io".parse().unwrap();
        assert_eq!(hub.server_address(), "https://index.docker.io/v1/");
        assert!("a".repeat(256).parse::<RegistryHost>().is_err());
    }
}
