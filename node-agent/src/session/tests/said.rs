//! The agent's own lines, as the controller reads them.

use longshore_proto::agent::v1::open_stream::Kind;
use prost::Message;

use super::*;

impl Peer {
    async fn asks_log(&self, stream_id: u64, asked: pb::AgentLogStream) {
        let kind = Some(Kind::AgentLog(asked));
        let open = pb::OpenStream { stream_id, kind };
        self.send(ToAgent::OpenStream(open)).await;
    }

    /// The next line of a stream; none: it ended well.
    async fn line(&mut self, stream_id: u64) -> Option<pb::AgentLine> {
        self.until("a line or the end", |message| match message {
            FromAgent::StreamData(data) if data.stream_id == stream_id => {
                let line = pb::AgentLine::decode_length_delimited(data.data.as_slice());
                Some(Some(line.unwrap()))
            }
            FromAgent::StreamEnd(end) if end.stream_id == stream_id => {
                assert_eq!(end.error, "");
                Some(None)
            }
            _ => None,
        })
        .await
    }
}

fn say(agent: &Agent, text: &str) {
    let log = tracing_subscriber::registry();
    let log =
        tracing_subscriber::layer::SubscriberExt::with(log, crate::cli::kept(agent.said.clone()));
    tracing::subscriber::with_default(log, || tracing::warn!("{text}"));
}

#[tokio::test]
async fn lines_are_sent_followed_and_not_sent_twice() {
    let (agent, mut peer, _dir, _cluster) = rig(FakeRuntime::default()).await;
    for text in ["one", "two", "three"] {
        say(&agent, text);
    }
    let asked = pb::AgentLogStream {
        tail: Some(2),
        ..Default::default()
    };
    peer.asks_log(1, asked).await;
    assert_eq!(peer.line(1).await.unwrap().line, "two");
    let last = peer.line(1).await.unwrap();
    assert_eq!((last.line.as_str(), last.level.as_str()), ("three", "warn"));
    assert_eq!((last.sequence, last.start), (3, agent.said.start()));
    assert_eq!(peer.line(1).await, None);
    let asked = pb::AgentLogStream {
        follow: true,
        after_start: last.start,
        after_sequence: last.sequence,
        ..Default::default()
    };
    peer.asks_log(2, asked).await;
    say(&agent, "four");
    assert_eq!(peer.line(2).await.unwrap().line, "four");
    // Of another start of the agent nothing was read.
    let other = pb::AgentLogStream {
        after_start: last.start + 1,
        ..asked
    };
    peer.asks_log(3, other).await;
    assert_eq!(peer.line(3).await.unwrap().line, "one");
}
