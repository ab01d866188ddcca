//! One entry of `services`.

use longshore_model::spec::{ContainerSpec, ModeFault, Probe, RouteMode, ServiceMode};
use longshore_model::{ServiceSpec, image};
use longshore_wire::{service_spec_from_pb, service_spec_to_pb};

use super::super::build::Build;
use super::super::node::{Key, Node};
use super::super::problem::Problems;
use super::files::Given;
use super::haproxy::{Check, Haproxy};
use super::item::{Fields, Item};
use super::{
    Shared, autoscale, build, container, depends, deploy, haproxy, health, job, keys, limits,
    networks, ports, volumes,
};

/// Time between two probes of a healthy replica where the file is silent.
const PROBE_INTERVAL_MS: u64 = 2_000;
/// As HAProxy's own: a busy app answers late and is not ill.
const PROBE_TIMEOUT_MS: u64 = 3_000;
const PROBE_RETRIES: u32 = 3;
/// Within which a replica must become healthy.
const PROBE_START_MS_MAX: u64 = 60_000;

/// Reads one service; what is wrong with it is left out of what it becomes. None: it could not be
/// read far enough to make anything of it.
pub(super) fn read<'a>(
    item: &Item<'a>,
    shared: &Shared<'a>,
    p: &mut Problems,
) -> Option<(ServiceSpec, Option<Build>)> {
    let errors_before = p.errors();
    let mut fields = item.fields(p)?;
    let mut spec = container::read(&mut fields, shared, p);
    let build = build::read(&mut fields, spec.platform.as_ref(), shared, p);
    let is_job = job::is_one(item, &shared.awaited);
    let tries = notes(&mut fields, is_job, p);
    let sight = networks::service(&mut fields, &shared.networks, p);
    let depends_on = depends::read(&mut fields, &sight.links, p);
    let health = health::read(fields.take("healthcheck"), p);
    spec.healthcheck = health;
    let (haproxy, ports) = ways_in(&mut fields, item, &mut spec, p);
    let mut given = Given::default();
    given.take(&mut fields, &shared.files, p);
    if let Some(volumes) = fields.take("volumes") {
        volumes::service(&volumes, shared, (&mut spec, &mut given), p);
    }
    given.finish(item, &mut spec, p);
    let mut deploy = deploy::read(fields.take("deploy"), &mut spec, is_job, p);
    limits::read(&mut fields, &mut spec, &mut deploy, p);
    let container_name = fields.take("container_name");
    check_autoscale(&fields, deploy.mode, p);
    let autoscale = autoscale::read(
        fields.take("x-autoscale"),
        &spec,
        !ports.routes.is_empty() || ports.is_partial || p.is_partial_at(&item.path),
        p,
    );
    image(item, &mut spec, build.is_some(), shared, p);
    if spec.tmpfs.len() > container::TMPFS_MAX {
        let message = format!(
            "has {} tmpfs; at most {}",
            spec.tmpfs.len(),
            container::TMPFS_MAX
        );
        item.invalid(p, message);
    }
    fields.finish(p, keys::SERVICE);
    let (replicas, most) = counts(item, &deploy, autoscale.as_ref(), p);
    let scales = autoscale.as_ref().is_some_and(|scaling| scaling.max > 1);
    one_only(item, &spec, (most, scales), p);
    named(container_name, most, p);
    let spec = ServiceSpec {
        container: spec,
        mode: deploy.mode,
        replicas,
        placement: deploy.placement,
        update: deploy.update,
        rollback: deploy.rollback,
        gate: haproxy.gate,
        autoscale,
        routes: ports.routes,
        drain_ms: haproxy.drain_ms,
        networks: sight.networks,
        links: sight.links,
        depends_on,
        job: job::spec(is_job, deploy.tries.unwrap_or(tries)),
    };
    job::check(item, &spec, p);
    if p.errors() == errors_before && !p.is_partial_at(&item.path) {
        known_to_the_api(item, &spec, p);
    }
    Some((spec, build))
}

/// `x-haproxy`, `ports` and `expose`.
fn ways_in(
    fields: &mut Fields<'_>,
    item: &Item<'_>,
    spec: &mut ContainerSpec,
    p: &mut Problems,
) -> (Haproxy, ports::Ports) {
    let has_haproxy = fields.take("x-haproxy");
    let haproxy = haproxy::read(has_haproxy.clone(), p);
    let mut ports = ports::read(fields.take("ports"), fields.take("expose"), &haproxy, p);
    if let Some(item) = &has_haproxy {
        join(item, &haproxy, &mut ports, p);
    }
    if spec.privileges.host_network && !ports.published.is_empty() {
        item.invalid(
            p,
            "ports cannot be published together with network_mode: host",
        );
    }
    spec.probe = probe(&ports, &haproxy, spec);
    spec.ports.clone_from(&ports.published);
    spec.fixed_ports.clone_from(&ports.fixed);
    (haproxy, ports)
}

