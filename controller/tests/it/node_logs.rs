//! What agents said, through their sessions.

use longshore_proto::control::v1 as pb;
use tonic::Code;

use crate::support::{FakeAgent, Lab};

fn said(response: &pb::NodeLogsResponse) -> String {
    match response.notice.as_str() {
        "" => response.line.clone(),
        notice => format!("-- {notice}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_lines_are_relayed_what_is_missing_is_said_and_who_is_away() {
    let lab = Lab::start().await;
    let a = lab.node("a", true, false).await;
    let link = async |_| {
        let link = lab.controller.fleet.link(&"a".parse().unwrap());
        link.map(|_| ()).ok_or("not connected".to_owned())
    };
    lab.until("a is there", link).await;
    let ask = async |node: &str, follow| {
        let request = pb::NodeLogsRequest {
            node: node.into(),
            follow,
            ..Default::default()
        };
        let stream = lab.admin.clone().node_logs(request).await?;
        Ok::<_, tonic::Status>(stream.into_inner())
    };
    let mut stream = ask("node/a", false).await.unwrap();
    let mut lines = Vec::new();
    while let Some(response) = stream.message().await.unwrap() {
        lines.push(said(&response));
    }
    let missing = "-- 3 lines are missing: more was said than is kept, or than could be read";
    assert_eq!(lines, ["line 1", missing, "line 5"]);

    let mut stream = ask("a", true).await.unwrap();
    for _ in 0..3 {
        stream.message().await.unwrap().unwrap();
    }
    let certs = a.kill().await;
    let away = stream.message().await.unwrap().unwrap();
    assert!(
        away.notice.ends_with("; going on once it is back"),
        "{away:?}"
    );
    // It is back, and what was read does not come again.
    let _a = FakeAgent::start(&lab, "a", certs, false).await;
    assert_eq!(said(&stream.message().await.unwrap().unwrap()), "line 6");
    let refused = ask("b", false).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_away_is_said_with_the_reason() {
    let lab = Lab::start().await;
    let a = lab.node("a", true, false).await;
    a.kill().await;
    lab.until("a is away", async |_| {
        let link = lab.controller.fleet.link(&"a".parse().unwrap());
        link.is_none().then_some(()).ok_or("connected".to_owned())
    })
    .await;
    let request = pb::NodeLogsRequest {
        node: "a".into(),
        ..Default::default()
    };
    let refused = lab.admin.clone().node_logs(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let words = refused.message();
    assert!(
        words.contains("the log of a cannot be read: ") && words.contains("journalctl"),
        "{words}"
    );
}
