//! `image push --node`: nodes fetch what was pushed at once, and how that goes.

use std::time::Duration;

use longshore_proto::control::v1 as control;
use longshore_proto::images::v1 as pb;
use tokio::time::{Instant, sleep};

use super::push::Pushed;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::progress::{Reporter, Stage};

/// Longest time that nodes are waited for; they go on after it.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// Between two looks.
const TICK: Duration = Duration::from_millis(500);

/// Has nodes fetch an image, and waits until all have it.
///
/// # Errors
/// What the controller refuses, with nothing ordered; which node cannot fetch it, and why.
pub(super) async fn on_nodes(
    client: &mut Client,
    pushed: &Pushed,
    nodes: &[String],
    reporter: &mut Reporter,
) -> Result<Vec<String>, Failure> {
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let mut nodes: Vec<String> = nodes.to_vec();
    nodes.sort();
    nodes.dedup();
    let name = pushed.image.clone();
    let request = pb::FetchImageRequest {
        name: name.clone(),
        nodes: nodes.clone(),
    };
    client.fetch_image(request).await?;
    let end = Instant::now() + PATIENCE;
    let mut missing = nodes.clone();
    loop {
        let all = client.nodes().await?;
        for node in std::mem::take(&mut missing) {
            let id = format!("node {node}");
            match on(&all, &node, pushed) {
                On::Here => reporter.say(&id, Some(&name), Stage::Done, "Fetched"),
                On::Comes(text) => {
                    reporter.say(&id, Some(&name), Stage::Working, &text);
                    missing.push(node);
                }
                On::Failed(why) => {
                    reporter.say(&id, Some(&name), Stage::Error, &why);
                    reporter.finish();
                    let message = format!("node {node} does not get {name}: {why}");
                    return Err(Failure::new(message).hint(format!(
                        "it was pushed; once the node can take it: controllerctl image push {name} \
                         --node {node}"
                    )));
                }
            }
        }
        if missing.is_empty() {
            return Ok(nodes);
        }
        if Instant::now() >= end {
            reporter.finish();
            let message = format!("{} still fetch {name}", missing.join(", "));
            let failure = Failure::new(message).exit(Exit::TimedOut);
            return Err(failure.hint("they go on: controllerctl node ps NODE"));
        }
        sleep(TICK).await;
    }
}

enum On {
    Here,
    Comes(String),
    Failed(String),
}

/// How far a node is.
fn on(all: &[control::Node], node: &str, pushed: &Pushed) -> On {
    let Some(node) = all.iter().find(|found| found.id == node) else {
        return On::Failed("it is no node any more".into());
    };
    let mut images = node.images_ahead.iter();
    let image = images.find(|image| image.image == pushed.image && image.digest == pushed.digest);
    let Some(image) = image else {
        let why = "the controller has forgotten it: it was started anew, or others were asked for";
        return On::Failed(why.into());
    };
    match image.state.as_str() {
        "here" => On::Here,
        "failed" => On::Failed(image.detail.clone()),
        "fetching" => On::Comes("Fetching".into()),
        _ if image.detail.is_empty() => On::Comes("Waiting".into()),
        _ => On::Comes(format!("Waiting: {}", image.detail)),
    }
}
