//! Options of the engine and of mounts come back the same; wrong ones are refused by field.

use std::collections::BTreeMap;

use longshore_model::spec::{ContainerSpec, EngineOptions, LogSpec, Mount, MountOptions, Ulimit};
use longshore_wire as wire;

fn container() -> ContainerSpec {
    ContainerSpec {
        image: "longshore/hello:1".into(),
        mounts: vec![Mount {
            source: "data".into(),
            target: "/data".into(),
            read_only: true,
            bind: false,
            options: MountOptions {
                propagation: Some("rslave".into()),
                create_host_path: true,
                no_copy: true,
                driver: Some("local".into()),
                driver_opts: BTreeMap::from([("type".into(), "nfs".into())]),
                labels: BTreeMap::from([("team".into(), "web".into())]),
                shared: true,
                external: true,
            },
        }],
        engine: engine(),
        ..ContainerSpec::default()
    }
}

/// Each option with a value of its own.
fn engine() -> EngineOptions {
    let word = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    EngineOptions {
        ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 1, hard: -1 })]),
        log: Some(LogSpec {
            driver: "json-file".into(),
            options: word("max-size", "1m"),
        }),
        extra_hosts: vec!["db:10.0.0.1".into()],
        dns: vec!["10.0.0.2".into()],
        dns_search: vec!["example.com".into()],
        dns_options: vec!["ndots:1".into()],
        shm_bytes: 1 << 20,
        group_add: vec!["999".into()],
        stdin_open: true,
        tty: true,
        oom_score_adj: -5,
        pids_max: -1,
        cpuset: Some("0-1".into()),
        annotations: word("a", "b"),
        host_userns: true,
        ipc: Some("private".into()),
        runtime: Some("runsc".into()),
        domainname: Some("example.org".into()),
        storage_opt: word("size", "1g"),
        memory_swap_bytes: -1,
    }
}

#[test]
fn every_option_comes_back_the_same() {
    let spec = container();
    let back = wire::container_spec_from_pb(wire::container_spec_to_pb(&spec)).unwrap();
    assert_eq!(back, spec);
}

#[test]
fn engine_options_out_of_range_are_refused_with_their_field() {
    type Change = fn(&mut longshore_proto::spec::v1::EngineOptions);
    let table: [(&str, Change); 6] = [
        ("engine.oom_score_adj", |e| e.oom_score_adj = 1001),
        ("engine.pids_max", |e| e.pids_max = -2),
        ("engine.memory_swap_bytes", |e| e.memory_swap_bytes = -2),
        ("engine.ipc", |e| e.ipc = Some("container:x".into())),
        ("engine.extra_hosts", |e| {
            e.extra_hosts = vec![String::new(); 257];
        }),
        ("engine.ulimits", |e| {
            e.ulimits.insert(
                "core".into(),
                longshore_proto::spec::v1::Ulimit { soft: -2, hard: 0 },
            );
        }),
    ];
    for (field, change) in table {
        let mut spec = wire::container_spec_to_pb(&container());
        change(spec.engine.as_mut().unwrap());
        let error = wire::container_spec_from_pb(spec).unwrap_err().to_string();
        assert!(error.starts_with(field), "{field}: {error}");
    }
    let mut spec = wire::container_spec_to_pb(&container());
    spec.mounts[0].options.as_mut().unwrap().propagation = Some("all".into());
    assert!(wire::container_spec_from_pb(spec).is_err());
}
