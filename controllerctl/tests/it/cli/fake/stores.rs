//! What the fake tells about what is kept: secrets.

use longshore_proto::control::v1 as pb;
use tonic::Status;

use super::NOW_MS;

pub(super) fn secrets(request: &pb::ListSecretsRequest) -> Result<pb::ListSecretsResponse, Status> {
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
    };
    Ok(pb::ListSecretsResponse {
        secrets: vec![
            info("certificate", "cert", 3_100, &["web"]),
            info("config", "./nginx.conf", 812, &["web"]),
            info("secret", "db_password", 24, &["api", "worker"]),
        ],
    })
}
