//! What a spec tells the engine as it is, and how mounts are made.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    HostConfig, HostConfigLogConfig, Mount, MountBindOptions, MountBindOptionsPropagationEnum,
    MountType, MountVolumeOptions, MountVolumeOptionsDriverConfig, ResourcesUlimits,
};
use longshore_model::spec::{self, EngineOptions, LogSpec};

use super::signed;

/// So much of a container's output is kept where nothing else is said: a chatty one must not fill
/// the node's disk.
const LOG_DEFAULTS: [(&str, &str); 2] = [("max-size", "10m"), ("max-file", "3")];

pub(super) fn with_options(host: HostConfig, e: &EngineOptions) -> HostConfig {
    HostConfig {
        pids_limit: Some(match e.pids_max {
            0 => EngineOptions::PIDS_MAX,
            most => most,
        }),
        log_config: Some(log_config(e.log.as_ref())),
        ulimits: list(&e.ulimits.iter().collect::<Vec<_>>(), |(name, limit)| {
            ResourcesUlimits {
                name: Some((*name).clone()),
                soft: Some(limit.soft),
                hard: Some(limit.hard),
            }
        }),
        dns: list(&e.dns, String::clone),
        dns_search: list(&e.dns_search, String::clone),
        dns_options: list(&e.dns_options, String::clone),
        group_add: list(&e.group_add, String::clone),
        shm_size: (e.shm_bytes > 0).then(|| signed(e.shm_bytes)),
        oom_score_adj: (e.oom_score_adj != 0).then(|| e.oom_score_adj.into()),
        cpuset_cpus: e.cpuset.clone(),
        annotations: map(&e.annotations),
        userns_mode: e.host_userns.then(|| "host".to_owned()),
        // The host's is asked for among the privileges.
        ipc_mode: host.ipc_mode.clone().or_else(|| e.ipc.clone()),
        runtime: e.runtime.clone(),
        storage_opt: map(&e.storage_opt),
        memory_swap: (e.memory_swap_bytes != 0).then_some(e.memory_swap_bytes),
        ..host
    }
}

/// None where it is empty: engines of before get the request that they know.
fn list<A, B>(from: &[A], convert: impl Fn(&A) -> B) -> Option<Vec<B>> {
    (!from.is_empty()).then(|| from.iter().map(convert).collect())
}

fn map(from: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!from.is_empty()).then(|| from.clone().into_iter().collect())
}

fn log_config(log: Option<&LogSpec>) -> HostConfigLogConfig {
    let driver = log.map_or("local", |log| log.driver.as_str());
    let mut options: HashMap<String, String> = log
        .map(|log| log.options.clone().into_iter().collect())
        .unwrap_or_default();
    if matches!(driver, "local" | "json-file") {
        for (key, value) in LOG_DEFAULTS {
            options
                .entry(key.to_owned())
                .or_insert_with(|| value.to_owned());
        }
    }
    HostConfigLogConfig {
        typ: Some(driver.to_owned()),
        config: Some(options),
    }
}

pub(super) fn mount(mount: &spec::Mount) -> Mount {
    let (source, target) = (Some(mount.source.clone()), Some(mount.target.clone()));
    let read_only = Some(mount.read_only);
    let plain = Mount {
        source,
        target,
        read_only,
        ..Mount::default()
    };
    let o = &mount.options;
    if mount.bind {
        let propagation = o.propagation.as_deref().and_then(propagation);
        let said = propagation.is_some() || o.create_host_path;
        return Mount {
            typ: Some(MountType::BIND),
            bind_options: said.then(|| MountBindOptions {
                propagation,
                create_mountpoint: o.create_host_path.then_some(true),
                ..MountBindOptions::default()
            }),
            ..plain
        };
    }
    let driver_config =
        (o.driver.is_some() || !o.driver_opts.is_empty()).then(|| MountVolumeOptionsDriverConfig {
            name: Some(o.driver.clone().unwrap_or_else(|| "local".to_owned())),
            options: map(&o.driver_opts),
        });
    let said = driver_config.is_some() || o.no_copy || !o.labels.is_empty();
    Mount {
        typ: Some(MountType::VOLUME),
        volume_options: said.then(|| MountVolumeOptions {
            no_copy: o.no_copy.then_some(true),
            labels: map(&o.labels),
            driver_config,
            ..MountVolumeOptions::default()
        }),
        ..plain
    }
}

