//! Jobs that are followed.

use longshore_proto::control::v1 as pb;

/// It is no job, or has ended.
pub(super) fn is_over(service: &pb::Service) -> bool {
    service.job.as_ref().is_none_or(|job| job.state != "runs")
}

/// A job that failed at this revision or later, and in words what follows.
pub(super) fn failed(services: &[pb::Service], revision: u64) -> Option<(&pb::Service, String)> {
    services.iter().find_map(|service| {
        let job = service.job.as_ref()?;
        let failed = job.state == "failed" && job.revision >= revision;
        failed.then(|| (service, words(services, service, job)))
    })
}

fn words(services: &[pb::Service], service: &pb::Service, job: &pb::ServiceJob) -> String {
    let times = match job.tries {
        1 => "once".to_owned(),
        tries => format!("{tries} times"),
    };
    let mut others = services.iter().filter(|other| other.app == service.app);
    let serves = match others.any(|other| other.serving > 0) {
        true => "; what served before goes on serving",
        false => "",
    };
    format!(
        "{} failed (started {times}): {}{serves}",
        service.key, job.why
    )
}
