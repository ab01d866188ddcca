//! What the fake tells about what is kept, and what commands say.

use longshore_model::spec::ContentDigest;
use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1::TerminalSize;
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

use super::{Many, NOW_MS, World, many};

pub(super) fn secrets(
    world: &World,
    request: &pb::ListSecretsRequest,
) -> Result<pb::ListSecretsResponse, Status> {
    if let Some(unknown) = request.apps.iter().find(|app| *app != "shop") {
        return Err(Status::not_found(format!("there is no app {unknown:?}")));
    }
    let info = |kind: &str, name: &str, bytes, services: &[&str]| pb::SecretInfo {
        app: "shop".into(),
        kind: kind.into(),
        name: name.into(),
        bytes,
        digest: "0123456789ab".into(),
        services: services.iter().map(|s| (*s).to_owned()).collect(),
        until_ms: if kind == "certificate" { NOW_MS } else { 0 },
        ..Default::default()
    };
    let apart = |(name, contents): (&String, &Vec<u8>)| pb::SecretInfo {
        kind: "secret".into(),
        name: name.clone(),
        bytes: contents.len() as u64,
        digest: ContentDigest::of(contents).short().into(),
        services: super::secrets::users(name),
        since_ms: NOW_MS,
        by: "ana".into(),
        ..Default::default()
    };
    let of_shop = [
        info("certificate", "cert", 3_100, &["web"]),
        info("config", "./nginx.conf", 812, &["web"]),
        info("secret", "db_password", 24, &["api", "worker"]),
    ];
    let all = world.apart.secrets.iter().map(apart);
    Ok(pb::ListSecretsResponse {
        secrets: all
            .filter(|_| request.apps.is_empty())
            .chain(of_shop)
            .collect(),
    })
}

/// The first size, of a command that says its sizes.
pub(super) fn sizes(first: &pb::ExecRequest) -> Option<Option<TerminalSize>> {
    match &first.message {
        Some(pb::exec_request::Message::Start(start)) if start.command == ["sizes"] => {
            Some(start.size)
        }
        _ => None,
    }
}

/// Each size, until the input is over.
pub(super) fn follow_sizes(
    first: Option<TerminalSize>,
    requests: Streaming<pb::ExecRequest>,
) -> Many<pb::ExecResponse> {
    use pb::exec_request::Message as In;
    use pb::exec_response::Message as Out;
    let said = |message| pb::ExecResponse {
        message: Some(message),
    };
    let words = |size: TerminalSize| format!("{}x{}\r\n", size.rows, size.columns).into_bytes();
    let first = first.map(|size| format!("first {}x{}\r\n", size.rows, size.columns));
    let first = Out::Stdout(first.unwrap_or_default().into_bytes());
    let rest = requests.filter_map(move |request| match request.ok()?.message? {
        In::Size(size) => Some(Out::Stdout(words(size))),
        In::Stdin(_) => Some(Out::ExitCode(0)),
        _ => None,
    });
    let all = tokio_stream::iter([first]).chain(rest);
    Box::pin(all.map(move |message| Ok(said(message))))
}

/// The command said back, with the code 42.
pub(super) fn exec(first: pb::ExecRequest) -> Result<Many<pb::ExecResponse>, Status> {
    use pb::exec_request::Message as In;
    use pb::exec_response::Message as Out;
    let (placed, command) = match first.message {
        Some(In::Start(start)) => (None, start.command),
        Some(In::Run(run)) if run.service == "huge" => {
            let lines = "hello/huge: no node takes the run; node1: memory: 512 MiB free";
            return Err(Status::failed_precondition(lines));
        }
        Some(In::Run(run)) => {
            let mut words = run.entrypoint.unwrap_or_default().words;
            words.extend(run.command.unwrap_or_default().words);
            words.extend(
                run.env
                    .iter()
                    .map(|(name, value)| format!("{name}={value}")),
            );
            let placed = pb::RunPlaced {
                service: format!("hello/{}", run.service),
                node: "node1".into(),
                run_id: "ab12".into(),
            };
            (Some(Out::Placed(placed)), words)
        }
        _ => return Err(Status::invalid_argument("no start")),
    };
    if command.first().is_some_and(|word| word == "nope") {
        return Err(Status::failed_precondition("the engine cannot run nope"));
    }
    let text = command.join(" ").into_bytes();
    let said = placed
        .into_iter()
        .chain([Out::Stdout(text), Out::ExitCode(42)]);
    let said = said.map(|message| pb::ExecResponse {
        message: Some(message),
    });
    Ok(many(said.collect()))
}

/// `copy` in two pieces.
pub(super) fn backup(world: &World) -> Many<pb::BackupResponse> {
    let piece = |data: &str, digest: String| pb::BackupResponse {
        data: data.into(),
        digest,
    };
    let rest = if world.cuts_backups { "p" } else { "py" };
    let digest = ContentDigest::of(b"copy").to_string();
    many(vec![
        piece("co", String::new()),
        piece(rest, String::new()),
        piece("", digest),
    ])
}

/// Two, and with `cuts_backups` the last one failed.
pub(super) fn backups(world: &World) -> pb::ListBackupsResponse {
    let backup = |time_ms: u64| pb::Backup {
        file: format!("/data/backups/backup-{time_ms}.tar"),
        time_ms,
        bytes: 10 << 10,
    };
    pb::ListBackupsResponse {
        backups: [7_200_000, 3_600_000].map(backup).into(),
        folder: "/data/backups".into(),
        every_ms: 3_600_000,
        problem: match world.cuts_backups {
            true => "no room".into(),
            false => String::new(),
        },
    }
}

/// node1 with volumes of the app shop, and with `sizes` node2 that does not answer.
pub(super) fn disk_use(world: &World, request: &pb::DiskUseRequest) -> pb::DiskUseResponse {
    let share = |count, bytes| pb::DiskShare {
        count,
        active: 1,
        bytes: Some(bytes),
        reclaimable_bytes: Some(bytes / 2),
    };
    let volume = |name: &str, used_by: &[&str]| pb::Volume {
        name: name.into(),
        app: "shop".into(),
        driver: "local".into(),
        used_by: used_by.iter().map(|user| (*user).to_owned()).collect(),
        services: vec!["shop/db".into()],
        external_to: match world.external_volume.as_deref() == Some(name) {
            true => vec!["shop/db".into()],
            false => Vec::new(),
        },
        ..Default::default()
    };
    let node = |name: &str, named: Vec<pb::Volume>| pb::NodeDisk {
        node: name.into(),
        disk_bytes: 64 << 30,
        disk_free_bytes: 4 << 30,
        images: request.sizes.then(|| share(3, 800 << 20)),
        containers: request.sizes.then(|| share(2, 4 << 20)),
        volumes: request.sizes.then(|| pb::DiskShare {
            bytes: None,
            reclaimable_bytes: None,
            ..share(1, 0)
        }),
        named,
        ..Default::default()
    };
    let first = vec![volume("shop_data", &["shop/db.1"]), volume("shop_old", &[])];
    let mut nodes = vec![
        node("node1", first),
        node("node2", vec![volume("shop_old", &[])]),
    ];
    nodes.retain(|node| request.nodes.is_empty() || request.nodes.contains(&node.node));
    if request.nodes.contains(&"node3".to_owned()) {
        nodes.push(pb::NodeDisk {
            node: "node3".into(),
            problem: "it is not connected".into(),
            ..Default::default()
        });
    }
    let store_bytes = 3 << 20;
    pb::DiskUseResponse { nodes, store_bytes }
}
