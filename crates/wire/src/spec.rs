//! `longshore.spec.v1`.

mod engine;
mod files;
mod neighbours;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use longshore_model::ImageDigest;
use longshore_model::image::check_reference;
use longshore_model::spec::{
    Constraint, ContainerSpec, ENGINE_LABELS, ExecCheck, FailureAction, GateSpec, JobRun, JobSpec,
    LABEL_BYTES_MAX, NodeAttribute, PlacementPolicy, PlacementSpec, Platform, Privileges, Probe,
    PullPolicy, Resources, ServiceMode, ServiceSpec, UpdateOrder, UpdateSpec, is_signal,
};
use longshore_proto::spec::v1 as pb;

use crate::autoscale::{autoscale_from, autoscale_to};
use crate::error::{WireError, bounded, invalid, list, map_bounded, port, required};
use crate::route::{route_spec_from_pb, route_spec_to_pb};

/// Longest accepted time in a spec: a day.
const DURATION_MS_MAX: u64 = 86_400_000;
/// Longest name or value of a label that a constraint or a preference has; a value in a Compose
/// file may have one more byte than a label.
const TEXT_BYTES_MAX: usize = LABEL_BYTES_MAX + 1;

fn words_to(words: &[String]) -> pb::Words {
    pb::Words {
        words: words.to_vec(),
    }
}

fn words_from(
    field: &'static str,
    words: Option<pb::Words>,
) -> Result<Option<Vec<String>>, WireError> {
    words
        .map(|words| no_nul(field, bounded(field, 256, words.words)?))
        .transpose()
}

/// The engine's API would cut a text at NUL, so it means something else than it shows.
fn no_nul(field: &'static str, words: Vec<String>) -> Result<Vec<String>, WireError> {
    match words.iter().any(|word| word.contains('\0')) {
        true => Err(invalid(field, "may not contain NUL")),
        false => Ok(words),
    }
}

pub(crate) fn duration(field: &'static str, ms: u64) -> Result<u64, WireError> {
    match ms {
        0..=DURATION_MS_MAX => Ok(ms),
        _ => Err(invalid(field, "is longer than a day")),
    }
}

/// To the wire.
#[must_use]
pub fn container_spec_to_pb(spec: &ContainerSpec) -> pb::ContainerSpec {
    pb::ContainerSpec {
        image: spec.image.clone(),
        image_digest: spec.image_digest.clone().map(String::from),
        pull_policy: match spec.pull_policy {
            PullPolicy::Missing => pb::PullPolicy::Missing,
            PullPolicy::Always => pb::PullPolicy::Always,
            PullPolicy::Never => pb::PullPolicy::Never,
        }
        .into(),
        entrypoint: spec.entrypoint.as_deref().map(words_to),
        command: spec.command.as_deref().map(words_to),
        env: spec.env.clone().into_iter().collect(),
        labels: spec.labels.clone().into_iter().collect(),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        hostname: spec.hostname.clone(),
        stop_grace_ms: spec.stop_grace_ms,
        stop_signal: spec.stop_signal.clone(),
        init: spec.init,
        read_only: spec.read_only,
        tmpfs: spec.tmpfs.clone(),
        ports: spec.ports.iter().map(|port| u32::from(*port)).collect(),
        healthcheck: spec.healthcheck.as_ref().map(|check| pb::ExecCheck {
            command: check.command.clone(),
            interval_ms: check.interval_ms,
            timeout_ms: check.timeout_ms,
            retries: check.retries,
            start_period_ms: check.start_period_ms,
            start_interval_ms: check.start_interval_ms,
        }),
        probe: spec.probe.as_ref().map(|probe| pb::Probe {
            port: probe.port.into(),
            path: probe.path.clone(),
            edge_path: probe.edge_path.clone(),
            interval_ms: probe.interval_ms,
            timeout_ms: probe.timeout_ms,
            retries: probe.retries,
            start_ms_max: probe.start_ms_max,
        }),
        resources: Some(pb::Resources {
            cpu_limit_milli: spec.resources.cpu_limit_milli,
            memory_limit_bytes: spec.resources.memory_limit_bytes,
            cpu_reserved_milli: spec.resources.cpu_reserved_milli,
            memory_reserved_bytes: spec.resources.memory_reserved_bytes,
        }),
        mounts: spec.mounts.iter().map(engine::mount_to).collect(),
        privileges: Some(privileges_to(&spec.privileges)),
        fixed_ports: spec
            .fixed_ports
            .iter()
            .map(|(container, host)| ((*container).into(), (*host).into()))
            .collect(),
        platform: spec.platform.as_ref().map(|platform| pb::Platform {
            os: platform.os.clone(),
            arch: platform.arch.clone(),
            variant: platform.variant.clone(),
        }),
        engine: engine::options_to(&spec.engine),
        files: spec.files.iter().map(files::to).collect(),
        job: spec.job.is_some(),
    }
}

