//! Secrets and configs from an app to the nodes that run them, and to nobody else.

use longshore_model::spec::ContentDigest;
use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1 as spec;
use tonic::Code;

use crate::support::{FakeAgent, Lab, Told, app};

const CANARY: &str = "canary-7f3a";

fn file(target: &str, contents: &str) -> spec::File {
    spec::File {
        kind: spec::FileKind::Secret.into(),
        name: "db_password".into(),
        target: target.into(),
        mode: 0o444,
        bytes: contents.len() as u64,
        digest: ContentDigest::of(contents.as_bytes()).to_string(),
        ..Default::default()
    }
}

fn with_files(files: Vec<spec::File>) -> pb::App {
    let mut app = app("shop", "web", 80, 1);
    let spec = app.services.get_mut("web").unwrap();
    spec.container.as_mut().unwrap().files = files;
    app
}

fn with(contents: &str) -> pb::App {
    with_files(vec![file("/run/secrets/db_password", contents)])
}

fn brought(contents: &str) -> pb::FileContents {
    pb::FileContents {
        digest: ContentDigest::of(contents.as_bytes()).to_string(),
        contents: contents.as_bytes().to_vec(),
    }
}

async fn apply(
    lab: &Lab,
    app: pb::App,
    contents: &[&str],
) -> Result<pb::ApplyAppResponse, tonic::Status> {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        files: contents.iter().map(|contents| brought(contents)).collect(),
        ..Default::default()
    };
    let answer = lab.admin.clone().apply_app(request).await?;
    Ok(answer.into_inner())
}

/// What an agent was sent, as texts.
fn sent(told: &Told) -> Vec<String> {
    let texts = told.contents.iter();
    let texts = texts.map(|c| String::from_utf8(c.contents.clone()).unwrap());
    texts.collect()
}

fn runs(told: &Told, contents: &str) -> bool {
    let digest = ContentDigest::of(contents.as_bytes()).to_string();
    let assignment = told.assignment.as_ref();
    assignment.is_some_and(|assignment| {
        let mut running = assignment.replicas.iter().filter(|replica| !replica.stop);
        let template = |id: &str| assignment.templates.get(id);
        running.any(|r| {
            let files = template(&r.template_id).map(|spec| spec.files.as_slice());
            files
                .unwrap_or_default()
                .iter()
                .any(|file| file.digest == digest)
        })
    })
}

async fn until_runs(agent: &mut FakeAgent, contents: &str) {
    let told = agent
        .until_told("it runs", |told| runs(told, contents))
        .await;
    assert!(sent(&told)[..told.contents_before].contains(&contents.to_owned()));
}

async fn listed(lab: &Lab, apps: &[&str]) -> Result<Vec<pb::SecretInfo>, tonic::Status> {
    let apps = apps.iter().map(|app| (*app).to_owned()).collect();
    let request = pb::ListSecretsRequest { apps };
    let answer = lab.admin.clone().list_secrets(request).await?;
    Ok(answer.into_inner().secrets)
}

/// The one secret with these contents is listed; what is shown of it.
async fn lists(lab: &Lab, contents: &str) -> String {
    let seen = listed(lab, &["shop"]).await.unwrap();
    let known = pb::SecretInfo {
        app: "shop".into(),
        kind: "secret".into(),
        name: "db_password".into(),
        bytes: contents.len() as u64,
        digest: ContentDigest::of(contents.as_bytes()).short().to_owned(),
        services: vec!["web".into()],
        ..Default::default()
    };
    assert_eq!(seen, [known]);
    format!("{seen:?}")
}

