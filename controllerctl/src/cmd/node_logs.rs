//! `node logs`: what a node's agent itself said.

use longshore_proto::control::v1 as pb;
use serde::Serialize;
use tonic::Streaming;

use super::Run;
use super::follow::{Reading, read};
use super::moment::since_ms;
use crate::cli::{Format, NodeLogsArgs, Tail};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{jsonl, note, print, views, yaml};
use crate::text::printable;

/// Lines of the past where nobody says how many.
const LINES: u32 = 100;

pub(super) async fn logs(run: &Run, args: &NodeLogsArgs) -> Result<Exit, Failure> {
    let since = args.since.as_deref().map(since_ms).transpose()?;
    let mut client = run.connect(None).await?;
    let tail = match (args.tail, since) {
        (Some(Tail::Last(lines)), _) => Some(lines),
        (Some(Tail::All), _) | (None, Some(_)) => None,
        (None, None) => Some(LINES),
    };
    let request = pb::NodeLogsRequest {
        node: args.node.clone(),
        follow: args.follow,
        tail,
        since_ms: since.unwrap_or(0),
        after_start: 0,
        after_sequence: 0,
    };
    let mut lines = Lines {
        run,
        node: args.node.strip_prefix("node/").unwrap_or(&args.node),
        request,
        begun: false,
    };
    read(&mut client, &mut lines, args.follow).await
}

/// A line in the promised form.
#[derive(Debug, Serialize)]
struct Said<'a> {
    node: &'a str,
    /// By the node's clock; none: not a line of the agent.
    time: Option<String>,
    /// error, warn, info; notice: what became of the log
    level: &'a str,
    line: &'a str,
}

struct Lines<'a> {
    run: &'a Run,
    node: &'a str,
    request: pb::NodeLogsRequest,
    begun: bool,
}

impl Reading for Lines<'_> {
    type Message = pb::NodeLogsResponse;
    const ATTEMPT: &'static str = "read the node's log";

    async fn open(&mut self, client: &mut Client) -> Result<Streaming<Self::Message>, Failure> {
        if self.begun {
            // All that was said since; of an agent that had said nothing, all.
            self.request.tail = None;
        }
        let stream = client.node_logs(self.request.clone()).await?;
        self.begun = true;
        Ok(stream)
    }

    fn take(&mut self, message: pb::NodeLogsResponse) -> Result<(), Failure> {
        let is_line = message.notice.is_empty();
        if is_line {
            self.request.after_start = message.start;
            self.request.after_sequence = message.sequence;
        }
        let said = Said {
            node: self.node,
            time: views::time(message.time_ms),
            level: if is_line { &message.level } else { "notice" },
            line: if is_line {
                &message.line
            } else {
                &message.notice
            },
        };
        match self.run.out.format {
            Format::Json | Format::Jsonl => print(&jsonl(&said)),
            Format::Yaml => print(&yaml(&[said])),
            Format::Template => print(&self.run.out.templated(&said)),
            _ if !is_line => {
                note(&format!("-- {} --", printable(said.line)));
                Ok(())
            }
            Format::Name => print(&format!("{}\n", printable(said.line))),
            Format::Table | Format::Wide => {
                let time = said.time.as_deref().unwrap_or("-");
                let (level, line) = (printable(said.level).to_uppercase(), printable(said.line));
                print(&format!("{time}  {level:<5} {line}\n"))
            }
        }
    }
}