fn privileges_to(p: &Privileges) -> pb::Privileges {
    pb::Privileges {
        privileged: p.privileged,
        host_network: p.host_network,
        host_pid: p.host_pid,
        host_ipc: p.host_ipc,
        cap_add: p.cap_add.clone(),
        cap_drop: p.cap_drop.clone(),
        devices: p.devices.clone(),
        security_opt: p.security_opt.clone(),
        sysctls: p.sysctls.clone().into_iter().collect(),
    }
}

fn privileges_from(p: pb::Privileges) -> Result<Privileges, WireError> {
    Ok(Privileges {
        privileged: p.privileged,
        host_network: p.host_network,
        host_pid: p.host_pid,
        host_ipc: p.host_ipc,
        cap_add: bounded("privileges.cap_add", 64, p.cap_add)?,
        cap_drop: bounded("privileges.cap_drop", 64, p.cap_drop)?,
        devices: bounded("privileges.devices", 64, p.devices)?,
        security_opt: bounded("privileges.security_opt", 64, p.security_opt)?,
        sysctls: map_bounded("privileges.sysctls", 64, p.sysctls)?,
    })
}

fn image_digest_from(digest: Option<String>) -> Result<Option<ImageDigest>, WireError> {
    let read = digest.map(|digest| digest.parse()).transpose();
    read.map_err(|error| invalid("image_digest", format!("{error}")))
}

/// From the wire, checked.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn container_spec_from_pb(spec: pb::ContainerSpec) -> Result<ContainerSpec, WireError> {
    if spec.image.is_empty() || spec.image.len() > 512 || spec.image.contains(char::is_whitespace) {
        return Err(invalid(
            "image",
            "must be an image reference of 1 to 512 characters",
        ));
    }
    let pull_policy = match spec.pull_policy() {
        pb::PullPolicy::Unspecified | pb::PullPolicy::Missing => PullPolicy::Missing,
        pb::PullPolicy::Always => PullPolicy::Always,
        pb::PullPolicy::Never => PullPolicy::Never,
    };
    let env = map_bounded("env", 1024, spec.env)?;
    for (key, value) in &env {
        if key.is_empty() || key.contains('=') || key.contains('\0') || value.contains('\0') {
            return Err(invalid(
                "env",
                format!("{key:?} is no variable (no NUL, no '=' in names)"),
            ));
        }
    }
    let ports = list("ports", 32, spec.ports, |value| port("ports", value))?;
    let fixed_ports = fixed_ports_from(&ports, &spec.fixed_ports)?;
    files::checked(ContainerSpec {
        image: spec.image,
        image_digest: image_digest_from(spec.image_digest)?,
        pull_policy,
        entrypoint: words_from("entrypoint", spec.entrypoint)?,
        command: words_from("command", spec.command)?,
        env,
        labels: map_bounded("labels", 1024, spec.labels)?,
        user: spec.user,
        working_dir: spec.working_dir,
        hostname: spec.hostname,
        stop_grace_ms: duration("stop_grace_ms", spec.stop_grace_ms)?,
        stop_signal: spec.stop_signal,
        init: spec.init,
        read_only: spec.read_only,
        tmpfs: bounded("tmpfs", 64, spec.tmpfs)?,
        ports,
        fixed_ports,
        platform: spec.platform.as_ref().map(platform_from).transpose()?,
        healthcheck: spec.healthcheck.map(exec_check_from).transpose()?,
        probe: spec.probe.map(probe_from).transpose()?,
        resources: spec.resources.map(resources_from).unwrap_or_default(),
        mounts: list("mounts", 128, spec.mounts, engine::mount_from)?,
        files: files::from(spec.files)?,
        privileges: privileges_from(spec.privileges.unwrap_or_default())?,
        engine: spec
            .engine
            .map(engine::options_from)
            .transpose()?
            .unwrap_or_default(),
        // Agents ask for no more than this; of what clients send, the controller makes its own.
        job: spec.job.then(JobRun::default),
        // Not for callers to say: the controller keeps it.
        restarted_ms: 0,
    })
}

