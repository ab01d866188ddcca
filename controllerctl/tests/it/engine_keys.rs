//! Keys of a service that the engine obeys by itself, and older words for newer keys.

use std::collections::BTreeMap;

use longshore_model::spec::{EngineOptions, LogSpec, MountOptions, Ulimit};

use crate::compose::{drawn, faults, read, web};

fn engine(body: &str) -> EngineOptions {
    web(body).container.engine
}

/// What is said of a file that is taken.
fn warnings(body: &str) -> String {
    let text = format!("services:\n  web:\n    image: nginx\n{body}");
    let loaded = read(&text).unwrap_or_else(|error| panic!("{text}\n{}", drawn(&error)));
    let warnings = loaded.warnings.iter().map(ToString::to_string);
    warnings.collect::<Vec<_>>().join("\n")
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    let pairs = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pairs.collect()
}

#[test]
fn a_file_that_names_none_of_them_asks_for_nothing() {
    assert_eq!(engine(""), EngineOptions::default());
    assert_eq!(
        engine("    ulimits: {}\n    logging: {}\n"),
        EngineOptions::default()
    );
}

#[test]
fn the_engines_keys_reach_the_container() {
    let e = engine(
        r#"    ulimits: { nofile: { soft: 1024, hard: 65536 }, nproc: 100, memlock: -1 }
    dns: 10.0.0.53
    dns_search: [example.com, .]
    dns_opt: ["ndots:1"]
    shm_size: 64m
    group_add: [999, audio]
    stdin_open: true
    tty: true
    oom_score_adj: -500
    cpuset: 0-2,4
    annotations: { com.example.a: 1 }
    userns_mode: host
    ipc: shareable
    runtime: runsc
    domainname: example.org
    storage_opt: { size: 10G }
    pids_limit: 200
    mem_limit: 100m
    memswap_limit: 200m
"#,
    );
    let limit = |soft, hard| Ulimit { soft, hard };
    assert_eq!(e.ulimits["nofile"], limit(1024, 65_536));
    assert_eq!(e.ulimits["nproc"], limit(100, 100));
    assert_eq!(e.ulimits["memlock"], limit(-1, -1));
    assert_eq!(
        (&e.dns[..], &e.dns_options[..]),
        (&["10.0.0.53".into()][..], &["ndots:1".into()][..])
    );
    assert_eq!(e.dns_search, ["example.com", "."]);
    assert_eq!(
        (e.shm_bytes, e.oom_score_adj, e.pids_max),
        (64 << 20, -500, 200)
    );
    assert_eq!(e.group_add, ["999", "audio"]);
    assert!(e.stdin_open && e.tty && e.host_userns);
    assert_eq!(e.cpuset.as_deref(), Some("0-2,4"));
    assert_eq!(e.annotations, map(&[("com.example.a", "1")]));
    assert_eq!(
        (e.ipc.as_deref(), e.runtime.as_deref()),
        (Some("shareable"), Some("runsc"))
    );
    assert_eq!(e.domainname.as_deref(), Some("example.org"));
    assert_eq!(e.storage_opt, map(&[("size", "10G")]));
    assert_eq!(e.memory_swap_bytes, 200 << 20);
    let spec = web("    ipc: host\n").container;
    assert_eq!((spec.privileges.host_ipc, spec.engine.ipc), (true, None));
    let health = web("    healthcheck: { test: [CMD, x], start_interval: 2s }\n").container;
    assert_eq!(health.healthcheck.unwrap().start_interval_ms, Some(2_000));
}

#[test]
fn hosts_are_taken_in_every_form() {
    let wanted = ["db:10.0.0.5", "six:::1", "node:host-gateway"];
    let list = "    extra_hosts: [\"db:10.0.0.5\", \"six=[::1]\", \"node=host-gateway\"]\n";
    assert_eq!(engine(list).extra_hosts, wanted);
    let table = "    extra_hosts: { db: [10.0.0.5, 10.0.0.6], node: host-gateway }\n";
    let wanted = ["db:10.0.0.5", "db:10.0.0.6", "node:host-gateway"];
    assert_eq!(engine(table).extra_hosts, wanted);
}

#[test]
fn a_log_driver_keeps_its_options_and_the_node_its_limit() {
    let log = |body: &str| engine(&format!("    logging: {body}\n")).log;
    let spec = |driver: &str, options: &[(&str, &str)]| {
        let (driver, options) = (driver.to_owned(), map(options));
        Some(LogSpec { driver, options })
    };
    assert_eq!(log("{ driver: json-file }"), spec("json-file", &[]));
    let sized = "{ options: { max-size: 10m, max-file: 3 } }";
    assert_eq!(
        log(sized),
        spec("local", &[("max-size", "10m"), ("max-file", "3")])
    );
    assert_eq!(
        log("{ options: { tag: web } }"),
        spec("json-file", &[("tag", "web")])
    );
    let far = "{ driver: syslog, options: { syslog-address: \"udp://10.0.0.1:514\" } }";
    assert_eq!(
        log(far),
        spec("syslog", &[("syslog-address", "udp://10.0.0.1:514")])
    );
    for (driver, said) in [
        ("none", "will show none"),
        ("syslog", "still has"),
        ("journald", ""),
    ] {
        let warned = warnings(&format!("    logging: {{ driver: {driver} }}\n"));
        assert_eq!(warned.is_empty(), said.is_empty(), "{warned}");
        assert!(warned.contains(said), "{warned}");
    }
}