/// Whatever the API would refuse is said here, with its file.
fn known_to_the_api(item: &Item<'_>, service: &ServiceSpec, p: &mut Problems) {
    let Err(error) = service_spec_from_pb(service_spec_to_pb(service)) else {
        return;
    };
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    let message = format!(
        "the API does not take it: {error}{}",
        cause.unwrap_or_default()
    );
    item.invalid(p, message);
}

/// What `x-haproxy` says holds for ways in.
fn join(item: &Item<'_>, haproxy: &Haproxy, ports: &mut ports::Ports, p: &mut Problems) {
    let is_unread = ports.is_partial && !p.ignores_unsupported() || p.is_partial_at(&item.path);
    if is_unread || ports.is_partial && ports.routes.is_empty() {
        // What would be missed may be in what could not be read.
    } else if ports.routes.is_empty() {
        // Connections by name are given that time, too (docs/names.md).
        let asks_edges = |(key, _): &(&Key, Item<'_>)| {
            let name = key.name.as_str();
            name != "drain" && !name.starts_with("x-")
        };
        if item
            .entries(p)
            .is_some_and(|keys| keys.iter().any(asks_edges))
        {
            item.invalid_help(
                p,
                "the service publishes no port, so HAProxy has nothing to do for it",
                "add for example: ports: [\"80:8000\"]; drain alone may stay",
            );
        }
    } else {
        haproxy.join_tls(item, &mut ports.routes, p);
    }
}

/// What is built and has no name gets that of docker compose.
fn image(
    item: &Item<'_>,
    spec: &mut ContainerSpec,
    is_built: bool,
    shared: &Shared<'_>,
    p: &mut Problems,
) {
    let is_empty = item.node.get("image").and_then(Node::as_text) == Some("");
    if !spec.image.is_empty() || item.has("image") && !is_empty {
        return;
    }
    if is_built {
        let service = item.path.rsplit('.').next().unwrap_or_default();
        // Names of images have no capitals.
        let service = service.to_ascii_lowercase();
        spec.image = format!("{}-{service}:latest", shared.app);
        if image::check_reference(&spec.image).is_err() {
            let message = format!("the image that is built cannot be called {:?}", spec.image);
            item.invalid_help(p, message, "name it, for example: image: shop/web:1");
        }
    } else if !item.has("build") && !p.is_partial_at(&item.path) {
        let help = "add for example: image: nginx:1.29, or build: .";
        item.at("image").invalid_help(p, "has no image", help);
    }
}

/// Keys that are read and change nothing here, but for how often a job is tried: that is given.
fn notes(fields: &mut Fields<'_>, is_job: bool, p: &mut Problems) -> u32 {
    // They were followed before anything of a service was read.
    for name in ["env_file", "extends", "label_file", "profiles"] {
        fields.take(name);
    }
    const RESTART: [&str; 4] = ["no", "always", "on-failure", "unless-stopped"];
    if let Some(item) = fields.filled("restart")
        && let Some(text) = item.text(p)
    {
        let word = text.split(':').next().unwrap_or_default();
        if is_job && (word == "false" || RESTART.contains(&word)) {
            return job::restart(text, &item, p);
        }
        if word == "no" || word == "false" {
            let message = "a service is kept running: what ends is started again";
            p.warn("restart", item.place(), &item.path, message).file();
        } else if !RESTART.contains(&word) {
            item.invalid(p, format!("{text:?} is none of: {}", RESTART.join(", ")));
        }
    }
    1
}

/// The agent asks a replica over its first published port: HTTP where a path is known, else a
/// connection, so that no service with a way in is routed unchecked.
fn probe(ports: &ports::Ports, haproxy: &Haproxy, spec: &ContainerSpec) -> Option<Probe> {
    let first = ports.routes.first()?;
    let check = haproxy.check.clone();
    // The image may have no check of its own.
    if check.path.is_none() && spec.has_check_command() {
        return None;
    }
    let Check {
        path,
        interval_ms,
        timeout_ms,
        fall,
        start_ms,
    } = check;
    // A TCP way in is checked by a connection.
    let http = ports
        .routes
        .iter()
        .any(|route| route.mode == RouteMode::Http);
    let path = path.filter(|_| http);
    let (path, edge_path) = match first.mode == RouteMode::Http && haproxy.is_plain() {
        true => (path, None),
        false => (None, path),
    };
    Some(Probe {
        port: first.container_port,
        path,
        edge_path,
        interval_ms: interval_ms.unwrap_or(PROBE_INTERVAL_MS),
        timeout_ms: timeout_ms.unwrap_or(PROBE_TIMEOUT_MS),
        retries: fall.unwrap_or(PROBE_RETRIES),
        start_ms_max: start_ms.unwrap_or(PROBE_START_MS_MAX),
    })
}

