//! Files as people write them where the specification leaves more than one way: valid ones are
//! taken or refused with a reason, and mean what they mean elsewhere.

use std::fmt::Write as _;

use controllerctl::compose::interpolate::Variables;
use controllerctl::compose::problem::{Level, WARNINGS_MAX};
use controllerctl::compose::source::Source;
use controllerctl::compose::{ComposeError, Loaded, Request, parse};

use crate::compose_env::{directory, load_with, refused, taken};

fn read(text: &str) -> Result<Loaded, ComposeError> {
    let set = [("SET", "set"), ("EMPTY", ""), ("SECRET", "s")];
    let variables = Variables::new(set.map(|(k, v)| (k.to_owned(), v.to_owned())));
    let source = Source::new("compose.yaml", text);
    parse(vec![source], Some("p"), "", (&crate::here(), &variables))
}

/// Codes and messages of its errors.
fn errors(text: &str) -> Vec<(&'static str, String)> {
    let Err(ComposeError::Problems { problems, .. }) = read(text) else {
        panic!("taken: {text}");
    };
    let errors = problems.iter().filter(|p| p.level == Level::Error);
    errors
        .map(|p| (p.code, format!("{} {:?}", p.message, p.help)))
        .collect()
}

/// A service `web` with these lines, and a `db`.
fn web(lines: &str) -> String {
    format!("services:\n  db: {{ image: db }}\n  web:\n    image: a\n{lines}")
}

/// As `config` prints it.
fn printed(loaded: &Loaded) -> String {
    serde_saphyr::to_string(&loaded.tree).unwrap()
}

#[test]
fn what_config_prints_is_read_again_as_the_same() {
    let mut files = valid();
    files.push(web(
        "    environment: { A: $$x, B: \"${NONE-$$}${SET}\" }\n    labels: [\"$$l=$$\"]\n",
    ));
    for text in files {
        let loaded = taken(read(&text));
        let again = printed(&loaded);
        let second = match read(&again) {
            Ok(second) => second,
            Err(error) => panic!("{text}\n{again}\n{}", crate::compose::drawn(&error)),
        };
        assert_eq!(second.services, loaded.services, "{again}");
        assert_eq!(second.contents.len(), loaded.contents.len(), "{again}");
        assert!(second.contents.keys().eq(loaded.contents.keys()), "{again}");
    }
}

#[test]
fn valid_files_of_any_shape_are_taken() {
    for text in valid() {
        if let Err(error) = read(&text) {
            panic!("{text}\n{}", crate::compose::drawn(&error));
        }
    }
}

