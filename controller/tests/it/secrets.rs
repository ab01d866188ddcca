//! Certificates of apps over the API: checked, kept, handed to edges and to nobody else.

use longshore_identity::site::SiteCertificate;
use longshore_proto::agent::v1 as agent;
use longshore_proto::control::v1 as pb;
use tonic::Code;

use crate::support::{FakeAgent, Lab, Told, app};

/// A certificate with its key, and its key.
fn site(domain: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([domain.to_owned()]).unwrap();
    let key = made.signing_key.serialize_pem();
    (format!("{}{key}", made.cert.pem()), key)
}

/// A certificate that ends so many days from now.
fn site_until(domain: &str, days: i64) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let until = now.saturating_add_signed(days * 86_400);
    let mut params = rcgen::CertificateParams::new([domain.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(until);
    let key = rcgen::KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    format!("{}{}", made.pem(), key.serialize_pem())
}

fn with_tls(names: &[&str]) -> pb::App {
    let mut app = app("shop", "web", 443, 1);
    let spec = app.services.get_mut("web").unwrap();
    spec.routes[0].tls = names.iter().map(|name| (*name).to_owned()).collect();
    app
}

fn secret(name: &str, pem: &str) -> pb::Secret {
    pb::Secret {
        name: name.into(),
        pem: pem.into(),
        ..Default::default()
    }
}

async fn apply(
    lab: &Lab,
    app: pb::App,
    secrets: &[pb::Secret],
) -> Result<pb::ApplyAppResponse, tonic::Status> {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        secrets: secrets.to_vec(),
        ..Default::default()
    };
    let answer = lab.admin.clone().apply_app(request).await?;
    Ok(answer.into_inner())
}

fn said(changes: &[pb::SecretChange]) -> Vec<(&str, &str)> {
    let said = changes.iter();
    said.map(|c| (c.action.as_str(), c.name.as_str())).collect()
}

fn held(told: &Told) -> Vec<agent::Certificate> {
    let held = told.certificates.clone();
    held.map(|held| held.certificates).unwrap_or_default()
}

