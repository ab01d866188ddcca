//! What a fake agent says in streams.

use longshore_proto::agent::v1 as agent;

/// Two log lines, or the command said back.
pub(super) fn answer(open: &agent::OpenStream) -> Vec<agent::session_request::Message> {
    use agent::session_request::Message as Up;
    let stream_id = open.stream_id;
    let data = |text: String| {
        let channel = agent::Channel::Stdout.into();
        Up::StreamData(agent::StreamData {
            stream_id,
            channel,
            data: text.into_bytes(),
        })
    };
    let end = |exit_code| {
        Up::StreamEnd(agent::StreamEnd {
            stream_id,
            exit_code,
            ..Default::default()
        })
    };
    match &open.kind {
        Some(agent::open_stream::Kind::Logs(logs)) => {
            // The engine's clock, as `docker logs --timestamps` prints it.
            let at = |ns: u32| match logs.timestamps {
                true => format!("2026-11-21T12:04:10.{ns:09}Z "),
                false => String::new(),
            };
            let id = logs.replica_id;
            let mut said = vec![data(format!("{}hello from r{id}\n{}bye", at(1), at(2)))];
            if !logs.follow {
                said.push(end(None));
            }
            said
        }
        Some(agent::open_stream::Kind::Exec(exec)) => {
            vec![data(exec.command.join(" ")), end(Some(7))]
        }
        Some(agent::open_stream::Kind::ProxyConfig(_)) => {
            let parts = ["global\n", "defaults\n"];
            let said = parts.map(|part| data(part.to_owned())).into_iter();
            said.chain([end(None)]).collect()
        }
        Some(agent::open_stream::Kind::ProxyWanted(_)) => {
            vec![data("global\nwanted\n".to_owned()), end(None)]
        }
        Some(agent::open_stream::Kind::AgentLog(asked)) => agent_lines(stream_id, asked, end(None)),
        // One that reads goes on until its stream is ended.
        Some(agent::open_stream::Kind::Run(run)) => {
            let mut said = vec![data(format!("ran {}", run.service))];
            said.extend((!run.stdin).then(|| end(Some(9))));
            said
        }
        Some(agent::open_stream::Kind::Disk(disk)) => {
            let message = agent::StreamData {
                stream_id,
                channel: agent::Channel::Stdout.into(),
                data: prost::Message::encode_to_vec(&disk_use(disk.sizes)),
            };
            vec![Up::StreamData(message), end(None)]
        }
        Some(agent::open_stream::Kind::RemoveVolume(volume)) => {
            let error = match volume.name.as_str() {
                "shop_old" | "shop_files" => "",
                _ => "in use by shop/web.1",
            };
            vec![Up::StreamEnd(agent::StreamEnd {
                stream_id,
                error: error.into(),
                exit_code: None,
            })]
        }
        None => Vec::new(),
    }
}

/// Lines 1 and 5 of start 7, in pieces that are no lines; who has read them gets line 6.
fn agent_lines(
    stream_id: u64,
    asked: &agent::AgentLogStream,
    end: agent::session_request::Message,
) -> Vec<agent::session_request::Message> {
    let mut bytes = Vec::new();
    for sequence in [1, 5, 6] {
        let line = agent::AgentLine {
            start: 7,
            sequence,
            level: "info".into(),
            line: format!("line {sequence}"),
            ..Default::default()
        };
        let has_read = asked.after_start == 7;
        if has_read == (sequence == 6) {
            bytes.extend(prost::Message::encode_length_delimited_to_vec(&line));
        }
    }
    let pieces = bytes.chunks(5).map(|piece| {
        agent::session_request::Message::StreamData(agent::StreamData {
            stream_id,
            channel: agent::Channel::Stdout.into(),
            data: piece.to_vec(),
        })
    });
    let end = (!asked.follow).then_some(end);
    pieces.chain(end).collect()
}

/// A volume that is used, and one that is not.
fn disk_use(sizes: bool) -> agent::DiskUse {
    let volume = |name: &str, users: &[&str]| agent::VolumeUse {
        name: name.into(),
        app: "shop".into(),
        driver: "local".into(),
        used_by: users.iter().map(|user| (*user).to_owned()).collect(),
        ..Default::default()
    };
    agent::DiskUse {
        disk_bytes: 100,
        disk_free_bytes: 40,
        images: sizes.then(agent::DiskShare::default),
        named: vec![
            volume("shop_data", &["shop/web.1"]),
            volume("shop_old", &[]),
        ],
        ..Default::default()
    }
}
