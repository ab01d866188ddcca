//! What a user asks for: the services of an app.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

mod engine;
mod engine_rules;
pub mod file;
mod mode;
mod mount;
mod signal;

pub use engine::{EngineOptions, LogSpec, Ulimit};
pub use engine_rules::EngineRules;
pub use file::{ContentDigest, ContentMap, FileContents, FileKind, FileSpec};
pub use mode::{ModeFault, ServiceMode};
pub use mount::{Mount, MountOptions};
pub use signal::is_signal;

use crate::autoscale::AutoscaleSpec;
use crate::depends::Until;
use crate::id::{ServiceName, TemplateId};
use crate::image::{ImageDigest, ImageRef};
pub use crate::job::{JobRun, JobSpec};
pub use crate::route::{
    Balance, CheckTimes, ProxyProtocol, RouteMode, RouteSpec, Timeouts, Weights,
};
pub use crate::update::{FailureAction, GateSpec, UpdateOrder, UpdateSpec};

/// Everything that the engine must know to make one container. Equal specs make
/// interchangeable containers; see [`ContainerSpec::template_id`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Image reference as the engine takes it.
    pub image: String,
    /// What the image was when the app was applied, where the controller holds it; nodes run exactly
    /// that. Never in a file. Left out of the canonical form when absent: nodes fetch the image
    /// from its registry then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<ImageDigest>,
    /// When the image is pulled.
    #[serde(default)]
    pub pull_policy: PullPolicy,
    /// Replaces the image's entry point.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// Environment, handed to the engine as an array, never through a shell.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// User labels; `longshore.*` is ours and refused here.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `user[:group]` inside the container.
    #[serde(default)]
    pub user: Option<String>,
    /// Working directory inside the container.
    #[serde(default)]
    pub working_dir: Option<String>,
    /// Host name inside the container; the replica's name when absent.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Time between the stop signal and the kill.
    pub stop_grace_ms: u64,
    /// Signal that asks the container to stop; the image's or SIGTERM when absent.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// Run an init process as pid 1.
    #[serde(default)]
    pub init: bool,
    /// Root file system read-only.
    #[serde(default)]
    pub read_only: bool,
    /// Paths of in-memory file systems.
    #[serde(default)]
    pub tmpfs: Vec<String>,
    /// Ports that replicas publish on their node: container ports, each on a host port that the
    /// planner reserves.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Of these, the ones that need one certain host port (`mode: host`), by container port. A
    /// node can run one such replica only. Left out of the canonical form when empty, so that
    /// templates keep their ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fixed_ports: BTreeMap<u16, u16>,
    /// Platform of the image where the file names one; only such nodes can run it. Left out of the
    /// canonical form when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Health check run by the engine inside the container.
    #[serde(default)]
    pub healthcheck: Option<ExecCheck>,
    /// Health check run by the agent against the published port.
    #[serde(default)]
    pub probe: Option<Probe>,
    /// What the container may use and what it is sure to get.
    #[serde(default)]
    pub resources: Resources,
    /// Volumes and binds.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Secrets and configs. Left out of the canonical form when empty, so that templates keep
    /// their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileSpec>,
    /// Options that open the host; refused unless a node's own policy allows them.
    #[serde(default)]
    pub privileges: Privileges,
    /// What the engine is told beyond that. Left out of the canonical form when nothing is said.
    #[serde(default, skip_serializing_if = "engine::is_default")]
    pub engine: EngineOptions,
    /// It runs once until it ends; none: it stays up. Never in a file: the controller sets it from
    /// [`ServiceSpec::job`]. Left out of the canonical form when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRun>,
    /// When a person last asked for a restart: makes an otherwise equal spec another template.
    /// Never in a file; the controller sets it and keeps it across applies. 0: never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarted_ms: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl ContainerSpec {
    /// Which image it is, as nodes know it.
    #[must_use]
    pub fn image_ref(&self) -> ImageRef {
        ImageRef {
            name: self.image.clone(),
            digest: self.image_digest.clone(),
        }
    }

    /// Its volumes whose data is on one node, as engines call them.
    pub fn local_volumes(&self) -> impl Iterator<Item = &str> {
        let local = self.mounts.iter().filter(|mount| mount.is_of_one_node());
        local.map(|mount| mount.source.as_str())
    }

    /// Those of them that it may write to.
    pub fn written_volumes(&self) -> impl Iterator<Item = &str> {
        let of_one_node = self.mounts.iter().filter(|mount| mount.is_of_one_node());
        let written = of_one_node.filter(|mount| !mount.read_only);
        written.map(|mount| mount.source.as_str())
    }

    /// The first of them that it may write to. None: two of it, side by side on the node, are no
    /// harm to each other's data.
    #[must_use]
    pub fn written_volume(&self) -> Option<&str> {
        self.written_volumes().next()
    }

    /// Its volumes that somebody else makes and removes, as engines call them.
    pub fn external_volumes(&self) -> impl Iterator<Item = &str> {
        let external = |mount: &&Mount| !mount.bind && mount.options.external;
        let external = self.mounts.iter().filter(external);
        external.map(|mount| mount.source.as_str())
    }

    /// Hash of the canonical JSON form (BTreeMaps keep keys in order), first 16 bytes of SHA-256.
    #[must_use]
    pub fn template_id(&self) -> TemplateId {
        // A struct of maps with string keys, numbers and strings always serialises.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        TemplateId::from_digest(&Sha256::digest(&bytes))
    }
}