#[test]
fn older_words_say_what_deploy_says() {
    let spec = web("    cpus: 1.5\n    mem_limit: 64m\n    mem_reservation: 32m\n    scale: 3\n");
    let r = spec.container.resources;
    assert_eq!((r.cpu_limit_milli, spec.replicas), (1_500, 3));
    assert_eq!(
        (r.memory_limit_bytes, r.memory_reserved_bytes),
        (64 << 20, 32 << 20)
    );
    let quota = |body: &str| web(body).container.resources.cpu_limit_milli;
    assert_eq!(quota("    cpu_quota: 50000\n"), 500);
    assert_eq!(quota("    cpu_quota: 50ms\n    cpu_period: 25ms\n"), 2_000);
    assert_eq!(quota("    cpu_quota: -1\n"), 0);
    let same = "    scale: 2\n    pids_limit: 9\n    cpus: 1\n    mem_limit: 1g\n    deploy: { replicas: 2, \
                resources: { limits: { pids: 9, cpus: \"1.0\", memory: 1024m } } }\n";
    let spec = web(same);
    assert_eq!((spec.replicas, spec.container.engine.pids_max), (2, 9));
    assert_eq!(engine("    pids_limit: 0\n").pids_max, -1);
}

#[test]
fn mounts_and_volumes_take_their_options() {
    let text = "volumes:\n  data:\n    driver_opts: { type: nfs, o: addr=10.0.0.1, device: \":/x\" }\n    \
                labels: { team: web }\n  other: { driver: rexray }\nservices:\n  web:\n    image: nginx\n    \
                deploy: { replicas: 2 }\n    tmpfs: /run:size=1m,mode=1777\n    volumes:\n      \
                - { type: volume, source: data, target: /a, volume: { nocopy: true } }\n      \
                - { type: bind, source: /srv, target: /b, read_only: true, consistency: cached, \
                bind: { propagation: rslave, create_host_path: true } }\n      \
                - { type: tmpfs, target: /c, tmpfs: { size: 1m, mode: 0o1770 } }\n      \
                - other:/d:ro,nocopy\n      - /etc:/e:ro,rslave\n";
    let loaded = read(text).unwrap_or_else(|error| panic!("{}", drawn(&error)));
    let c = &loaded.services.values().next().unwrap().container;
    let none = MountOptions::default();
    let data = MountOptions {
        no_copy: true,
        driver_opts: map(&[("type", "nfs"), ("o", "addr=10.0.0.1"), ("device", ":/x")]),
        labels: map(&[("team", "web")]),
        ..none.clone()
    };
    let bind = MountOptions {
        propagation: Some("rslave".into()),
        create_host_path: true,
        ..none.clone()
    };
    let other = MountOptions {
        no_copy: true,
        driver: Some("rexray".into()),
        ..none.clone()
    };
    let short = MountOptions {
        propagation: Some("rslave".into()),
        ..none
    };
    let found: Vec<_> = c.mounts.iter().map(|m| m.options.clone()).collect();
    assert_eq!(found, [data, bind, other, short]);
    let ro: Vec<_> = c.mounts.iter().map(|m| m.read_only).collect();
    assert_eq!(ro, [false, true, true, true]);
    assert_eq!(
        c.tmpfs,
        ["/run:size=1m,mode=1777", "/c:size=1048576,mode=1770"]
    );
    let said: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said.len(),
        1,
        "no data of one node, and one key ignored: {said:?}"
    );
    assert!(said[0].contains("consistency: ignored"), "{said:?}");
}

#[test]
fn what_has_no_effect_is_said() {
    let table = [
        ("    attach: false\n", "services.web.attach: ignored"),
        ("    cpu_shares: 512\n", "services.web.cpu_shares: ignored"),
        (
            "    mem_swappiness: 10\n",
            "services.web.mem_swappiness: ignored",
        ),
        (
            "    deploy: { labels: [a=b] }\n",
            "services.web.deploy.labels: ignored",
        ),
        (
            "    container_name: shop\n",
            "the container is not called \"shop\"",
        ),
        ("    deploy: { endpoint_mode: vip }\n", ""),
        ("    oom_kill_disable: false\n", ""),
    ];
    for (body, said) in table {
        let warned = warnings(body);
        assert!(warned.contains(said), "{body}: {warned}");
        assert_eq!(warned.is_empty(), said.is_empty(), "{body}: {warned}");
    }
}

