//! `logs` and `events`: streams.

use std::io::Write;

use longshore_proto::control::v1 as pb;
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use super::{Run, since_ms};
use crate::cli::{EventsArgs, Format, LogsArgs, Tail};
use crate::failure::{Exit, Failure};
use crate::output::{jsonl, note, print, views};
use crate::text::printable;

/// Hands each message on until the stream or the user ends it.
async fn drain<T>(
    attempt: &str,
    mut stream: Streaming<T>,
    mut each: impl FnMut(T) -> Result<(), Failure>,
) -> Result<Exit, Failure> {
    loop {
        let next: Option<Result<T, Status>> = tokio::select! {
            next = stream.next() => next,
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        };
        match next {
            None => return Ok(Exit::Done),
            Some(Ok(message)) => each(message)?,
            Some(Err(status)) => return Err(Failure::call(attempt, status)),
        }
    }
}

pub(super) async fn logs(run: &Run, args: &LogsArgs) -> Result<Exit, Failure> {
    let since = args.since.as_deref().map(since_ms).transpose()?;
    let mut client = run.connect(None).await?;
    let request = pb::LogsRequest {
        targets: args.targets.clone(),
        follow: args.follow,
        tail: match args.tail {
            Tail::All => None,
            Tail::Last(lines) => Some(lines),
        },
        since_s: since.unwrap_or(0) / 1000,
        timestamps: args.timestamps,
        marks: Vec::new(),
    };
    let stream = client.logs(request).await?;
    drain("read logs", stream, |message| log_line(run, args, &message)).await
}

fn log_line(run: &Run, args: &LogsArgs, message: &pb::LogsResponse) -> Result<(), Failure> {
    let notice = !message.notice.is_empty();
    if matches!(run.out.format, Format::Json | Format::Jsonl) {
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
        return print(&jsonl(&views::LogLine {
            name,
            node,
            stream,
            line: line.clone(),
        }));
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

pub(super) async fn events(run: &Run, args: &EventsArgs) -> Result<Exit, Failure> {
    let since = args.since.as_deref().map(since_ms).transpose()?;
    let mut client = run.connect(None).await?;
    let request = pb::EventsRequest {
        follow: args.follow,
        since_ms: since.unwrap_or(0),
        about: args.about.clone().unwrap_or_default(),
        ..Default::default()
    };
    let stream = client.events(request).await?;
    if run.out.format == Format::Json && !args.follow {
        let mut all = Vec::new();
        let exit = drain("read events", stream, |event| {
            all.push(views::EventLine::from(&event));
            Ok(())
        });
        let exit = exit.await?;
        print(&crate::output::json(&all))?;
        return Ok(exit);
    }
    drain("read events", stream, |event| {
        let view = views::EventLine::from(&event);
        match run.out.format {
            Format::Json | Format::Jsonl => print(&jsonl(&view)),
            Format::Name => print(&format!("{}\n", printable(&view.kind))),
            _ => {
                let time = view.time.as_deref().unwrap_or("-");
                print(&format!("{time}  {}\n", printable(&view.message)))
            }
        }
    })
    .await
}
