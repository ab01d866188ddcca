//! From a replica to what the engine is asked to make. Pure.

mod options;

use std::collections::HashMap;
use std::iter;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HealthConfig, HostConfig, Mount, MountType, PortBinding,
    RestartPolicy, RestartPolicyNameEnum,
};
use longshore_model::ContainerSpec;
use longshore_model::plan::AssignedReplica;
use longshore_model::spec::ExecCheck;
use longshore_model::spec::file::SECRETS_DIRECTORY;

use super::Launch;
use crate::images::local_name;

/// Label of everything that is ours.
pub const LABEL_MANAGED: &str = "longshore.managed";
/// Label with the cluster's name.
pub const LABEL_CLUSTER: &str = "longshore.cluster";
/// Label with the replica's id.
pub const LABEL_REPLICA: &str = "longshore.replica";

/// Linux's `__NEW_UTS_LEN`.
const HOST_BYTES_MAX: usize = 64;
const NANOS_PER_MS: u64 = 1_000_000;

/// `longshore-<app>-<service>-<slot>-<replica id>`: unique, so that the engine itself refuses a
/// twin.
#[must_use]
pub fn container_name(launch: &Launch) -> String {
    let replica = &launch.replica;
    let (app, service) = (&replica.service.app, &replica.service.service);
    format!("longshore-{app}-{service}-{}-{}", replica.slot, replica.id)
}

/// What a container calls itself where its file says nothing: `SERVICE.SLOT`, in the 64 bytes that the
/// kernel has for it.
fn host_name(replica: &AssignedReplica) -> String {
    let slot = format!(".{}", replica.slot);
    let service = replica.service.service.as_str();
    let most = HOST_BYTES_MAX.saturating_sub(slot.len());
    format!("{}{slot}", &service[..service.len().min(most)])
}

/// The engine's request.
#[must_use]
pub fn create_body(launch: &Launch) -> ContainerCreateBody {
    let (spec, replica) = (&launch.spec, &launch.replica);
    let hostname = spec.hostname.clone().unwrap_or_else(|| host_name(replica));
    let ports = replica
        .ports
        .iter()
        .map(|port| format!("{}/tcp", port.container_port));
    ContainerCreateBody {
        image: Some(local_name(&spec.image_ref())),
        // The host's own name is the only one with the host's network.
        hostname: (!spec.privileges.host_network).then_some(hostname),
        domainname: spec.engine.domainname.clone(),
        tty: spec.engine.tty.then_some(true),
        open_stdin: spec.engine.stdin_open.then_some(true),
        user: spec.user.clone(),
        exposed_ports: Some(ports.collect()),
        env: Some(
            spec.env
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect(),
        ),
        entrypoint: spec.entrypoint.clone(),
        cmd: spec.command.clone(),
        working_dir: spec.working_dir.clone(),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: Some(signed(spec.stop_grace_ms.div_ceil(1000))),
        healthcheck: Some(spec.healthcheck.as_ref().map_or_else(no_check, check)),
        labels: Some(labels(launch)),
        host_config: Some(options::with_options(host_config(launch), &spec.engine)),
        ..ContainerCreateBody::default()
    }
}