fn propagation(mode: &str) -> Option<MountBindOptionsPropagationEnum> {
    mode.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::create_body;
    use crate::testing::{launch, replica, spec};

    /// The host part of the request for a spec, as the engine reads it.
    fn asked(change: impl FnOnce(&mut longshore_model::ContainerSpec)) -> serde_json::Value {
        let mut spec = spec("hello:1");
        change(&mut spec);
        serde_json::to_value(create_body(&launch(replica(1), spec))).unwrap()
    }

    #[test]
    fn every_option_reaches_the_engine_under_its_name() {
        let given = json!({
            "ulimits": {"nofile": {"soft": 1024, "hard": -1}},
            "log": {"driver": "json-file", "options": {"max-size": "1m"}},
            "extra_hosts": ["db:10.0.0.1", "me:host-gateway"],
            "dns": ["10.0.0.2"], "dns_search": ["example.com"], "dns_options": ["ndots:1"],
            "shm_bytes": 1_048_576, "group_add": ["999"], "stdin_open": true, "tty": true,
            "oom_score_adj": 500, "pids_max": 100, "cpuset": "0-1", "annotations": {"a": "b"},
            "host_userns": true, "ipc": "private", "runtime": "runsc",
            "domainname": "example.org", "storage_opt": {"size": "1g"}, "memory_swap_bytes": -1,
        });
        let body = asked(|spec| spec.engine = serde_json::from_value(given).unwrap());
        let facts = [
            ("/Tty", json!(true)),
            ("/OpenStdin", json!(true)),
            ("/Domainname", json!("example.org")),
            (
                "/HostConfig/Ulimits",
                json!([{"Name": "nofile", "Soft": 1024, "Hard": -1}]),
            ),
            (
                "/HostConfig/LogConfig",
                json!({"Type": "json-file", "Config": {"max-size": "1m", "max-file": "3"}}),
            ),
            (
                "/HostConfig/ExtraHosts",
                json!(["db:10.0.0.1", "me:host-gateway"]),
            ),
            ("/HostConfig/Dns", json!(["10.0.0.2"])),
            ("/HostConfig/DnsSearch", json!(["example.com"])),
            ("/HostConfig/DnsOptions", json!(["ndots:1"])),
            ("/HostConfig/ShmSize", json!(1_048_576)),
            ("/HostConfig/GroupAdd", json!(["999"])),
            ("/HostConfig/OomScoreAdj", json!(500)),
            ("/HostConfig/PidsLimit", json!(100)),
            ("/HostConfig/CpusetCpus", json!("0-1")),
            ("/HostConfig/Annotations", json!({"a": "b"})),
            ("/HostConfig/UsernsMode", json!("host")),
            ("/HostConfig/IpcMode", json!("private")),
            ("/HostConfig/Runtime", json!("runsc")),
            ("/HostConfig/StorageOpt", json!({"size": "1g"})),
            ("/HostConfig/MemorySwap", json!(-1)),
        ];
        for (path, wanted) in facts {
            assert_eq!(body.pointer(path), Some(&wanted), "{path} of {body}");
        }
    }

    #[test]
    fn a_spec_that_says_nothing_asks_for_what_it_did_before() {
        let body = asked(|_| ());
        let host = body["HostConfig"].as_object().unwrap();
        for key in ["Ulimits", "ExtraHosts", "Dns", "ShmSize", "Annotations"] {
            assert!(!host.contains_key(key), "{key}");
        }
        assert_eq!(host["LogConfig"]["Type"], "local");
        assert_eq!(host["LogConfig"]["Config"]["max-size"], "10m");
        assert_eq!(host["PidsLimit"], 4096);
    }

    #[test]
    fn a_log_driver_that_keeps_no_files_gets_its_own_options_only() {
        let log = json!({"driver": "syslog", "options": {"tag": "x"}});
        let body = asked(|spec| spec.engine.log = serde_json::from_value(log).unwrap());
        let wanted = json!({"Type": "syslog", "Config": {"tag": "x"}});
        assert_eq!(body["HostConfig"]["LogConfig"], wanted);
    }

    #[test]
    fn mounts_carry_their_options_and_volumes_what_makes_them() {
        let given = json!([
            {"source": "/srv", "target": "/a", "bind": true,
             "options": {"propagation": "rslave", "create_host_path": true}},
            {"source": "data", "target": "/b", "options": {
                "no_copy": true, "labels": {"team": "web"},
                "driver_opts": {"type": "nfs", "device": ":/x", "o": "addr=10.0.0.1"}}},
            {"source": "/etc/ssl", "target": "/c", "bind": true, "read_only": true},
        ]);
        let body = asked(|spec| spec.mounts = serde_json::from_value(given).unwrap());
        let mounts = &body["HostConfig"]["Mounts"];
        assert_eq!(
            mounts[0]["BindOptions"],
            json!({"Propagation": "rslave", "CreateMountpoint": true})
        );
        let driver = json!({"Name": "local",
            "Options": {"type": "nfs", "device": ":/x", "o": "addr=10.0.0.1"}});
        let labels = json!({"team": "web", "longshore.cluster": "test", "longshore.app": "demo"});
        let wanted = json!({"NoCopy": true, "Labels": labels, "DriverConfig": driver});
        assert_eq!(mounts[1]["VolumeOptions"], wanted);
        assert_eq!(mounts[2].get("BindOptions"), None);
        assert_eq!(mounts[2]["ReadOnly"], json!(true));
    }
}