fn kept(lab: &Lab) -> Vec<String> {
    let contents = lab.controller.contents();
    let texts = contents.all.values();
    let mut texts: Vec<String> = texts
        .map(|c| String::from_utf8(c.expose().to_vec()).unwrap())
        .collect();
    texts.sort();
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_reach_those_who_run_them_first_and_new_ones_are_a_new_revision() {
    let lab = Lab::start().await;
    let mut node = lab.node("a", true, false).await;
    let edge = lab.node("edge", false, true).await;
    let (first, second) = (format!("{CANARY}-1"), format!("{CANARY}-2"));
    let applied = apply(&lab, with(&first), &[&first]).await.unwrap();
    assert_eq!((applied.revision, applied.changed), (1, true));
    until_runs(&mut node, &first).await;
    // The same again, brought or not, is the same.
    for contents in [&[first.as_str()][..], &[]] {
        let applied = apply(&lab, with(&first), contents).await.unwrap();
        assert_eq!((applied.revision, applied.changed), (1, false));
    }
    let plan = pb::PlanAppRequest {
        app: Some(with(&second)),
        ..Default::default()
    };
    let plan = lab.admin.clone().plan_app(plan).await.unwrap().into_inner();
    let details = plan.changes[0].details.join("; ");
    let short = ContentDigest::of(second.as_bytes()).short().to_owned();
    assert!(details.contains("container.files[/run/secrets/db_password].digest"));
    assert!(
        details.ends_with(&format!("-> \"sha256:{short}\"")),
        "{details}"
    );
    let applied = apply(&lab, with(&second), &[&second]).await.unwrap();
    assert_eq!((applied.revision, applied.changed), (2, true));
    until_runs(&mut node, &second).await;
    assert_eq!(
        sent(&node.told.borrow()),
        [first.clone(), second.clone()],
        "each once"
    );
    assert!(edge.told.borrow().contents.is_empty());

    let mut admin = lab.admin.clone();
    let services = admin.list_services(pb::ListServicesRequest {}).await;
    let why = pb::WhyRequest {
        target: "web".into(),
        ..Default::default()
    };
    let seen = lists(&lab, &second).await;
    let cluster = &lab.controller;
    let shown = format!(
        "{services:?} {seen} {:?} {:?} {:?} {:?} {:?} {:?} {details}",
        admin.why(why).await,
        cluster.contents(),
        cluster.desired(),
        cluster.view(),
        cluster.past_events().unwrap(),
        node.told.borrow(),
    );
    assert!(
        shown.contains("db_password") && !shown.contains(CANARY),
        "{shown}"
    );
    let bytes = format!("{:?}", CANARY.as_bytes());
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])));

    // A new process knows them; an app that goes takes them along.
    let lab = lab.restart().await;
    let certs = node.kill().await;
    let mut node = FakeAgent::start(&lab, "a", certs, false).await;
    until_runs(&mut node, &second).await;
    let down = pb::DownAppRequest { app: "shop".into() };
    lab.admin.clone().down_app(down).await.unwrap();
    assert!(kept(&lab).is_empty());
    assert!(listed(&lab, &[]).await.unwrap().is_empty());
    let unknown = listed(&lab, &["shop"]).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");
    let lab = lab.restart().await;
    assert!(kept(&lab).is_empty(), "also in the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_revision_names_is_forgotten_and_undo_finds_the_others() {
    let lab = Lab::start().await;
    let mut node = lab.node("a", true, false).await;
    apply(&lab, with("old"), &["old"]).await.unwrap();
    until_runs(&mut node, "old").await;
    lab.until_serving("web", 1).await;
    apply(&lab, with("new"), &["new"]).await.unwrap();
    assert_eq!(kept(&lab), ["new", "old"]);
    until_runs(&mut node, "new").await;
    let undo = pb::UndoRolloutRequest {
        service: "web".into(),
        ..Default::default()
    };
    lab.admin.clone().undo_rollout(undo).await.unwrap();
    until_runs(&mut node, "old").await;
    // Revisions without any push those with them out.
    for port in 1_000..1_022 {
        let mut app = with_files(Vec::new());
        app.services.get_mut("web").unwrap().routes[0].listen_port = port;
        apply(&lab, app, &[]).await.unwrap();
    }
    lab.until("the plan names none", async |_| {
        let mut app = with_files(Vec::new());
        app.services.get_mut("web").unwrap().routes[0].listen_port = 2_000;
        apply(&lab, app, &[]).await.unwrap();
        match kept(&lab) {
            kept if kept.is_empty() => Ok(()),
            kept => Err(format!("{kept:?}")),
        }
    })
    .await;
}

async fn refuses(
    lab: &Lab,
    app: pb::App,
    files: Vec<pb::FileContents>,
    (code, words): (Code, &str),
) {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        files,
        ..Default::default()
    };
    let refused = lab.admin.clone().apply_app(request).await.unwrap_err();
    assert_eq!(refused.code(), code, "{refused}");
    assert!(refused.message().contains(words), "{refused}");
    assert!(refused.message().starts_with("shop"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_files_is_refused() {
    let lab = Lab::start().await;
    let secret = "y".repeat((500 << 10) + 1);
    let other = |contents: &str, digest: &str| pb::FileContents {
        digest: ContentDigest::of(digest.as_bytes()).to_string(),
        contents: contents.as_bytes().to_vec(),
    };
    let lie = || {
        let mut file = file("/a", "abc");
        file.bytes = 2;
        with_files(vec![file])
    };
    let up = |target: &str| with_files(vec![file(target, "abc")]);
    let twice = || with_files(vec![file("/a", "abc"), file("/a", "abd")]);
    let precondition = Code::FailedPrecondition;
    let invalid = Code::InvalidArgument;
    let cases: Vec<(pb::App, Vec<pb::FileContents>, Code, &str)> = vec![
        (
            with("abc"),
            Vec::new(),
            precondition,
            "is not here; bring it",
        ),
        (
            with("abc"),
            vec![brought("x")],
            invalid,
            "no service names them",
        ),
        (
            with("abc"),
            vec![other("abd", "abc")],
            invalid,
            "are not those of sha256:",
        ),
        (lie(), vec![brought("abc")], invalid, "has 3 bytes"),
        (
            up("/a/../b"),
            vec![brought("abc")],
            invalid,
            "is no path of a file",
        ),
        (
            up("a"),
            vec![brought("abc")],
            invalid,
            "is no path of a file",
        ),
        (
            up("/a\0"),
            vec![brought("abc")],
            invalid,
            "is no path of a file",
        ),
        (twice(), vec![brought("abc")], invalid, "is the target of"),
        (
            with(&secret),
            vec![brought(&secret)],
            invalid,
            "at most 512000 are allowed",
        ),
    ];
    for (app, files, code, words) in cases {
        refuses(&lab, app, files, (code, words)).await;
    }
    assert!(kept(&lab).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_may_bring_so_much_and_no_more() {
    let lab = Lab::start().await;
    let large = "x".repeat(1 << 20);
    // Three services of 3 MiB each are more than an app may bring.
    let mut whole = with_files(Vec::new());
    let web = whole.services.remove("web").unwrap();
    let mut files = Vec::new();
    for service in 0..3 {
        let mut spec = web.clone();
        spec.routes.clear();
        for part in 0..3 {
            let contents = format!("{service}{part}{}", &large[2..]);
            let mut file = file(&format!("/{part}"), &contents);
            file.kind = spec::FileKind::Config.into();
            spec.container.as_mut().unwrap().files.push(file);
            files.push(brought(&contents));
        }
        whole.services.insert(format!("web{service}"), spec);
    }
    let words = (Code::InvalidArgument, "at most 8388608");
    refuses(&lab, whole, files, words).await;
    assert!(kept(&lab).is_empty());
}
