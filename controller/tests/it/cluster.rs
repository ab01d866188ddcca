//! The whole loop over real mTLS: join, apply, scale, down, reconnect, restart, removal.

use crate::support::{FakeAgent, Lab, app};
use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1 as spec;
use tonic::Code;

async fn apply(lab: &Lab, app: pb::App) -> Result<pb::ApplyAppResponse, tonic::Status> {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        check_revision: None,
        ..Default::default()
    };
    lab.admin
        .clone()
        .apply_app(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn scale(lab: &Lab, service: &str, count: u32) -> Result<pb::ScaleResponse, tonic::Status> {
    let request = pb::ScaleRequest {
        service: service.into(),
        count,
        hold_ms: 0,
    };
    lab.admin
        .clone()
        .scale(request)
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_comes_scales_and_goes() {
    let lab = Lab::start().await;
    let mut edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    let _b = lab.node("b", true, false).await;
    let first = apply(&lab, app("hello", "web", 80, 2)).await.unwrap();
    assert_eq!((first.revision, first.changed), (1, true));
    lab.until_serving("web", 2).await;
    let again = apply(&lab, app("hello", "web", 80, 2)).await.unwrap();
    assert_eq!(
        (again.revision, again.changed),
        (1, false),
        "the same content changes nothing"
    );

    assert_eq!(scale(&lab, "web", 5).await.unwrap().from, 2);
    lab.until_serving("web", 5).await;
    edge.until_told("five servers", |told| {
        told.routes
            .as_ref()
            .is_some_and(|routes| routes.backends[0].servers.len() == 5)
    })
    .await;
    scale(&lab, "hello/web", 1).await.unwrap();
    lab.until_serving("web", 1).await;

    let lines = why(&lab, "web").await;
    assert!(
        lines[0].starts_with("hello/web runs 1, wants 1"),
        "{lines:?}"
    );
    assert!(!why(&lab, "node/a").await.is_empty());

    lab.admin
        .clone()
        .down_app(pb::DownAppRequest {
            app: "hello".into(),
        })
        .await
        .unwrap();
    lab.until("everything gone", async |mut admin| {
        let request = pb::ListReplicasRequest::default();
        let replicas = admin
            .list_replicas(request)
            .await
            .unwrap()
            .into_inner()
            .replicas;
        if replicas.is_empty() {
            Ok(())
        } else {
            Err(format!("{replicas:?}"))
        }
    })
    .await;
    let types = event_types(&lab).await;
    for wanted in [
        "controller_started",
        "node_joined",
        "app_applied",
        "placed",
        "serving",
        "drained",
        "gone",
        "app_down",
    ] {
        assert!(
            types.iter().any(|kind| kind == wanted),
            "no {wanted} in {types:?}"
        );
    }
}

async fn event_types(lab: &Lab) -> Vec<String> {
    let request = pb::EventsRequest::default();
    let mut events = lab
        .admin
        .clone()
        .events(request)
        .await
        .unwrap()
        .into_inner();
    let mut types = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        types.push(event.r#type);
    }
    types
}

async fn why(lab: &Lab, target: &str) -> Vec<String> {
    let request = pb::WhyRequest {
        target: target.into(),
        at_ms: 0,
    };
    lab.admin
        .clone()
        .why(request)
        .await
        .unwrap()
        .into_inner()
        .lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_raises_the_term_and_changes_nothing_that_is_right() {
    let lab = Lab::start().await;
    let a = lab.node("a", true, false).await;
    let mut spec = app("hello", "web", 80, 2);
    spec.services.get_mut("web").unwrap().routes.clear();
    apply(&lab, spec).await.unwrap();
    lab.until_serving("web", 2).await;
    let before = a.told.borrow().clone();
    let ids = |told: &crate::support::Told| -> Vec<u64> {
        told.assignment
            .as_ref()
            .unwrap()
            .replicas
            .iter()
            .map(|r| r.replica_id)
            .collect()
    };
    let certs = a.kill().await;
    let lab = lab.restart().await;
    let mut a = FakeAgent::start(&lab, "a", certs, false).await;
    let after = a
        .until_told("an assignment", |told| told.assignment.is_some())
        .await;
    assert_eq!(ids(&before), ids(&after));
    assert_eq!(before.fence.unwrap().term + 1, after.fence.unwrap().term);
    assert_eq!(
        before.assignment.unwrap().generation,
        after.assignment.unwrap().generation,
        "nothing changed, so no generation rose"
    );
    lab.until_serving("web", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_wins_and_a_removed_node_is_cut_and_refused() {
    let lab = Lab::start().await;
    let mut old = lab.node("a", true, false).await;
    old.until_told("welcome", |told| told.fence.is_some()).await;
    let mut new = FakeAgent::start(&lab, "a", old.certs.clone(), false).await;
    new.until_told("welcome", |told| told.fence.is_some()).await;
    let told = old.until_told("the end", |told| told.ended.is_some()).await;
    assert!(told.ended.unwrap().contains("newer session"));
    let request = pb::RemoveNodeRequest {
        node: "a".into(),
        force: false,
    };
    lab.admin.clone().remove_node(request).await.unwrap();
    new.until_told("the end", |told| told.ended.is_some()).await;
    let trust = longshore_identity::tls::ServerTrust::Ca(lab.ca.clone());
    // In TLS 1.3 the refusal shows at the first call at the latest.
    if let Ok(channel) =
        longshore_identity::tls::connect(&lab.url, Some(new.certs.clone()), trust).await
    {
        let mut client =
            longshore_proto::agent::v1::enrollment_service_client::EnrollmentServiceClient::new(
                channel,
            );
        let renewed = client
            .renew(longshore_proto::agent::v1::RenewRequest::default())
            .await;
        assert!(renewed.is_err(), "a removed node was let in");
    }
    let nodes = lab
        .admin
        .clone()
        .list_nodes(pb::ListNodesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(nodes.nodes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_exec_go_through_the_session() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    apply(&lab, app("hello", "web", 80, 2)).await.unwrap();
    lab.until_serving("web", 2).await;
    let request = pb::LogsRequest {
        targets: vec!["web".into()],
        ..Default::default()
    };
    let mut stream = lab.admin.clone().logs(request).await.unwrap().into_inner();
    let mut lines = Vec::new();
    while let Some(line) = stream.message().await.unwrap() {
        lines.push(format!("{}: {}{}", line.name, line.line, line.notice));
    }
    lines.sort();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with("web.1: "), "{lines:?}");

    let request = pb::LogsRequest {
        targets: vec!["web".into()],
        follow: true,
        ..Default::default()
    };
    let mut stream = lab.admin.clone().logs(request).await.unwrap().into_inner();
    scale(&lab, "web", 3).await.unwrap();
    let joined = async {
        while let Some(line) = stream.message().await.unwrap() {
            if line.notice.starts_with("joined") {
                return format!("{} {}", line.name, line.notice);
            }
        }
        String::new()
    };
    assert_eq!(
        tokio::time::timeout(crate::support::BOUND, joined)
            .await
            .unwrap(),
        "web.3 joined on a (scaled up 2 -> 3)"
    );

    let start = pb::ExecStart {
        target: "web.1".into(),
        command: vec!["echo".into(), "hi".into()],
        ..Default::default()
    };
    let start = pb::ExecRequest {
        message: Some(pb::exec_request::Message::Start(start)),
    };
    let output = lab
        .admin
        .clone()
        .exec(tokio_stream::iter([start]))
        .await
        .unwrap();
    let mut output = output.into_inner();
    let mut said = Vec::new();
    while let Some(message) = output.message().await.unwrap() {
        said.push(message.message.unwrap());
    }
    use pb::exec_response::Message;
    assert_eq!(
        said,
        [Message::Stdout(b"echo hi".to_vec()), Message::ExitCode(7)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_an_edge_comes_from_the_edge_that_is_meant() {
    let lab = Lab::start().await;
    let _worker = lab.node("w", true, false).await;
    let asked = |node: &str, wanted: bool| {
        let (mut admin, node) = (lab.admin.clone(), node.to_owned());
        async move {
            let request = pb::ProxyConfigRequest { node, wanted };
            let mut stream = admin.proxy_config(request).await?.into_inner();
            let mut text = String::new();
            while let Some(piece) = stream.message().await? {
                text.push_str(&String::from_utf8_lossy(&piece.data));
            }
            Ok::<String, tonic::Status>(text)
        }
    };
    let ask = |node: &str| asked(node, false);
    assert_eq!(ask("").await.unwrap_err().code(), Code::NotFound);
    let _edge = lab.node("e1", false, true).await;
    let text = "global\ndefaults\n";
    // Its session may still be on its way.
    let shown = || async { ask("").await.map_err(|status| status.to_string()) };
    assert_eq!(lab.until("an answer", |_| shown()).await, text);
    assert_eq!(ask("e1").await.unwrap(), text);
    assert_eq!(asked("e1", true).await.unwrap(), "global\nwanted\n");
    assert_eq!(ask("w").await.unwrap_err().code(), Code::NotFound);
    let _other = lab.node("e2", false, true).await;
    let which = ask("").await.unwrap_err();
    assert!(
        which.message().contains("which edge? There are e1, e2"),
        "{which}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_one_clear_message_and_changes_nothing() {
    let lab = Lab::start().await;
    apply(&lab, app("hello", "web", 80, 1)).await.unwrap();
    let clash = apply(&lab, app("shop", "front", 80, 1)).await.unwrap_err();
    assert_eq!(clash.code(), Code::AlreadyExists);
    assert!(clash.message().contains("taken by hello/web"), "{clash}");

    let many = apply(&lab, app("many", "web", 81, 10_001))
        .await
        .unwrap_err();
    assert!(
        many.message().contains("10000") || many.message().contains("10,000"),
        "{many}"
    );

    let mut bad = app("bad", "web", 82, 1);
    let container = bad
        .services
        .get_mut("web")
        .unwrap()
        .container
        .as_mut()
        .unwrap();
    container.privileges.as_mut().unwrap().privileged = true;
    let refused = apply(&lab, bad).await.unwrap_err();
    assert!(refused.message().contains("privileged: true"), "{refused}");
    assert!(
        refused.message().contains("[policy] in controller.toml"),
        "{refused}"
    );

    let near = scale(&lab, "wbe", 2).await.unwrap_err();
    assert_eq!(near.code(), Code::NotFound);
    assert!(near.message().contains("did you mean web?"), "{near}");

    let stale = pb::ApplyAppRequest {
        app: Some(app("hello", "web", 80, 3)),
        check_revision: Some(9),
        ..Default::default()
    };
    let stale = lab.admin.clone().apply_app(stale).await.unwrap_err();
    assert!(stale.message().contains("revision 1, not 9"), "{stale}");

    let list = lab
        .admin
        .clone()
        .list_services(pb::ListServicesRequest {})
        .await
        .unwrap();
    let keys: Vec<String> = list
        .into_inner()
        .services
        .into_iter()
        .map(|s| s.key)
        .collect();
    assert_eq!(keys, ["hello/web"], "something was changed half-way");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_controllers_never_open_one_directory_and_init_never_overwrites() {
    let lab = Lab::start().await;
    let second = controller::run::Controller::open(&lab.data_dir(), Default::default()).await;
    let error = second
        .err()
        .expect("a second controller opened the directory");
    assert!(controller::chain(&error).contains("another controller uses this data directory"));
    let again = controller::init::Init {
        data_dir: lab.data_dir(),
        cluster: "lab".into(),
        listen: "127.0.0.1:0".into(),
        advertise: vec!["127.0.0.1".into()],
        context_out: lab.dir.path().join("other.toml"),
        etcd: None,
    };
    let error = controller::init::init(&again).unwrap_err();
    assert!(
        error.to_string().contains("holds a cluster already"),
        "{error}"
    );
    std::fs::write(lab.data_dir().join("init-unfinished"), "").unwrap();
    let error = controller::init::init(&again).unwrap_err();
    assert!(error.to_string().contains("was cut off"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_spoken_to_replicas_does_not_change_under_those_that_serve() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    apply(&lab, app("hello", "web", 80, 1)).await.unwrap();
    lab.until_serving("web", 1).await;
    let with = |change: fn(&mut longshore_proto::spec::v1::RouteSpec)| {
        let mut app = app("hello", "web", 80, 1);
        change(&mut app.services.get_mut("web").unwrap().routes[0]);
        app
    };
    let refused = apply(&lab, with(|route| route.http2 = true)).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(
        refused.message().contains("another container port"),
        "{refused}"
    );
    // What the file's reader refuses, a client without one is refused, too.
    let by_keys = with(|route| {
        route.weights = longshore_proto::spec::v1::Weights::Load.into();
        route.balance = longshore_proto::spec::v1::Balance::Source.into();
    });
    let refused = apply(&lab, by_keys).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(
        refused.message().contains("weights: load needs"),
        "{refused}"
    );
    // All else of a way in may change.
    apply(&lab, with(|route| route.slowstart_ms = 5_000))
        .await
        .unwrap();
}

/// What a plan warns of.
async fn warned(lab: &Lab, app: &pb::App) -> Vec<String> {
    let request = pb::PlanAppRequest {
        app: Some(app.clone()),
        ..Default::default()
    };
    let answer = lab.admin.clone().plan_app(request).await.unwrap();
    answer.into_inner().warnings
}

async fn gap(lab: &Lab) -> String {
    let request = pb::ListServicesRequest {};
    let answer = lab.admin.clone().list_services(request).await.unwrap();
    answer.into_inner().services.remove(0).gap
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_no_worker_has_and_what_nobody_serves_meanwhile() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    let mut now = app("hello", "web", 80, 1);
    now.services.get_mut("web").unwrap().update = Some(spec::UpdateSpec {
        order: spec::UpdateOrder::StopFirst.into(),
        parallelism: 1,
        ..Default::default()
    });
    apply(&lab, now.clone()).await.unwrap();
    lab.until_serving("web", 1).await;
    assert_eq!(warned(&lab, &now).await, Vec::<String>::new(), "unchanged");
    let changed = |change: &dyn Fn(&mut spec::ServiceSpec)| {
        let mut next = now.clone();
        let web = next.services.get_mut("web").unwrap();
        web.container.as_mut().unwrap().image = "hello:2".into();
        change(web);
        next
    };
    let nobody = "its only replica stops before the new one serves (order: stop-first): requests \
                  wait or fail meanwhile; order: start-first avoids that";
    assert_eq!(gap(&lab).await, nobody);
    let said = warned(&lab, &changed(&|_| {})).await;
    assert_eq!(said, [format!("web: {nobody}")]);
    let order = |web: &mut spec::ServiceSpec, order: spec::UpdateOrder| {
        web.update.as_mut().unwrap().order = order.into();
    };
    let start = changed(&|web| order(web, spec::UpdateOrder::StartFirst));
    assert_eq!(warned(&lab, &start).await, Vec::<String>::new());
    let auto = changed(&|web| order(web, spec::UpdateOrder::Unspecified));
    assert_eq!(warned(&lab, &auto).await, Vec::<String>::new());
    let fixed = changed(&|web| {
        order(web, spec::UpdateOrder::Unspecified);
        web.container.as_mut().unwrap().fixed_ports = [(8080, 9000)].into();
    });
    let said = warned(&lab, &fixed).await.join("\n");
    assert!(
        said.contains("(a fixed host port and one worker)"),
        "{said}"
    );
    let large = changed(&|web| {
        order(web, spec::UpdateOrder::StartFirst);
        let resources = web.container.as_mut().unwrap().resources.as_mut();
        resources.unwrap().cpu_reserved_milli = 64_500;
    });
    let said = warned(&lab, &large).await.join("\n");
    assert!(
        said.contains("web: a replica reserves 64.5 CPUs, the only worker has "),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_without_a_place_waits_and_says_for_what() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    let mut large = app("hello", "web", 80, 1);
    let container = large.services.get_mut("web").unwrap().container.as_mut();
    container
        .unwrap()
        .resources
        .as_mut()
        .unwrap()
        .cpu_reserved_milli = 64_500;
    apply(&lab, large).await.unwrap();
    let waiting = lab.until("the rollout waits", async |mut admin| {
        let request = pb::ListRolloutsRequest::default();
        let answer = admin.list_rollouts(request).await.unwrap();
        let rollout = answer.into_inner().rollouts.remove(0);
        match rollout.state.as_str() {
            "waiting" => Ok(rollout),
            _ => Err(format!("{rollout:?}")),
        }
    });
    let waits = waiting.await.waits;
    assert!(waits[0].starts_with("0 of 1 nodes fit"), "{waits:?}");
}
