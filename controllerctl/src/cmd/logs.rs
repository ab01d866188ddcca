//! `logs` and `events`: streams.

use std::collections::BTreeMap;
use std::io::Write;

use longshore_proto::control::v1 as pb;
use longshore_wire::LogPosition;
use tonic::Streaming;

use super::Run;
use super::follow::{Reading, read};
use super::last::Last;
use super::moment::since_ms;
use crate::cli::{EventsArgs, FilterKey, Format, LogsArgs, Tail};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{jsonl, note, now_ms, print, views, yaml};
use crate::text::printable;

/// Lines of the past where nobody says how many.
const LINES: u32 = 100;
/// Positions that the controller takes.
const MARKS_MAX: usize = 512;

pub(super) async fn logs(run: &Run, args: &LogsArgs) -> Result<Exit, Failure> {
    let since = args.since.as_deref().map(since_ms).transpose()?;
    let until = args.until.as_deref().map(since_ms).transpose()?;
    let mut client = run.connect(None).await?;
    if let Some(unknown) = unknown_node(&mut client, &args.node).await? {
        let message = format!("there is no node {unknown:?}");
        return Err(Failure::new(message).hint("controllerctl node ls"));
    }
    let tail = args.tail.unwrap_or(match until {
        // The last lines of today say nothing of what was before.
        Some(_) => Tail::All,
        None => Tail::Last(LINES),
    });
    let last = match tail {
        Tail::All => None,
        Tail::Last(lines) => Some(lines),
    };
    let request = pb::LogsRequest {
        targets: args.targets.clone(),
        follow: args.follow,
        // The last lines before a moment are known once all of them have come.
        tail: last.filter(|_| until.is_none()),
        since_s: since.unwrap_or(0) / 1000,
        timestamps: args.timestamps,
        marks: Vec::new(),
    };
    let mut lines = Lines {
        run,
        args,
        request,
        began_s: now_ms() / 1000,
        until_ns: until.map(|ms| ms.saturating_mul(1_000_000)),
        read: None,
        last: last
            .filter(|_| until.is_some())
            .map(Last::new)
            .transpose()?,
    };
    let exit = read(&mut client, &mut lines, args.follow).await?;
    for message in lines.last.take().into_iter().flat_map(Last::into_lines) {
        log_line(run, args, &message)?;
    }
    Ok(exit)
}

/// A node that is asked for and not there: no line would be an answer that misleads.
async fn unknown_node(client: &mut Client, asked: &[String]) -> Result<Option<String>, Failure> {
    if asked.is_empty() {
        return Ok(None);
    }
    let nodes = client.nodes().await?;
    let mut asked = asked.iter();
    let unknown = asked.find(|name| !nodes.iter().any(|node| node.id == **name));
    Ok(unknown.cloned())
}

/// Position in each stream of each replica.
type Positions = BTreeMap<(u64, bool), LogPosition>;

struct Lines<'a> {
    run: &'a Run,
    args: &'a LogsArgs,
    request: pb::LogsRequest,
    began_s: u64,
    until_ns: Option<u64>,
    /// How far each log was read; none: nothing was asked for yet.
    read: Option<Positions>,
    /// The last lines of each replica, kept until all were seen.
    last: Option<Last>,
}

impl Reading for Lines<'_> {
    type Message = pb::LogsResponse;
    const ATTEMPT: &'static str = "read logs";

    async fn open(&mut self, client: &mut Client) -> Result<Streaming<Self::Message>, Failure> {
        if let Some(read) = &self.read {
            self.request.marks = marks(read);
            // Of logs that had said nothing yet, all that was written since.
            self.request.tail = None;
            self.request.since_s = self.request.since_s.max(self.began_s);
        }
        let stream = client.logs(self.request.clone()).await?;
        self.read.get_or_insert_default();
        Ok(stream)
    }

    fn take(&mut self, message: pb::LogsResponse) -> Result<(), Failure> {
        if message.notice.is_empty() && self.args.follow {
            let key = (message.replica_id, message.stderr);
            let read = self.read.get_or_insert_default();
            read.entry(key).or_default().note(message.time_ns);
        }
        let node = &self.args.node;
        let is_here = node.is_empty() || node.contains(&message.node);
        let in_time = self.until_ns.is_none_or(|until| message.time_ns <= until);
        let is_notice = !message.notice.is_empty();
        let is_asked = is_notice || message.stderr || !self.args.stderr_only;
        match (is_here && in_time && is_asked, &mut self.last) {
            (false, _) => Ok(()),
            (true, Some(last)) if !is_notice => {
                last.put(message);
                Ok(())
            }
            (true, _) => log_line(self.run, self.args, &message),
        }
    }
}

