//! Small builders for tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::plan::{AssignedReplica, PortBinding};
use longshore_model::spec::{ContentDigest, FileKind, FileSpec};
use longshore_model::{Assignment, ContainerSpec, ReplicaId, TemplateId};

use crate::runtime::Launch;

pub(crate) fn template() -> TemplateId {
    TemplateId::new("0123456789abcdef").unwrap()
}

pub(crate) fn replica(id: u64) -> AssignedReplica {
    let offset = u16::try_from(id).unwrap();
    AssignedReplica {
        id: ReplicaId(id),
        service: "demo/web".parse().unwrap(),
        slot: u32::from(offset),
        revision: 1,
        template: template(),
        ports: vec![PortBinding {
            container_port: 8080,
            host_port: 30_000 + offset,
        }],
        stop: false,
        paused: false,
        ended: false,
    }
}

pub(crate) fn spec(image: &str) -> ContainerSpec {
    ContainerSpec {
        image: image.into(),
        ports: vec![8080],
        stop_grace_ms: 2_000,
        ..ContainerSpec::default()
    }
}

pub(crate) fn file(target: &str, contents: &[u8]) -> FileSpec {
    FileSpec {
        kind: FileKind::Secret,
        name: "pw".into(),
        target: target.into(),
        uid: 0,
        gid: 0,
        mode: 0o444,
        bytes: contents.len() as u64,
        digest: ContentDigest::of(contents),
        external: None,
    }
}

pub(crate) fn assignment(generation: u64, replicas: &[AssignedReplica]) -> Assignment {
    Assignment {
        generation,
        replicas: replicas.to_vec(),
        templates: [(template(), Arc::new(spec("hello:1")))].into(),
    }
}

pub(crate) fn launch(replica: AssignedReplica, spec: ContainerSpec) -> Launch {
    Launch {
        cluster: "test".into(),
        replica,
        spec: Arc::new(spec),
        hosts: BTreeMap::new(),
        files: Vec::new(),
        ipv6: false,
    }
}
