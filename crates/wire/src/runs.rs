//! Containers that run once, on their way to the node that shall run them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use longshore_model::names::HOSTS_MAX;
use longshore_model::spec::{ContentMap, FileContents, FileSpec};
use longshore_model::{ContainerSpec, ServiceKey};
use longshore_proto::agent::v1 as pb;

use crate::contents::checked_contents;
use crate::error::{WireError, invalid, list, named, required};
use crate::names::host;
use crate::spec::{container_spec_from_pb, container_spec_to_pb};

/// Longest id.
const ID_BYTES_MAX: usize = 32;
/// Most contents that are sent along.
const FILES_MAX: usize = 64;

/// A container that runs once. Its `Debug` shows no contents.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSpec {
    /// Its id: lower-case letters and digits, at most 32.
    pub id: String,
    /// The service that it is of.
    pub service: ServiceKey,
    /// What it runs.
    pub container: Arc<ContainerSpec>,
    /// Names of services that it shall know.
    pub hosts: BTreeMap<String, Ipv4Addr>,
    /// Its secrets and configs, with what is in them.
    pub files: Vec<(FileSpec, FileContents)>,
    /// With a terminal.
    pub tty: bool,
    /// With standard input.
    pub stdin: bool,
}

/// To the wire.
#[must_use]
pub fn run_to_pb(run: &RunSpec) -> pb::RunStream {
    let contents: ContentMap = run
        .files
        .iter()
        .map(|(file, contents)| (file.digest.clone(), contents.clone()))
        .collect();
    let contents = contents.iter().map(|(digest, contents)| pb::Contents {
        fence: None,
        digest: digest.to_string(),
        contents: contents.expose().to_vec(),
    });
    let hosts = run.hosts.iter();
    pb::RunStream {
        run_id: run.id.clone(),
        service: run.service.to_string(),
        container: Some(container_spec_to_pb(&run.container)),
        hosts: hosts
            .map(|(name, address)| (name.clone(), address.to_string()))
            .collect(),
        files: contents.collect(),
        tty: run.tty,
        stdin: run.stdin,
        size: None,
    }
}

/// From the wire, checked.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn run_from_pb(message: pb::RunStream) -> Result<RunSpec, WireError> {
    let id = message.run_id;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(plain) {
        return Err(invalid("run_id", "must be 1 to 32 of a-z and 0-9"));
    }
    let service = message.service.parse().map_err(named("service"))?;
    let container = container_spec_from_pb(required("container", message.container)?)?;
    let hosts: Vec<(String, String)> = message.hosts.into_iter().collect();
    let hosts = list("hosts", HOSTS_MAX, hosts, |(name, at)| {
        host("hosts", name, &at)
    })?;
    let contents = list("files", FILES_MAX, message.files, |file| {
        checked_contents(&file.digest, file.contents)
    })?;
    let contents: ContentMap = contents.into_iter().collect();
    let files = container.files.iter().map(|file| {
        let found = contents.get(&file.digest);
        let found = found.ok_or_else(|| invalid("files", format!("lack {file}")))?;
        Ok((file.clone(), found.clone()))
    });
    Ok(RunSpec {
        id,
        service,
        files: files.collect::<Result<_, WireError>>()?,
        container: Arc::new(container),
        hosts: hosts.into_iter().collect(),
        tty: message.tty,
        stdin: message.stdin,
    })
}
