//! Jobs: services that run once until they end with 0 (`depends_on: service_completed_successfully`,
//! `deploy.mode: replicated-job`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TimeMs;
use crate::depends::Until;
use crate::id::{NodeId, ReplicaId, ServiceName, TemplateId};
use crate::networks::Services;
use crate::reason::FailReason;
use crate::spec::ServiceSpec;

/// What a file says of a service that runs once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobSpec {
    /// Times that it is started at most, the first one included; 0: until it ends with 0.
    #[serde(default)]
    pub tries_max: u32,
}

/// What makes one run of a job another one than the last. Part of the template: a run is known by
/// its template, and each template is run once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct JobRun {
    /// Templates of the services that wait for it: with another one it runs again, so that a
    /// migration goes before the new image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<ServiceName, TemplateId>,
}

/// Where a job is; kept in the plan as long as its service is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The run.
    pub template: TemplateId,
    /// App revision that asked for it first.
    pub revision: u64,
    /// Containers of it that ended, or could not be started, otherwise than with 0.
    #[serde(default)]
    pub tries: u32,
    /// Why the last of them failed.
    #[serde(default)]
    pub last: Option<FailReason>,
    /// Its replica that ended last, and that replica's node.
    #[serde(default)]
    pub replica: Option<(ReplicaId, NodeId)>,
    /// How it ended; none: it is to run, or runs.
    #[serde(default)]
    pub end: Option<JobEnd>,
}

/// The end of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobEnd {
    /// When that was heard.
    pub at_ms: TimeMs,
    /// It ended with 0. Otherwise it was started as often as it may be.
    pub completed: bool,
}

/// A replica of a job that has ended. Its container is kept for its log, and holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When that was heard.
    pub at_ms: TimeMs,
    /// Its exit code; none: it never ran to an end.
    #[serde(default)]
    pub code: Option<i64>,
}

impl Job {
    /// A run that has not begun.
    #[must_use]
    pub fn new(template: TemplateId, revision: u64) -> Self {
        Self {
            template,
            revision,
            tries: 0,
            last: None,
            replica: None,
            end: None,
        }
    }

    /// `completed`, `failed` or `runs`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.end {
            Some(JobEnd {
                completed: true, ..
            }) => "completed",
            Some(_) => "failed",
            None => "runs",
        }
    }

    /// It was started as often as it may be.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.end.is_some_and(|end| !end.completed)
    }

    /// It ended with 0.
    #[must_use]
    pub fn completed(&self) -> bool {
        self.end.is_some_and(|end| end.completed)
    }
}

/// How often, in words.
pub(crate) fn times_word(count: u32) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        count => format!("{count} times"),
    }
}

/// Why a service cannot be a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobFault {
    /// Somebody waits for its end, and it is to stay up.
    #[error(
        "{at}: depends_on waits until {on} has completed, but {on} is no job: it is to stay up"
    )]
    StaysUp {
        /// The service that waits.
        at: ServiceName,
        /// Whom it waits for.
        on: ServiceName,
    },
    /// It does what only services that stay up can do.
    #[error("{at}: a job runs until it ends and has no {what}")]
    NotForJobs {
        /// The job.
        at: ServiceName,
        /// What it has.
        what: Thing,
    },
}

/// What a job cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    /// Ports or ways in.
    Ports,
    /// Rules by which the count follows the load.
    Autoscale,
    /// More or fewer replicas than one.
    Replicas,
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ports => "ports",
            Self::Autoscale => "x-autoscale",
            Self::Replicas => "other count of replicas than one",
        })
    }
}

/// What a service has that a job cannot have.
#[must_use]
pub fn not_for_jobs(spec: &ServiceSpec) -> Option<Thing> {
    if !spec.container.ports.is_empty() || !spec.routes.is_empty() {
        Some(Thing::Ports)
    } else if spec.autoscale.is_some() {
        Some(Thing::Autoscale)
    } else {
        (spec.replicas != 1).then_some(Thing::Replicas)
    }
}

/// The first thing that is wrong with the jobs of an app.
#[must_use]
pub fn fault(services: &Services) -> Option<JobFault> {
    services.iter().find_map(|(at, spec)| {
        let thing = spec.job.and_then(|_| not_for_jobs(spec));
        let thing = thing.map(|what| JobFault::NotForJobs {
            at: at.clone(),
            what,
        });
        thing.or_else(|| {
            let mut on = spec.depends_on.iter();
            let stays_up = on.find(|(on, until)| {
                let job = services.get(*on).is_some_and(|on| on.job.is_some());
                **until == Until::Completed && !job
            })?;
            Some(JobFault::StaysUp {
                at: at.clone(),
                on: stays_up.0.clone(),
            })
        })
    })
}