fn valid() -> Vec<String> {
    vec![
        // How the file is written.
        "\u{feff}services:\r\n  web:\r\n    image: a\r\n".to_owned(),
        "{\"services\": {\"web\": {\"image\": \"a\", \"ports\": [\"80:80\"]}}}".into(),
        "---\n# c\nservices: # c\n  'web': { \"image\": a } # c\n...\n".into(),
        "services:\n  ? web\n  : { image: a }\n".into(),
        "x-name: &n web\nx-ports: &p [80, 443]\nservices:\n  *n : { image: a, expose: *p }\n".into(),
        "x-a: &a { restart: always }\nx-b: &b { init: true }\nservices:\n  web: { <<: [*a, *b], image: a }\n".into(),
        "version: '3.8'\nservices: { web: { image: a } }\n".into(),
        "name: ${NAME:-shop}\nservices: { web: { image: \"${IMAGE:-a}:${TAG-1.${MINOR:-2}}\" } }\n".into(),
        "x-any: { a: [1, { b: ~ }] }\nvolumes: { v: { x-a: 1 } }\nservices: { web: { image: a, x-a: 1, deploy: { x-a: 1, resources: { x-a: 1 } } } }\n".into(),
        // Keys with nothing after them, where that means something.
        web("    command:\n    entrypoint:\n    deploy:\n    environment:\n      A:\n      B: ~\n    networks:\n      default:\n"),
        // Truth values and numbers as texts and as they are.
        web("    init: yes\n    tty: \"true\"\n    stdin_open: ON\n    privileged: False\n    read_only: ${RO:-false}\n"),
        web("    deploy: { replicas: \"${N:-3}\", resources: { limits: { cpus: 0.5, memory: 50M, pids: 9 } } }\n"),
        web("    stop_grace_period: 1m30.5s\n    mem_limit: 1gb\n    memswap_limit: 2g\n    shm_size: 64MiB\n"),
        web("    environment: { 1: x, A: 1.10, B: 0x1F, C: 0777, D: 2024-01-01, E: .5, F: true }\n    labels: { 1: 2, true: false }\n"),
        // Short and long forms.
        web("    depends_on: { db: { condition: service_started, required: false, x-a: 1 } }\n"),
        web("    ports: [80, \"8080-8082:80-82\", \"0.0.0.0:90:90/tcp\", { target: 91, published: \"91\", host_ip: 0.0.0.0 }]\n    expose: [5000, \"6000-6002\", 7000/tcp]\n"),
        web("    extra_hosts: [\"a:1.2.3.4\", \"b=1.2.3.4\", \"c:::1\", \"d=[::1]\", \"e:host-gateway\"]\n"),
        web("    extra_hosts: { a: 1.2.3.4, b: [1.2.3.4, 5.6.7.8] }\n"),
        web("    ulimits: { nproc: 65535, nofile: { soft: 1, hard: \"2\" }, core: -1 }\n"),
        web("    volumes: [\"v:/v:z,ro\", \"/a:/a:Z\", \"/b:/b:cached\", { type: bind, source: /c, target: /c, bind: { selinux: z } }]\nvolumes: { v: }\n"),
        web("    volumes: [\"v:/v\"]\nvolumes: { v: { external: { name: real } } }\n"),
        web("    healthcheck: { disable: true }\n"),
        web("    healthcheck: { test: [NONE] }\n"),
        web("    healthcheck: { interval: 5s }\n"),
        web("    healthcheck: { retries: 2 }\n"),
        web("    healthcheck: {}\n"),
        web("    healthcheck: { disable: false, test: [] }\n"),
        // An empty text is as if nobody had written it.
        web("    user: ${EMPTY:-}\n    platform: ${EMPTY}\n    hostname: \"\"\n    domainname: \"\"\n    working_dir: \"\"\n    stop_signal: ''\n"),
        web("    dns_search: \"\"\n    dns: \"\"\n    runtime: \"\"\n    cpuset: \"\"\n    restart: \"\"\n    pid: \"\"\n    ipc: \"\"\n    userns_mode: \"\"\n    network_mode: \"\"\n    logging: { driver: \"\" }\n"),
        web("    volumes: [\"v:/v\"]\nvolumes: { v: { driver: \"\", name: \"\" } }\nnetworks: { default: { name: \"\", driver: \"\" } }\n"),
        "services: { db: { image: db }, web: { image: '', build: { context: ., dockerfile: '', target: '', network: '' } } }\n".into(),
        web("    devices: [{ source: /dev/a, target: /dev/b }, { source: /dev/c, permissions: r }, \"/dev/d:/dev/d:rw\"]\n"),
        web("    healthcheck: { test: curl -f localhost, interval: 1h2m3s, timeout: 1500ms, retries: \"3\" }\n"),
        web("    logging: { driver: json-file, options: { max-size: 10m, max-file: 3 } }\n"),
        web("    tmpfs: /run\n    dns: 8.8.8.8\n    dns_search: a.b\n    restart: on-failure:5\n    scale: 2\n"),
        web("    links: [\"db:store\"]\n    networks: { default: { aliases: [x, y], priority: 1 } }\n"),
        web("    secrets: [s]\n    configs: [{ source: c, target: /c, mode: 0440, uid: \"1\" }]\nsecrets: { s: { environment: SECRET } }\nconfigs: { c: { content: \"a ${SET} $$\" } }\n"),
        web("    labels: [\"a=b=c\", d, \"traefik.rule=Host(`a.b`)\"]\n    sysctls: [net.ipv4.tcp_syncookies=0]\n"),
        web("    command: >-\n      sh -c \"echo\n      $$HOME\"\n    entrypoint: [\"/bin/sh\", \"-c\"]\n"),
    ]
}

#[test]
fn what_is_valid_and_not_done_is_refused_with_the_reason() {
    let facts = [
        (
            "    pull_policy: daily\n",
            "write always, or name another tag",
        ),
        (
            "    pull_policy: every_12h\n",
            "write always, or name another tag",
        ),
        ("    ports: [\"127.0.0.1:80:80\"]\n", "edges listen on all"),
        ("    ports: [\"3000-3005:80\"]\n", "not of one length"),
        ("    ports: [\"3005-3000:80\"]\n", "ends before it begins"),
        (
            "    ports: [\"3000-3100:3000-3100\"]\n",
            "more than 32 ports",
        ),
        (
            "    ports: [{ target: 80, published: \"80-81\" }]\n",
            "not of one length",
        ),
        (
            "    ports: [{ target: 80, host_ip: \"::1\" }]\n",
            "edges listen on all addresses",
        ),
        (
            "    volumes: [{ type: image, source: x, target: /i, image: { subpath: a } }]\n",
            "only volumes, binds and tmpfs",
        ),
        (
            "    volumes: [{ type: npipe, source: x, target: /i }]\n",
            "only volumes, binds and tmpfs",
        ),
    ];
    for (lines, reason) in facts {
        let said = errors(&web(lines));
        assert!(
            said.iter().any(|(_, m)| m.contains(reason)),
            "{lines}: {said:?}"
        );
    }
}