/// Each is one of `ports`, and no host port serves two.
fn fixed_ports_from(
    ports: &[u16],
    fixed: &HashMap<u32, u32>,
) -> Result<BTreeMap<u16, u16>, WireError> {
    let mut out = BTreeMap::new();
    let mut hosts = BTreeSet::new();
    for (container, host) in fixed {
        let (container, host) = (
            port("fixed_ports", *container)?,
            port("fixed_ports", *host)?,
        );
        if !ports.contains(&container) || !hosts.insert(host) {
            let rule = "must name published container ports, each with a host port of its own";
            return Err(invalid("fixed_ports", rule));
        }
        out.insert(container, host);
    }
    Ok(out)
}

fn platform_from(platform: &pb::Platform) -> Result<Platform, WireError> {
    let pb::Platform { os, arch, variant } = platform;
    let text = match variant.as_str() {
        "" => format!("{os}/{arch}"),
        _ => format!("{os}/{arch}/{variant}"),
    };
    Platform::parse(&text).ok_or_else(|| invalid("platform", "must be os/arch[/variant]"))
}

fn resources_from(r: pb::Resources) -> Resources {
    Resources {
        cpu_limit_milli: r.cpu_limit_milli,
        memory_limit_bytes: r.memory_limit_bytes,
        cpu_reserved_milli: r.cpu_reserved_milli,
        memory_reserved_bytes: r.memory_reserved_bytes,
    }
}

fn exec_check_from(check: pb::ExecCheck) -> Result<ExecCheck, WireError> {
    Ok(ExecCheck {
        command: no_nul(
            "healthcheck.command",
            bounded("healthcheck.command", 256, check.command)?,
        )?,
        interval_ms: duration("healthcheck.interval_ms", check.interval_ms)?,
        timeout_ms: duration("healthcheck.timeout_ms", check.timeout_ms)?,
        retries: check.retries,
        start_period_ms: duration("healthcheck.start_period_ms", check.start_period_ms)?,
        start_interval_ms: check
            .start_interval_ms
            .map(|ms| duration("healthcheck.start_interval_ms", ms))
            .transpose()?,
    })
}

fn probe_from(probe: pb::Probe) -> Result<Probe, WireError> {
    Ok(Probe {
        port: port("probe.port", probe.port)?,
        path: http_path("probe.path", probe.path)?,
        edge_path: http_path("probe.edge_path", probe.edge_path)?,
        interval_ms: duration("probe.interval_ms", probe.interval_ms)?.max(100),
        timeout_ms: duration("probe.timeout_ms", probe.timeout_ms)?.max(10),
        retries: probe.retries.max(1),
        start_ms_max: duration("probe.start_ms_max", probe.start_ms_max)?,
    })
}

/// A path that can stand in a request line and in an HAProxy config without quoting.
fn http_path(field: &'static str, path: Option<String>) -> Result<Option<String>, WireError> {
    let Some(path) = path else { return Ok(None) };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~?=&%:@+,".contains(&b);
    match path.starts_with('/') && path.len() <= 1024 && path.bytes().all(plain) {
        true => Ok(Some(path)),
        false => Err(invalid(
            field,
            "must start with '/' and hold only URL characters",
        )),
    }
}

/// To the wire.
#[must_use]
pub fn service_spec_to_pb(spec: &ServiceSpec) -> pb::ServiceSpec {
    pb::ServiceSpec {
        container: Some(container_spec_to_pb(&spec.container)),
        mode: match spec.mode {
            ServiceMode::Replicated => pb::ServiceMode::Unspecified,
            ServiceMode::Global => pb::ServiceMode::Global,
        }
        .into(),
        replicas: spec.replicas,
        placement: Some(placement_to(&spec.placement)),
        update: Some(update_to(&spec.update)),
        rollback: spec.rollback.as_ref().map(update_to),
        gate: spec.gate.as_ref().map(|gate| pb::GateSpec {
            requests_min: gate.requests_min,
            error_increase_permille_max: gate.error_increase_permille_max,
            latency_permille_max: gate.latency_permille_max,
            latency_ms_min: gate.latency_ms_min,
        }),
        autoscale: spec.autoscale.as_ref().map(autoscale_to),
        routes: spec.routes.iter().map(route_spec_to_pb).collect(),
        drain_ms: spec.drain_ms,
        networks: neighbours::networks_to(&spec.networks),
        links: neighbours::links_to(&spec.links),
        depends_on: neighbours::depends_to(&spec.depends_on),
        job: spec.job.map(|job| pb::JobSpec {
            tries_max: job.tries_max,
        }),
    }
}

