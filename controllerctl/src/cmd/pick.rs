//! `up SERVICE…`, `plan SERVICE…`: a part of an app.

use std::collections::BTreeSet;

use longshore_model::ServiceName;

use crate::cli::{PlanArgs, UpArgs};
use crate::compose::{Loaded, nearest};
use crate::failure::{Exit, Failure};

/// What a plan or an apply asks for beside the files.
pub(super) struct Part<'a> {
    /// Only these; none: all.
    services: &'a [String],
    /// Their replicas are replaced whatever changes.
    recreate: bool,
    scale: &'a [(String, u32)],
}

impl UpArgs {
    pub(super) fn part(&self) -> Part<'_> {
        Part {
            services: &self.services,
            recreate: self.force_recreate,
            scale: &self.scale,
        }
    }
}

impl PlanArgs {
    pub(super) fn part(&self) -> Part<'_> {
        Part {
            services: &self.services,
            recreate: self.force_recreate,
            scale: &self.scale,
        }
    }
}

impl Part<'_> {
    /// Do services that are not in it stay as they are?
    pub(super) fn is_partial(&self) -> bool {
        !self.services.is_empty()
    }

    /// The services that were named, without an app before them.
    pub(super) fn names(&self) -> Vec<String> {
        let name = |word: &String| word.rsplit('/').next().unwrap_or_default().to_owned();
        self.services.iter().map(name).collect()
    }

    /// Services that are replaced whatever changes: those that were named, not what they wait for.
    pub(super) fn recreate(&self, loaded: &Loaded) -> Vec<String> {
        match (self.recreate, self.is_partial()) {
            (false, _) => Vec::new(),
            (true, true) => self.names(),
            (true, false) => loaded.services.keys().map(ToString::to_string).collect(),
        }
    }

    /// As words of a command line.
    pub(super) fn words(&self) -> String {
        let recreate = self.recreate.then(|| " --force-recreate".to_owned());
        let scale = self.scale.iter().map(|(s, n)| format!(" --scale {s}={n}"));
        let services = self.services.iter().map(|service| format!(" {service}"));
        recreate.into_iter().chain(scale).chain(services).collect()
    }

    /// Leaves the services that were asked for, and those that they wait for; none: all.
    ///
    /// # Errors
    /// A name that is not in the files, and a count of a service that is left out.
    pub(super) fn pick(&self, loaded: &mut Loaded) -> Result<(), Failure> {
        if !self.is_partial() {
            return Ok(());
        }
        let mut next = Vec::new();
        for word in self.services {
            next.push(named(loaded, word)?);
        }
        let mut picked = BTreeSet::new();
        while let Some(name) = next.pop() {
            if let Some(spec) = loaded.services.get(&name) {
                let on = spec.depends_on.keys();
                next.extend(on.filter(|on| !picked.contains(*on)).cloned());
            }
            picked.insert(name);
        }
        let is_out = |name: &str| {
            let mut names = loaded.services.keys();
            names.any(|known| known.as_str() == name && !picked.contains(known))
        };
        if let Some((name, count)) = self.scale.iter().find(|(name, _)| is_out(name)) {
            let message = format!("--scale {name}={count}: {name} is not among the services named");
            return Err(Failure::new(message).exit(Exit::Usage).hint(format!(
                "name it, too, or: controllerctl scale {name}={count}"
            )));
        }
        loaded.services.retain(|name, _| picked.contains(name));
        loaded.builds.retain(|name, _| picked.contains(name));
        let routes = loaded.services.values().flat_map(|spec| &spec.routes);
        let certificates: BTreeSet<&str> = routes
            .flat_map(|route| &route.tls)
            .map(String::as_str)
            .collect();
        loaded
            .secrets
            .retain(|name, _| certificates.contains(name.as_str()));
        Ok(())
    }
}

/// The service of this name, alone or with its app before it.
fn named(loaded: &Loaded, word: &str) -> Result<ServiceName, Failure> {
    let name = word
        .strip_prefix(loaded.app.as_str())
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(word);
    let names = || loaded.services.keys();
    if let Some(found) = names().find(|known| known.as_str() == name) {
        return Ok(found.clone());
    }
    let failure = Failure::new(format!("the files have no service {word:?}")).exit(Exit::Usage);
    Err(match nearest(name, names().map(ServiceName::as_str)) {
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None => {
            let names: Vec<&str> = names().map(ServiceName::as_str).collect();
            failure.hint(format!("they have {}", names.join(", ")))
        }
    })
}
