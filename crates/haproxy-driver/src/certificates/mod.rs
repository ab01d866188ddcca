//! Certificates of ways in that end TLS.
//!
//! A certificate is a file, the certificates of a port are a list of files. Both are on disk, and
//! taken by `haproxy -c`, before the worker is told: whatever starts HAProxy finds them. The worker
//! is told over its socket (`live`), so a renewed, an added and a removed certificate cost no
//! reload. One that HAProxy does not take is not put in place: its services are served with the one
//! before, or left out.

mod live;
mod seen;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use longshore_model::certificate::CertificateServed;
use longshore_model::event::ports_in_words;
use longshore_model::secret::PEM_BYTES_MAX;
use longshore_model::{Routes, SecretKey, SecretText, ServiceKey};
use tokio::time::Instant;

use crate::disk::Text;
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::files;
use crate::intent::certificate_name;
use crate::name::{BackendName, CertificateName};
use crate::render::{certificate_path, list_path};
use crate::settings::Settings;

/// After so long a certificate that HAProxy did not take is tried again.
const AGAIN_MS: u64 = 600_000;
/// After so long what could not be written is tried again.
const RETRY_MS: u64 = 1_000;
/// What each file begins with.
const FIRST_LINE: &str = "-----BEGIN CERTIFICATE-----\n";
/// Most files that are read at the start.
const FILES_MAX: usize = 4_096;

/// A certificate with its chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM without anything else in it: certificate, chain, key.
    pub pem: SecretText,
    /// SHA-1 of the certificate, as HAProxy shows it: hexadecimal, upper case.
    pub fingerprint: String,
    /// What is said of it when it is served: tells it from the one before.
    pub shown: CertificateServed,
    /// Why HAProxy may refuse it: it gives no reason itself.
    pub doubt: Option<String>,
}

/// Certificates by secret.
pub type Certificates = BTreeMap<SecretKey, Certificate>;

/// What the driver knows of certificates.
#[derive(Debug, Default)]
pub(crate) struct CertificateFiles {
    /// What it was handed.
    told: Arc<Certificates>,
    /// Files in place: those that HAProxy took.
    files: BTreeMap<CertificateName, SecretText>,
    /// Files that somebody spoilt while no driver was there, until they are placed.
    spoilt: BTreeSet<CertificateName>,
    /// What may be said of these contents.
    known: BTreeMap<CertificateName, (SecretText, CertificateServed)>,
    /// What of it HAProxy did not take.
    refused: BTreeMap<CertificateName, Refused>,
    /// Lists as they were written.
    lists: BTreeMap<u16, String>,
    /// What was to be kept, and since when the configuration was in place, when strays were last looked for.
    swept: Option<(BTreeSet<String>, Option<Instant>)>,
    /// When files are looked after again; none: when something changes.
    look_at: Option<Instant>,
    /// Why they could not be brought in place.
    pub(crate) trouble: Option<String>,
    worker: live::Worker,
}

#[derive(Debug)]
struct Refused {
    pem: SecretText,
    mark: String,
    words: String,
    again_at: Instant,
}

impl CertificateFiles {
    /// Reads the files that an earlier process left.
    pub(crate) fn open(settings: &Settings) -> Result<Self, EdgeError> {
        let mut found = Self::default();
        sweep::drafts(&settings.certificates_path)?;
        let names = files::names(&settings.certificates_path, FILES_MAX)?;
        let keys = names
            .iter()
            .filter_map(|name| CertificateName::parse(name.strip_suffix(".pem")?));
        for key in keys {
            let name = CertificateName::of(&key);
            let text = files::read(&certificate_path(settings, &name))?;
            match text {
                Some(text) if is_plain_pem(&text) && text.starts_with(FIRST_LINE) => {
                    found.files.insert(name, SecretText::new(text));
                }
                // None of ours ever held anything else.
                Some(_) => {
                    found.spoilt.insert(name);
                }
                None => {}
            }
        }
        Ok(found)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.look_at.is_some_and(|at| now >= at)
    }