/// From the wire, checked.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn service_spec_from_pb(spec: pb::ServiceSpec) -> Result<ServiceSpec, WireError> {
    let update = update_from(spec.update.unwrap_or_default())?;
    let rollback = spec.rollback.map(update_from).transpose()?;
    if rollback
        .as_ref()
        .is_some_and(|back| back.failure_action == FailureAction::Rollback)
    {
        let rule = "cannot be rollback: a rollback that fails pauses or continues";
        return Err(invalid("rollback.failure_action", rule));
    }
    let container = container_spec_from_pb(required("container", spec.container)?)?;
    known_to_engines(&container)?;
    let mode = match pb::ServiceMode::try_from(spec.mode) {
        Ok(pb::ServiceMode::Unspecified | pb::ServiceMode::Replicated) => ServiceMode::Replicated,
        Ok(pb::ServiceMode::Global) => ServiceMode::Global,
        Err(_) => return Err(invalid("mode", "is none that this version knows")),
    };
    let read = ServiceSpec {
        container,
        mode,
        replicas: spec.replicas,
        placement: placement_from(spec.placement.unwrap_or_default())?,
        update,
        rollback,
        gate: spec.gate.map(gate_from).transpose()?,
        autoscale: spec.autoscale.map(autoscale_from).transpose()?,
        routes: list("routes", 32, spec.routes, route_spec_from_pb)?,
        drain_ms: duration("drain_ms", spec.drain_ms)?,
        networks: neighbours::networks_from(spec.networks)?,
        links: neighbours::links_from(spec.links)?,
        depends_on: neighbours::depends_from(spec.depends_on)?,
        job: spec.job.map(|job| JobSpec {
            tries_max: job.tries_max,
        }),
    };
    match read.mode_faults().first() {
        Some(fault) => Err(invalid("mode", fault.to_string())),
        None => Ok(read),
    }
}

/// What every engine would refuse is refused from people; what the controller already has reaches
/// its nodes, which say why.
fn known_to_engines(container: &ContainerSpec) -> Result<(), WireError> {
    let image = &container.image;
    check_reference(image).map_err(|error| invalid("image", format!("{image:?} {error}")))?;
    match &container.stop_signal {
        Some(signal) if !is_signal(signal) => {
            Err(invalid("stop_signal", format!("{signal:?} is no signal")))
        }
        _ => Ok(()),
    }
}

fn update_to(spec: &UpdateSpec) -> pb::UpdateSpec {
    pb::UpdateSpec {
        parallelism: spec.parallelism,
        order: match spec.order {
            UpdateOrder::Auto => pb::UpdateOrder::Unspecified,
            UpdateOrder::StartFirst => pb::UpdateOrder::StartFirst,
            UpdateOrder::StopFirst => pb::UpdateOrder::StopFirst,
        }
        .into(),
        max_unavailable: spec.max_unavailable,
        delay_ms: spec.delay_ms,
        monitor_ms: Some(spec.monitor_ms),
        failure_action: match spec.failure_action {
            FailureAction::Pause => pb::FailureAction::Pause,
            FailureAction::Continue => pb::FailureAction::Continue,
            FailureAction::Rollback => pb::FailureAction::Rollback,
        }
        .into(),
        failure_permille_max: spec.failure_permille_max,
    }
}

fn update_from(spec: pb::UpdateSpec) -> Result<UpdateSpec, WireError> {
    let (order, failure_action) = (spec.order(), spec.failure_action());
    if spec.failure_permille_max.is_some_and(|share| share > 1_000) {
        let rule = "is a share in thousandths, at most 1000";
        return Err(invalid("update.failure_permille_max", rule));
    }
    let monitor_ms = spec
        .monitor_ms
        .unwrap_or_else(|| UpdateSpec::default().monitor_ms);
    Ok(UpdateSpec {
        parallelism: spec.parallelism,
        delay_ms: duration("update.delay_ms", spec.delay_ms)?,
        order: match order {
            pb::UpdateOrder::Unspecified => UpdateOrder::Auto,
            pb::UpdateOrder::StartFirst => UpdateOrder::StartFirst,
            pb::UpdateOrder::StopFirst => UpdateOrder::StopFirst,
        },
        max_unavailable: spec.max_unavailable,
        monitor_ms: duration("update.monitor_ms", monitor_ms)?,
        failure_action: match failure_action {
            pb::FailureAction::Unspecified | pb::FailureAction::Pause => FailureAction::Pause,
            pb::FailureAction::Continue => FailureAction::Continue,
            pb::FailureAction::Rollback => FailureAction::Rollback,
        },
        failure_permille_max: spec.failure_permille_max,
    })
}

