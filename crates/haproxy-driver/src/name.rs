//! Words that may appear in HAProxy's configuration and commands.
//!
//! HAProxy's two languages have no reliable quoting: a newline or a `;` in a name is a second
//! command. So nothing is quoted here. A word is a value of one of these types, made only from
//! listed bytes, or it is not emitted.

use std::borrow::Borrow;
use std::fmt;

use longshore_model::{AppName, SecretKey, SecretName, ServiceKey, ServiceName, route};

/// `_` stands between names: that of a name is a dot.
fn dotted(name: &str) -> String {
    name.replace('_', ".")
}

fn undotted(word: &str) -> String {
    word.replace('.', "_")
}

/// Name of a backend: `be_APP_SERVICE_PORT`, with a `.` for each `_` of a name. Names of apps and
/// services hold no `.`, so it reads back in one way only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendName(String);

impl BackendName {
    /// The backend of a service at a listen port.
    #[must_use]
    pub fn of(service: &ServiceKey, listen_port: u16) -> Self {
        let (app, service) = (
            dotted(service.app.as_str()),
            dotted(service.service.as_str()),
        );
        Self(format!("be_{app}_{service}_{listen_port}"))
    }

    /// Reads a name that [`BackendName::of`] made; none for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<(ServiceKey, u16)> {
        let mut parts = text.strip_prefix("be_")?.split('_');
        let app = AppName::new(undotted(parts.next()?)).ok()?;
        let service = ServiceName::new(undotted(parts.next()?)).ok()?;
        let port_text = parts.next()?;
        let port: u16 = port_text.parse().ok()?;
        // One form only: "+80" and "080" are not what `of` writes.
        if parts.next().is_some() || port.to_string() != port_text {
            return None;
        }
        Some((ServiceKey::new(app, service), port))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Name of a certificate's file without its ending: `APP_SECRET`, with a `.` for each `_` of a name.
/// Names of apps and secrets hold no `.` or `/` and begin with neither `.` nor `_`, so it reads back
/// in one way only and stays in its directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateName(String);

impl CertificateName {
    /// The certificate that a secret holds.
    #[must_use]
    pub fn of(key: &SecretKey) -> Self {
        Self(format!(
            "{}_{}",
            dotted(key.app.as_str()),
            dotted(key.name.as_str())
        ))
    }

    /// Reads a name that [`CertificateName::of`] made; none for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<SecretKey> {
        let (app, name) = text.split_once('_')?;
        // A second `_` is none of ours.
        let name = (!name.contains('_')).then(|| undotted(name))?;
        let app = AppName::new(undotted(app)).ok()?;
        Some(SecretKey::new(app, SecretName::new(name).ok()?))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Orders and compares as its text does.
impl Borrow<str> for BackendName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Makes a word's type: the model's rule, asked again where the word is emitted.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $rule:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Takes what keeps the rule.
            #[must_use]
            pub fn new(text: &str) -> Option<Self> {
                $rule(text).then(|| Self(text.to_owned()))
            }

            /// The word as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

word! {
    /// A host name in lower case.
    Domain, route::is_domain
}
word! {
    /// Path of an HTTP health check.
    CheckPath, route::is_check_path
}
word! {
    /// Beginning of the paths of a way in.
    PathPrefix, route::is_prefix
}
word! {
    /// Name of a header or a cookie.
    Token, route::is_token
}
word! {
    /// Media type of an answer.
    MediaType, route::is_media_type
}
word! {
    /// Where a statistics page is: a path, and perhaps one word after `?`, as in HAProxy's own
    /// `/haproxy?stats`; 128 bytes at most.
    #[derive(serde::Serialize, serde::Deserialize)]
    #[serde(try_from = "String", into = "String")]
    StatsUri, is_stats_uri
}

fn is_stats_uri(text: &str) -> bool {
    let plain = |text: &str, more: &[u8]| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
    };
    let (path, query) = text.split_once('?').unwrap_or((text, "stats"));
    let path_ok = path.starts_with('/') && plain(path, b"/._-");
    path_ok && !query.is_empty() && plain(query, b"_-") && text.len() <= 128
}

impl TryFrom<String> for StatsUri {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text).ok_or(
            "must be a path of letters, digits, '.', '_', '-' and '/', and perhaps '?' and a word: /haproxy?stats",
        )
    }
}

impl From<StatsUri> for String {
    fn from(uri: StatsUri) -> Self {
        uri.0
    }
}

/// Name of the server in a slot.
#[must_use]
pub fn slot_name(slot: u32) -> String {
    format!("slot{slot}")
}

/// Reads what [`slot_name`] wrote.
#[must_use]
pub fn parse_slot(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("slot")?;
    let plain = digits == "0" || !digits.starts_with(['0', '+']);
    digits.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_names_are_no_slots() {
        for bad in ["slot", "slot01", "slot+1", "slot-1", "slot1 ", "web1"] {
            assert_eq!(parse_slot(bad), None, "{bad:?} was taken");
        }
    }

    proptest! {
        #[test]
        fn backend_names_read_back(
            app in "[a-z0-9][a-z0-9_-]{0,62}", service in "[A-Za-z0-9][A-Za-z0-9_-]{0,62}", port in 1u16..
        ) {
            let key: ServiceKey = format!("{app}/{service}").parse().unwrap();
            let name = BackendName::of(&key, port);
            prop_assert_eq!(BackendName::parse(name.as_str()), Some((key, port)));
        }

        #[test]
        fn certificate_names_read_back(text in "[a-zA0-9._/-]{0,9}(_[a-zA0-9._/-]{0,9})?") {
            if let Some(key) = CertificateName::parse(&text) {
                let name = CertificateName::of(&key);
                prop_assert_eq!(name.as_str(), &text);
                prop_assert!(!text.contains(['/', '\n']) && !text.starts_with('.'));
            }
        }

        #[test]
        fn whatever_reads_as_a_backend_is_its_one_form(text in "be_[a-zA0-9._+-]{0,20}") {
            if let Some((key, port)) = BackendName::parse(&text) {
                let name = BackendName::of(&key, port);
                prop_assert_eq!(name.as_str(), text);
            }
        }

        #[test]
        fn accepted_words_hold_no_syntax(text in "/?[a-z][ -~\n\u{e9}]{0,9}") {
            let plain = |s: &str| s.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\#;$%{}()".contains(&b));
            if let Some(domain) = Domain::new(&text) { prop_assert!(plain(domain.as_str())); }
            if let Some(path) = CheckPath::new(&text) { prop_assert!(plain(path.as_str())); }
            if let Some(path) = PathPrefix::new(&text) { prop_assert!(plain(path.as_str())); }
            if let Some(uri) = StatsUri::new(&text) { prop_assert!(plain(uri.as_str())); }
            if let Some(token) = Token::new(&text) { prop_assert!(plain(token.as_str())); }
            if let Some(media) = MediaType::new(&text) { prop_assert!(plain(media.as_str())); }
        }
    }
}
