//! Applies of some services of an app, and of services whose replicas are replaced whatever changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::{AppName, ServiceName, ServiceSpec, TimeMs};
use tonic::Status;

use super::apply::{SERVICES_MAX, Services};
use super::differences::differences;

/// What an apply leaves as it is, and what it replaces in any case.
pub(super) struct Part {
    /// Services that were not sent stay as they are; else they go.
    partial: bool,
    /// Services that begin anew.
    recreate: BTreeSet<ServiceName>,
}

impl Part {
    /// Checks what was asked for: what shall be replaced must have been sent.
    pub(super) fn read(
        partial: bool,
        recreate: Vec<String>,
        app: &AppName,
        sent: &Services,
    ) -> Result<Self, Status> {
        let invalid = |why: String| Status::invalid_argument(why);
        let one = |name: String| {
            let name = ServiceName::new(name).map_err(|error| invalid(error.to_string()))?;
            match sent.contains_key(&name) {
                true => Ok(name),
                false => Err(invalid(format!(
                    "{app}/{name} cannot be replaced: it was not sent"
                ))),
            }
        };
        let recreate = recreate.into_iter().map(one).collect::<Result<_, _>>()?;
        Ok(Self { partial, recreate })
    }

    /// All services of the app as they shall be.
    pub(super) fn whole(
        &self,
        app: &AppName,
        mut sent: Services,
        before: &Services,
        at_ms: TimeMs,
    ) -> Result<Services, Status> {
        for (name, old) in before {
            match sent.get_mut(name) {
                None if self.partial => {
                    sent.insert(name.clone(), Arc::clone(old));
                }
                Some(spec) if self.recreate.contains(name) => {
                    // Twice within one millisecond is two restarts.
                    let last_ms = old.container.restarted_ms;
                    Arc::make_mut(spec).container.restarted_ms = at_ms.max(last_ms + 1);
                }
                _ => {}
            }
        }
        match sent.len() {
            0..=SERVICES_MAX => Ok(sent),
            all => Err(Status::invalid_argument(format!(
                "app {app} would have {all} services; at most {SERVICES_MAX} are allowed"
            ))),
        }
    }

    /// What changes of a service, a line each.
    pub(super) fn differences(
        &self,
        name: &ServiceName,
        old: &ServiceSpec,
        new: &ServiceSpec,
    ) -> Vec<String> {
        if !self.recreate.contains(name) {
            return differences(old, new);
        }
        let mut new = new.clone();
        new.container.restarted_ms = old.container.restarted_ms;
        let mut lines = differences(old, &new);
        lines.push("all replicas are replaced, as asked for".into());
        lines
    }
}
