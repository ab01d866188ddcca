//! The agent's own lines as a stream: those that are kept, then (with `follow`) new ones, as fast
//! as they are read.

use longshore_proto::agent::v1 as pb;
use prost::Message;

use super::relay::{Bulk, forward};
use crate::runtime::Channel;
use crate::said::{Said, Wanted};

/// Sends lines until all were sent; with `follow`, until the stream is ended.
pub(super) async fn told(
    said: &Said,
    asked: &pb::AgentLogStream,
    id: u64,
    bulk: &Bulk,
) -> Result<Option<i64>, String> {
    let known = asked.after_start == said.start();
    let mut wanted = Wanted {
        after: if known { asked.after_sequence } else { 0 },
        tail: asked
            .tail
            .map(|tail| usize::try_from(tail).unwrap_or(usize::MAX)),
        since_ms: asked.since_ms,
    };
    let mut newest = said.newest();
    loop {
        // Before reading: a line that comes meanwhile wakes at once.
        newest.mark_unchanged();
        for line in said.read(&wanted) {
            wanted.after = line.sequence;
            let line = pb::AgentLine {
                start: said.start(),
                sequence: line.sequence,
                time_ms: line.time_ms,
                level: line.level.into(),
                line: line.text,
            };
            let piece = Ok((Channel::Stdout, line.encode_length_delimited_to_vec()));
            let output = futures_util::stream::iter([piece]);
            forward(Box::pin(output), id, bulk).await?;
        }
        wanted.tail = None;
        if !asked.follow || newest.changed().await.is_err() {
            return Ok(None);
        }
    }
}
