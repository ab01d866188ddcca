//! `[prometheus]` in `controller.toml`.

use std::fmt;
use std::path::PathBuf;

use http::Uri;
use serde::Deserialize;

/// Where numbers from outside come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusConfig {
    /// Base URL of the server: `http://prometheus.example:9090`. None: no number from outside.
    pub url: Option<ServerUrl>,
    /// File with a token that is sent as `Authorization: Bearer …`; read anew each time.
    pub bearer_token_file: Option<PathBuf>,
    /// CAs that may vouch for the server, as PEM, instead of the system's; read anew each time.
    pub ca_file: Option<PathBuf>,
    /// How often each query is asked, in milliseconds; at least 1,000.
    pub interval_ms: u64,
    /// Longest wait for one answer, in milliseconds; at least 100.
    pub timeout_ms: u64,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self {
            url: None,
            bearer_token_file: None,
            ca_file: None,
            interval_ms: 5_000,
            timeout_ms: 3_000,
        }
    }
}

impl PrometheusConfig {
    /// With values below their least raised to it.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.interval_ms = self.interval_ms.max(1_000);
        self.timeout_ms = self.timeout_ms.clamp(100, 60_000);
        self
    }
}

/// A base URL: scheme, host, port, and a path for servers behind a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ServerUrl {
    text: String,
    /// `https`.
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// Host and port as they are written, for the `Host` header.
    pub(super) authority: String,
    /// Without a slash at its end; may be empty.
    pub(super) prefix: String,
}

/// Why a URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no URL of a Prometheus server: {rule}; write http://HOST:PORT")]
pub struct UrlError {
    text: String,
    rule: &'static str,
}

impl ServerUrl {
    /// As it was written, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for ServerUrl {
    type Error = UrlError;

    fn try_from(text: String) -> Result<Self, UrlError> {
        let refused = |rule| UrlError {
            text: text.clone(),
            rule,
        };
        let text = text.trim_end_matches('/').to_owned();
        let uri: Uri = text.parse().map_err(|_| refused("it cannot be parsed"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refused("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| refused("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(refused("a password belongs into bearer_token_file"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(refused("it must end with its path"));
        }
        let host = authority.host();
        let inside = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = inside.unwrap_or(host).to_owned();
        if host.is_empty() {
            return Err(refused("it has no host"));
        }
        Ok(Self {
            tls,
            host,
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            text,
        })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<ServerUrl, UrlError> {
        ServerUrl::try_from(text.to_owned())
    }

    #[test]
    fn urls_are_taken_apart() {
        let plain = url("http://10.0.0.9:9090/").unwrap();
        assert_eq!(plain.as_str(), "http://10.0.0.9:9090");
        assert_eq!(
            (plain.host.as_str(), plain.port, plain.tls),
            ("10.0.0.9", 9090, false)
        );
        assert_eq!(plain.prefix, "");
        let long = url("https://[::1]/prometheus/").unwrap();
        assert_eq!((long.host.as_str(), long.port), ("::1", 443));
        assert_eq!((long.prefix.as_str(), long.tls), ("/prometheus", true));
        for bad in [
            "",
            "prometheus:9090",
            "ftp://a",
            "http://user:secret@a",
            "http://a/x?y=1",
            "http:///x",
            "http://a b",
        ] {
            assert!(url(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_file_is_read_and_a_mistake_is_named() {
        let text = "url = \"http://a:9090\"\ninterval_ms = 1\n";
        let read: PrometheusConfig = toml::from_str(text).unwrap();
        assert_eq!(
            (read.timeout_ms, read.clone().bounded().interval_ms),
            (3_000, 1_000)
        );
        let error = toml::from_str::<PrometheusConfig>("url = \"a:9090\"").unwrap_err();
        assert!(error.to_string().contains("http://HOST:PORT"), "{error}");
    }
}
