//! What is said of certificates.

use longshore_model::Routes;
use longshore_model::certificate::{CertificateObserved, CertificateRefused, CertificatesObserved};

use super::{CertificateFiles, asked};
use crate::edge::Edge;
use crate::name::CertificateName;
use crate::quarantine::bounded;

impl CertificateFiles {
    /// Notes what may be said of the files in place, before other contents are told.
    pub(super) fn learn(&mut self) {
        for (key, told) in self.told.iter() {
            let name = CertificateName::of(key);
            if self.files.get(&name) == Some(&told.pem) {
                let known = (told.pem.clone(), told.shown.clone());
                self.known.insert(name, known);
            }
        }
        let files = &self.files;
        self.known
            .retain(|name, (pem, _)| files.get(name) == Some(pem));
    }

    fn observed(&self, routes: &Routes) -> CertificatesObserved {
        let keys = asked(routes).into_iter().map(|(_, key)| key);
        let observed = keys.map(|key| {
            let name = CertificateName::of(&key);
            let has = self.worker.has(&name);
            let known = self.known.get(&name).filter(|(pem, _)| has == Some(pem));
            let refused = self.refused.get(&name).map(|refused| CertificateRefused {
                mark: refused.mark.clone(),
                why: refused.words.clone(),
            });
            let observed = CertificateObserved {
                served: known.map(|(_, shown)| shown.clone()),
                refused,
            };
            (key, observed)
        });
        observed.collect()
    }
}

impl Edge {
    /// What the worker has of each certificate that the routes name, and what HAProxy refuses.
    #[must_use]
    pub fn certificates(&self) -> CertificatesObserved {
        let observed = |routes| self.certificates.observed(routes);
        self.routes.as_ref().map(observed).unwrap_or_default()
    }
}

/// What HAProxy says is wrong with a certificate, without what only the driver knows: the file that
/// it was asked about and its lines. `doubt`: the reason, where HAProxy gives none.
pub(super) fn cause(output: &str, doubt: Option<&str>) -> String {
    let alerts = output.split("[ALERT]").map(|alert| {
        let said = alert.split_once(" in section 'frontend' : ");
        let said = said.map_or(alert, |(_, said)| said);
        let said = said.trim_matches([' ', ';', '.']);
        without_paths(said)
    });
    let mut said: Vec<String> = Vec::new();
    for alert in alerts {
        let is_summary = alert.contains("rror(s) found") || alert.contains("Fatal errors found");
        if !alert.is_empty() && !is_summary && !said.contains(&alert) {
            said.push(alert);
        }
    }
    let said = match said.is_empty() {
        true => output.to_owned(),
        false => said.join("; "),
    };
    match doubt {
        Some(doubt) => bounded(&format!("{doubt}; {said}")),
        None => bounded(&said),
    }
}

/// Without names of files in quotes, which are drafts.
fn without_paths(said: &str) -> String {
    let mut out = String::new();
    for (at, part) in said.split('\'').enumerate() {
        match (at % 2, part.starts_with('/')) {
            (1, true) => {}
            (1, false) => out.push_str(&format!("'{part}'")),
            _ => out.push_str(part),
        }
    }
    let words: Vec<&str> = out.split_whitespace().collect();
    words
        .join(" ")
        .replace(" .", ".")
        // Of a certificate that this OpenSSL finds too weak: its age is not the cause.
        .replace(". Make sure you are linking against Openssl >= 1.0.2", "")
        .trim_end_matches('.')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_left_and_the_draft_is_not() {
        let output = "[ALERT]    (7) : config : parsing [/d/check.cfg.new:7] : 'bind 127.0.0.1:1' in \
                      section 'frontend' : unable to load chain certificate into SSL Context \
                      '/d/shop_cert.pem.new'. Make sure you are linking against Openssl >= 1.0.2.; \
                      [ALERT]    (7) : config : Error(s) found in configuration file : \
                      /d/check.cfg.new; [ALERT]    (7) : config : Fatal errors found in configuration.";
        let said = "unable to load chain certificate into SSL Context";
        assert_eq!(cause(output, None), said);
        assert_eq!(cause(output, Some("a doubt")), format!("a doubt; {said}"));
        let twice = format!("{output}; {output}");
        assert_eq!(cause(&twice, None), said);
        assert_eq!(
            cause("shop_cert: not plain PEM", None),
            "shop_cert: not plain PEM"
        );
        assert_eq!(cause("", None), "");
    }
}