    fn look_by(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |before| before.min(at)));
    }

    /// Files and lists as they were written.
    pub(crate) fn in_place(&self, settings: &Settings) -> Vec<(PathBuf, Text)> {
        let files = self.files.iter().map(|(name, pem)| {
            let text = Text::Secret(pem.clone());
            (certificate_path(settings, name), text)
        });
        let lists = self.lists.iter().map(|(port, text)| {
            let text = Text::Plain(text.clone());
            (list_path(settings, *port), text)
        });
        files.chain(lists).collect()
    }

    /// The worker may have read a file that was changed: its certificates are looked at.
    pub(crate) fn look_at_worker(&mut self) {
        self.worker.look_at_once();
    }

    /// Why there is none to serve; none: there is one, be it the one before.
    fn why_not(&self, key: &SecretKey) -> Option<String> {
        let name = CertificateName::of(key);
        if self.files.contains_key(&name) {
            return None;
        }
        let secret = &key.name;
        Some(match self.refused.get(&name) {
            Some(Refused { words, .. }) => {
                format!("HAProxy refuses certificate {secret}: {words}")
            }
            None => format!("certificate {secret} has not come from the controller"),
        })
    }

    /// Certificates of these routes that cannot be used, and why.
    pub(crate) fn lacking(&self, routes: &Routes) -> BTreeMap<CertificateName, String> {
        let keys = asked(routes).into_iter().map(|(_, key)| key);
        let lacking = keys.filter_map(|key| {
            let name = CertificateName::of(&key);
            Some((name, self.why_not(&key)?))
        });
        lacking.collect()
    }

    /// What is to be said of services: by which of their ways in nobody gets what, and why.
    pub(crate) fn says(&self, routes: &Routes) -> Vec<(ServiceKey, String)> {
        let asked = asked(routes).into_iter();
        let says = asked.filter_map(|(service, key)| {
            let why = self.why_not(&key)?;
            let of_service = routes.backends.iter().filter(|b| b.service == service);
            let with = |b: &&longshore_model::routes::Backend| {
                b.route.tls.iter().any(|text| text == key.name.as_str())
            };
            let ports = of_service.filter(with).map(|b| b.route.listen_port);
            let ports = ports_in_words(&ports.collect());
            Some((service, format!("{ports}: {why}")))
        });
        says.collect()
    }
}

/// Services with the certificates that they ask for.
fn asked(routes: &Routes) -> BTreeSet<(ServiceKey, SecretKey)> {
    let backends = routes.backends.iter();
    let names = backends.flat_map(|b| b.route.tls.iter().map(move |text| (&b.service, text)));
    let keys = names.filter_map(|(service, text)| {
        let name = certificate_name(service, text)?;
        Some((service.clone(), CertificateName::parse(name.as_str())?))
    });
    keys.collect()
}

/// Nothing but certificates and keys in plain lines: an empty one would end a command early.
pub(crate) fn is_plain_pem(text: &str) -> bool {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=".contains(&b);
    let label_ok = |label: &str| {
        matches!(
            label,
            "CERTIFICATE" | "PRIVATE KEY" | "EC PRIVATE KEY" | "RSA PRIVATE KEY"
        )
    };
    let line_ok = |line: &str| {
        let marked = line
            .strip_prefix("-----BEGIN ")
            .or(line.strip_prefix("-----END "));
        match marked.and_then(|rest| rest.strip_suffix("-----")) {
            Some(label) => label_ok(label),
            None => !line.is_empty() && line.len() <= 76 && line.bytes().all(base64),
        }
    };
    let body = text.strip_suffix('\n');
    text.len() <= PEM_BYTES_MAX && body.is_some_and(|body| body.split('\n').all(line_ok))
}

impl Edge {
    /// Takes the certificates that ways in may name. They are put in place by the next
    /// [`Edge::apply`] or [`Edge::tick`].
    pub fn set_certificates(&mut self, certificates: Arc<Certificates>) {
        if self.certificates.told != certificates {
            self.certificates.told = certificates;
            self.certificates.learn();
            self.certificates.look_by(Instant::now());
        }
    }

    /// The files that are in place, as an earlier process may have left them.
    #[must_use]
    pub fn saved_certificates(&self) -> BTreeMap<SecretKey, SecretText> {
        let files = self.certificates.files.iter();
        let keys = files.filter_map(|(name, pem)| {
            let key = CertificateName::parse(name.as_str())?;
            Some((key, pem.clone()))
        });
        keys.collect()
    }

    /// Puts certificates in place that the routes ask for. What cannot be done now is said, and
    /// tried again. True: something may be different now.
    pub(crate) async fn prepare_certificates(&mut self, is_new: bool) -> bool {
        let now = Instant::now();
        if !is_new && !self.certificates.is_due(now) {
            return false;
        }
        self.certificates.look_at = None;
        let result = self.place_new(now).await;
        self.note_trouble(result, now);
        true
    }

