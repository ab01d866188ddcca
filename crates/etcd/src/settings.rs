//! Where etcd is, and how to be known there.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri};
use zeroize::Zeroizing;

use crate::limits::{ENDPOINTS_MAX, PING_ANSWER, PING_EVERY};

/// Why endpoints or credentials cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// None, or too many.
    #[error("{0} endpoints of etcd: name 1 to {ENDPOINTS_MAX}")]
    Count(usize),
    /// No address of etcd.
    #[error("{0:?} is no endpoint of etcd; it should look like https://10.0.0.5:2379")]
    Address(String),
    /// The same one twice.
    #[error("the endpoint {0} is named twice")]
    Twice(String),
    /// The state would go over the wire in clear.
    #[error("{0}: plain http is for loopback addresses only; use https")]
    Plaintext(String),
    /// `https` without a CA to trust.
    #[error("{0}: https needs the certificate of the CA that signed etcd's")]
    NoCa(String),
    /// PEM that cannot be read.
    #[error("{what} cannot be used: {why}")]
    Pem {
        /// Which.
        what: &'static str,
        /// Why not.
        why: String,
    },
}

/// Whom to trust, and what to show. Users with passwords are not spoken: etcd takes the common
/// name of a client certificate as the user (`--client-cert-auth`).
#[derive(Clone)]
pub struct Credentials {
    ca_pem: String,
    client: Option<(String, Zeroizing<String>)>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.is_some();
        write!(f, "Credentials {{ client certificate: {client} }}")
    }
}

impl Credentials {
    /// Trusts the CA(s) of `ca_pem` and no others; shows `client` (chain, key), if etcd asks.
    ///
    /// # Errors
    /// [`SettingsError::Pem`] if there is no certificate, or no key, in one of them.
    pub fn new(ca_pem: &str, client: Option<(&str, &str)>) -> Result<Self, SettingsError> {
        certificates("the CA certificate", ca_pem)?;
        if let Some((chain, key)) = client {
            certificates("the client certificate", chain)?;
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| SettingsError::Pem {
                what: "the client key",
                why: error.to_string(),
            })?;
        }
        Ok(Self {
            ca_pem: ca_pem.to_owned(),
            client: client.map(|(chain, key)| (chain.to_owned(), Zeroizing::new(key.to_owned()))),
        })
    }

    fn config(&self, host: &str) -> ClientTlsConfig {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca_pem))
            .domain_name(bare(host));
        match &self.client {
            Some((chain, key)) => config.identity(Identity::from_pem(chain, key.as_str())),
            None => config,
        }
    }
}

fn certificates(what: &'static str, pem: &str) -> Result<(), SettingsError> {
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        count += 1;
        certificate.map_err(|error| SettingsError::Pem {
            what,
            why: error.to_string(),
        })?;
    }
    match count {
        0 => Err(SettingsError::Pem {
            what,
            why: "there is no certificate in it".into(),
        }),
        _ => Ok(()),
    }
}

/// The endpoints of one etcd cluster, and how long to wait for what.
#[derive(Debug, Clone)]
pub struct Settings {
    endpoints: Vec<Endpoint>,
    names: Vec<String>,
    /// The only cluster to talk to; none: that of the first endpoint that serves.
    pub cluster_id: Option<u64>,
    /// For the race over all endpoints: dialling, handshake, a linearizable read.
    pub race_deadline: Duration,
    /// For one call at one endpoint; one that takes longer is left.
    pub call_deadline: Duration,
    /// For a call, with the search for an endpoint and, if it only reads, further attempts.
    pub patience: Duration,
}

impl Settings {
    /// `endpoints` as `https://host:port`; `http` on loopback only.
    ///
    /// # Errors
    /// [`SettingsError`] names the endpoint or the file's part, and the way out.
    pub fn new<S: AsRef<str>>(
        endpoints: &[S],
        credentials: Option<&Credentials>,
    ) -> Result<Self, SettingsError> {
        if endpoints.is_empty() || endpoints.len() > ENDPOINTS_MAX {
            return Err(SettingsError::Count(endpoints.len()));
        }
        let mut settings = Self {
            endpoints: Vec::new(),
            names: Vec::new(),
            cluster_id: None,
            race_deadline: Duration::from_millis(800),
            call_deadline: Duration::from_secs(1),
            patience: Duration::from_secs(5),
        };
        let mut seen = BTreeSet::new();
        for text in endpoints {
            let name = text.as_ref().trim_end_matches('/').to_owned();
            let endpoint = endpoint(&name, credentials)?;
            if !seen.insert(name.clone()) {
                return Err(SettingsError::Twice(name));
            }
            settings.endpoints.push(endpoint);
            settings.names.push(name);
        }
        Ok(settings)
    }

