//! Why, history and what operators tell autoscalers, over real mTLS.

use crate::support::{Lab, app};
use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1 as spec;
use pb::set_autoscale_request::Action;
use tonic::{Code, Status};

/// `app` with a policy between 1 and 4 by the nodes' CPU.
fn scaling(name: &str, service: &str, mode: spec::AutoscaleMode) -> pb::App {
    let mut app = app(name, service, 80, 1);
    let behavior = || {
        Some(spec::Behavior {
            tolerance: 0.1,
            ..Default::default()
        })
    };
    app.services.get_mut(service).unwrap().autoscale = Some(spec::AutoscaleSpec {
        min: 1,
        max: 4,
        metrics: vec![spec::Metric {
            signal: spec::Signal::NodeCpu.into(),
            target: 0.5,
            ..Default::default()
        }],
        window_ms: 1_000,
        scale_up: behavior(),
        scale_down: behavior(),
        on_missing: spec::OnMissing::Hold.into(),
        mode: mode.into(),
        ..Default::default()
    });
    app
}

async fn apply(lab: &Lab, app: pb::App) {
    let request = pb::ApplyAppRequest {
        app: Some(app),
        check_revision: None,
        ..Default::default()
    };
    lab.admin.clone().apply_app(request).await.unwrap();
}

async fn why(lab: &Lab, target: &str, at_ms: u64) -> Result<pb::WhyResponse, Status> {
    let request = pb::WhyRequest {
        target: target.into(),
        at_ms,
    };
    let answer = lab.admin.clone().why(request).await?;
    Ok(answer.into_inner())
}

async fn decisions(lab: &Lab, request: pb::ListDecisionsRequest) -> Vec<pb::Decision> {
    let answer = lab.admin.clone().list_decisions(request).await.unwrap();
    answer.into_inner().decisions
}

async fn tell(lab: &Lab, service: &str, action: Action) -> Result<pb::AutoscaleState, Status> {
    let request = pb::SetAutoscaleRequest {
        service: service.into(),
        action: Some(action),
    };
    let answer = lab.admin.clone().set_autoscale(request).await?;
    Ok(answer.into_inner().state.unwrap())
}

