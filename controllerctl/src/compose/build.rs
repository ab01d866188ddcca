//! What is built before it is run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use longshore_model::spec::Platform;

/// How the image of a service is built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Build {
    /// The directory that the build sees.
    pub context: PathBuf,
    /// What to do in it.
    pub dockerfile: Dockerfile,
    /// `ARG`s; one without a value that is not set where the command runs is left away.
    pub args: BTreeMap<String, String>,
    /// Stage to stop at.
    pub target: Option<String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Network of the `RUN` steps: default, none, host, or the name of one.
    pub network: Option<String>,
    /// Do each step anew.
    pub no_cache: bool,
    /// Ask for newer base images.
    pub pull: bool,
    /// `name:address`, for the `RUN` steps.
    pub extra_host: Option<String>,
    /// Size of /dev/shm of the `RUN` steps; 0: the engine's own.
    pub shm_bytes: u64,
    /// For another platform than the engine's.
    pub platform: Option<Platform>,
    /// Further names of the image.
    pub tags: Vec<String>,
    /// Images whose layers may be taken for steps.
    pub cache_from: Vec<String>,
    /// Agents and keys of ssh for `RUN --mount=type=ssh`, as docker's client has them: `default`,
    /// `id=path`.
    pub ssh: Vec<String>,
    /// Secrets for `RUN --mount=type=secret`, by id.
    pub secrets: BTreeMap<String, BuildSecret>,
    /// `pull_policy: build`: even if the image is there.
    pub always: bool,
}

/// Where a secret of a build is.
#[derive(Clone, PartialEq, Eq)]
pub enum BuildSecret {
    /// In a file.
    File(PathBuf),
    /// Itself.
    Text(String),
}

impl std::fmt::Debug for BuildSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Text(_) => f.write_str("Text(…)"),
        }
    }
}

/// Where the steps of a build stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dockerfile {
    /// In a file; relative names start from the context.
    File(PathBuf),
    /// In the Compose file.
    Inline(String),
}

impl Default for Dockerfile {
    fn default() -> Self {
        Self::File("Dockerfile".into())
    }
}