/// `x-autoscale` must say something, and only of a service that has a count.
fn check_autoscale(fields: &Fields<'_>, mode: ServiceMode, p: &mut Problems) {
    if let Some(item) = fields.empty("x-autoscale") {
        item.invalid_help(
            p,
            "is empty, so nothing would scale by load",
            "say how, for example: {max: 10, cpu: 60%}, or leave the key away",
        );
    }
    if let Some(item) = fields.peek("x-autoscale") {
        deploy::refuse(&item, mode, ModeFault::Autoscale, p);
    }
}

/// The first count, and how many there may be at most.
fn counts(
    item: &Item<'_>,
    deploy: &deploy::Deploy,
    autoscale: Option<&longshore_model::AutoscaleSpec>,
    p: &mut Problems,
) -> (u32, Most) {
    match deploy.mode {
        ServiceMode::Replicated => {
            let replicas = replicas(item, deploy.replicas, autoscale, p);
            let most = replicas.max(autoscale.map_or(0, |a| a.max));
            (replicas, Most::Count(most))
        }
        ServiceMode::Global => (0, Most::EachNode),
    }
}

fn replicas(
    item: &Item<'_>,
    asked: Option<u32>,
    autoscale: Option<&longshore_model::AutoscaleSpec>,
    p: &mut Problems,
) -> u32 {
    let Some(policy) = autoscale else {
        return asked.unwrap_or(1);
    };
    let asked = asked.unwrap_or(policy.min);
    let clamped = asked.clamp(policy.min, policy.max.max(policy.min));
    if clamped != asked {
        let message = format!(
            "deploy.replicas {asked} is outside of x-autoscale {}..{}; it starts with {clamped}",
            policy.min, policy.max
        );
        p.warn("bounds", item.key, &item.path, message).file();
    }
    clamped
}

/// How many replicas there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Most {
    Count(u32),
    /// One on each node.
    EachNode,
}

impl Most {
    /// More than one, in words.
    fn several(self) -> Option<String> {
        match self {
            Self::Count(0 | 1) => None,
            Self::Count(most) => Some(format!("for up to {most} replicas")),
            Self::EachNode => Some("on each node".to_owned()),
        }
    }
}

/// Options that can hold for one replica only.
fn one_only(item: &Item<'_>, spec: &ContainerSpec, (most, scales): (Most, bool), p: &mut Problems) {
    if let Some(several) = most.several().filter(|_| spec.hostname.is_some()) {
        let message = format!("hostname cannot be the same {several}");
        item.invalid_help(p, message, "drop hostname: each replica has its own name");
    }
    // With one on each node, a volume on each node is what is meant.
    let (Most::Count(most @ 2..), Some(volume)) = (most, spec.local_volumes().next()) else {
        return;
    };
    let ways_out = "say x-shared: true of the volume if its data is the same on every node, or give \
                    it driver_opts of type nfs";
    if scales {
        let message = format!(
            "volume {volume} is on one node, where all replicas would run: nothing to scale over"
        );
        item.at("x-autoscale")
            .invalid_help(p, message, format!("{ways_out}, or max: 1"));
    } else {
        let message = format!("all {most} replicas run where the data of volume {volume} is");
        p.warn("volume_local", item.key, &item.path, message)
            .help(ways_out)
            .file();
    }
}

/// `container_name`. Containers keep names of their own: while one replica follows another there
/// are two of them, side by side, and a node has each name once.
fn named(item: Option<Item<'_>>, most: Most, p: &mut Problems) {
    let Some(item) = item else { return };
    let Some(name) = item.word(p) else { return };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let first = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    if !first || name.len() < 2 || name.len() > 255 || !name.bytes().all(plain) {
        let message = format!("{name:?} is no name of a container");
        item.invalid_help(p, message, "write at least two of: letters, digits, _ . -");
        return;
    }
    if let Some(several) = most.several() {
        let message = format!("cannot be the same {several}");
        item.invalid_help(p, message, "drop it: each replica has its own name");
        return;
    }
    let service = item.path.rsplit('.').nth(1).unwrap_or_default();
    let message = format!("the container is not called {name:?}");
    p.warn("container_name", item.place(), &item.path, message)
        .label("no container has this name")
        .help(format!(
            "its replica is {service}.1 in `ps` and `logs`: while it is updated there are two, so \
             containers have names of their own"
        ))
        .file();
}