async fn events(lab: &Lab, request: pb::EventsRequest) -> Vec<pb::EventsResponse> {
    let mut stream = lab
        .admin
        .clone()
        .events(request)
        .await
        .unwrap()
        .into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await.unwrap() {
        events.push(event);
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_outlive_a_restart_and_the_service() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    apply(&lab, app("hello", "web", 80, 1)).await;
    lab.until_serving("web", 1).await;
    let now = why(&lab, "web", 0).await.unwrap();
    assert!(
        now.lines[0].starts_with("hello/web runs 1, wants 1 (decided"),
        "{:?}",
        now.lines
    );
    assert!(
        now.decisions
            .iter()
            .any(|d| d.kind == "scale" && d.record.is_some())
    );
    let first = decisions(&lab, pb::ListDecisionsRequest::default()).await;
    assert!(!first.is_empty());
    let chain = why(&lab, "web.1", 0).await.unwrap().lines.join("\n");
    for step in ["placed on a", "started", "healthy", "routed, "] {
        assert!(chain.contains(step), "no {step}: {chain}");
    }

    let lab = lab.restart().await;
    let down = pb::DownAppRequest {
        app: "hello".into(),
    };
    lab.admin.clone().down_app(down).await.unwrap();
    let of = |service: &str| pb::ListDecisionsRequest {
        service: service.into(),
        ..Default::default()
    };
    let kept = decisions(&lab, of("web")).await;
    assert!(kept.len() >= first.len(), "{kept:?}");
    assert!(
        kept.iter().any(|d| d.first_ms == first[0].first_ms),
        "a restart forgot: {kept:?}"
    );
    let then = why(&lab, "hello/web", first[0].last_ms).await.unwrap();
    assert!(
        then.lines[0].starts_with("hello/web wanted "),
        "{:?}",
        then.lines
    );
    let ahead = why(&lab, "web", first[0].last_ms + 3_600_000).await;
    let ahead = ahead.unwrap_err();
    assert_eq!(ahead.code(), Code::InvalidArgument);
    assert!(ahead.message().contains("is still to come"), "{ahead}");
    let near = why(&lab, "wbe", 0).await.unwrap_err();
    assert_eq!(near.code(), Code::NotFound);
    assert!(near.message().contains("did you mean web?"), "{near}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_say_is_checked_written_down_and_survives() {
    let lab = Lab::start().await;
    apply(&lab, scaling("shop", "web", spec::AutoscaleMode::On)).await;
    apply(&lab, app("plain", "api", 81, 1)).await;

    let pause = Action::Pause(pb::PauseAutoscale { for_ms: 60_000 });
    let paused = tell(&lab, "web", pause).await.unwrap().paused.unwrap();
    assert_eq!(paused.until_ms, paused.since_ms + 60_000);
    assert_eq!(paused.by, "admin");
    let state = tell(&lab, "web", bounds(Some(2), None, false))
        .await
        .unwrap();
    assert_eq!(state.bounds.unwrap().min, Some(2));
    assert_eq!((state.file_min, state.file_max), (1, 4));
    let state = tell(&lab, "web", bounds(None, Some(3), false))
        .await
        .unwrap();
    let said = state.bounds.unwrap();
    assert_eq!(
        (said.min, said.max),
        (Some(2), Some(3)),
        "the other bound stays"
    );

    refused(&lab, pause).await;

    let lab = lab.restart().await;
    let list = pb::ListAutoscaleRequest::default();
    let list = lab.admin.clone().list_autoscale(list).await.unwrap();
    let services = list.into_inner().services;
    assert_eq!(services.len(), 1, "only what scales by load");
    assert!(services[0].paused.is_some() && services[0].bounds.is_some());

    let resume = Action::Resume(pb::ResumeAutoscale {});
    assert!(tell(&lab, "web", resume).await.unwrap().paused.is_none());
    tell(&lab, "web", resume).await.unwrap();
    let cleared = tell(&lab, "web", bounds(None, None, true)).await.unwrap();
    assert!(cleared.bounds.is_none());
    let types = |wanted: &[&str]| pb::EventsRequest {
        types: wanted.iter().map(|word| (*word).to_owned()).collect(),
        services: vec!["web".into()],
        ..Default::default()
    };
    let audit = events(
        &lab,
        types(&["autoscale_paused", "autoscale_resumed", "autoscale_bounds"]),
    );
    let audit: Vec<String> = audit.await.into_iter().map(|event| event.message).collect();
    assert_eq!(
        audit,
        [
            "shop/web: autoscaler paused by admin",
            "shop/web: bounds set to min 2 by admin",
            "shop/web: bounds set to min 2 max 3 by admin",
            "shop/web: autoscaler resumed by admin",
            "shop/web: the file's bounds hold again, by admin",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_takes_no_approvals_and_says_so() {
    let lab = Lab::start().await;
    apply(&lab, scaling("dry", "idea", spec::AutoscaleMode::DryRun)).await;
    let yes = Action::Approve(pb::ApproveAutoscale { count: None });
    let dry = tell(&lab, "idea", yes).await.unwrap_err();
    assert_eq!(dry.code(), Code::FailedPrecondition);
    for words in ["mode dry-run", "takes no approvals", "mode: approve"] {
        assert!(dry.message().contains(words), "{dry}");
    }
}

fn bounds(min: Option<u32>, max: Option<u32>, clear: bool) -> Action {
    Action::Bounds(pb::SetAutoscaleBounds { min, max, clear })
}

/// What may not be said to a service whose bounds are 2..3 by now.
async fn refused(lab: &Lab, pause: Action) {
    for (action, words) in [
        (bounds(Some(9), None, false), "min 9 would be above max 3"),
        (bounds(None, Some(10_001), false), "at most 10000"),
        (bounds(None, None, false), "neither"),
        (bounds(Some(0), None, false), "min 0 needs a signal"),
        (
            Action::Pause(pb::PauseAutoscale { for_ms: u64::MAX }),
            "at most 30 days",
        ),
        (
            Action::Approve(pb::ApproveAutoscale { count: None }),
            "asks for nothing now",
        ),
    ] {
        let refused = tell(lab, "web", action).await.unwrap_err();
        assert!(refused.message().contains(words), "{refused}");
    }
    let plain = tell(lab, "api", pause).await.unwrap_err();
    assert_eq!(plain.code(), Code::FailedPrecondition);
    assert!(plain.message().contains("no x-autoscale"), "{plain}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_reads_the_rest_and_nothing_twice() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    apply(&lab, app("hello", "web", 80, 1)).await;
    lab.until_serving("web", 1).await;
    let all = events(&lab, pb::EventsRequest::default()).await;
    let half = all[all.len() / 2].sequence;
    let rest = pb::EventsRequest {
        after_sequence: half,
        ..Default::default()
    };
    let rest = events(&lab, rest).await;
    assert!(rest.len() >= all.len() - all.len() / 2 - 1);
    assert!(rest.iter().all(|event| event.sequence > half));
    let placed = pb::EventsRequest {
        types: vec!["placed".into(), "serving".into()],
        nodes: vec!["a".into()],
        ..Default::default()
    };
    let placed: Vec<String> = events(&lab, placed)
        .await
        .into_iter()
        .map(|e| e.r#type)
        .collect();
    assert_eq!(placed, ["placed", "serving"]);
    let mistyped = pb::EventsRequest {
        types: vec!["scale".into()],
        ..Default::default()
    };
    let refused = lab.admin.clone().events(mistyped).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let words = "there are no events of type \"scale\"; did you mean scaled?";
    assert!(refused.message().starts_with(words), "{refused}");
    for word in ["app_applied", "scaled", "node_drained"] {
        assert!(refused.message().contains(word), "no {word}: {refused}");
    }

    let mut request = pb::LogsRequest {
        targets: vec!["web".into()],
        ..Default::default()
    };
    let lines = logs(&lab, &request).await;
    let texts: Vec<&str> = lines.iter().map(|line| line.line.as_str()).collect();
    assert_eq!(texts.len(), 2);
    assert!(
        texts[0].starts_with("hello from r") && texts[1] == "bye",
        "{texts:?}"
    );
    request.marks = vec![pb::LogMark {
        replica_id: lines[0].replica_id,
        stderr: false,
        time_ns: lines[0].time_ns,
        lines: 1,
    }];
    let lines = logs(&lab, &request).await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].line, "bye");
    request.timestamps = true;
    request.marks.clear();
    let line = logs(&lab, &request).await.remove(0).line;
    assert!(
        line.starts_with("2026-11-21T12:04:10.000000001Z hello"),
        "{line}"
    );
}

async fn logs(lab: &Lab, request: &pb::LogsRequest) -> Vec<pb::LogsResponse> {
    let mut stream = lab
        .admin
        .clone()
        .logs(request.clone())
        .await
        .unwrap()
        .into_inner();
    let mut lines = Vec::new();
    while let Some(line) = stream.message().await.unwrap() {
        lines.push(line);
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn events_about_what_nobody_knows_are_refused() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    let about = |about: &str| pb::EventsRequest {
        about: about.into(),
        ..Default::default()
    };
    assert!(!events(&lab, about("node/a")).await.is_empty());
    let mut admin = lab.admin.clone();
    let refused = admin.events(about("nonsense")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("nonsense"), "{refused}");
}

/// A second order without a word (a drain of what was cordoned, another deadline, by force) is no
/// other reason.
#[tokio::test(flavor = "multi_thread")]
async fn why_a_node_is_drained_is_not_lost_when_it_is_ordered_again() {
    let lab = Lab::start().await;
    let _a = lab.node("a", true, false).await;
    let tell = |availability: pb::NodeAvailability, message: &str, force| {
        let request = pb::SetNodeAvailabilityRequest {
            node: "a".into(),
            availability: availability.into(),
            message: message.into(),
            force,
            ..Default::default()
        };
        let mut admin = lab.admin.clone();
        async move { admin.set_node_availability(request).await }
    };
    use pb::NodeAvailability::{Active, Cordoned, Draining};
    let long = tell(Draining, &"x".repeat(10_000), false).await;
    let refused = long.unwrap_err();
    assert!(refused.message().contains("at most 200"), "{refused}");
    for (availability, message, force, said) in [
        (Draining, "disk swap", false, ": disk swap"),
        (Draining, "", true, ": disk swap"),
        (Draining, "new rack", true, ": new rack"),
        (Active, "", false, "a is ready, active"),
        (Cordoned, "new fan", false, "cordoned since"),
        (Draining, "", false, ": new fan"),
    ] {
        tell(availability, message, force).await.unwrap();
        let lines = why(&lab, "node/a", 0).await.unwrap().lines;
        let found = lines.iter().any(|line| line.contains(said));
        assert!(found, "{message:?}: no {said}: {lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn why_tells_of_a_slot_that_waits_and_of_a_node_as_it_was() {
    let lab = Lab::start().await;
    let _edge = lab.node("edge", false, true).await;
    let _a = lab.node("a", true, false).await;
    let mut app = app("shop", "web", 80, 2);
    let web = app.services.get_mut("web").unwrap();
    web.placement.get_or_insert_default().max_per_node = 1;
    apply(&lab, app).await;
    lab.until_serving("web", 1).await;
    let said = why(&lab, "web.2", 0).await.unwrap();
    assert_eq!(said.target, "shop/web.2");
    assert!(
        said.lines[0].starts_with("web.2 of shop/web waits to be placed"),
        "{:?}",
        said.lines
    );
    let told = |what: &str| said.lines.iter().any(|line| line.contains(what));
    assert!(told("waits: ") && told("    a  "), "{:?}", said.lines);
    let unknown = why(&lab, "web.3", 0).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);

    let placed = decisions(
        &lab,
        pb::ListDecisionsRequest {
            kind: "placement".into(),
            ..Default::default()
        },
    )
    .await;
    let record = longshore_wire::struct_to_json(placed[0].record.as_ref().unwrap());
    let score = &record["choices"][0]["chosen"]["score"];
    assert_eq!(score["replicas there"], 0, "{record}");
    let at_ms = placed[0].last_ms;
    let then = why(&lab, "node/a", at_ms).await.unwrap();
    let told = |what: &str| then.lines.iter().any(|line| line.contains(what));
    assert!(
        told("as a place for shop/web: ready, active"),
        "{:?}",
        then.lines
    );
    assert!(
        told("1 replica there") && told("web.1 on a"),
        "{:?}",
        then.lines
    );
    assert!(!then.decisions.is_empty());
}
