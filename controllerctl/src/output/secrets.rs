//! Secrets, configs and certificates as rows and as the JSON contract. Never what is in them.

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::views::time;
use super::{Row, Shown, size};

/// `secret ls`
#[derive(Debug, Serialize)]
pub struct Secret {
    /// The app that it belongs to.
    pub app: String,
    /// As the app's file calls it; of a bind mount, its path there.
    pub name: String,
    /// secret, config, certificate
    pub kind: String,
    /// How long it is.
    pub bytes: u64,
    /// First digits of its SHA-256: tells versions apart.
    pub digest: String,
    /// Services that have it, of the same app.
    pub services: Vec<String>,
    /// Of a certificate: good until then.
    pub until: Option<String>,
}

impl From<&pb::SecretInfo> for Secret {
    fn from(s: &pb::SecretInfo) -> Self {
        Self {
            app: s.app.clone(),
            name: s.name.clone(),
            kind: s.kind.clone(),
            bytes: s.bytes,
            digest: s.digest.clone(),
            services: s.services.clone(),
            until: time(s.until_ms),
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
            Shown::from(&self.app),
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
        format!("{}/{}", self.app, self.name)
    }
}