fn gate_from(gate: pb::GateSpec) -> Result<GateSpec, WireError> {
    if gate
        .error_increase_permille_max
        .is_some_and(|share| share > 1_000)
    {
        let rule = "is a share in thousandths, at most 1000";
        return Err(invalid("gate.error_increase_permille_max", rule));
    }
    let ratio = gate.latency_permille_max;
    if ratio.is_some_and(|ratio| !(1_000..=1_000_000).contains(&ratio)) {
        let rule = "is a ratio in thousandths, 1000 to 1000000";
        return Err(invalid("gate.latency_permille_max", rule));
    }
    if ratio.is_none() && gate.error_increase_permille_max.is_none() {
        return Err(invalid("gate", "looks at nothing: name errors or latency"));
    }
    Ok(GateSpec {
        requests_min: gate.requests_min.max(1),
        error_increase_permille_max: gate.error_increase_permille_max,
        latency_permille_max: ratio,
        latency_ms_min: gate.latency_ms_min,
    })
}

fn placement_to(spec: &PlacementSpec) -> pb::PlacementSpec {
    pb::PlacementSpec {
        constraints: spec
            .constraints
            .iter()
            .map(|c| {
                let (attribute, label) = match &c.attribute {
                    NodeAttribute::Id => (pb::NodeAttribute::Id, ""),
                    NodeAttribute::Hostname => (pb::NodeAttribute::Hostname, ""),
                    NodeAttribute::Role => (pb::NodeAttribute::Role, ""),
                    NodeAttribute::Os => (pb::NodeAttribute::Os, ""),
                    NodeAttribute::Arch => (pb::NodeAttribute::Arch, ""),
                    NodeAttribute::Label(key) => (pb::NodeAttribute::Label, key.as_str()),
                    NodeAttribute::EngineLabel(key) => {
                        (pb::NodeAttribute::EngineLabel, key.as_str())
                    }
                };
                pb::Constraint {
                    attribute: attribute.into(),
                    label: label.to_owned(),
                    equal: c.equal,
                    value: c.value.clone(),
                }
            })
            .collect(),
        max_per_node: spec.max_per_node,
        policy: match spec.policy {
            PlacementPolicy::Spread => pb::PlacementPolicy::Spread,
            PlacementPolicy::Binpack => pb::PlacementPolicy::Binpack,
        }
        .into(),
        spread_labels: spec.spread_labels.clone(),
        stay: spec.stay,
    }
}

/// Names and values of labels.
fn short(field: &'static str, text: &str) -> Result<(), WireError> {
    match text.len() {
        0..=TEXT_BYTES_MAX => Ok(()),
        bytes => Err(invalid(
            field,
            format!("has {bytes} bytes; at most {TEXT_BYTES_MAX}"),
        )),
    }
}

fn placement_from(spec: pb::PlacementSpec) -> Result<PlacementSpec, WireError> {
    let policy = match spec.policy() {
        pb::PlacementPolicy::Binpack => PlacementPolicy::Binpack,
        _ => PlacementPolicy::Spread,
    };
    let constraint = |c: pb::Constraint| {
        let attribute = match c.attribute() {
            pb::NodeAttribute::Id => NodeAttribute::Id,
            pb::NodeAttribute::Hostname => NodeAttribute::Hostname,
            pb::NodeAttribute::Role => NodeAttribute::Role,
            pb::NodeAttribute::Os => NodeAttribute::Os,
            pb::NodeAttribute::Arch => NodeAttribute::Arch,
            pb::NodeAttribute::Label if !c.label.is_empty() => NodeAttribute::Label(c.label),
            pb::NodeAttribute::EngineLabel if !c.label.is_empty() => {
                NodeAttribute::EngineLabel(c.label)
            }
            _ => return Err(invalid("placement.constraints.attribute", "is not known")),
        };
        if let NodeAttribute::Label(name) | NodeAttribute::EngineLabel(name) = &attribute {
            short("placement.constraints.label", name)?;
        }
        short("placement.constraints.value", &c.value)?;
        Ok(Constraint {
            attribute,
            equal: c.equal,
            value: c.value,
        })
    };
    for label in &spec.spread_labels {
        let name = label.strip_prefix(ENGINE_LABELS).unwrap_or(label);
        short("placement.spread_labels", name)?;
    }
    Ok(PlacementSpec {
        constraints: list("placement.constraints", 64, spec.constraints, constraint)?,
        max_per_node: spec.max_per_node,
        policy,
        spread_labels: bounded("placement.spread_labels", 8, spec.spread_labels)?,
        stay: spec.stay,
    })
}