fn labels(launch: &Launch) -> HashMap<String, String> {
    let replica = &launch.replica;
    let mut labels: HashMap<String, String> = launch.spec.labels.clone().into_iter().collect();
    // Ours come last: a user's label must not pose as one of them.
    labels.extend(
        [
            (LABEL_MANAGED, "true".to_owned()),
            (LABEL_CLUSTER, launch.cluster.to_string()),
            ("longshore.app", replica.service.app.to_string()),
            ("longshore.service", replica.service.service.to_string()),
            ("longshore.slot", replica.slot.to_string()),
            (LABEL_REPLICA, replica.id.to_string()),
            ("longshore.revision", replica.revision.to_string()),
            ("longshore.template", replica.template.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    labels
}

/// An image's own check would run beside the probe that the file asked for.
fn no_check() -> HealthConfig {
    HealthConfig {
        test: Some(vec!["NONE".into()]),
        ..HealthConfig::default()
    }
}

fn check(check: &ExecCheck) -> HealthConfig {
    let nanos = |ms: u64| Some(signed(ms.saturating_mul(NANOS_PER_MS)));
    // What is not said, the engine takes from the image: so with a time of 0.
    let words = check.command.iter().cloned();
    let test = (!check.is_of_image()).then(|| iter::once("CMD".to_owned()).chain(words).collect());
    let often_ms = match check.interval_ms {
        0 => 1_000,
        interval_ms => interval_ms.min(1_000),
    };
    HealthConfig {
        test,
        interval: nanos(check.interval_ms),
        timeout: nanos(check.timeout_ms),
        retries: Some(check.retries.into()),
        start_period: nanos(check.start_period_ms),
        // Engines from 25 on ask more often while it starts; older ones ignore it.
        start_interval: nanos(check.start_interval_ms.unwrap_or(often_ms)),
    }
}

fn host_config(launch: &Launch) -> HostConfig {
    let spec = &launch.spec;
    let (asked, resources) = (&spec.privileges, &spec.resources);
    let some = |value: u64| (value > 0).then(|| signed(value));
    let host = |wanted: bool| wanted.then(|| "host".to_owned());
    HostConfig {
        port_bindings: (!asked.host_network).then(|| port_bindings(launch)),
        network_mode: host(asked.host_network),
        pid_mode: host(asked.host_pid),
        ipc_mode: host(asked.host_ipc),
        privileged: Some(asked.privileged),
        cap_add: Some(asked.cap_add.clone()),
        cap_drop: Some(cap_drop(spec)),
        security_opt: Some(security_opt(spec)),
        sysctls: Some(asked.sysctls.clone().into_iter().collect()),
        devices: Some(
            asked
                .devices
                .iter()
                .map(|device| device_mapping(device))
                .collect(),
        ),
        nano_cpus: some(resources.cpu_limit_milli.saturating_mul(NANOS_PER_MS)),
        memory: some(resources.memory_limit_bytes),
        memory_reservation: some(resources.memory_reserved_bytes),
        // Relative weight under contention: 1,024 for a whole core.
        cpu_shares: some(resources.cpu_reserved_milli.saturating_mul(1024) / 1000)
            .map(|shares| shares.max(2)),
        init: Some(spec.init),
        readonly_rootfs: Some(spec.read_only),
        extra_hosts: Some(extra_hosts(launch)).filter(|hosts| !hosts.is_empty()),
        tmpfs: Some(spec.tmpfs.iter().map(|entry| tmpfs(entry)).collect()),
        mounts: Some(mounts(launch)),
        // The agent restarts what crashed: the engine cannot tell a crash from a stop by hand.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        ..HostConfig::default()
    }
}

/// Those of its file; and where the engine could not write secrets, a volume without a name, which
/// goes with the container.
fn mounts(launch: &Launch) -> Vec<Mount> {
    let spec = &launch.spec;
    let secrets = spec.has_secrets_volume().then(|| Mount {
        typ: Some(MountType::VOLUME),
        target: Some(SECRETS_DIRECTORY.to_owned()),
        ..Mount::default()
    });
    let own = spec.mounts.iter().map(|mount| {
        let mut made = options::mount(mount);
        if !mount.bind && !mount.options.external {
            // Whose it is, once the app is gone.
            let options = made.volume_options.get_or_insert_default();
            let labels = options.labels.get_or_insert_default();
            let app = launch.replica.service.app.to_string();
            labels.insert(LABEL_CLUSTER.to_owned(), launch.cluster.to_string());
            labels.insert("longshore.app".to_owned(), app);
        }
        made
    });
    own.chain(secrets).collect()
}

/// Those of its file, and names of services that the file does not lead elsewhere. With the host's
/// network the container has a list of its own all the same.
fn extra_hosts(launch: &Launch) -> Vec<String> {
    let own = &launch.spec.engine.extra_hosts;
    let led = |name: &str| {
        let mut own = own.iter().filter_map(|entry| entry.split_once(':'));
        own.any(|(word, _)| word == name)
    };
    let named = launch.hosts.iter().filter(|(name, _)| !led(name));
    let named = named.map(|(name, address)| format!("{name}:{address}"));
    own.iter().cloned().chain(named).collect()
}

fn port_bindings(launch: &Launch) -> HashMap<String, Option<Vec<PortBinding>>> {
    let address = if launch.ipv6 { "::" } else { "0.0.0.0" };
    let binding = |host_port: u16| PortBinding {
        host_ip: Some(address.to_owned()),
        host_port: Some(host_port.to_string()),
    };
    launch
        .replica
        .ports
        .iter()
        .map(|port| {
            (
                format!("{}/tcp", port.container_port),
                Some(vec![binding(port.host_port)]),
            )
        })
        .collect()
}

fn cap_drop(spec: &ContainerSpec) -> Vec<String> {
    let mut drop = spec.privileges.cap_drop.clone();
    let asks_raw = |cap: &String| {
        matches!(
            cap.to_ascii_uppercase().as_str(),
            "NET_RAW" | "CAP_NET_RAW" | "ALL" | "CAP_ALL"
        )
    };
    if !spec.privileges.cap_add.iter().any(asks_raw) && !drop.iter().any(asks_raw) {
        drop.push("NET_RAW".into());
    }
    drop
}

fn security_opt(spec: &ContainerSpec) -> Vec<String> {
    let mut options = spec.privileges.security_opt.clone();
    if !options
        .iter()
        .any(|option| option.starts_with("no-new-privileges"))
    {
        options.push("no-new-privileges:true".into());
    }
    options
}

fn device_mapping(text: &str) -> DeviceMapping {
    let mut parts = text.splitn(3, ':');
    let host = parts.next().unwrap_or_default().to_owned();
    let inside = parts.next().map_or_else(|| host.clone(), str::to_owned);
    let permissions = parts.next().unwrap_or("rwm").to_owned();
    DeviceMapping {
        path_on_host: Some(host),
        path_in_container: Some(inside),
        cgroup_permissions: Some(permissions),
    }
}

fn tmpfs(entry: &str) -> (String, String) {
    let (path, options) = entry.split_once(':').unwrap_or((entry, ""));
    (path.to_owned(), options.to_owned())
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{launch, replica, spec};

    #[test]
    fn a_long_name_leaves_room_for_the_slot() {
        let mut launch = launch(replica(12), spec("hello:1"));
        launch.replica.service.service = "s".repeat(63).parse().unwrap();
        let host = create_body(&launch).hostname.unwrap();
        assert_eq!((host.len(), &host[60..]), (64, "s.12"));
    }

    #[test]
    fn what_a_check_does_not_say_the_image_says() {
        let mut spec = spec("hello:1");
        spec.healthcheck = Some(ExecCheck {
            command: Vec::new(),
            interval_ms: 5_000,
            timeout_ms: 0,
            retries: 0,
            start_period_ms: 0,
            start_interval_ms: None,
        });
        let health = create_body(&launch(replica(1), spec)).healthcheck.unwrap();
        assert_eq!((health.test, health.interval), (None, Some(5_000_000_000)));
        assert_eq!((health.timeout, health.retries), (Some(0), Some(0)));
    }

    #[test]
    fn a_plain_container_is_named_labelled_and_fenced_in() {
        let mut spec = spec("hello:1");
        spec.env.insert("GREETING".into(), "a\nb;$(c)=d".into());
        spec.labels
            .insert("longshore.replica".into(), "r999".into());
        let launch = launch(replica(7), spec);
        assert_eq!(container_name(&launch), "longshore-demo-web-7-r7");
        let body = create_body(&launch);
        let labels = body.labels.unwrap();
        assert_eq!(
            labels[LABEL_REPLICA], "r7",
            "a user's label must not replace ours"
        );
        assert_eq!(body.env.unwrap(), ["GREETING=a\nb;$(c)=d"]);
        assert_eq!(body.hostname.unwrap(), "web.7");
        let host = body.host_config.unwrap();
        assert_eq!(host.cap_drop.unwrap(), ["NET_RAW"]);
        assert_eq!(host.security_opt.unwrap(), ["no-new-privileges:true"]);
        assert_eq!(host.pids_limit, Some(4096));
        assert_eq!(
            host.restart_policy.unwrap().name,
            Some(RestartPolicyNameEnum::NO)
        );
        assert_eq!(host.log_config.unwrap().typ.unwrap(), "local");
        let ports = host.port_bindings.unwrap();
        let binding = ports["8080/tcp"].clone().unwrap();
        assert_eq!(binding[0].host_port.as_deref(), Some("30007"));
    }

    #[test]
    fn services_are_known_by_name() {
        let mut launch = launch(replica(1), spec("hello:1"));
        assert_eq!(create_body(&launch).host_config.unwrap().extra_hosts, None);
        launch.hosts = [("redis", [10, 213, 0, 7]), ("api", [10, 213, 0, 9])]
            .map(|(name, address)| (name.to_owned(), address.into()))
            .into();
        let hosts = |launch: &Launch| create_body(launch).host_config.unwrap().extra_hosts;
        let named = ["api:10.213.0.9", "redis:10.213.0.7"].map(str::to_owned);
        assert_eq!(hosts(&launch).unwrap(), named);
        // What the file says goes first.
        let own = ["db:10.0.0.1", "redis:::1"].map(str::to_owned);
        Arc::make_mut(&mut launch.spec).engine.extra_hosts = own.to_vec();
        let all = ["db:10.0.0.1", "redis:::1", "api:10.213.0.9"];
        assert_eq!(hosts(&launch).unwrap(), all);
    }

    #[test]
    fn resources_reach_the_engine_in_its_units() {
        let mut spec = spec("hello:1");
        spec.resources.cpu_limit_milli = 1_500;
        spec.resources.memory_limit_bytes = 64 << 20;
        let host = create_body(&launch(replica(1), spec)).host_config.unwrap();
        assert_eq!(
            (host.nano_cpus, host.memory),
            (Some(1_500_000_000), Some(64 << 20))
        );
    }
}
