//! How commands in containers end.

use super::*;

#[tokio::test]
async fn a_command_that_cannot_be_started_ends_as_one_of_a_containers_own() {
    let (agent, mut peer, _dir, _cluster) = with_container().await;
    let data = |message| match message {
        FromAgent::StreamData(data) => Some(data),
        _ => None,
    };
    let end = |message| match message {
        FromAgent::StreamEnd(end) => Some(end),
        _ => None,
    };
    let refused = "OCI runtime exec failed: exec failed: ";
    for (stream_id, why, code) in [
        (
            1,
            format!("{refused}\"x\": executable file not found in $PATH"),
            127,
        ),
        (2, format!("{refused}\"/etc\": permission denied"), 126),
        (3, "my own 126: no such file or directory".to_owned(), 126),
    ] {
        {
            let mut state = agent.runtime.state();
            state.exec_writes = Some(why.clone());
            state.exec_codes.push_back(126);
        }
        let exec = pb::ExecStream {
            replica_id: 1,
            command: vec!["x".into()],
            ..Default::default()
        };
        let open = pb::OpenStream {
            stream_id,
            kind: Some(pb::open_stream::Kind::Exec(exec)),
        };
        peer.send(ToAgent::OpenStream(open)).await;
        assert_eq!(peer.until("output", data).await.data, why.as_bytes());
        assert_eq!(peer.until("end", end).await.exit_code, Some(code), "{why}");
    }
}
