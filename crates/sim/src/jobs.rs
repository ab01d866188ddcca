//! Jobs: what users ask of them, and the judge of when they run.

use std::collections::BTreeSet;

use longshore_model::{ServiceKey, TemplateId};

use crate::adapter::{self, Wish, Wished};
use crate::judge_plan::Commit;
use crate::world::World;

impl World {
    /// A job that ends with 0, sooner or later, or never.
    pub(crate) fn any_job(&mut self) -> Option<Wished> {
        if self.dice.one_in(8) {
            return None;
        }
        let good = self.good_job();
        let image = match self.dice.one_in(4) {
            true => self.dice.pick(&["crash-50", "crash-700"]),
            false => None,
        };
        Some(Wished {
            image: image.map_or(good.image, |kind| format!("{kind}:job")),
            tries_max: u32::try_from(self.dice.between(1, 3)).unwrap_or(1),
        })
    }

    /// One that ends with 0.
    fn good_job(&mut self) -> Wished {
        let after_ms = self.dice.pick(&[20, 400, 3_000]).unwrap_or(400);
        Wished {
            image: format!("job-{after_ms}:{}", self.dice.between(1, 9)),
            tries_max: 0,
        }
    }

    pub(crate) fn enrich_jobs(&mut self, usual: Wish) -> Wish {
        let job = Some(self.good_job()).filter(|_| !self.dice.one_in(8));
        Wish { job, ..usual }
    }

    /// 10: what waits for a job starts only once a container of that very run has ended with 0, and
    /// what is known to have is not run again.
    pub(crate) fn judge_jobs(&self, commit: &Commit<'_>, found: &mut Vec<String>) {
        let desired = &commit.cluster.view().desired;
        let fresh = adapter::replicas(commit.after)
            .filter(|replica| adapter::replica(commit.before, replica.id).is_none());
        for replica in fresh {
            let key = &replica.service;
            if let Some(done) = self.known_before(commit, key)
                && done == replica.template
            {
                found.push(format!("{} runs what has completed", replica.id));
            }
            let Some((_, spec)) = desired.service(key) else {
                continue;
            };
            let entry = commit.before.services.get(key);
            let proved = entry.and_then(|entry| entry.good.as_ref());
            let proved = proved.is_some_and(|good| good.template == replica.template);
            let mut others = adapter::of_service(commit.before, key);
            let past = proved || others.any(|other| other.template == replica.template);
            if past
                || spec.depends_on.is_empty()
                || replica.template != spec.container.template_id()
            {
                continue;
            }
            let jobs = spec.depends_on.keys();
            let jobs: BTreeSet<_> = jobs
                .map(|on| ServiceKey::new(key.app.clone(), on.clone()))
                .collect();
            for job in jobs {
                let run = desired
                    .service(&job)
                    .map(|(_, s)| s.container.template_id());
                let done =
                    run.is_some_and(|run| self.truth.jobs_done.contains(&(job.clone(), run)));
                if !done {
                    found.push(format!("{} starts before {job} has ended", replica.id));
                }
            }
        }
    }

    /// The run of this service that the plan before knows to have completed.
    fn known_before(&self, commit: &Commit<'_>, key: &ServiceKey) -> Option<TemplateId> {
        let job = commit.before.services.get(key)?.job.as_ref()?;
        job.completed().then(|| job.template.clone())
    }
}