/// Each file is refused with these words.
fn refused(table: &[(&str, &str)]) {
    for (body, wanted) in table {
        let found = faults(body);
        assert!(found.contains(wanted), "{body}: {found}");
    }
}

#[test]
fn options_that_cannot_be_are_refused_where_they_stand() {
    refused(&[
        (
            "    ulimits: { nofiles: 3 }\n",
            "ulimits.nofiles: the kernel knows no limit",
        ),
        (
            "    ulimits: { nofile: { soft: 9, hard: 3 } }\n",
            "ulimits.nofile: soft is 9, more than",
        ),
        (
            "    ulimits: { nofile: { soft: 9 } }\n",
            "ulimits.nofile: has no hard",
        ),
        (
            "    ulimits: { nofile: -2 }\n",
            "must be a whole number from -1",
        ),
        (
            "    logging: { driver: local, options: { tag: x } }\n",
            "logging.options.tag: log driver local has no",
        ),
        (
            "    logging: { options: { max-size: 10q } }\n",
            "max-size cannot be \"10q\"",
        ),
        ("    logging: { drivr: local }\n", "unknown key `drivr`"),
        (
            "    extra_hosts: [db]\n",
            "extra_hosts[0]: \"db\" names no address",
        ),
        (
            "    extra_hosts: { db: nowhere }\n",
            "extra_hosts.db: \"nowhere\" is no address",
        ),
    ]);
}

#[test]
fn addresses_and_numbers_that_cannot_be_are_refused() {
    refused(&[
        (
            "    dns: [name.example]\n",
            "is no address of a name server",
        ),
        ("    shm_size: 0\n", "shm_size: must be more than 0"),
        ("    oom_score_adj: 1001\n", "from -1000 to 1000"),
        (
            "    oom_kill_disable: true\n",
            "engines with cgroup v2 ignore it",
        ),
        (
            "    mac_address: 02:42:ac:11:65:43\n",
            "mac_address: not supported",
        ),
        ("    cpuset: 3-1\n", "names no CPUs"),
        ("    userns_mode: keep-id\n", "\"keep-id\" is none of: host"),
        ("    ipc: service:db\n", "is none of: host, private"),
        (
            "    storage_opt: { sizes: 1g }\n",
            "storage_opt.sizes: the engine has no option",
        ),
    ]);
}

#[test]
fn older_words_that_say_otherwise_are_refused() {
    refused(&[
        (
            "    cpus: 1\n    deploy: { resources: { limits: { cpus: '2' } } }\n",
            "cpus: deploy.resources.limits.cpus says otherwise",
        ),
        (
            "    scale: 2\n    deploy: { replicas: 3 }\n",
            "scale: deploy.replicas says otherwise",
        ),
        (
            "    cpus: 1\n    cpu_quota: 1000\n",
            "cpu_quota: cpus says how many, too",
        ),
        (
            "    cpu_quota: 1000\n    cpu_period: 5\n",
            "cpu_period: must be from 1000",
        ),
        (
            "    mem_limit: 1m\n    mem_reservation: 2m\n",
            "is above the limit",
        ),
        ("    memswap_limit: 2m\n", "there is no limit of memory"),
        (
            "    mem_limit: 2m\n    memswap_limit: 1m\n",
            "is below the limit of memory",
        ),
        (
            "    container_name: shop\n    scale: 2\n",
            "container_name: cannot be the same for up to 2",
        ),
        (
            "    container_name: shop\n    cpus: 1\n    x-autoscale: { max: 4, cpu: 50% }\n",
            "for up to 4 replicas",
        ),
        ("    container_name: -x\n", "is no name of a container"),
        (
            "    deploy: { endpoint_mode: dnsrr }\n",
            "every service is balanced by HAProxy",
        ),
    ]);
}

#[test]
fn mounts_that_the_engine_would_refuse_are_refused_before() {
    refused(&[
        ("    tmpfs: /x:bind\n", "option \"bind\" is not supported"),
        (
            "    volumes: [{ type: bind, source: /a, target: /b, volume: { nocopy: true } }]\n",
            "nocopy is for volumes",
        ),
        (
            "    volumes: [{ type: tmpfs, target: /b, tmpfs: { mode: 9 } }]\n",
            "is no mode of a file",
        ),
    ]);
    let top = |volume: &str| {
        let text =
            format!("volumes: {{ data: {volume} }}\nservices: {{ web: {{ image: nginx }} }}\n");
        drawn(&read(&text).unwrap_err())
    };
    assert!(top("{ driver_opts: { kind: nfs } }").contains("no option \"kind\""));
    assert!(top("{ external: true, driver: x }").contains("nothing makes it"));
}
