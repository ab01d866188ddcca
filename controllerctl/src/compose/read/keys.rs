//! Keys of the Compose Specification that are not supported, each with its reason: so that
//! "unknown" always means a typing mistake.

use crate::schema;

/// The nearest of `words`, if it is near enough to be meant.
pub(crate) fn nearest<'w>(text: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    nearest_scored(text, words).map(|(_, word)| word)
}

/// The same, and how near it is: 1 is the same word.
pub(super) fn nearest_scored<'w>(
    text: &str,
    words: impl IntoIterator<Item = &'w str>,
) -> Option<(f64, &'w str)> {
    words
        .into_iter()
        .map(|word| (strsim::jaro_winkler(text, word), word))
        .filter(|(score, _)| *score >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
}

/// As near must be what belongs to another place.
const ELSEWHERE_SCORE_MIN: f64 = 0.93;

/// A key of another place that is meant at `path`: how near it is, and the way out.
pub(super) fn elsewhere(name: &str, path: &str) -> Option<(f64, String)> {
    let level = schema::level(path);
    let homes = schema::homes().filter(|(home, _)| *home != level);
    let scored = homes.map(|(home, key)| (strsim::jaro_winkler(name, key), home, key));
    // Of those that are alike, the first is the nearest to the top.
    let best = scored.reduce(|best, other| if other.0 > best.0 { other } else { best });
    let (score, home, key) = best.filter(|(score, ..)| *score >= ELSEWHERE_SCORE_MIN)?;
    let help = match key {
        "replicas" => {
            let service = path.split('.').nth(1).unwrap_or("NAME");
            format!(
                "write deploy: {{ replicas: 3 }}; while it runs: controllerctl scale {service}=3"
            )
        }
        _ if key == name => format!("it belongs to {home}"),
        _ => format!("did you mean `{key}`? It belongs to {home}"),
    };
    Some((score, help))
}

/// Our extensions, and what they belong to.
const EXTENSIONS: Reasons = &[
    ("x-autoscale", "services.NAME"),
    ("x-context", "the top of the file"),
    ("x-haproxy", "services.NAME"),
    ("x-policy", "services.NAME.deploy.placement"),
    ("x-rebalance", "services.NAME.deploy.placement"),
    ("x-shared", "volumes.NAME"),
];

/// What an extension of ours belongs to.
pub(in super::super) fn belongs(name: &str) -> Option<&'static str> {
    let mut ours = EXTENSIONS.iter();
    ours.find(|(ours, _)| *ours == name).map(|(_, at)| *at)
}

/// What one of our extensions belongs to, at `path` where it means nothing. At the top of a file
/// any may stand as a fragment for YAML's anchors; see [`super::fragments`].
pub(super) fn misplaced(name: &str, path: &str) -> Option<&'static str> {
    belongs(name).filter(|_| !path.is_empty())
}

type Reasons = &'static [(&'static str, &'static str)];

pub(super) const TOP: Reasons = &[("models", "models are not containers")];

const LINUX_CPU: &str = "CPU is limited by cpus or deploy.resources.limits.cpus";

pub(in super::super) const SERVICE: Reasons = &[
    ("blkio_config", "block I/O is not scheduled"),
    ("cgroup", "a replica lives in its own control group"),
    ("cgroup_parent", "a replica lives in its own control group"),
    ("cpu_count", LINUX_CPU),
    ("cpu_percent", LINUX_CPU),
    ("cpu_rt_period", LINUX_CPU),
    ("cpu_rt_runtime", LINUX_CPU),
    ("credential_spec", "only Linux containers are run"),
    ("develop", "it is for one machine"),
    ("device_cgroup_rules", "name single devices in devices"),
    (
        "external_links",
        "services see those of their own app: put both into one app, and write links",
    ),
    ("gpus", "devices are not scheduled"),
    ("isolation", "only Linux containers are run"),
    ("mac_address", "the replicas of a service cannot share one"),
    ("models", "models are not containers"),
    ("post_start", "start it from the image's entry point"),
    (
        "pre_stop",
        "the program gets the stop signal and stop_grace_period",
    ),
    ("provider", "a provider is not a container"),
    (
        "pull_refresh_after",
        "write pull_policy: always, or name another tag",
    ),
    ("use_api_socket", "containers get no engine socket"),
    ("uts", "each replica has its own host name"),
    ("volumes_from", "name the volume in both services"),
];

const ATTESTATION: &str = "nobody reads what it would say of the image";

/// What a service says of a secret of its build.
pub(super) const BUILD_SECRET: Reasons = &[
    ("gid", BUILD_SECRET_STEP),
    ("mode", BUILD_SECRET_STEP),
    ("uid", BUILD_SECRET_STEP),
];

const BUILD_SECRET_STEP: &str = "the step says so: RUN --mount=type=secret,id=…,uid=…,mode=…";

/// What a service says of its build.
pub(super) const BUILD: Reasons = &[
    (
        "additional_contexts",
        "one directory is sent to the engine: put what is needed below it",
    ),
    ("cache_to", "the engine here keeps what it built"),
    (
        "entitlements",
        "builds get no rights beyond the engine's own",
    ),
    ("isolation", "only Linux containers are run"),
    ("privileged", "builds get no rights beyond the engine's own"),
    ("provenance", ATTESTATION),
    ("sbom", ATTESTATION),
    ("ulimits", "steps of a build get the engine's own"),
];

const DEVICE: &str = "the engine of each node gives its containers their network device";

/// What a service says of one of its networks.
pub(super) const ATTACHMENT: Reasons = &[
    ("driver_opts", DEVICE),
    ("interface_name", DEVICE),
    ("ipv4_address", DEVICE),
    ("ipv6_address", DEVICE),
    ("link_local_ips", DEVICE),
    ("mac_address", "the replicas of a service cannot share one"),
];

pub(super) const DEPLOY: Reasons = &[("job_timeout", "only services are run")];

pub(super) const RESOURCES: Reasons = &[
    ("devices", "devices are not scheduled"),
    ("generic_resources", "only cpus and memory are scheduled"),
];

pub(super) const AUTOSCALE: Reasons = &[("dry_run", "write mode: dry-run")];

pub(super) const HAPROXY: Reasons = &[("raw", "not supported yet")];

/// What a secret or config at the top says of itself.
pub(super) const TOP_FILE: Reasons = &[
    (
        "content",
        "who reads the file would read the secret: write file or environment",
    ),
    (
        "external",
        "only secrets stand apart from apps: write file, environment or content",
    ),
    ("name", "it has the name of its key"),
    ("labels", "secrets and configs have no labels"),
    ("driver", "secrets are kept by the controller"),
    ("driver_opts", "secrets are kept by the controller"),
    (
        "template_driver",
        "secrets and configs are taken as they are",
    ),
];

pub(super) const HAPROXY_CHECK: Reasons = &[("inter", "write interval")];

pub(super) const HAPROXY_TIMEOUTS: Reasons = &[(
    "client",
    "a client may be silent for as long as a replica may: write server",
)];

pub(super) const MOUNTS: &str = "only volumes, binds and tmpfs are mounted";

pub(super) const VOLUME: Reasons = &[("image", MOUNTS)];

pub(super) const BIND: Reasons = &[("recursive", "what is mounted below a bind is bound with it")];

pub(super) const VOLUME_OPTIONS: Reasons = &[
    ("labels", "they belong to the volume: write them at the top"),
    (
        "subpath",
        "engines before 26 do not know it: name a volume of its own",
    ),
];
