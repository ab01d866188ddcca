//! Secrets and configs of a container.

use longshore_model::ContainerSpec;
use longshore_model::spec::file::FILES_MAX;
use longshore_model::spec::{ContentDigest, FileKind, FileSpec};
use longshore_proto::spec::v1 as pb;

use crate::error::{WireError, invalid, list};

pub(super) fn to(file: &FileSpec) -> pb::File {
    let kind = match file.kind {
        FileKind::Secret => pb::FileKind::Secret,
        FileKind::Config => pb::FileKind::Config,
    };
    pb::File {
        kind: kind.into(),
        name: file.name.clone(),
        target: file.target.clone(),
        uid: file.uid,
        gid: file.gid,
        mode: file.mode,
        bytes: file.bytes,
        digest: file.digest.to_string(),
        external: file.external.clone(),
    }
}

pub(super) fn from(files: Vec<pb::File>) -> Result<Vec<FileSpec>, WireError> {
    list("files", FILES_MAX, files, |file| {
        let kind = match file.kind() {
            pb::FileKind::Secret => FileKind::Secret,
            pb::FileKind::Config => FileKind::Config,
            pb::FileKind::Unspecified => return Err(invalid("files.kind", "is not said")),
        };
        let digest = match (&file.external, file.digest.as_str()) {
            // The controller looks it up.
            (Some(_), "") => Ok(ContentDigest::of(b"")),
            (_, digest) => digest.parse(),
        };
        Ok(FileSpec {
            kind,
            name: file.name,
            target: file.target,
            uid: file.uid,
            gid: file.gid,
            mode: file.mode,
            bytes: file.bytes,
            digest: digest.map_err(|e| invalid("files.digest", format!("{e}")))?,
            external: file.external,
        })
    })
}

/// The files fit the rest of the container.
pub(super) fn checked(spec: ContainerSpec) -> Result<ContainerSpec, WireError> {
    match spec.file_fault() {
        None => Ok(spec),
        Some(fault) => Err(invalid("files", fault.to_string())),
    }
}
