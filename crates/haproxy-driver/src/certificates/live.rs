//! The certificates that the worker has, brought in step with the files over its socket.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use longshore_model::SecretText;
use longshore_model::repair::RepairKind;
use tokio::time::Instant;

use crate::converge::Outcome;
use crate::edge::Edge;
use crate::error::EdgeError;
use crate::name::CertificateName;
use crate::render::{certificate_path, list_path};
use crate::repairs::Repaired;
use crate::settings::Settings;

/// Between two looks while nothing changes.
const LOOK_MS: u64 = 2_000;
/// Looks within one call.
const ROUNDS_MAX: usize = 3;
/// Answers of HAProxy that are repeated.
const COMPLAINTS_MAX: usize = 3;

/// What is known of the worker.
#[derive(Debug, Default)]
pub(super) struct Worker {
    pid: u32,
    /// What it was seen to have in step.
    has: BTreeMap<CertificateName, SecretText>,
    look_at: Option<Instant>,
    is_changed: bool,
}

impl Worker {
    /// What it was seen to have of it, in step with the file.
    pub(super) fn has(&self, name: &CertificateName) -> Option<&SecretText> {
        self.has.get(name)
    }

    /// Looks with the next convergence; what differs then is drift.
    pub(super) fn look_at_once(&mut self) {
        self.look_at = None;
    }

    /// Something was changed on disk.
    pub(super) fn look_now(&mut self) {
        self.look_at = None;
        self.is_changed = true;
    }
}

/// What the worker should have.
#[derive(Debug, Default)]
struct Wanted {
    /// Certificates; those that it is known to have in another version are `stale`.
    certificates: BTreeMap<CertificateName, Version>,
    lists: BTreeMap<u16, BTreeSet<CertificateName>>,
    /// On lines of the file, where they cannot be taken away.
    pinned: BTreeSet<CertificateName>,
}

#[derive(Debug)]
struct Version {
    pem: SecretText,
    fingerprint: Option<String>,
    stale: bool,
}

/// What it has.
#[derive(Debug, Default)]
struct Seen {
    /// Fingerprints; none where it is empty.
    certificates: BTreeMap<CertificateName, Option<String>>,
    lists: BTreeMap<u16, BTreeSet<CertificateName>>,
}

/// One change, and the only place where it becomes text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    New(CertificateName),
    Set(CertificateName, SecretText),
    Commit(CertificateName),
    Add(u16, CertificateName),
    Remove(u16, CertificateName),
    Delete(CertificateName),
}

impl Step {
    /// As HAProxy reads it. The text of `Set` ends with an empty line once a newline follows it.
    fn wire(&self, settings: &Settings) -> String {
        let file = |name: &CertificateName| certificate_path(settings, name).display().to_string();
        let list = |port: u16| list_path(settings, port).display().to_string();
        match self {
            Self::New(name) => format!("new ssl cert {}", file(name)),
            Self::Set(name, pem) => format!("set ssl cert {} <<\n{}", file(name), pem.expose()),
            Self::Commit(name) => format!("commit ssl cert {}", file(name)),
            Self::Add(port, name) => format!("add ssl crt-list {} {}", list(*port), file(name)),
            Self::Remove(port, name) => format!("del ssl crt-list {} {}", list(*port), file(name)),
            Self::Delete(name) => format!("del ssl cert {}", file(name)),
        }
    }
}

/// Additions first: a name is never without a certificate in between.
fn decide(wanted: &Wanted, seen: &Seen) -> Vec<Step> {
    let mut steps = Vec::new();
    for (name, version) in &wanted.certificates {
        let Version {
            pem,
            fingerprint,
            stale,
        } = version;
        let has = seen.certificates.get(name);
        let same = has.is_some_and(|has| {
            has.is_some() && (fingerprint.is_none() || has == fingerprint) && !stale
        });
        if same {
            continue;
        }
        if has.is_none() {
            steps.push(Step::New(name.clone()));
        }
        steps.push(Step::Set(name.clone(), pem.clone()));
        steps.push(Step::Commit(name.clone()));
    }
    let none = BTreeSet::new();
    let both = wanted.lists.iter().map(|(port, wanted)| {
        let seen = seen.lists.get(port).unwrap_or(&none);
        (*port, wanted, seen)
    });
    for (port, wanted, seen) in both.clone() {
        steps.extend(wanted.difference(seen).map(|n| Step::Add(port, n.clone())));
    }
    for (port, wanted, seen) in both {
        steps.extend(
            seen.difference(wanted)
                .map(|n| Step::Remove(port, n.clone())),
        );
    }
    let listed: BTreeSet<_> = wanted.lists.values().flatten().collect();
    let unused = seen.certificates.keys();
    let unused = unused.filter(|name| !listed.contains(name) && !wanted.pinned.contains(*name));
    steps.extend(unused.cloned().map(Step::Delete));
    steps
}

