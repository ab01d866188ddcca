//! Applies of some services of an app, and of replicas that are replaced whatever changes.

use longshore_proto::control::v1 as pb;
use tonic::{Code, Status};

use crate::support::{Lab, app};

/// Of these services, each with its own port.
fn shop(services: &[(&str, u32)]) -> pb::App {
    let each = services
        .iter()
        .map(|(name, port)| app("shop", name, *port, 1));
    let services = each.flat_map(|app| app.services).collect();
    pb::App {
        name: "shop".into(),
        services,
    }
}

async fn apply(
    lab: &Lab,
    app: pb::App,
    partial: bool,
    recreate: &[&str],
) -> Result<pb::ApplyAppResponse, Status> {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        partial,
        recreate: recreate.iter().map(|name| (*name).to_owned()).collect(),
        ..pb::ApplyAppRequest::default()
    };
    let answer = lab.admin.clone().apply_app(request).await?;
    Ok(answer.into_inner())
}

async fn replicas(lab: &Lab) -> Vec<(String, u64)> {
    let all = pb::ListReplicasRequest::default();
    let list = lab.admin.clone().list_replicas(all).await.unwrap();
    let replicas = list.into_inner().replicas;
    let stays = replicas.into_iter().filter(|r| r.leaving.is_empty());
    stays.map(|r| (r.name, r.id)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sent_of_an_app_stays_and_what_is_asked_for_is_replaced_once() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    let first = apply(&lab, shop(&[("api", 81), ("web", 80)]), false, &[]).await;
    assert_eq!(first.unwrap().revision, 1);
    lab.until_serving("web", 1).await;
    lab.until_serving("api", 1).await;
    let before = replicas(&lab).await;

    let mut part = shop(&[("jobs", 82)]);
    let second = apply(&lab, part.clone(), true, &[]).await.unwrap();
    assert_eq!((second.revision, second.changed), (2, true));
    lab.until_serving("jobs", 1).await;
    let now = replicas(&lab).await;
    assert!(
        before.iter().all(|replica| now.contains(replica)),
        "{now:?}"
    );
    let again = apply(&lab, part.clone(), true, &[]).await.unwrap();
    assert_eq!((again.revision, again.changed), (2, false));

    // Names must lead somewhere, in what stays as well.
    let jobs = part.services.get_mut("jobs").unwrap();
    jobs.depends_on.insert("nobody".into(), 1);
    let refused = apply(&lab, part, true, &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let refused = apply(&lab, shop(&[("web", 80)]), true, &["api"]).await;
    let refused = refused.unwrap_err();
    assert!(refused.message().contains("was not sent"), "{refused}");

    let plan = pb::PlanAppRequest {
        app: Some(shop(&[("web", 80)])),
        partial: true,
        recreate: vec!["web".into()],
        ..pb::PlanAppRequest::default()
    };
    let plan = lab.admin.clone().plan_app(plan).await.unwrap().into_inner();
    let said: Vec<String> = plan
        .changes
        .iter()
        .map(|change| {
            format!(
                "{} {} {}",
                change.action,
                change.service,
                change.details.join("; ")
            )
        })
        .collect();
    let anew = "change web all replicas are replaced, as asked for";
    assert_eq!(said, ["same api ", "same jobs ", anew]);
    let third = apply(&lab, shop(&[("web", 80)]), true, &["web"]).await;
    assert_eq!(third.unwrap().revision, 3);
    let old = before.iter().find(|(name, _)| name == "web.1").unwrap();
    lab.until("web is new", async |_| {
        let now = replicas(&lab).await;
        let is_new = now.len() == 3 && !now.contains(old);
        is_new.then_some(()).ok_or(format!("{now:?}"))
    })
    .await;
    let now = replicas(&lab).await;
    let stays = before.iter().filter(|replica| *replica != old);
    assert!(stays.into_iter().all(|r| now.contains(r)), "{now:?}");
    // The whole app again: what is not in it goes, and no restart is undone or made again.
    let whole = shop(&[("api", 81), ("web", 80)]);
    let fourth = apply(&lab, whole.clone(), false, &[]).await.unwrap();
    assert_eq!((fourth.revision, fourth.changed), (4, true));
    let fifth = apply(&lab, whole, false, &[]).await.unwrap();
    assert!(!fifth.changed);
}
