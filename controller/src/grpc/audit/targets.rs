//! What calls are about, in a few words. Contents of secrets and arguments of commands are in none of them.

use longshore_proto::control::v1::exec_request::Message;
use longshore_proto::{control::v1 as control, images::v1 as images};
use longshore_proto::{operators::v1 as operators, secrets::v1 as secrets};

/// What is noted of a request.
pub(in crate::grpc) trait Audited {
    /// What it is about: `shop/web=5`.
    fn target(&self) -> String;
}

macro_rules! targets {
    ($($request:ty: $of:expr;)*) => {
        $(impl Audited for $request {
            fn target(&self) -> String {
                let of: fn(&Self) -> String = $of;
                of(self)
            }
        })*
    };
}

targets! {
    control::SetAutoscaleRequest: autoscale;
    control::ApplyAppRequest: |r| r.app.as_ref().map(|app| app.name.clone()).unwrap_or_default();
    control::DownAppRequest: |r| r.app.clone();
    control::ScaleRequest: |r| format!("{}={}", r.service, r.count);
    control::UndoRolloutRequest: |r| match r.to_revision {
        Some(revision) => format!("{} to revision {revision}", r.service),
        None => r.service.clone(),
    };
    control::PauseRolloutRequest: |r| r.service.clone();
    control::ResumeRolloutRequest: |r| r.service.clone();
    control::RestartServicesRequest: |r| r.services.join(" ");
    control::SetNodeAvailabilityRequest: availability;
    control::SetNodeLabelsRequest: labels;
    control::RemoveNodeRequest: |r| format!("node/{}", r.node);
    control::SetReplicaTrafficRequest: |r| r.replicas.join(" ");
    control::CreateTokenRequest: join_token;
    control::RevokeTokenRequest: |r| r.id.clone();
    control::RemoveVolumeRequest: |r| format!("{} on node/{}", r.name, r.node);
    control::BackupRequest: |_| String::new();
    control::ExecRequest: exec;
    images::RecordImageRequest: |r| r.name.clone();
    images::RemoveImageRequest: |r| r.name.clone();
    images::PruneImagesRequest: |r| (if r.dry_run { "dry run" } else { "" }).into();
    images::FetchImageRequest: |r| r.name.clone();
    secrets::PutSecretRequest: |r| r.name.clone();
    secrets::RemoveSecretRequest: |r| r.name.clone();
    secrets::PutRegistryRequest: |r| r.server.clone();
    secrets::RemoveRegistryRequest: |r| r.server.clone();
    operators::AddOperatorRequest: |r| format!("{} as {}", r.name, r.role);
    operators::SetOperatorRoleRequest: |r| format!("{} as {}", r.name, r.role);
    operators::RotateOperatorRequest: |r| r.name.clone();
    operators::RemoveOperatorRequest: |r| r.name.clone();
}

fn autoscale(request: &control::SetAutoscaleRequest) -> String {
    use control::set_autoscale_request::Action;
    let act = match &request.action {
        Some(Action::Pause(_)) => " pause",
        Some(Action::Resume(_)) => " resume",
        Some(Action::Bounds(_)) => " bounds",
        Some(Action::Approve(_)) => " approve",
        None => "",
    };
    format!("{}{act}", request.service)
}

fn availability(request: &control::SetNodeAvailabilityRequest) -> String {
    use control::NodeAvailability;
    let word = match request.availability() {
        NodeAvailability::Unspecified => "",
        NodeAvailability::Active => " active",
        NodeAvailability::Cordoned => " cordoned",
        NodeAvailability::Draining => " draining",
    };
    format!("node/{}{word}", request.node)
}

fn labels(request: &control::SetNodeLabelsRequest) -> String {
    let set = request.set.iter();
    let set = set.map(|(key, value)| format!(" {key}={value}"));
    let removed = request.remove.iter().map(|key| format!(" {key}-"));
    let mut words: Vec<String> = set.chain(removed).collect();
    words.sort();
    format!("node/{}{}", request.node, words.concat())
}

fn join_token(request: &control::CreateTokenRequest) -> String {
    let roles = [(request.worker, "worker"), (request.edge, "edge")];
    let roles = roles.iter().filter(|(is, _)| *is).map(|(_, role)| *role);
    let mut text = roles.collect::<Vec<_>>().join(",");
    if !request.node_name.is_empty() {
        text.push_str(&format!(" for node/{}", request.node_name));
    }
    if !request.from.is_empty() {
        text.push_str(&format!(" from {}", request.from));
    }
    text
}

/// Where, and which program; its arguments may be secret.
fn exec(request: &control::ExecRequest) -> String {
    let program = |command: &[String]| {
        let first = command.first();
        first.map(|word| format!(": {word}")).unwrap_or_default()
    };
    match &request.message {
        Some(Message::Start(start)) => format!("{}{}", start.target, program(&start.command)),
        Some(Message::Run(run)) => {
            let command = run.command.as_ref().map(|words| words.words.as_slice());
            format!(
                "run {}{}",
                run.service,
                program(command.unwrap_or_default())
            )
        }
        _ => String::new(),
    }
}