/// The newest positions: those of replicas that left long ago matter least.
fn marks(read: &Positions) -> Vec<pb::LogMark> {
    let mut marks: Vec<pb::LogMark> = read
        .iter()
        .filter(|(_, at)| at.time_ns > 0)
        .map(|((replica_id, stderr), at)| pb::LogMark {
            replica_id: *replica_id,
            stderr: *stderr,
            time_ns: at.time_ns,
            lines: at.lines,
        })
        .collect();
    marks.sort_by_key(|mark| std::cmp::Reverse(mark.time_ns));
    marks.truncate(MARKS_MAX);
    marks
}

fn log_line(run: &Run, args: &LogsArgs, message: &pb::LogsResponse) -> Result<(), Failure> {
    let notice = !message.notice.is_empty();
    if !matches!(run.out.format, Format::Table | Format::Wide | Format::Name) {
        let stream = match (notice, message.stderr) {
            (true, _) => "notice",
            (false, true) => "stderr",
            (false, false) => "stdout",
        };
        let line = if notice {
            &message.notice
        } else {
            &message.line
        };
        let (name, node) = (message.name.clone(), message.node.clone());
        let view = views::LogLine {
            name,
            node,
            stream,
            time: views::time(message.time_ns / 1_000_000),
            line: line.clone(),
        };
        return print(&match run.out.format {
            // Lists of one are one list, one after the other.
            Format::Yaml => yaml(&[view]),
            Format::Template => run.out.templated(&view),
            _ => jsonl(&view),
        });
    }
    let prefix = match args.no_prefix {
        true => String::new(),
        false => printable(&format!("{} {} | ", message.name, message.node)),
    };
    if notice {
        note(&format!("{prefix}-- {} --", printable(&message.notice)));
        return Ok(());
    }
    let line = if args.raw {
        message.line.clone()
    } else {
        printable(&message.line)
    };
    if message.stderr && args.no_prefix {
        // Without names the streams keep apart, so that they can be redirected apart.
        return Ok(writeln!(std::io::stderr().lock(), "{line}")?);
    }
    print(&format!("{prefix}{line}\n"))
}

/// Type of the audit trail's entries.
const AUDIT: &str = "operator_called";

pub(super) async fn events(run: &Run, args: &EventsArgs) -> Result<Exit, Failure> {
    let since = args.since.as_deref().map(since_ms).transpose()?;
    let mut client = run.connect(None).await?;
    let of = |key: FilterKey| {
        let hits = args.filter.iter().filter(|(k, _)| *k == key);
        hits.map(|(_, value)| value.clone()).collect()
    };
    let mut types: Vec<String> = of(FilterKey::Type);
    if args.audit {
        types.push(AUDIT.into());
    }
    let request = pb::EventsRequest {
        follow: args.follow,
        since_ms: since.unwrap_or(0),
        about: args.about.clone().unwrap_or_default(),
        tail: 0,
        after_sequence: 0,
        types,
        services: of(FilterKey::Service),
        nodes: of(FilterKey::Node),
    };
    let whole = run.out.format == Format::Json && !args.follow;
    let mut happened = Happened {
        run,
        request,
        whole: whole.then(Vec::new),
        any: false,
    };
    let exit = read(&mut client, &mut happened, args.follow).await?;
    if !happened.any {
        note("no event that is kept matches");
    }
    if let Some(all) = happened.whole {
        print(&crate::output::json(&all))?;
    }
    Ok(exit)
}

struct Happened<'a> {
    run: &'a Run,
    request: pb::EventsRequest,
    /// Kept for one document at the end.
    whole: Option<Vec<views::EventLine>>,
    /// Something came.
    any: bool,
}

impl Reading for Happened<'_> {
    type Message = pb::EventsResponse;
    const ATTEMPT: &'static str = "read events";

    async fn open(&mut self, client: &mut Client) -> Result<Streaming<Self::Message>, Failure> {
        client.events(self.request.clone()).await
    }

    fn take(&mut self, event: pb::EventsResponse) -> Result<(), Failure> {
        self.request.after_sequence = event.sequence;
        self.any = true;
        let view = views::EventLine::from(&event);
        match (&mut self.whole, self.run.out.format) {
            (Some(all), _) => {
                all.push(view);
                Ok(())
            }
            (None, Format::Json | Format::Jsonl) => print(&jsonl(&view)),
            (None, Format::Yaml) => print(&yaml(&[view])),
            (None, Format::Template) => print(&self.run.out.templated(&view)),
            (None, Format::Name) => print(&format!("{}\n", printable(&view.kind))),
            (None, _) => {
                let time = view.time.as_deref().unwrap_or("-");
                print(&format!("{time}  {}\n", printable(&view.message)))
            }
        }
    }
}
