//! Secrets, configs, certificates and registries as rows and as the JSON contract. Never what is in them.

use longshore_proto::control::v1 as pb;
use longshore_proto::secrets::v1 as registries;
use serde::Serialize;

use super::views::time;
use super::{Row, Shown, age, size};

/// `secret ls`
#[derive(Debug, Serialize)]
pub struct Secret {
    /// The app that it belongs to; none: it stands apart from apps.
    pub app: Option<String>,
    /// As the app's file calls it; of a bind mount, its path there.
    pub name: String,
    /// secret, config, certificate
    pub kind: String,
    /// How long it is.
    pub bytes: u64,
    /// First digits of its SHA-256: tells versions apart.
    pub digest: String,
    /// Services that have it, of the same app; of one apart from apps: app/service.
    pub services: Vec<String>,
    /// Of a certificate: good until then.
    pub until: Option<String>,
    /// Of one apart from apps: since when it has these contents.
    pub since: Option<String>,
    /// Of one apart from apps: who brought them.
    pub by: Option<String>,
}

impl From<&pb::SecretInfo> for Secret {
    fn from(s: &pb::SecretInfo) -> Self {
        let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            app: filled(&s.app),
            name: s.name.clone(),
            kind: s.kind.clone(),
            bytes: s.bytes,
            digest: s.digest.clone(),
            services: s.services.clone(),
            until: time(s.until_ms),
            since: time(s.since_ms),
            by: filled(&s.by),
        }
    }
}

impl Row for Secret {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec!["APP", "NAME", "KIND", "SIZE", "DIGEST", "SERVICES"];
        titles.extend(wide.then_some("UNTIL"));
        titles
    }

    fn cells(&self, wide: bool, _: u64) -> Vec<Shown> {
        let mut cells = vec![
            self.app.clone().unwrap_or_else(|| "-".into()).into(),
            Shown::from(&self.name),
            Shown::from(&self.kind),
            size(self.bytes).into(),
            Shown::from(&self.digest),
            self.services.join(",").into(),
        ];
        cells.extend(wide.then(|| self.until.clone().unwrap_or_default().into()));
        cells
    }

    fn name(&self) -> String {
        match &self.app {
            Some(app) => format!("{app}/{}", self.name),
            None => self.name.clone(),
        }
    }
}

/// `secret create`
#[derive(Debug, Serialize)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// created, replaced, same
    pub action: String,
    /// First digits of its SHA-256.
    pub digest: String,
    /// Services that have it, app/service; one that was replaced with their next `up`.
    pub services: Vec<String>,
}

/// `registry ls`
#[derive(Debug, Serialize)]
pub struct Registry {
    /// As images name it.
    pub server: String,
    /// As whom nodes pull.
    pub user: String,
    /// Since when.
    pub since: Option<String>,
    /// Who gave the credentials.
    pub by: String,
    /// Services whose image comes from there, app/service.
    pub services: Vec<String>,
    #[serde(skip)]
    since_ms: u64,
}

impl From<&registries::Registry> for Registry {
    fn from(r: &registries::Registry) -> Self {
        Self {
            server: r.server.clone(),
            user: r.user.clone(),
            since: time(r.since_ms),
            by: r.by.clone(),
            services: r.services.clone(),
            since_ms: r.since_ms,
        }
    }
}

impl Row for Registry {
    fn titles(_: bool) -> Vec<&'static str> {
        vec!["SERVER", "USER", "SERVICES", "BY", "AGE"]
    }

    fn cells(&self, _: bool, now_ms: u64) -> Vec<Shown> {
        vec![
            Shown::from(&self.server),
            Shown::from(&self.user),
            self.services.join(",").into(),
            Shown::from(&self.by),
            age(self.since_ms, now_ms).into(),
        ]
    }

    fn name(&self) -> String {
        self.server.clone()
    }
}

/// `registry login`
#[derive(Debug, Serialize)]
pub struct LoggedIn {
    /// As images name it.
    pub server: String,
    /// As whom nodes pull.
    pub user: String,
    /// There were other credentials before.
    pub replaced: bool,
}

/// `registry logout`
#[derive(Debug, Serialize)]
pub struct LoggedOut {
    /// As images name them.
    pub servers: Vec<String>,
}