/// Operating system and architecture of an image, in the words of OCI (`linux/arm64/v8`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64`, …
    pub arch: String,
    /// `v7`, `v8`; empty where the architecture has no variants.
    #[serde(default)]
    pub variant: String,
}

impl Platform {
    /// Reads `os/arch` or `os/arch/variant`. None: it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = |word: &&str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
            !word.is_empty() && word.len() <= 32 && word.bytes().all(plain)
        };
        let words: Vec<&str> = text.split('/').collect();
        let (os, arch, variant) = match words.as_slice() {
            [os, arch] => (os, arch, &""),
            [os, arch, variant] if fits(variant) => (os, arch, variant),
            _ => return None,
        };
        (fits(os) && fits(arch)).then(|| Self {
            os: os.to_ascii_lowercase(),
            arch: arch_word(&arch.to_ascii_lowercase()).to_owned(),
            variant: variant.to_ascii_lowercase(),
        })
    }

    /// Can a node of this system and architecture (in the words of its engine) run it?
    #[must_use]
    pub fn runs_on(&self, os: &str, arch: &str) -> bool {
        let arch = arch.to_ascii_lowercase();
        self.os.eq_ignore_ascii_case(os) && arch_word(&self.arch) == arch_word(&arch)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.variant)
        }
    }
}

/// OCI's word for an architecture that kernels and engines call otherwise. Lower case expected.
#[must_use]
pub fn arch_word(word: &str) -> &str {
    match word {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" | "armv8l" => "arm64",
        "armhf" | "armv7l" | "armv6l" | "armel" => "arm",
        "i386" | "i686" => "386",
        other => other,
    }
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// Only if the node does not have it.
    #[default]
    Missing,
    /// Before each start.
    Always,
    /// Never; absent means failed.
    Never,
}

/// A health check that the engine runs inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecCheck {
    /// Command and arguments, run without a shell. `["NONE"]` is expressed as no check; none: the
    /// image's own, and if it has none there is no check.
    pub command: Vec<String>,
    /// Time between two runs. Here and below, 0 with the image's own command: as the image says.
    pub interval_ms: u64,
    /// Time after which one run counts as failed.
    pub timeout_ms: u64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Time after the start in which failures do not count.
    pub start_period_ms: u64,
    /// Time between two runs within the start period; engines before 25 do not know it. Left out
    /// of the canonical form when absent: the agent's own then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_interval_ms: Option<u64>,
}

impl ExecCheck {
    /// Does it run what the image says, if that says something?
    #[must_use]
    pub fn is_of_image(&self) -> bool {
        self.command.is_empty()
    }
}

impl ContainerSpec {
    /// Has its file a health command of its own? An image may have none.
    #[must_use]
    pub fn has_check_command(&self) -> bool {
        let check = self.healthcheck.as_ref();
        check.is_some_and(|check| !check.is_of_image())
    }
}

