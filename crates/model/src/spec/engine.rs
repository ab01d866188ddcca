//! What a container's engine is told beyond the rest: handed on as it is, each with its own checks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Options of the engine. A field that says nothing is left out of the canonical form, so that
/// templates keep their ids when another is added.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineOptions {
    /// Limits of single processes, by the kernel's name: `nofile`.
    #[serde(skip_serializing_if = "is_default")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// What becomes of its output; the agent's own choice when absent.
    #[serde(skip_serializing_if = "is_default")]
    pub log: Option<LogSpec>,
    /// More lines of `/etc/hosts`: `NAME:ADDRESS`, or `NAME:host-gateway` for the node itself.
    #[serde(skip_serializing_if = "is_default")]
    pub extra_hosts: Vec<String>,
    /// Addresses of name servers in the place of the node's.
    #[serde(skip_serializing_if = "is_default")]
    pub dns: Vec<String>,
    /// Domains that are tried behind a short name.
    #[serde(skip_serializing_if = "is_default")]
    pub dns_search: Vec<String>,
    /// Options of the resolver: `ndots:1`.
    #[serde(skip_serializing_if = "is_default")]
    pub dns_options: Vec<String>,
    /// Size of `/dev/shm`; 0: the engine's own.
    #[serde(skip_serializing_if = "is_default")]
    pub shm_bytes: u64,
    /// Further groups of its user, by name or number.
    #[serde(skip_serializing_if = "is_default")]
    pub group_add: Vec<String>,
    /// Its standard input stays open, though nobody writes into it.
    #[serde(skip_serializing_if = "is_default")]
    pub stdin_open: bool,
    /// Its output goes through a terminal.
    #[serde(skip_serializing_if = "is_default")]
    pub tty: bool,
    /// How much earlier than others it is killed where the node runs out of memory, -1000 to 1000;
    /// below 0 needs the node's policy.
    #[serde(skip_serializing_if = "is_default")]
    pub oom_score_adj: i32,
    /// Most processes and threads; 0: the agent's own limit, -1: none. More than the agent's own
    /// needs the node's policy.
    #[serde(skip_serializing_if = "is_default")]
    pub pids_max: i64,
    /// CPUs of the node that it may run on: `0-2,4`.
    #[serde(skip_serializing_if = "is_default")]
    pub cpuset: Option<String>,
    /// Words for the container runtime, which may obey them: needs the node's policy.
    #[serde(skip_serializing_if = "is_default")]
    pub annotations: BTreeMap<String, String>,
    /// `userns_mode: host`; needs the node's policy.
    #[serde(skip_serializing_if = "is_default")]
    pub host_userns: bool,
    /// `private`, `shareable` or `none`; the host's is one of the [`super::Privileges`].
    #[serde(skip_serializing_if = "is_default")]
    pub ipc: Option<String>,
    /// A container runtime in the place of the node's default; needs the node's policy.
    #[serde(skip_serializing_if = "is_default")]
    pub runtime: Option<String>,
    /// Domain behind its host name.
    #[serde(skip_serializing_if = "is_default")]
    pub domainname: Option<String>,
    /// Options of its writable layer: `size`.
    #[serde(skip_serializing_if = "is_default")]
    pub storage_opt: BTreeMap<String, String>,
    /// Most memory and swap together; 0: the engine's own, -1: none.
    #[serde(skip_serializing_if = "is_default")]
    pub memory_swap_bytes: i64,
}

impl EngineOptions {
    /// Most processes and threads of a container that says nothing: a fork bomb stays inside.
    pub const PIDS_MAX: i64 = 4096;
    /// The most that a kernel counts.
    pub const PIDS_MOST: i64 = 4_194_304;

    /// Says this option of a file system in memory no more than how large it is, whose, and what
    /// may run there?
    #[must_use]
    pub fn is_tmpfs_word(word: &str) -> bool {
        super::engine_rules::tmpfs_word(word)
    }
}

/// Of a process: what it has and what it may raise that to. -1: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// What it has.
    pub soft: i64,
    /// What it may raise it to.
    pub hard: i64,
}

/// What becomes of a container's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// The engine's driver: `json-file`.
    pub driver: String,
    /// Its options.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Nothing is said.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::super::ContainerSpec;
    use super::*;

    /// The form of a spec before this struct was there, and its id then.
    #[test]
    fn a_spec_that_says_nothing_here_keeps_its_form_and_its_id() {
        let spec = ContainerSpec {
            image: "nginx:1.29".into(),
            stop_grace_ms: 10_000,
            healthcheck: Some(super::super::ExecCheck {
                command: vec!["true".into()],
                interval_ms: 1,
                timeout_ms: 2,
                retries: 3,
                start_period_ms: 4,
                start_interval_ms: None,
            }),
            mounts: vec![super::super::Mount {
                source: "data".into(),
                target: "/data".into(),
                read_only: true,
                ..Default::default()
            }],
            ..ContainerSpec::default()
        };
        assert_eq!(
            spec.template_id().to_string(),
            "87e6223acdf3b9c395f4341775f38e38"
        );
        let stored = serde_json::to_string(&spec).unwrap();
        for new in ["engine", "start_interval", "options"] {
            assert!(!stored.contains(new), "{stored}");
        }
        assert_eq!(
            serde_json::from_str::<ContainerSpec>(&stored).unwrap(),
            spec
        );
    }

    #[test]
    fn every_option_makes_another_template() {
        let plain = ContainerSpec::default().template_id();
        let engine = EngineOptions {
            tty: true,
            ..EngineOptions::default()
        };
        let spec = ContainerSpec {
            engine,
            ..ContainerSpec::default()
        };
        assert_ne!(spec.template_id(), plain);
        let stored = serde_json::to_string(&spec).unwrap();
        assert!(stored.contains(r#""engine":{"tty":true}"#), "{stored}");
        assert_eq!(
            serde_json::from_str::<ContainerSpec>(&stored).unwrap(),
            spec
        );
    }
}
