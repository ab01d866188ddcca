//! Jobs, at the API: when they run, and what is refused.

use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1 as spec;
use tonic::Code;

use crate::support::{Lab, app};

async fn apply(lab: &Lab, app: &pb::App) -> Result<pb::ApplyAppResponse, tonic::Status> {
    let request = pb::ApplyAppRequest {
        app: Some(app.clone()),
        ..Default::default()
    };
    let answer = lab.admin.clone().apply_app(request).await;
    answer.map(tonic::Response::into_inner)
}

/// `web`, which waits for the end of a job of this name.
fn shop(job: &str) -> pb::App {
    let mut shop = app("shop", "web", 80, 2);
    let mut once = shop.services["web"].clone();
    once.routes.clear();
    once.replicas = 1;
    once.job = Some(spec::JobSpec { tries_max: 1 });
    let container = once.container.as_mut().unwrap();
    container.ports.clear();
    container.probe = None;
    shop.services.insert(job.into(), once);
    let web = shop.services.get_mut("web").unwrap();
    let until = spec::Until::Completed.into();
    web.depends_on.insert(job.into(), until);
    shop
}

fn image(app: &mut pb::App, service: &str, image: &str) {
    let service = app.services.get_mut(service).unwrap();
    service.container.as_mut().unwrap().image = image.into();
}

/// The job's state and revision, once it is over at that revision.
async fn over(lab: &Lab, job: &'static str, revision: u64) -> String {
    lab.until("the job's end", async |mut admin| {
        let request = pb::ListServicesRequest::default();
        let services = admin.list_services(request).await.unwrap().into_inner();
        let found = services.services.into_iter().find(|s| s.name == job);
        let job = found.and_then(|service| service.job);
        match job.filter(|job| job.state != "runs" && job.revision == revision) {
            Some(job) => Ok(format!("{} {:?} {}", job.state, job.exit_code, job.tries)),
            None => Err("runs".to_owned()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_for_each_template_of_its_own_or_of_who_waits_for_it() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    let mut shop = shop("migrate");
    assert!(apply(&lab, &shop).await.unwrap().changed);
    assert_eq!(over(&lab, "migrate", 1).await, "completed Some(0) 0");
    lab.until_serving("web", 2).await;
    assert!(!apply(&lab, &shop).await.unwrap().changed);
    // Another count is none of it, another image of who waits is.
    shop.services.get_mut("web").unwrap().replicas = 3;
    apply(&lab, &shop).await.unwrap();
    lab.until_serving("web", 3).await;
    assert_eq!(over(&lab, "migrate", 1).await, "completed Some(0) 0");
    image(&mut shop, "web", "longshore/hello:2");
    assert_eq!(apply(&lab, &shop).await.unwrap().revision, 3);
    assert_eq!(over(&lab, "migrate", 3).await, "completed Some(0) 0");
    let request = pb::RestartServicesRequest {
        services: vec!["shop/migrate".into()],
    };
    let restarted = lab.admin.clone().restart_services(request).await.unwrap();
    let revision = restarted.into_inner().revision;
    assert_eq!(over(&lab, "migrate", revision).await, "completed Some(0) 0");
    let request = pb::ScaleRequest {
        service: "migrate".into(),
        count: 2,
        hold_ms: 0,
    };
    let refused = lab.admin.clone().scale(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("shop/migrate is a job"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_again_tries_what_failed_again() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    let shop = shop("broken");
    apply(&lab, &shop).await.unwrap();
    assert_eq!(over(&lab, "broken", 1).await, "failed None 1");
    let request = pb::ResumeRolloutRequest {
        service: "web".into(),
    };
    let refused = lab.until("refused", async |mut admin| {
        let answer = admin.resume_rollout(request.clone()).await.unwrap_err();
        match answer.message().contains("restart shop/broken") {
            true => Ok(()),
            false => Err(answer.message().to_owned()),
        }
    });
    refused.await;
    let again = apply(&lab, &shop).await.unwrap();
    assert_eq!((again.revision, again.changed), (2, true));
    assert_eq!(over(&lab, "broken", 2).await, "failed None 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_job_is_refused() {
    let lab = Lab::start().await;
    let mut stays = shop("migrate");
    stays.services.get_mut("migrate").unwrap().job = None;
    let refused = apply(&lab, &stays).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("migrate is no job"), "{refused}");
    let mut many = shop("migrate");
    many.services.get_mut("migrate").unwrap().replicas = 2;
    let refused = apply(&lab, &many).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "shop/migrate: a job runs until it ends and has no other count of replicas than one"
    );
}