/// A health check that the agent runs against the container's published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Container port that is asked.
    pub port: u16,
    /// HTTP path; a TCP connection is enough when absent.
    #[serde(default)]
    pub path: Option<String>,
    /// HTTP path that only HAProxy can ask for, since the agent does not speak as the replica
    /// expects (HTTP/2, PROXY protocol, another port). It is here so that another path is another
    /// template. Left out of the canonical form when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge_path: Option<String>,
    /// Time between two probes of a healthy replica; a starting one is probed more often.
    pub interval_ms: u64,
    /// Time after which one probe counts as failed.
    pub timeout_ms: u64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
    /// Time after the start within which it must become healthy.
    pub start_ms_max: u64,
}

impl Probe {
    /// The path that replicas are checked by, whoever asks for it.
    #[must_use]
    pub fn checked_path(&self) -> Option<&str> {
        self.path.as_deref().or(self.edge_path.as_deref())
    }
}

/// Limits and reservations. Zero means: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Most CPU it may use, thousandths of a core.
    #[serde(default)]
    pub cpu_limit_milli: u64,
    /// Most memory it may use.
    #[serde(default)]
    pub memory_limit_bytes: u64,
    /// CPU set aside for it, thousandths of a core.
    #[serde(default)]
    pub cpu_reserved_milli: u64,
    /// Memory set aside for it.
    #[serde(default)]
    pub memory_reserved_bytes: u64,
}

/// Options that give a container power over its host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Privileges {
    /// `privileged: true`.
    #[serde(default)]
    pub privileged: bool,
    /// `network_mode: host`.
    #[serde(default)]
    pub host_network: bool,
    /// `pid: host`.
    #[serde(default)]
    pub host_pid: bool,
    /// `ipc: host`.
    #[serde(default)]
    pub host_ipc: bool,
    /// `cap_add`.
    #[serde(default)]
    pub cap_add: Vec<String>,
    /// `cap_drop`; harmless, kept here beside its twin.
    #[serde(default)]
    pub cap_drop: Vec<String>,
    /// `devices`.
    #[serde(default)]
    pub devices: Vec<String>,
    /// `security_opt`.
    #[serde(default)]
    pub security_opt: Vec<String>,
    /// `sysctls`.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
}

/// One service of an app.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// What each replica runs.
    pub container: ContainerSpec,
    /// What its count goes by. Left out where it is a count, as before there were modes.
    #[serde(default, skip_serializing_if = "ServiceMode::is_default")]
    pub mode: ServiceMode,
    /// First count of replicas; afterwards the autoscaler or `scale` owns it. 0 where the mode has
    /// no count.
    pub replicas: u32,
    /// Where replicas may go.
    #[serde(default)]
    pub placement: PlacementSpec,
    /// How one template follows another.
    #[serde(default)]
    pub update: UpdateSpec,
    /// How the last good revision comes back after a failed update; none: as the update, without
    /// delays. Its `failure_action` is never rollback.
    #[serde(default)]
    pub rollback: Option<UpdateSpec>,
    /// What HAProxy must see of new replicas before a batch passes; none: it is not asked.
    #[serde(default)]
    pub gate: Option<GateSpec>,
    /// How the count follows the load; none means: fixed.
    #[serde(default)]
    pub autoscale: Option<AutoscaleSpec>,
    /// How users reach it through HAProxy; empty means: not at all.
    #[serde(default)]
    pub routes: Vec<RouteSpec>,
    /// How long a leaving replica may finish its sessions.
    pub drain_ms: u64,
    /// Its networks, with its further names there; empty: the default one. See
    /// [`crate::networks`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<String, BTreeSet<String>>,
    /// Names that it alone has for other services.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, ServiceName>,
    /// Services that must be there before it starts for the first time.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<ServiceName, Until>,
    /// It runs once until it ends, see [`crate::job`]; none: it stays up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobSpec>,
}

/// Longest name or value of a label.
pub const LABEL_BYTES_MAX: usize = 255;