async fn until_held(edge: &mut FakeAgent, names: &[&str]) -> Vec<agent::Certificate> {
    let told = edge.until_told("certificates", |told| {
        let held = held(told);
        held.iter()
            .map(|c| c.name.as_str())
            .eq(names.iter().copied())
    });
    held(&told.await)
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_get_certificates_and_a_renewal_is_no_revision() {
    let lab = Lab::start().await;
    let mut edge = lab.node("edge", false, true).await;
    let worker = lab.node("a", true, false).await;
    let (first, _) = site("a.test");
    let one = [secret("cert", &first)];
    let applied = apply(&lab, with_tls(&["cert"]), &one).await.unwrap();
    assert_eq!((applied.revision, applied.changed), (1, true));
    assert_eq!(said(&applied.secrets), [("add", "cert")]);
    let held = until_held(&mut edge, &["cert"]).await;
    assert_eq!(
        (held[0].app.as_str(), held[0].name.as_str()),
        ("shop", "cert")
    );
    lab.until_serving("web", 1).await;
    // It came before the routes that name it, and the worker has none.
    edge.until_told("routes", |told| told.routes.is_some())
        .await;
    assert!(worker.told.borrow().certificates.is_none());

    let assigned = worker.told.borrow().assignment.clone();
    let (second, key) = site("a.test");
    let two = [secret("cert", &second)];
    let applied = apply(&lab, with_tls(&["cert"]), &two).await.unwrap();
    assert_eq!((applied.revision, applied.changed), (1, false));
    assert_eq!(said(&applied.secrets), [("renew", "cert")]);
    let before = held[0].pem.clone();
    edge.until_told("the renewed one", |told| {
        self::held(told).iter().any(|c| c.pem != before)
    })
    .await;
    assert_eq!(worker.told.borrow().assignment, assigned, "no rollout");
    // The same again, and not sent at all: nothing changes.
    for secrets in [&two[..], &[]] {
        let applied = apply(&lab, with_tls(&["cert"]), secrets).await.unwrap();
        assert_eq!((applied.revision, applied.changed), (1, false));
        assert_eq!(said(&applied.secrets), [("same", "cert")]);
    }
    // In memory and in what operators read, there is no key.
    let key = key.lines().nth(1).unwrap().to_owned();
    let mut admin = lab.admin.clone();
    let services = admin
        .list_services(pb::ListServicesRequest {})
        .await
        .unwrap();
    let cluster = &lab.controller;
    let shown = format!(
        "{services:?} {:?} {:?} {:?} {:?}",
        cluster.secrets(),
        cluster.desired(),
        cluster.view(),
        cluster.past_events().unwrap(),
    );
    assert!(shown.contains("secret bytes") && !shown.contains(&key));
    assert!(shown.contains("https://"), "{services:?}");

    // Nor in the list of secrets.
    let all = pb::ListSecretsRequest::default();
    let listed = lab.admin.clone().list_secrets(all).await.unwrap();
    let listed = listed.into_inner().secrets;
    let of = |secret: &pb::SecretInfo| {
        let (kind, services) = (secret.kind.clone(), secret.services.clone());
        (kind, secret.name.clone(), services, secret.digest.len())
    };
    let expected = ("certificate".into(), "cert".into(), vec!["web".into()], 12);
    assert_eq!(listed.iter().map(of).collect::<Vec<_>>(), [expected]);
    assert!(listed[0].until_ms > 0 && listed[0].bytes > 500);
    assert!(!format!("{listed:?}").contains(&key));

    // A new process knows them; an app that goes takes them along.
    let lab = lab.restart().await;
    assert_eq!(lab.controller.secrets().all.len(), 1);
    let certs = edge.kill().await;
    let mut edge = FakeAgent::start(&lab, "edge", certs, true).await;
    until_held(&mut edge, &["cert"]).await;
    let down = pb::DownAppRequest { app: "shop".into() };
    lab.admin.clone().down_app(down).await.unwrap();
    until_held(&mut edge, &[]).await;
    assert!(lab.controller.secrets().all.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_revision_names_is_forgotten_and_undo_finds_the_others() {
    let lab = Lab::start().await;
    let (old, new) = (site("a.test").0, site("a.test").0);
    apply(&lab, with_tls(&["old"]), &[secret("old", &old)])
        .await
        .unwrap();
    let applied = apply(&lab, with_tls(&["new"]), &[secret("new", &new)])
        .await
        .unwrap();
    // Revision 1 names it still.
    assert_eq!(said(&applied.secrets), [("add", "new")]);
    let names = |lab: &Lab| -> Vec<String> {
        let secrets = lab.controller.secrets();
        secrets.all.keys().map(|key| key.name.to_string()).collect()
    };
    assert_eq!(names(&lab), ["new", "old"]);
    for port in 1_000..1_021 {
        let mut app = with_tls(&["new"]);
        app.services.get_mut("web").unwrap().routes[0].listen_port = port;
        apply(&lab, app, &[]).await.unwrap();
    }
    assert_eq!(names(&lab), ["new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_certificate_is_refused_by_name() {
    let lab = Lab::start().await;
    let (good, _) = site("a.test");
    let (other, other_key) = site("a.test");
    let certificate = good.split("-----BEGIN PRIVATE").next().unwrap();
    let mixed = format!("{certificate}{other_key}");
    let (head, tail) = good.split_at(certificate.len());
    let sha1 = include_str!("../../../crates/identity/testdata/sha1.pem");
    let weak = format!("{head}{sha1}{tail}");
    let cases: [(&[pb::Secret], Code, &str); 8] = [
        (
            &[secret("cert", &weak)],
            Code::InvalidArgument,
            "secret cert: certificate 2 in it is signed with SHA-1, which HAProxy refuses; have it",
        ),
        (
            &[],
            Code::FailedPrecondition,
            "certificate cert is not here",
        ),
        (
            &[secret("cert", "")],
            Code::InvalidArgument,
            "no certificate",
        ),
        (
            &[secret("cert", certificate)],
            Code::InvalidArgument,
            "no private key",
        ),
        (
            &[secret("cert", &mixed)],
            Code::InvalidArgument,
            "does not belong",
        ),
        (
            &[secret("other", &good)],
            Code::InvalidArgument,
            "no service names it",
        ),
        (
            &[secret("../x", &good)],
            Code::InvalidArgument,
            "secret name",
        ),
        (
            &[secret("cert", &good), secret("cert", &other)],
            Code::InvalidArgument,
            "sent twice",
        ),
    ];
    for (secrets, code, words) in cases {
        let refused = apply(&lab, with_tls(&["cert"]), secrets).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(words), "{refused}");
    }
    let many: Vec<_> = (0..33).map(|i| secret(&format!("c{i}"), &good)).collect();
    let refused = apply(&lab, with_tls(&["cert"]), &many).await.unwrap_err();
    assert!(refused.message().contains("at most 32"), "{refused}");
    assert!(lab.controller.secrets().all.is_empty());
    // A plan needs digests only.
    let plan = pb::PlanAppRequest {
        app: Some(with_tls(&["cert"])),
        secrets: vec![secret("cert", "")],
        ..pb::PlanAppRequest::default()
    };
    let plan = lab.admin.clone().plan_app(plan).await.unwrap().into_inner();
    assert_eq!(said(&plan.secrets), [("add", "cert")]);
}

/// Events of certificates that have a word, as people read them.
fn events(lab: &Lab, word: &str) -> Vec<String> {
    let events = lab.controller.past_events().unwrap().into_iter();
    let events = events.map(|stored| stored.event.kind.to_string());
    let said = events.filter(|e| e.contains("certificate") && e.contains(word));
    said.collect()
}

async fn until_said(lab: &Lab, word: &str) {
    lab.until(word, async |_| {
        let said = events(lab, word);
        (!said.is_empty()).then_some(()).ok_or(String::new())
    })
    .await;
}

/// What an edge says of the certificate: the one that it serves, the one that it refuses.
fn seen(served: &str, refused: &str) -> agent::CertificatesSeen {
    let mark = |pem: &str| match pem {
        "" => String::new(),
        pem => SiteCertificate::read(pem.as_bytes()).unwrap().mark,
    };
    let seen = agent::CertificateSeen {
        app: "shop".into(),
        name: "cert".into(),
        served_mark: mark(served),
        served_until_ms: 4_102_444_800_000,
        refused_mark: mark(refused),
        refused_why: "unable to load it".into(),
    };
    agent::CertificatesSeen {
        certificates: vec![seen],
    }
}

/// In `status` and in `why`, which has the end of the one that is served.
async fn refusal_is_said(lab: &Lab) {
    let status = lab.admin.clone().get_status(pb::GetStatusRequest {}).await;
    let problems = status.unwrap().into_inner().problems;
    let said: Vec<_> = problems.iter().filter(|p| p.about == "shop/web").collect();
    assert_eq!(said.len(), 1, "{said:?}");
    let words =
        "edge refuses the new certificate cert and serves the one before: unable to load it";
    assert!(said[0].message.starts_with(words), "{said:?}");
    let why = pb::WhyRequest {
        target: "web".into(),
        ..Default::default()
    };
    let why = lab.admin.clone().why(why).await.unwrap().into_inner();
    let lines: Vec<_> = why
        .lines
        .iter()
        .filter(|l| l.starts_with("TLS: "))
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("the one before at edge, ends in"),
        "{lines:?}"
    );
    assert!(
        lines[0].ends_with("on 2100-01-01"),
        "the one that is served: {lines:?}"
    );
    let refused = "edge refuses the new certificate cert (a.test), good until 4096-01-01: unable";
    assert!(lines[1].contains(refused), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_one_where_edges_serve_it_and_a_refused_one_is_named() {
    let lab = Lab::start().await;
    let edge = lab.node("edge", false, true).await;
    let _worker = lab.node("a", true, false).await;
    let (first, second) = (site("a.test").0, site("a.test").0);
    apply(&lab, with_tls(&["cert"]), &[secret("cert", &first)])
        .await
        .unwrap();
    lab.until_serving("web", 1).await;
    let state = async || {
        let services = lab
            .admin
            .clone()
            .list_services(pb::ListServicesRequest {})
            .await;
        let services = services.unwrap().into_inner().services;
        let states = services[0].certificates.iter();
        let states: Vec<_> = states.map(|c| (c.edge.clone(), c.state.clone())).collect();
        states
    };
    *edge.says.lock().unwrap() = Some(seen(&first, ""));
    lab.until("it is served", async |_| {
        let state = state().await;
        let is_served = state == [("edge".to_owned(), "served".to_owned())];
        is_served.then_some(()).ok_or(format!("{state:?}"))
    })
    .await;

    apply(&lab, with_tls(&["cert"]), &[secret("cert", &second)])
        .await
        .unwrap();
    assert_eq!(state().await, [("edge".to_owned(), "waits".to_owned())]);
    assert!(events(&lab, "renewed").is_empty(), "said too early");
    *edge.says.lock().unwrap() = Some(seen(&first, &second));
    until_said(&lab, "refuses").await;
    assert_eq!(
        events(&lab, "refuses"),
        [
            "shop: edge refuses the new certificate cert and serves the one before (shop/web): unable \
          to load it"
        ]
    );
    assert_eq!(state().await, [("edge".to_owned(), "refused".to_owned())]);
    refusal_is_said(&lab).await;
    *edge.says.lock().unwrap() = Some(seen(&second, ""));
    until_said(&lab, "renewed").await;
    assert_eq!(
        events(&lab, "renewed"),
        [
            "shop: certificate cert (a.test) renewed by admin, good until 4096-01-01; edge serves it \
          without a reload (shop/web)"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ends_soon_is_a_problem_and_its_renewal_an_event() {
    let lab = Lab::start().await;
    let apply_with = async |pem: &str| {
        let applied = apply(&lab, with_tls(&["cert"]), &[secret("cert", pem)]).await;
        applied.unwrap();
    };
    let said = async || {
        let status = lab.admin.clone().get_status(pb::GetStatusRequest {}).await;
        let problems = status.unwrap().into_inner().problems;
        let of_web = problems.into_iter().filter(|p| p.about == "shop/web");
        let said: Vec<_> = of_web.map(|p| p.message).collect();
        let about = |word: &str| said.iter().filter(|s| s.contains(word)).count();
        (
            about("ends in 8 d 23 h"),
            about("ended 2 d"),
            about("certificate"),
        )
    };
    apply_with(&site_until("a.test", 9)).await;
    assert_eq!(said().await, (1, 0, 1));
    apply_with(&site_until("a.test", -2)).await;
    assert_eq!(said().await, (0, 1, 1));
    apply_with(&site("a.test").0).await;
    assert_eq!(said().await, (0, 0, 0));
    let brought = events(&lab, "brought");
    assert_eq!(brought.len(), 2, "{brought:?}");
    assert_eq!(
        brought[1],
        "shop: certificate cert (a.test) brought by admin, good until 4096-01-01; edges are sent it \
         (shop/web)"
    );
    let request = pb::WhyRequest {
        target: "web".into(),
        ..Default::default()
    };
    let why = lab.admin.clone().why(request).await.unwrap().into_inner();
    let line = why.lines.iter().find(|line| line.starts_with("TLS: "));
    let line = line.unwrap_or_else(|| panic!("{:?}", why.lines));
    let known = "no edge is known to serve certificate cert (a.test), which ends in";
    assert!(line.contains(known), "{line}");
    assert!(line.ends_with("on 4096-01-01"), "{line}");
}