/// Gives each job of an app its run: by its own template and those of the services that wait for
/// it. A restart of one of these is none of a new template.
#[must_use]
pub fn with_runs(mut services: Services) -> Services {
    let mut runs: BTreeMap<ServiceName, JobRun> = BTreeMap::new();
    for (name, spec) in &services {
        if spec.job.is_some() {
            runs.entry(name.clone()).or_default();
        }
        let waits = spec.depends_on.iter();
        let waits = waits.filter(|(_, until)| **until == Until::Completed);
        for (on, _) in waits {
            let run = runs.entry(on.clone()).or_default();
            run.before.insert(name.clone(), by_file(spec));
        }
    }
    let names: Vec<ServiceName> = services.keys().cloned().collect();
    for name in names {
        let Some(spec) = services.get_mut(&name) else {
            continue;
        };
        let run = spec.job.and_then(|_| runs.remove(&name));
        if spec.container.job != run {
            Arc::make_mut(spec).container.job = run;
        }
    }
    services
}

/// The template that a file asks for, whatever was restarted and whoever waits for it.
fn by_file(spec: &ServiceSpec) -> TemplateId {
    let mut container = spec.container.clone();
    container.restarted_ms = 0;
    container.job = None;
    container.template_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(image: &str, waits: Option<&str>) -> Arc<ServiceSpec> {
        let mut spec = ServiceSpec {
            replicas: 1,
            ..ServiceSpec::default()
        };
        spec.container.image = image.into();
        spec.depends_on = waits
            .iter()
            .map(|on| (ServiceName::new(*on).unwrap(), Until::Completed))
            .collect();
        Arc::new(spec)
    }

    fn job(image: &str) -> Arc<ServiceSpec> {
        let mut spec = service(image, None);
        Arc::make_mut(&mut spec).job = Some(JobSpec { tries_max: 1 });
        spec
    }

    fn app(services: &[(&str, &Arc<ServiceSpec>)]) -> Services {
        let services = services.iter();
        services
            .map(|(name, spec)| (ServiceName::new(*name).unwrap(), Arc::clone(spec)))
            .collect()
    }

    fn run(web: &Arc<ServiceSpec>, migrate: &Arc<ServiceSpec>) -> TemplateId {
        let services = with_runs(app(&[("migrate", migrate), ("web", web)]));
        let name = ServiceName::new("migrate").unwrap();
        services.get(&name).unwrap().container.template_id()
    }

    #[test]
    fn a_job_runs_anew_with_its_own_template_and_with_a_dependents() {
        let (web, migrate) = (service("web:1", Some("migrate")), job("web:1"));
        let first = run(&web, &migrate);
        assert_eq!(first, run(&web, &migrate), "the same app, another run");
        assert_ne!(first, run(&web, &job("web:2")));
        assert_ne!(first, run(&service("web:2", Some("migrate")), &migrate));
        let mut restarted = Arc::clone(&web);
        Arc::make_mut(&mut restarted).container.restarted_ms = 7;
        assert_eq!(first, run(&restarted, &migrate), "a restart is no new run");
        let mut scaled = Arc::clone(&web);
        Arc::make_mut(&mut scaled).replicas = 9;
        assert_eq!(first, run(&scaled, &migrate), "a count is no new run");
        assert_eq!(
            with_runs(app(&[("web", &web)])),
            app(&[("web", &web)]),
            "who is no job gets no run"
        );
    }

    #[test]
    fn who_stays_up_is_no_job_and_a_job_has_nothing_of_those() {
        let said = |services: &[(&str, &Arc<ServiceSpec>)]| {
            fault(&app(services)).map_or_else(String::new, |fault| fault.to_string())
        };
        let web = service("web:1", Some("migrate"));
        assert_eq!(said(&[("migrate", &job("m")), ("web", &web)]), "");
        assert_eq!(
            said(&[("migrate", &service("m", None)), ("web", &web)]),
            "web: depends_on waits until migrate has completed, but migrate is no job: it is to \
             stay up"
        );
        let mut ports = job("m");
        Arc::make_mut(&mut ports).container.ports = vec![80];
        assert_eq!(
            said(&[("m", &ports)]),
            "m: a job runs until it ends and has no ports"
        );
        let mut many = job("m");
        Arc::make_mut(&mut many).replicas = 2;
        assert_eq!(
            said(&[("m", &many)]),
            "m: a job runs until it ends and has no other count of replicas than one"
        );
    }
}
