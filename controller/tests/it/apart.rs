//! Secrets that stand apart from apps, and credentials for registries: to whom, and to nobody else.

use std::sync::Arc;

use longshore_identity::tls::{CertHolder, ServerTrust, connect};
use longshore_model::spec::ContentDigest;
use longshore_proto::control::v1 as pb;
use longshore_proto::images::v1 as images;
use longshore_proto::images::v1::image_source_service_client::ImageSourceServiceClient;
use longshore_proto::secrets::v1 as secrets;
use longshore_proto::secrets::v1::secret_service_client::SecretServiceClient;
use longshore_proto::spec::v1 as spec;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::{Lab, Told, app};

const CANARY: &str = "canary-a91c";

fn operator(lab: &Lab) -> SecretServiceClient<Channel> {
    SecretServiceClient::new(lab.channel.clone())
}

async fn put(
    lab: &Lab,
    contents: &str,
    replace: bool,
) -> Result<secrets::PutSecretResponse, Status> {
    let request = secrets::PutSecretRequest {
        name: "shop.db".into(),
        contents: contents.into(),
        replace,
    };
    assert!(!format!("{request:?}").contains(CANARY));
    Ok(operator(lab).put_secret(request).await?.into_inner())
}

async fn remove(lab: &Lab, name: &str) -> Result<(), Status> {
    let name = name.to_owned();
    let request = secrets::RemoveSecretRequest { name };
    operator(lab).remove_secret(request).await.map(drop)
}

/// An app with a service that has `shop.db` as `/run/secrets/db`.
fn shop() -> pb::App {
    let mut app = app("shop", "web", 80, 1);
    let spec = app.services.get_mut("web").unwrap();
    spec.container.as_mut().unwrap().files = vec![spec::File {
        kind: spec::FileKind::Secret.into(),
        name: "db".into(),
        target: "/run/secrets/db".into(),
        mode: 0o444,
        external: Some("shop.db".into()),
        ..Default::default()
    }];
    app
}

async fn plan(lab: &Lab) -> Result<pb::PlanAppResponse, Status> {
    let request = pb::PlanAppRequest {
        app: Some(shop()),
        ..Default::default()
    };
    Ok(lab.admin.clone().plan_app(request).await?.into_inner())
}

async fn apply(lab: &Lab, app: pb::App) -> Result<pb::ApplyAppResponse, Status> {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        ..Default::default()
    };
    Ok(lab.admin.clone().apply_app(request).await?.into_inner())
}

async fn listed(lab: &Lab) -> Vec<pb::SecretInfo> {
    let all = pb::ListSecretsRequest::default();
    let answer = lab.admin.clone().list_secrets(all).await.unwrap();
    let mut all = answer.into_inner().secrets;
    all.retain(|secret| secret.app.is_empty());
    all
}

fn was_sent(told: &Told, contents: &str) -> bool {
    told.contents
        .iter()
        .any(|sent| sent.contents == contents.as_bytes())
}

