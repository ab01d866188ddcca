//! Containers that run once: where they go, what they are, and that they leave nothing.

use longshore_model::spec::ContentDigest;
use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1 as spec;
use pb::exec_response::Message;
use tonic::Code;

use crate::support::{BOUND, Lab, Told, app};

const CANARY: &str = "canary-7f3a";

fn command(words: &[&str]) -> Option<spec::Words> {
    let words = words.iter().map(|word| (*word).to_owned()).collect();
    Some(spec::Words { words })
}

fn asks(start: pb::RunStart) -> pb::ExecRequest {
    let message = Some(pb::exec_request::Message::Run(start));
    pb::ExecRequest { message }
}

/// All that was said, or the refusal.
async fn run(lab: &Lab, start: pb::RunStart) -> Result<Vec<Message>, tonic::Status> {
    let request = tokio_stream::iter([asks(start)]);
    let mut output = lab.admin.clone().exec(request).await?.into_inner();
    let mut said = Vec::new();
    while let Some(message) = output.message().await? {
        said.extend(message.message);
    }
    Ok(said)
}

/// A service with a secret; on node `a` alone, or anywhere.
async fn apply(lab: &Lab, only_a: bool) {
    let mut app = app("shop", "web", 80, 1);
    let service = app.services.get_mut("web").unwrap();
    let container = service.container.as_mut().unwrap();
    container.env.insert("A".into(), "1".into());
    container.files.push(spec::File {
        kind: spec::FileKind::Secret.into(),
        name: "pw".into(),
        target: "/run/secrets/pw".into(),
        mode: 0o400,
        bytes: CANARY.len() as u64,
        digest: ContentDigest::of(CANARY.as_bytes()).to_string(),
        ..Default::default()
    });
    let hostname = spec::Constraint {
        attribute: spec::NodeAttribute::Hostname.into(),
        equal: true,
        value: "a".into(),
        ..Default::default()
    };
    let constraints = &mut service.placement.as_mut().unwrap().constraints;
    constraints.extend(only_a.then_some(hostname));
    let request = pb::ApplyAppRequest {
        app: Some(app),
        files: vec![pb::FileContents {
            digest: ContentDigest::of(CANARY.as_bytes()).to_string(),
            contents: CANARY.into(),
        }],
        ..Default::default()
    };
    lab.admin.clone().apply_app(request).await.unwrap();
    lab.until_serving("web", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_where_a_replica_may_and_is_none() {
    let lab = Lab::start().await;
    let (a, b) = (
        lab.node("a", true, false).await,
        lab.node("b", true, false).await,
    );
    let _edge = lab.node("edge", false, true).await;
    apply(&lab, true).await;
    let before = lab.controller.view().plan.version;
    let start = pb::RunStart {
        service: "web".into(),
        command: command(&["migrate", "--all"]),
        env: [("B".to_owned(), "2".to_owned())].into(),
        user: "1000".into(),
        ..Default::default()
    };
    let said = run(&lab, start).await.unwrap();
    let Message::Placed(placed) = &said[0] else {
        panic!("{said:?}")
    };
    assert_eq!(
        (placed.node.as_str(), placed.service.as_str()),
        ("a", "shop/web")
    );
    let output = Message::Stdout(b"ran shop/web".to_vec());
    assert_eq!(said[1..], [output, Message::ExitCode(9)]);
    let told = a.told.borrow().clone();
    let (sent, names) = &told.runs[0];
    let container = sent.container.as_ref().unwrap();
    assert_eq!(container.command, command(&["migrate", "--all"]));
    assert_eq!(container.env.len(), 2);
    assert_eq!(
        (container.user.as_deref(), container.ports.len()),
        (Some("1000"), 0)
    );
    assert_eq!(sent.files[0].contents, CANARY.as_bytes());
    assert!(!format!("{told:?} {said:?}").contains(CANARY));
    let known = names.as_ref().unwrap().services.iter();
    assert!(known.map(|s| &s.service).eq(["shop/web"]));
    assert_eq!(sent.hosts.len(), 1, "{:?}", sent.hosts);
    assert!(b.told.borrow().runs.is_empty());
    // It is in no plan.
    let view = lab.controller.view();
    assert_eq!(view.plan.services.len(), 1);
    assert_eq!(
        (view.plan.version, view.plan.replicas().count()),
        (before, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_with_its_caller_and_its_node_forgets_the_names() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    apply(&lab, false).await;
    // Nothing runs there: as the planner spreads, the run goes there.
    let mut b = lab.node("b", true, false).await;
    b.until_told("names", |told| told.names.is_some()).await;
    let start = pb::RunStart {
        service: "web".into(),
        stdin: true,
        ..Default::default()
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(asks(start)).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut output = lab.admin.clone().exec(requests).await.unwrap().into_inner();
    let first = output.message().await.unwrap().unwrap().message.unwrap();
    assert!(matches!(first, Message::Placed(placed) if placed.node == "b"));
    let told = b.until_told("the run", |told| told.runs.len() == 1).await;
    let names = told.runs[0].1.as_ref().unwrap();
    assert_eq!(names.services.len(), 1, "told before: {names:?}");
    assert_eq!(lab.controller.guests.apps().len(), 1);
    // The caller goes.
    drop((output, sender));
    b.until_told("its end", |told| told.streams_ended == 1)
        .await;
    let gone = async {
        while !lab.controller.guests.apps().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(BOUND, gone).await;
    assert!(waited.is_ok(), "{:?}", lab.controller.guests);
    let none = |told: &Told| told.names.as_ref().is_some_and(|n| n.services.is_empty());
    b.until_told("that there are no names", none).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_node_takes_is_refused_with_each_nodes_reason() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    apply(&lab, true).await;
    let start = |service: &str| pb::RunStart {
        service: service.into(),
        ..Default::default()
    };
    let unknown = run(&lab, start("wep")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    assert!(unknown.message().contains("did you mean web"), "{unknown}");
    let mut hostile = start("web");
    hostile.env.insert("A=B".into(), "c".into());
    let refused = run(&lab, hostile).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    let cordon = pb::SetNodeAvailabilityRequest {
        node: "a".into(),
        availability: pb::NodeAvailability::Cordoned.into(),
        ..Default::default()
    };
    lab.admin
        .clone()
        .set_node_availability(cordon)
        .await
        .unwrap();
    let refused = run(&lab, start("web")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let words = [
        "shop/web: no node takes the run",
        "0 of 1 nodes fit",
        "a: cordoned",
    ];
    for words in words {
        assert!(refused.message().contains(words), "{words}: {refused}");
    }
    assert!(lab.controller.guests.apps().is_empty());
}