/// Where replicas may go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlacementSpec {
    /// All must hold.
    #[serde(default)]
    pub constraints: Vec<Constraint>,
    /// Most replicas of this service on one node; 0 means: no limit.
    #[serde(default)]
    pub max_per_node: u32,
    /// Spread or pack.
    #[serde(default)]
    pub policy: PlacementPolicy,
    /// Labels over whose values replicas are spread first, in order: `zone` is the label of the
    /// node, `engine.labels.zone` that of its engine. Empty: over [`ZONE_LABEL`] where nodes have
    /// at least two zones.
    #[serde(default)]
    pub spread_labels: Vec<String>,
    /// Its replicas are never moved to even out the cluster.
    #[serde(default)]
    pub stay: bool,
}

/// Node label that names a zone: nodes that are likely to fail together.
pub const ZONE_LABEL: &str = "zone";
/// Beginning of a spread label that is the engine's, not the node's.
pub const ENGINE_LABELS: &str = "engine.labels.";

/// Spread over nodes or fill them one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlacementPolicy {
    /// Fewest replicas of the service first.
    #[default]
    Spread,
    /// Fullest node that still fits first.
    Binpack,
}

/// One placement constraint, Swarm's grammar: `node.labels.ssd == true`. As there, values are
/// compared without regard to case and as they stand (`*` is no pattern); keys of labels are not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// Attribute of the node.
    pub attribute: NodeAttribute,
    /// `==` when true, `!=` when false.
    pub equal: bool,
    /// Value compared with.
    pub value: String,
}

/// Attribute of a node that a constraint can name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeAttribute {
    /// `node.id`
    Id,
    /// `node.hostname`
    Hostname,
    /// `node.role`
    Role,
    /// `node.platform.os`
    Os,
    /// `node.platform.arch`
    Arch,
    /// `node.labels.KEY`
    Label(String),
    /// `engine.labels.KEY`
    EngineLabel(String),
}

impl Constraint {
    /// Does it hold for a node whose attribute has these values? A node may have several (roles)
    /// or none: then it is as if it had the empty one.
    #[must_use]
    pub fn holds<'v>(&self, found: impl IntoIterator<Item = &'v str>) -> bool {
        let equals = |value: &str| match self.attribute {
            NodeAttribute::Arch => {
                let (left, right) = (value.to_ascii_lowercase(), self.value.to_ascii_lowercase());
                arch_word(&left) == arch_word(&right)
            }
            _ => value.eq_ignore_ascii_case(&self.value),
        };
        found.into_iter().any(equals) == self.equal
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.equal { "==" } else { "!=" };
        write!(f, "{} {word} {}", self.attribute, self.value)
    }
}

impl fmt::Display for NodeAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("node.id"),
            Self::Hostname => f.write_str("node.hostname"),
            Self::Role => f.write_str("node.role"),
            Self::Os => f.write_str("node.platform.os"),
            Self::Arch => f.write_str("node.platform.arch"),
            Self::Label(key) => write!(f, "node.labels.{key}"),
            Self::EngineLabel(key) => write!(f, "engine.labels.{key}"),
        }
    }
}

impl ServiceSpec {
    /// How replicas are exchanged on the way back.
    #[must_use]
    pub fn rollback(&self) -> UpdateSpec {
        let mut back = self.rollback.clone().unwrap_or_else(|| UpdateSpec {
            delay_ms: 0,
            failure_action: FailureAction::Pause,
            ..self.update.clone()
        });
        if back.failure_action == FailureAction::Rollback {
            back.failure_action = FailureAction::Pause;
        }
        back
    }

    /// How replicas are exchanged, or exchanged back: as the file says. Where it says nothing of
    /// the order and a volume of one node is written to, one at a time stops first, so that never
    /// two of them write to it at once.
    #[must_use]
    pub fn exchange(&self, back: bool) -> UpdateSpec {
        let mut terms = match back {
            true => self.rollback(),
            false => self.update.clone(),
        };
        if terms.order == UpdateOrder::Auto && self.container.written_volume().is_some() {
            terms.order = UpdateOrder::StopFirst;
            terms.parallelism = 1;
        }
        terms
    }

    /// The volume of which no two replicas that follow each other may hold at once. None: there is
    /// no such volume, or the file says that the next one starts first.
    #[must_use]
    pub fn sole_writer_of(&self) -> Option<&str> {
        let volume = self.container.written_volume()?;
        (self.update.order != UpdateOrder::StartFirst).then_some(volume)
    }
}