    /// The endpoints, as they were named.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.names
    }

    pub(crate) fn dials(&self) -> impl Iterator<Item = (String, Endpoint)> {
        let timeout = self.race_deadline;
        self.names.iter().cloned().zip(
            self.endpoints
                .iter()
                .map(move |endpoint| endpoint.clone().connect_timeout(timeout)),
        )
    }
}

fn endpoint(name: &str, credentials: Option<&Credentials>) -> Result<Endpoint, SettingsError> {
    let address = || SettingsError::Address(name.to_owned());
    let uri: Uri = name.parse().map_err(|_| address())?;
    let host = uri.host().ok_or_else(address)?;
    let rest = uri.path_and_query().is_none_or(|rest| rest.as_str() == "/");
    let user = uri.authority().is_some_and(|a| a.as_str().contains('@'));
    if uri.port_u16().is_none() || !rest || user {
        return Err(address());
    }
    let endpoint = Endpoint::from(uri.clone())
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWER)
        .keep_alive_while_idle(false)
        .tcp_nodelay(true);
    match uri.scheme_str() {
        Some("http") if is_loopback(host) => Ok(endpoint),
        Some("http") => Err(SettingsError::Plaintext(name.to_owned())),
        Some("https") => {
            let credentials = credentials.ok_or_else(|| SettingsError::NoCa(name.to_owned()))?;
            endpoint
                .tls_config(credentials.config(host))
                .map_err(|error| SettingsError::Pem {
                    what: "the credentials for etcd",
                    why: std::error::Error::source(&error)
                        .map_or_else(|| error.to_string(), ToString::to_string),
                })
        }
        _ => Err(address()),
    }
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || bare(host)
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_of(endpoints: &[&str]) -> SettingsError {
        Settings::new(endpoints, None).unwrap_err()
    }

    #[test]
    fn bad_endpoints_are_named_with_the_way_out() {
        let address = |text: &str| SettingsError::Address(text.into());
        assert_eq!(error_of(&[]), SettingsError::Count(0));
        assert_eq!(
            error_of(&["http://127.0.0.1:1"; 10]),
            SettingsError::Count(10)
        );
        for bad in [
            "10.0.0.5:2379",
            "ftp://127.0.0.1:2379",
            "http://127.0.0.1",
            "http://127.0.0.1:2379/v3",
            "http://u:p@127.0.0.1:2379",
            "http://127.0.0.1:99999",
            "",
        ] {
            assert_eq!(error_of(&[bad]), address(bad));
        }
        let plain = "http://10.0.0.5:2379";
        assert_eq!(error_of(&[plain]), SettingsError::Plaintext(plain.into()));
        let secure = "https://10.0.0.5:2379";
        assert_eq!(error_of(&[secure]), SettingsError::NoCa(secure.into()));
        let here = "http://[::1]:2379";
        assert_eq!(
            error_of(&[here, "http://[::1]:2379/"]),
            SettingsError::Twice(here.into())
        );
        assert_eq!(Settings::new(&[here], None).unwrap().endpoints(), [here]);
    }

    #[test]
    fn credentials_without_a_certificate_or_key_are_refused() {
        let error = Credentials::new("nothing", None).unwrap_err();
        assert!(matches!(
            error,
            SettingsError::Pem {
                what: "the CA certificate",
                ..
            }
        ));
        let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let pem = ca.cert.pem();
        let error = Credentials::new(&pem, Some((&pem, "no key"))).unwrap_err();
        assert!(matches!(
            error,
            SettingsError::Pem {
                what: "the client key",
                ..
            }
        ));
        let key = ca.signing_key.serialize_pem();
        let good = Credentials::new(&pem, Some((&pem, &key))).unwrap();
        assert!(Settings::new(&["https://10.0.0.5:2379"], Some(&good)).is_ok());
        assert!(!format!("{good:?}").contains("BEGIN"));
    }
}