/// Whatever the controller shows of itself; `told`: what it told a node; `said`: what it answered.
fn shows_no_contents(lab: &Lab, told: &Told, said: String) {
    let cluster = &lab.controller;
    let shown = format!(
        "{said} {told:?} {:?} {:?} {:?} {:?}",
        cluster.apart.load(),
        cluster.desired(),
        cluster.view(),
        cluster.past_events().unwrap(),
    );
    assert!(
        shown.contains("SecretKept") || shown.contains("RegistryLogin"),
        "{shown}"
    );
    assert!(!shown.contains(CANARY), "{shown}");
    let bytes = format!("{:?}", CANARY.as_bytes());
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_secret_reaches_replicas_with_each_up_and_outlives_apps() {
    let lab = Lab::start().await;
    let mut node = lab.node("a", true, false).await;
    let (first, second) = (format!("{CANARY}-1"), format!("{CANARY}-2"));
    for refused in [
        plan(&lab).await.map(drop),
        apply(&lab, shop()).await.map(drop),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        let words = "shop/web: there is no secret shop.db (external, as db); make it: controllerctl \
                     secret create shop.db FILE";
        assert_eq!(refused.message(), words);
    }
    assert_eq!(put(&lab, &first, false).await.unwrap().action, "created");
    assert_eq!(apply(&lab, shop()).await.unwrap().revision, 1);
    node.until_told("the first", |told| was_sent(told, &first))
        .await;
    assert!(!apply(&lab, shop()).await.unwrap().changed);

    // Another content: nothing runs with it until the next up, of which the plan speaks.
    assert_eq!(put(&lab, &first, false).await.unwrap().action, "same");
    let refused = put(&lab, &second, false).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    let replaced = put(&lab, &second, true).await.unwrap();
    assert_eq!(
        (replaced.action.as_str(), &*replaced.services),
        ("replaced", &["shop/web".to_owned()][..])
    );
    let details = plan(&lab).await.unwrap().changes[0].details.join("; ");
    let short = ContentDigest::of(second.as_bytes()).short().to_owned();
    assert!(
        details.contains("container.files[/run/secrets/db].digest"),
        "{details}"
    );
    assert!(
        details.contains(&format!("-> \"sha256:{short}\"")),
        "{details}"
    );
    assert!(!was_sent(&node.told.borrow(), &second));
    assert_eq!(apply(&lab, shop()).await.unwrap().revision, 2);
    node.until_told("the second", |told| was_sent(told, &second))
        .await;

    let refused = remove(&lab, "shop.db").await.unwrap_err();
    assert!(
        refused.message().contains("is used by shop/web"),
        "{refused}"
    );
    let seen = listed(&lab).await;
    assert_eq!(seen[0].name, "shop.db");
    assert_eq!(
        (seen[0].bytes, &*seen[0].digest),
        (second.len() as u64, &*short)
    );
    assert!(seen[0].since_ms > 0 && !seen[0].by.is_empty());
    shows_no_contents(&lab, &node.told.borrow(), format!("{seen:?}"));

    // A new process has it, and it stays when the app goes.
    let lab = lab.restart().await;
    let down = pb::DownAppRequest { app: "shop".into() };
    lab.admin.clone().down_app(down).await.unwrap();
    assert_eq!(listed(&lab).await.len(), 1);
    remove(&lab, "shop.db").await.unwrap();
    assert!(listed(&lab).await.is_empty());
    assert_eq!(
        remove(&lab, "shop.db").await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_secret_is_refused() {
    let lab = Lab::start().await;
    let long = "x".repeat((500 << 10) + 1);
    for (name, contents) in [("", "a"), ("a/b", "a"), ("a", ""), ("a", long.as_str())] {
        let request = secrets::PutSecretRequest {
            name: name.into(),
            contents: contents.into(),
            replace: true,
        };
        let refused = operator(&lab).put_secret(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}: {refused}");
    }
    for (server, user, password) in [
        ("a b", "ana", "x"),
        ("r.example.com", "", "x"),
        ("r.example.com", "a:b", "x"),
        ("r.example.com", "ana", ""),
        ("r.example.com", "ana", "x\ny"),
    ] {
        let refused = log_in(&lab, server, user, password).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
}

async fn log_in(lab: &Lab, server: &str, user: &str, password: &str) -> Result<String, Status> {
    let request = secrets::PutRegistryRequest {
        server: server.into(),
        user: user.into(),
        password: password.into(),
    };
    assert!(!format!("{request:?}").contains(CANARY));
    Ok(operator(lab)
        .put_registry(request)
        .await?
        .into_inner()
        .server)
}

async fn source(lab: &Lab, certs: &Arc<CertHolder>) -> ImageSourceServiceClient<Channel> {
    let trust = ServerTrust::Ca(lab.ca.clone());
    let channel = connect(&lab.url, Some(Arc::clone(certs)), trust)
        .await
        .unwrap();
    ImageSourceServiceClient::new(channel)
}

/// User and password that a node is given; the code of the refusal.
async fn given(
    source: &ImageSourceServiceClient<Channel>,
    image: &str,
) -> Result<(String, String), Code> {
    let image = image.to_owned();
    let mut source = source.clone();
    let request = images::GetCredentialsRequest { image };
    match source.get_credentials(request).await {
        Ok(answer) => {
            assert!(!format!("{answer:?}").contains(CANARY));
            let answer = answer.into_inner();
            Ok((answer.user, answer.password))
        }
        Err(status) => Err(status.code()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_go_to_nodes_that_run_an_image_of_that_registry_alone() {
    let lab = Lab::start().await;
    let mut node = lab.node("a", true, false).await;
    let idle = lab.token(true, false).await;
    let idle = lab.join(&idle, "b", true, false).await.unwrap();
    let image = "r.example.com:5000/shop/web:1";
    let mut app = app("shop", "web", 80, 1);
    let spec = app.services.get_mut("web").unwrap();
    spec.container.as_mut().unwrap().image = image.into();
    apply(&lab, app).await.unwrap();
    node.until_told("it is to run", |told| {
        told.assignment
            .as_ref()
            .is_some_and(|assignment| !assignment.replicas.is_empty())
    })
    .await;
    let of_node = source(&lab, &node.certs).await;
    assert_eq!(
        given(&of_node, image).await,
        Err(Code::NotFound),
        "there are none yet"
    );
    let password = format!("{CANARY}~?");
    let server = log_in(&lab, "https://R.example.com:5000/v2/", "ana", &password).await;
    assert_eq!(server.unwrap(), "r.example.com:5000");
    log_in(&lab, "docker.io", "bob", CANARY).await.unwrap();
    assert_eq!(
        given(&of_node, image).await,
        Ok(("ana".into(), password.clone()))
    );
    for other in [
        "r.example.com:5000/shop/other",
        "web:1",
        "r.example.com/shop/web:1",
        "",
    ] {
        assert_eq!(given(&of_node, other).await, Err(Code::NotFound), "{other}");
    }
    let of_idle = source(&lab, &idle).await;
    assert_eq!(given(&of_idle, image).await, Err(Code::NotFound));
    let of_people = ImageSourceServiceClient::new(lab.channel.clone());
    assert_eq!(given(&of_people, image).await, Err(Code::PermissionDenied));

    let listed = operator(&lab)
        .list_registries(secrets::ListRegistriesRequest {})
        .await;
    let listed = listed.unwrap().into_inner().registries;
    let rows: Vec<_> = listed
        .iter()
        .map(|r| (&*r.server, &*r.user, r.services.len()))
        .collect();
    assert_eq!(
        rows,
        [("docker.io", "bob", 0), ("r.example.com:5000", "ana", 1)]
    );
    shows_no_contents(&lab, &node.told.borrow(), format!("{listed:?}"));

    // A new process has them; who is logged out is given nothing.
    let lab = lab.restart().await;
    let of_node = source(&lab, &node.certs).await;
    assert_eq!(given(&of_node, image).await, Ok(("ana".into(), password)));
    let server = "r.example.com:5000".to_owned();
    let request = secrets::RemoveRegistryRequest { server };
    operator(&lab)
        .remove_registry(request.clone())
        .await
        .unwrap();
    assert_eq!(given(&of_node, image).await, Err(Code::NotFound));
    let again = operator(&lab).remove_registry(request).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound, "{again}");
}