    fn note_trouble(&mut self, result: Result<(), EdgeError>, now: Instant) {
        self.certificates.trouble = result.err().map(|error| {
            self.certificates
                .look_by(now + Duration::from_millis(RETRY_MS));
            format!("certificates cannot be put in place: {}", error.chain())
        });
    }

    async fn place_new(&mut self, now: Instant) -> Result<(), EdgeError> {
        let Some(routes) = &self.routes else {
            return Ok(());
        };
        let (mut new, mut marks) = (BTreeMap::new(), BTreeMap::new());
        for (_, key) in asked(routes) {
            let name = CertificateName::of(&key);
            let Some(certificate) = self.certificates.told.get(&key) else {
                continue;
            };
            let pem = &certificate.pem;
            if self.certificates.files.get(&name) == Some(pem) {
                self.certificates.refused.remove(&name);
            } else if let Some(refused) = self.certificates.refused.get(&name)
                && refused.pem == *pem
                && now < refused.again_at
            {
                let again_at = refused.again_at;
                self.certificates.look_by(again_at);
            } else {
                marks.insert(name.clone(), certificate.clone());
                new.insert(name, pem.clone());
            }
        }
        // One question for all; each on its own only where one of them is bad.
        match self.place(&new).await {
            Err(EdgeError::Refused { .. }) => {}
            other => return other,
        }
        for (name, pem) in new {
            let one = BTreeMap::from([(name.clone(), pem.clone())]);
            match self.place(&one).await {
                Err(EdgeError::Refused { output }) => {
                    let again_at = now + Duration::from_millis(AGAIN_MS);
                    tracing::warn!(certificate = name.as_str(), output, "HAProxy refuses it");
                    let of = marks.remove(&name);
                    let (mark, doubt) = of.map(|c| (c.shown.mark, c.doubt)).unwrap_or_default();
                    let words = seen::cause(&output, doubt.as_deref());
                    let refused = Refused {
                        pem,
                        mark,
                        words,
                        again_at,
                    };
                    self.certificates.look_by(again_at);
                    self.certificates.refused.insert(name, refused);
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// HAProxy refuses a file that names certificates which it took before: the disk has others by
    /// now, or it is another HAProxy. They are put in place again where their contents are known and
    /// pass, else they are the trouble of their services alone. False: its words name none.
    pub(crate) async fn place_again(&mut self, words: &str) -> bool {
        let path = |name: &CertificateName| certificate_path(&self.settings, name);
        let is_named = |name: &&CertificateName| words.contains(&*path(name).to_string_lossy());
        let named = self.certificates.files.keys().filter(is_named);
        let named: Vec<CertificateName> = named.cloned().collect();
        for name in &named {
            tracing::warn!(certificate = name.as_str(), words, "not taken any more");
            self.certificates.files.remove(name);
        }
        if named.is_empty() {
            return false;
        }
        self.prepare_certificates(true).await;
        self.compile();
        self.write_lists().await;
        true
    }

    /// Writes files and gives them their names, if haproxy takes all of them. None is left on disk
    /// that it does not take.
    async fn place(
        &mut self,
        new: &BTreeMap<CertificateName, SecretText>,
    ) -> Result<(), EdgeError> {
        if new.is_empty() {
            return Ok(());
        }
        let placed = self.place_drafts(new).await;
        self.certificates.learn();
        // Those that got their names are drafts no more.
        let drafts = new
            .keys()
            .map(|name| certificate_path(&self.settings, name));
        let mut removed = Ok(());
        for path in drafts.chain([self.check_path()]) {
            removed = removed.and(files::remove(&files::draft_path(&path)).await);
        }
        placed.and(removed)
    }

    fn check_path(&self) -> PathBuf {
        self.settings.certificates_path.join("check.cfg")
    }

    async fn place_drafts(
        &mut self,
        new: &BTreeMap<CertificateName, SecretText>,
    ) -> Result<(), EdgeError> {
        let mut config =
            "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    \
                          timeout server 1s\nfrontend certificates\n"
                .to_owned();
        for (name, pem) in new {
            if !is_plain_pem(pem.expose()) {
                let output = format!("{}: not plain PEM", name.as_str());
                return Err(EdgeError::Refused { output });
            }
            let path = certificate_path(&self.settings, name);
            let draft = files::write_secret_draft(&path, pem.clone()).await?;
            let line = format!("    bind 127.0.0.1:1 ssl crt {}\n", draft.display());
            config.push_str(&line);
        }
        let check = files::write_draft(&self.check_path(), config).await?;
        let deadline = Duration::from_millis(self.settings.check_deadline_ms);
        files::check(&self.settings.binary, &check, deadline).await?;
        for (name, pem) in new {
            files::commit_draft(&certificate_path(&self.settings, name)).await?;
            self.certificates.files.insert(name.clone(), pem.clone());
            self.certificates.refused.remove(name);
            if self.certificates.spoilt.remove(name) {
                self.disk
                    .was_changed(&certificate_path(&self.settings, name));
            }
        }
        self.certificates.worker.look_now();
        Ok(())
    }

    /// Writes the lists of all ports that end TLS, or will: a way in that is held back is listed,
    /// too, and one that is served as before still is.
    pub(crate) async fn write_lists(&mut self) {
        if let Err(error) = self.write_lists_now().await {
            self.note_trouble(Err(error), Instant::now());
        }
    }

    async fn write_lists_now(&mut self) -> Result<(), EdgeError> {
        for (port, names) in self.listed() {
            let lines = names.iter().map(|name| {
                let path = certificate_path(&self.settings, name);
                format!("{}\n", path.display())
            });
            let text: String = lines.collect();
            if self.certificates.lists.get(&port) == Some(&text) {
                continue;
            }
            files::replace(&list_path(&self.settings, port), text.clone()).await?;
            self.certificates.lists.insert(port, text);
            self.certificates.worker.look_now();
        }
        Ok(())
    }

    /// Certificates by port.
    fn listed(&self) -> BTreeMap<u16, BTreeSet<CertificateName>> {
        let mut ports: BTreeMap<u16, BTreeSet<CertificateName>> = BTreeMap::new();
        let mut list = |port: u16, name: &CertificateName| {
            if self.certificates.files.contains_key(name) {
                ports.entry(port).or_default().insert(name.clone());
            }
        };
        let both = [&self.wanted, &*self.intent];
        for backend in both.iter().flat_map(|intent| intent.backends.values()) {
            for name in &backend.tls {
                list(backend.listen_port, name);
            }
        }
        for (name, route) in &self.slots.loaded {
            let Some((service, port)) = BackendName::parse(name) else {
                continue;
            };
            for text in &route.tls {
                if let Some(name) = certificate_name(&service, text) {
                    list(port, &name);
                }
            }
        }
        ports
    }

    /// Removes files that nobody names any more.
    pub(crate) async fn collect_certificates(&mut self) -> Result<(), EdgeError> {
        let listed = self.listed();
        let mut used: BTreeSet<CertificateName> = listed.values().flatten().cloned().collect();
        if let Some(routes) = &self.routes {
            let keys = asked(routes).into_iter().map(|(_, key)| key);
            used.extend(keys.map(|key| CertificateName::of(&key)));
        }
        let file = self.written.as_deref().unwrap_or_default();
        let is_named = |path: &Path| file.contains(&*path.to_string_lossy());
        let files = &self.certificates.files;
        let files = files.keys().filter(|name| {
            !used.contains(name) && !is_named(&certificate_path(&self.settings, name))
        });
        let files: Vec<CertificateName> = files.cloned().collect();
        let ports = self.certificates.lists.keys().copied();
        let ports: Vec<u16> = ports
            .filter(|port| {
                !listed.contains_key(port) && !is_named(&list_path(&self.settings, *port))
            })
            .collect();
        self.certificates
            .refused
            .retain(|name, _| used.contains(name));
        for name in files {
            files::remove(&certificate_path(&self.settings, &name)).await?;
            self.certificates.files.remove(&name);
        }
        for port in ports {
            files::remove(&list_path(&self.settings, port)).await?;
            self.certificates.lists.remove(&port);
        }
        self.sweep_certificates().await
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain_pem;

    #[test]
    fn only_plain_lines_pass() {
        let well = "-----BEGIN CERTIFICATE-----\nTWFu+/==\n-----END CERTIFICATE-----\n";
        assert!(is_plain_pem(well));
        for bad in [
            "",
            "\n",
            "abc",
            "abc\n\n",
            "ab\n\nset server x\n",
            "set server x\n",
            "abc\r\n",
            "-----BEGIN DH PARAMETERS-----\n",
            &"abcd\n".repeat(3_001),
        ] {
            assert!(!is_plain_pem(bad), "{bad:?} was taken");
        }
    }
}
