//! Volumes and binds of a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::engine::is_default;

/// A volume or a bind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mount {
    /// Volume name, or an absolute host path for a bind.
    pub source: String,
    /// Path inside the container.
    pub target: String,
    /// No writes.
    #[serde(default)]
    pub read_only: bool,
    /// True for a bind of a host path.
    #[serde(default)]
    pub bind: bool,
    /// How it is mounted, and how its volume is made. Left out of the canonical form when nothing
    /// is said.
    #[serde(default, skip_serializing_if = "is_default")]
    pub options: MountOptions,
}

/// How a mount is made. A field that says nothing is left out of the canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MountOptions {
    /// Of a bind: whether later mounts below it are seen on the other side (`rslave`). Anything but
    /// `private` and `rprivate` needs the node's policy.
    #[serde(skip_serializing_if = "is_default")]
    pub propagation: Option<String>,
    /// Of a bind: the directory is made on the node where it is missing.
    #[serde(skip_serializing_if = "is_default")]
    pub create_host_path: bool,
    /// Of a volume: what the image has at the target is not copied into it.
    #[serde(skip_serializing_if = "is_default")]
    pub no_copy: bool,
    /// Of a volume: what makes it; `local` when absent. Others need the node's policy.
    #[serde(skip_serializing_if = "is_default")]
    pub driver: Option<String>,
    /// What the driver is told: `type`, `device` and `o` of the local one.
    #[serde(skip_serializing_if = "is_default")]
    pub driver_opts: BTreeMap<String, String>,
    /// Labels of the volume.
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// Of a volume: somebody else sees to it that its data is the same on every node (`x-shared`).
    #[serde(skip_serializing_if = "is_default")]
    pub shared: bool,
    /// Of a volume: somebody else makes and removes it (`external`). Where it is not there, nothing
    /// starts.
    #[serde(skip_serializing_if = "is_default")]
    pub external: bool,
}

impl MountOptions {
    /// Is the volume made by the engine itself?
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.driver.as_deref().is_none_or(|name| name == "local")
    }

    /// The words of the local driver's `o`.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let words = self.driver_opts.get("o").map_or("", String::as_str);
        words.split(',').map(str::trim).filter(|w| !w.is_empty())
    }

    /// What the local driver mounts: `device`.
    #[must_use]
    pub fn device(&self) -> &str {
        self.driver_opts.get("device").map_or("", String::as_str)
    }

    /// The file system that the local driver mounts: `type`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.driver_opts.get("type").map_or("", String::as_str)
    }

    /// Is the volume a directory of the node under another name?
    #[must_use]
    pub fn is_bind(&self) -> bool {
        self.is_local() && self.words().any(|word| matches!(word, "bind" | "rbind"))
    }
}

/// File systems whose data is elsewhere than on the node.
const SHARED: [&str; 6] = ["nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs"];

impl Mount {
    /// The host path that it shows: a bind's, or what a volume of the engine's own driver mounts,
    /// be it a directory under another name or a disk.
    #[must_use]
    pub fn bound_path(&self) -> Option<&str> {
        let options = &self.options;
        if self.bind {
            return Some(&self.source);
        }
        let kind = options.kind();
        let elsewhere = SHARED.contains(&kind) || kind == "tmpfs";
        let shows = options.is_local() && !options.device().is_empty() && !elsewhere;
        (options.is_bind() || shows).then(|| options.device())
    }

    /// Do replicas on different nodes see different data? Those of a file server or of a driver
    /// of one's own are taken to be the same everywhere, and what is in memory is no data.
    #[must_use]
    pub fn is_of_one_node(&self) -> bool {
        let kind = self.options.kind();
        let elsewhere = SHARED.contains(&kind) || kind == "tmpfs" || self.options.shared;
        !self.bind && self.options.is_local() && !elsewhere
    }
}