/// Our certificate in a line of HAProxy's.
fn named(settings: &Settings, line: &str) -> Option<CertificateName> {
    let path = Path::new(line.split_whitespace().next()?);
    let file = path.strip_prefix(&settings.certificates_path).ok()?;
    let key = CertificateName::parse(file.to_str()?.strip_suffix(".pem")?)?;
    Some(CertificateName::of(&key))
}

fn fingerprint(answer: &str) -> Option<String> {
    let mut lines = answer.lines();
    let line = lines.find_map(|line| line.strip_prefix("SHA1 FingerPrint:"))?;
    Some(line.trim().to_owned()).filter(|text| !text.is_empty())
}

impl Edge {
    /// Brings the worker's certificates in step with the files, and looks from time to time
    /// whether they still are.
    pub(crate) async fn converge_certificates(
        &mut self,
        outcome: &mut Outcome,
    ) -> Result<(), EdgeError> {
        let worker = &mut self.certificates.worker;
        if worker.pid != self.pid {
            // It has what was on disk when it started, or it is looked at for the first time.
            worker.pid = self.pid;
            worker.has.clear();
            worker.look_now();
        }
        let now = Instant::now();
        // Through the master nothing of many lines is sent; its socket comes back by a reload,
        // which reads the files.
        if self.via_master || self.certificates.worker.look_at.is_some_and(|at| now < at) {
            return Ok(());
        }
        let mut complaints = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let wanted = self.wanted_live();
            if wanted.lists.is_empty() {
                self.certificates.worker.has.clear();
                return Ok(());
            }
            let seen = self.seen_live(&wanted).await?;
            let steps = decide(&wanted, &seen);
            if steps.is_empty() {
                let worker = &mut self.certificates.worker;
                let has = wanted.certificates.into_iter();
                worker.has = has.map(|(name, version)| (name, version.pem)).collect();
                worker.look_at = Some(now + Duration::from_millis(LOOK_MS));
                worker.is_changed = false;
                return Ok(());
            }
            if !std::mem::replace(&mut self.certificates.worker.is_changed, true) {
                let said = "HAProxy's certificates were not those on disk";
                let repaired = Repaired::new(RepairKind::Certificates, said);
                outcome.repaired.push(repaired);
            }
            complaints = self.send_live(&steps).await?;
            outcome.steps += steps.len();
        }
        self.certificates.worker.look_at = Some(now + Duration::from_millis(LOOK_MS));
        complaints.truncate(COMPLAINTS_MAX);
        let detail = format!("certificates ({})", complaints.join("; "));
        Err(EdgeError::NotTaken { detail })
    }

    /// What the worker should have at the ports that end TLS in its own structure.
    fn wanted_live(&self) -> Wanted {
        let loaded = self.loaded.as_deref().unwrap_or_default();
        let words: BTreeSet<&str> = loaded
            .lines()
            .filter_map(|line| line.strip_prefix("    bind "))
            .flat_map(|bind| bind.split(' '))
            .collect();
        let is_bound = |path: &Path| path.to_str().is_some_and(|path| words.contains(path));
        let mut wanted = Wanted::default();
        for (port, names) in self.listed() {
            if is_bound(&list_path(&self.settings, port)) {
                wanted.lists.insert(port, names);
            }
        }
        let pinned = self.certificates.files.keys();
        let pinned = pinned.filter(|name| is_bound(&certificate_path(&self.settings, name)));
        wanted.pinned = pinned.cloned().collect();
        let told: BTreeMap<CertificateName, _> = self
            .certificates
            .told
            .iter()
            .map(|(key, certificate)| (CertificateName::of(key), certificate))
            .collect();
        for name in wanted.lists.values().flatten().chain(&wanted.pinned) {
            let Some(pem) = self.certificates.files.get(name) else {
                continue;
            };
            let has = self.certificates.worker.has.get(name);
            let known = told.get(name).filter(|told| told.pem == *pem);
            let version = Version {
                pem: pem.clone(),
                fingerprint: known.map(|told| told.fingerprint.clone()),
                stale: has.is_some_and(|has| has != pem),
            };
            wanted.certificates.insert(name.clone(), version);
        }
        wanted
    }

    async fn seen_live(&self, wanted: &Wanted) -> Result<Seen, EdgeError> {
        let settings = &self.settings;
        let mut commands = vec!["show ssl cert".to_owned()];
        for port in wanted.lists.keys() {
            let list = list_path(settings, *port);
            commands.push(format!("show ssl crt-list {}", list.display()));
        }
        for name in wanted.certificates.keys() {
            let file = certificate_path(settings, name);
            commands.push(format!("show ssl cert {}", file.display()));
        }
        let (_, answers) = self.admin.talk(&commands).await?;
        let mut answers = answers.iter().map(String::as_str);
        let mut next = || answers.next().unwrap_or_default();
        let mut seen = Seen::default();
        let names = next().lines().filter_map(|line| named(settings, line));
        seen.certificates = names.map(|name| (name, None)).collect();
        for port in wanted.lists.keys() {
            let names = next().lines().filter_map(|line| named(settings, line));
            seen.lists.insert(*port, names.collect());
        }
        for name in wanted.certificates.keys() {
            let found = fingerprint(next());
            if let Some(has) = seen.certificates.get_mut(name) {
                *has = found;
            }
        }
        Ok(seen)
    }

    /// Sends changes; gives what HAProxy answered.
    async fn send_live(&mut self, steps: &[Step]) -> Result<Vec<String>, EdgeError> {
        let lines: Vec<String> = steps.iter().map(|s| s.wire(&self.settings)).collect();
        for line in &lines {
            // The first line only: what follows is a key.
            let command = line.lines().next().unwrap_or_default();
            tracing::debug!(command, "to haproxy");
        }
        // What was sent counts as told, so that the next look goes by what HAProxy shows.
        for step in steps {
            if let Step::Set(name, _) = step {
                self.certificates.worker.has.remove(name);
            }
        }
        let (_, answers) = self.admin.talk(&lines).await?;
        let answers = answers.iter().map(|answer| {
            let words = answer.trim().trim_start_matches("+ ");
            words.lines().next().unwrap_or_default().to_owned()
        });
        let bad = |answer: &String| {
            let well = ["Transaction", "Committing", "New empty", "Inserting"];
            !(answer.is_empty()
                || well.iter().any(|word| answer.starts_with(word))
                || answer.contains(" deleted"))
        };
        Ok(answers.filter(bad).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> CertificateName {
        CertificateName::of(&CertificateName::parse(text).unwrap())
    }

    fn names(texts: &[&str]) -> BTreeSet<CertificateName> {
        texts.iter().map(|text| name(text)).collect()
    }

    fn wanted(texts: &[(&str, bool)]) -> Wanted {
        let version = |(text, stale): &(&str, bool)| {
            let pem = SecretText::new("pem");
            let fingerprint = Some("AA".to_owned());
            let stale = *stale;
            let version = Version {
                pem,
                fingerprint,
                stale,
            };
            (name(text), version)
        };
        Wanted {
            certificates: texts.iter().map(version).collect(),
            lists: [(443, texts.iter().map(|(text, _)| name(text)).collect())].into(),
            pinned: names(&["a_first"]),
        }
    }

    fn wires(wanted: &Wanted, seen: &Seen) -> Vec<String> {
        let settings = Settings {
            certificates_path: "/d".into(),
            ..Settings::default()
        };
        let steps = decide(wanted, seen);
        let lines = steps.iter().map(|step| step.wire(&settings));
        lines.map(|line| line.replace('\n', "|")).collect()
    }

    #[test]
    fn additions_come_before_removals_and_what_is_the_same_is_left_alone() {
        let seen = Seen {
            certificates: [
                (name("a_same"), Some("AA".to_owned())),
                (name("a_other"), Some("BB".to_owned())),
                (name("a_stale"), Some("AA".to_owned())),
                (name("a_empty"), None),
                (name("a_gone"), Some("CC".to_owned())),
                (name("a_first"), Some("DD".to_owned())),
            ]
            .into(),
            lists: [(443, names(&["a_same", "a_other", "a_gone", "a_first"]))].into(),
        };
        let wanted = wanted(&[
            ("a_same", false),
            ("a_other", false),
            ("a_stale", true),
            ("a_empty", false),
            ("a_new", false),
        ]);
        let lines = wires(&wanted, &seen);
        assert_eq!(
            lines,
            [
                "set ssl cert /d/a_empty.pem <<|pem",
                "commit ssl cert /d/a_empty.pem",
                "new ssl cert /d/a_new.pem",
                "set ssl cert /d/a_new.pem <<|pem",
                "commit ssl cert /d/a_new.pem",
                "set ssl cert /d/a_other.pem <<|pem",
                "commit ssl cert /d/a_other.pem",
                "set ssl cert /d/a_stale.pem <<|pem",
                "commit ssl cert /d/a_stale.pem",
                "add ssl crt-list /d/fe_443.list /d/a_empty.pem",
                "add ssl crt-list /d/fe_443.list /d/a_new.pem",
                "add ssl crt-list /d/fe_443.list /d/a_stale.pem",
                "del ssl crt-list /d/fe_443.list /d/a_first.pem",
                "del ssl crt-list /d/fe_443.list /d/a_gone.pem",
                "del ssl cert /d/a_gone.pem",
            ]
        );
    }

    #[test]
    fn only_our_own_files_are_read_back() {
        let settings = Settings {
            certificates_path: "/d".into(),
            ..Settings::default()
        };
        let read = |line| named(&settings, line).map(|n| n.as_str().to_owned());
        assert_eq!(read("/d/a_b.pem"), Some("a_b".to_owned()));
        assert_eq!(read("/d/a_b.pem [alpn h2] x.org"), Some("a_b".to_owned()));
        for other in [
            "",
            "# filename",
            "/e/a_b.pem",
            "/d/x/a_b.pem",
            "/d/a.pem",
            "*/d/a_b.pem",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
        assert_eq!(
            fingerprint("x\nSHA1 FingerPrint: AB\n"),
            Some("AB".to_owned())
        );
        assert_eq!(fingerprint("SHA1 FingerPrint: \n"), None);
    }
}