#[test]
fn ranges_are_single_ports_one_after_the_other() {
    let loaded = taken(read(&web(
        "    ports: [\"8080-8082:80-82\"]\n    expose: [\"90-91\"]\n",
    )));
    let (_, spec) = loaded.services.into_iter().next_back().unwrap();
    let routes = spec.routes.iter();
    let pairs: Vec<_> = routes.map(|r| (r.listen_port, r.container_port)).collect();
    assert_eq!(pairs, [(8080, 80), (8081, 81), (8082, 82)]);
    assert_eq!(spec.container.ports, [80, 81, 82, 90, 91]);
}

#[test]
fn values_of_another_type_than_the_specification_has_are_refused() {
    let lines = [
        "    restart: false\n",
        "    logging: { driver: json-file, options: { compress: true } }\n",
        "    extra_hosts: [\"a:1.2.3.4\", \"a:1.2.3.4\"]\n",
        "    healthcheck: { test: x, interval: 0 }\n",
        "    stop_grace_period: 0\n",
        "volumes: { v: { driver_opts: { o: true } } }\n",
    ];
    for lines in lines {
        let said = errors(&web(lines));
        let is_shape = |code: &str| ["type", "twice"].contains(&code);
        assert!(
            said.iter().all(|(code, _)| is_shape(code)),
            "{lines}: {said:?}"
        );
    }
}

#[test]
fn services_of_other_profiles_must_have_the_right_shape_and_nothing_more() {
    let file = |lines: &str| {
        format!("services:\n  web: {{ image: a }}\n  debug:\n    profiles: [debug]\n{lines}")
    };
    let means = "    init: yes\n    tty: true\n    cpus: 0.5\n    build: .\n    secrets: [none]\n    volumes: [\"./none:/x:ro\"]\n    networks: [none]\n";
    let loaded = taken(read(&file(means)));
    assert_eq!(loaded.left_out.len(), 1);
    assert!(loaded.contents.is_empty());
    for (lines, reason) in [
        ("    frob: 1\n", "unknown key `frob`"),
        ("    image: 1\n", "must be a text"),
        ("    init: 1\n", "of another kind"),
        ("    cpus: true\n", "of another kind"),
        ("    command: { a: b }\n", "must be"),
        ("    image: a\n    cap_add: [A, A]\n", "is there twice"),
        ("    image:\n", "nothing after the key"),
    ] {
        let said = errors(&file(lines));
        assert!(
            said.iter().any(|(_, m)| m.contains(reason)),
            "{lines}: {said:?}"
        );
    }
}

#[test]
fn a_file_full_of_warnings_hides_no_error() {
    let mut text = web("    environment:\n");
    for n in 0..WARNINGS_MAX + 50 {
        let _ = writeln!(text, "      A{n}: ${{NONE{n}}}");
    }
    assert_eq!(taken(read(&text)).warnings.len(), WARNINGS_MAX);
    text.push_str("  last: { image: b, frob: 1 }\n");
    let said = refused(read(&text));
    assert!(said.contains("unknown key `frob`"), "{said}");
}

#[test]
fn all_errors_of_a_file_are_said() {
    let mut text = web("    labels: {}\n");
    for n in 0..250 {
        let _ = writeln!(text, "  s{n}: {{ image: a, key{n}: 1 }}");
    }
    assert_eq!(errors(&text).len(), 250);
    assert!(refused(read(&text)).contains("unknown key `key249`"));
}

#[test]
fn a_project_may_be_of_many_files() {
    let names: Vec<String> = (0..100).map(|n| format!("s{n}.yaml")).collect();
    let mut files: Vec<(String, String)> = names
        .iter()
        .enumerate()
        .map(|(n, name)| {
            (
                name.clone(),
                format!("services: {{ s{n}: {{ image: a }} }}\n"),
            )
        })
        .collect();
    let include = format!("include: [{}]\n", names.join(", "));
    files.push(("compose.yaml".into(), include));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let dir = directory(&files);
    let loaded = taken(load_with(dir.path(), &[], |_: &mut Request| {}));
    assert_eq!(loaded.services.len(), 100);
}
