//! What Compose files become, and what is said about those that become nothing.

use std::path::Path;

use controllerctl::compose::interpolate::Variables;
use controllerctl::compose::problem::{Level, Problem, draw};
use controllerctl::compose::source::Source;
use controllerctl::compose::{ComposeError, Loaded, Request, load, parse};
use longshore_model::ServiceSpec;
use longshore_model::autoscale::Signal;
use longshore_model::spec::{
    FailureAction, GateSpec, NodeAttribute, PullPolicy, UpdateOrder, UpdateSpec,
};

pub(crate) fn read(text: &str) -> Result<Loaded, ComposeError> {
    let variables = Variables::new([("TAG".to_owned(), "1.10".to_owned())]);
    parse(
        vec![Source::new("compose.yaml", text)],
        None,
        "shop",
        (&crate::here(), &variables),
    )
}

/// The service `web` of a file that is right.
pub(crate) fn web(body: &str) -> ServiceSpec {
    let text = format!("volumes: {{ data: }}\nservices:\n  web:\n    image: nginx\n{body}");
    match read(&text) {
        Ok(loaded) => loaded.services.into_values().next().unwrap(),
        Err(error) => panic!("{text}\n{}", drawn(&error)),
    }
}

pub(crate) fn drawn(error: &ComposeError) -> String {
    match error {
        ComposeError::Problems { problems, sources } => draw(problems, sources, false),
        other => other.to_string(),
    }
}

fn problems(text: &str) -> Vec<Problem> {
    match read(text) {
        Ok(_) => panic!("taken:\n{text}"),
        Err(ComposeError::Problems { problems, .. }) => problems,
        Err(other) => panic!("{other}"),
    }
}

/// The messages about a service that is wrong.
pub(crate) fn faults(body: &str) -> String {
    let text = format!("services:\n  web:\n    image: nginx\n{body}");
    let errors = problems(&text)
        .into_iter()
        .filter(|p| p.level == Level::Error);
    errors.map(|p| p.to_string()).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_demo_becomes_one_service_with_a_route_a_probe_and_a_policy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/hello/compose.yaml");
    if !path.is_file() {
        eprintln!("skipped: {} is not there", path.display());
        return;
    }
    let request = Request {
        files: vec![path],
        ..Request::default()
    };
    let loaded = load(&request, &Variables::default()).unwrap_or_else(|e| panic!("{}", drawn(&e)));
    assert_eq!(loaded.app.as_str(), "hello");
    let spec = loaded.services.values().next().unwrap();
    assert_eq!(spec.routes[0].listen_port, 8080);
    assert_eq!(spec.routes[0].check_path.as_deref(), Some("/healthz"));
    assert_eq!(
        spec.container.probe.as_ref().unwrap().path.as_deref(),
        Some("/healthz")
    );
    assert_eq!(
        spec.autoscale.as_ref().unwrap().metrics[0].signal,
        Signal::NodeCpu
    );
}

#[test]
fn silence_gives_the_documented_defaults() {
    let spec = web("");
    assert_eq!(spec.replicas, 1);
    assert_eq!(spec.container.stop_grace_ms, 10_000);
    assert_eq!(spec.drain_ms, 30_000);
    assert_eq!(spec.update.order, UpdateOrder::Auto);
    assert_eq!((spec.container.probe, spec.routes.len()), (None, 0));
}

#[test]
fn the_container_keys_reach_the_container() {
    let spec = web(r#"    image: "nginx:${TAG}"
    command: sh -c 'echo "$$HOME" x'
    entrypoint: [/docker-entrypoint.sh, --x]
    environment: { VERSION: 1.10, DEBUG: true, TAG: }
    labels: ["team=web"]
    user: 1000:1000
    working_dir: /srv
    init: yes
    read_only: true
    tmpfs: [/tmp, /run]
    stop_grace_period: 1m30s
    stop_signal: SIGQUIT
    pull_policy: always
    restart: unless-stopped
    cap_drop: [ALL]
    sysctls: { net.core.somaxconn: 1024 }
    volumes:
      - data:/data
      - /etc/ssl:/etc/ssl:ro
      - { type: tmpfs, target: /scratch }
"#
    .replace("    image: \"nginx:${TAG}\"\n", "")
    .as_str());
    let c = spec.container;
    assert_eq!(c.command.unwrap(), ["sh", "-c", "echo \"$HOME\" x"]);
    assert_eq!(c.entrypoint.unwrap(), ["/docker-entrypoint.sh", "--x"]);
    assert_eq!(c.env["VERSION"], "1.10", "numbers stay as written");
    assert_eq!(c.env["DEBUG"], "true");
    assert_eq!(
        c.env["TAG"], "1.10",
        "a name alone takes the caller's value"
    );
    assert_eq!(c.labels["team"], "web");
    assert_eq!(c.user.unwrap(), "1000:1000");
    assert!(c.init && c.read_only);
    assert_eq!(c.tmpfs, ["/tmp", "/run", "/scratch"]);
    assert_eq!(
        (c.stop_grace_ms, c.stop_signal.as_deref()),
        (90_000, Some("SIGQUIT"))
    );
    assert_eq!(c.pull_policy, PullPolicy::Always);
    assert_eq!(c.privileges.cap_drop, ["ALL"]);
    assert_eq!(c.privileges.sysctls["net.core.somaxconn"], "1024");
    assert_eq!(
        (c.mounts[0].source.as_str(), c.mounts[0].bind),
        ("shop_data", false)
    );
    assert_eq!((c.mounts[1].read_only, c.mounts[1].bind), (true, true));
}

#[test]
fn a_way_in_is_never_routed_unchecked() {
    let probe = web("    ports: [\"80:80\"]\n").container.probe.unwrap();
    assert_eq!(
        (probe.path, probe.interval_ms, probe.timeout_ms),
        (None, 2_000, 3_000)
    );
    assert_eq!((probe.retries, probe.start_ms_max), (3, 60_000));
    let body =
        "    ports: [\"80:80\"]\n    healthcheck: { test: curl -f localhost, interval: 5s }\n";
    let spec = web(body).container;
    assert_eq!(spec.probe, None, "the engine's own check is enough");
    let check = spec.healthcheck.unwrap();
    assert_eq!(check.command, ["/bin/sh", "-c", "curl -f localhost"]);
    assert_eq!(
        (check.interval_ms, check.timeout_ms, check.retries),
        (5_000, 30_000, 3)
    );
    assert_eq!(
        web("    healthcheck: { test: [NONE] }\n")
            .container
            .healthcheck,
        None
    );
    let body = "    healthcheck: { test: [CMD, \"true\"], disable: true }\n";
    assert_eq!(web(body).container.healthcheck, None);
}

#[test]
fn deploy_places_and_updates() {
    let spec = web(
        "    deploy:\n      replicas: 3\n      resources:\n        limits: { cpus: \"0.50\", memory: 256M }\n        \
         reservations: { cpus: 0.25, memory: 128M }\n      placement:\n        constraints: [node.labels.disk==ssd]\n        \
         preferences: [{ spread: node.labels.zone }]\n        max_replicas_per_node: 2\n      update_config: { \
         parallelism: 2, order: stop-first, failure_action: pause }\n",
    );
    assert_eq!(spec.replicas, 3);
    let r = spec.container.resources;
    assert_eq!((r.cpu_limit_milli, r.cpu_reserved_milli), (500, 250));
    assert_eq!(
        (r.memory_limit_bytes, r.memory_reserved_bytes),
        (256 << 20, 128 << 20)
    );
    assert_eq!(
        spec.placement.constraints[0].attribute,
        NodeAttribute::Label("disk".into())
    );
    assert_eq!(
        (
            spec.placement.spread_labels[0].as_str(),
            spec.placement.max_per_node
        ),
        ("zone", 2)
    );
    assert_eq!(
        (spec.update.parallelism, spec.update.max_unavailable),
        (2, 2)
    );
}

#[test]
fn rollouts_read_everything_that_the_specification_knows() {
    let spec = web(
        "    ports: [\"80:80\"]\n    deploy:\n      update_config: { parallelism: 0, delay: 5s, monitor: 12s, \
         failure_action: rollback, max_failure_ratio: 0.25, order: start-first }\n      \
         rollback_config: { parallelism: 3, failure_action: continue, order: stop-first }\n      \
         restart_policy: { condition: any }\n    x-haproxy:\n      gate: { min_requests: 20, \
         max_error_ratio_increase: 1.5%, max_latency_ratio: 1.5, min_latency: 30ms }\n",
    );
    let wanted = UpdateSpec {
        parallelism: 0,
        delay_ms: 5_000,
        order: UpdateOrder::StartFirst,
        max_unavailable: 0,
        monitor_ms: 12_000,
        failure_action: FailureAction::Rollback,
        failure_permille_max: Some(250),
    };
    assert_eq!(spec.update, wanted);
    let back = spec.rollback.unwrap();
    assert_eq!((back.parallelism, back.order), (3, UpdateOrder::StopFirst));
    assert_eq!(back.failure_action, FailureAction::Continue);
    let gate = GateSpec {
        requests_min: 20,
        error_increase_permille_max: Some(15),
        latency_permille_max: Some(1_500),
        latency_ms_min: 30,
    };
    assert_eq!(spec.gate, Some(gate));
    let silent = web("    deploy: { update_config: { monitor: 0s } }\n");
    assert_eq!(
        silent.update,
        UpdateSpec::default(),
        "0 is the default, 5 s"
    );
    assert_eq!(
        (silent.update.order, silent.rollback),
        (UpdateOrder::Auto, None)
    );
}

#[test]
fn rollouts_that_cannot_be_meant_are_refused() {
    let facts = [
        (
            "    deploy: { rollback_config: { failure_action: rollback } }\n",
            "\"rollback\" is none of: pause, continue",
        ),
        (
            "    deploy: { update_config: { max_failure_ratio: 2 } }\n",
            "must be from 0 to 100%",
        ),
        (
            "    deploy: { update_config: { delay: 5 } }\n",
            "has no unit",
        ),
        (
            "    deploy: { update_config: { paralelism: 5 } }\n",
            "unknown key `paralelism`",
        ),
        ("    x-haproxy: { gate: {} }\n", "looks at nothing"),
        (
            "    x-haproxy: { gate: { max_latency_ratio: 0.5 } }\n",
            "faster than the old ones",
        ),
        (
            "    x-haproxy: { mode: tcp, gate: { max_latency_ratio: 2 } }\n",
            "need mode http",
        ),
        (
            "    deploy: { restart_policy: { condition: sometimes } }\n",
            "none, on-failure, any",
        ),
    ];
    for (keys, wanted) in facts {
        let text = faults(keys);
        assert!(text.contains(wanted), "{keys}: {text}");
    }
}

#[test]
fn what_is_not_there_yet_says_so() {
    let text = faults("    gpus: all\n    develop: {}\n");
    assert!(
        text.contains("services.web.gpus: not supported: devices are not"),
        "{text}"
    );
    assert!(
        text.contains("services.web.develop: not supported"),
        "{text}"
    );
}

#[test]
fn contradictions_are_found_before_anything_is_sent() {
    let facts = [
        (
            "    x-autoscale: { min: 5, max: 2, node_cpu: 60% }\n",
            "min 5 is above max 2",
        ),
        ("    x-autoscale: { max: 2 }\n", "neither metrics nor steps"),
        (
            "    hostname: a\n    deploy: { replicas: 2 }\n",
            "hostname cannot be the same",
        ),
        ("    ports: [\"80:1\", \"80:2\"]\n", "published twice"),
        ("    ports: [\"127.0.0.1:80:80\"]\n", "edges listen on all"),
        ("    ports: [\"53:53/udp\"]\n", "only tcp"),
        ("    ports: [\"0:80\"]\n", "no port from 1 to 65535"),
        (
            "    network_mode: host\n    ports: [\"80:80\"]\n",
            "together with network_mode",
        ),
        (
            "    x-haproxy: { balance: leastconn, drain: 5s }\n",
            "publishes no port",
        ),
        ("    volumes: [\"data:/x\"]\n", "is not declared"),
        ("    volumes: [\"./conf:/x\"]\n", "on your machine"),
        ("    volumes: [\"/a/../etc:/x\"]\n", "on your machine"),
        ("    labels: { longshore.app: x }\n", "belong to Longshore"),
        (
            "    deploy: { mode: global, replicas: 2 }\n",
            "deploy.replicas has no meaning",
        ),
        (
            "    deploy: { resources: { limits: { memory: 1M }, reservations: { memory: 2M } } }\n",
            "above limits",
        ),
        ("    stop_grace_period: 10\n", "has no unit"),
        ("    x-autoscale:\n", "x-autoscale: is empty"),
        (
            "    x-haproxy: { check: { interval: 0s } }\n    ports: [\"1:1\"]\n",
            "x-haproxy.check.interval: must be longer than 0",
        ),
        (
            "    x-haproxy: { timeouts: { server: 0s } }\n    ports: [\"1:1\"]\n",
            "x-haproxy.timeouts.server: must be longer than 0",
        ),
        (
            "    x-haproxy: { check: { path: \"/a b\" } }\n    ports: [\"1:1\"]\n",
            "must start with /",
        ),
    ];
    for (body, wanted) in facts {
        let text = faults(body);
        assert!(text.contains(wanted), "{body}\n{text}");
    }
    let text =
        "services:\n  a: { image: x, ports: [\"80:1\"] }\n  b: { image: x, ports: [\"80:2\"] }\n";
    assert!(
        problems(text)[0]
            .to_string()
            .contains("already taken by service `a`")
    );
}

#[test]
fn every_problem_is_said_at_once_with_its_line() {
    let text = include_str!("compose/broken.yaml");
    let error = read(text).unwrap_err();
    insta::assert_snapshot!("broken", drawn(&error));
}

#[test]
fn merge_keys_anchors_and_several_files_work() {
    let text = "x-base: &base\n  image: nginx\n  environment: { A: 1 }\nservices:\n  a: { <<: *base }\n  \
                b:\n    <<: *base\n    image: httpd\n";
    let loaded = read(text).unwrap_or_else(|e| panic!("{}", drawn(&e)));
    let images: Vec<_> = loaded
        .services
        .values()
        .map(|s| s.container.image.as_str())
        .collect();
    assert_eq!(images, ["nginx", "httpd"]);
    let base = "services:\n  web:\n    image: a\n    command: [x, y]\n    ports: [\"80:80\"]\n    environment: [A=1, B=2]\n";
    let over =
        "services:\n  web:\n    command: [z]\n    ports: [\"81:81\"]\n    environment: { B: 3 }\n";
    let sources = vec![Source::new("a.yaml", base), Source::new("b.yaml", over)];
    let surroundings = (&crate::here(), &Variables::default());
    let loaded = parse(sources, Some("p"), "", surroundings).unwrap();
    let spec = loaded.services.into_values().next().unwrap();
    assert_eq!(spec.container.command.unwrap(), ["z"]);
    assert_eq!(spec.container.ports, [80, 81]);
    assert_eq!(
        (&*spec.container.env["A"], &*spec.container.env["B"]),
        ("1", "3")
    );
}

#[test]
fn hostile_files_are_refused_in_words() {
    let alias = {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let before = n - 1;
            text.push_str(&format!(
                "a{n}: &a{n} [{}]\n",
                vec![format!("*a{before}"); 10].join(", ")
            ));
        }
        text
    };
    let merges = {
        let mut text = String::from("a0: &a0 { k: v }\n");
        for n in 1..30 {
            let before = n - 1;
            text.push_str(&format!("a{n}: &a{n}\n  <<: [*a{before}, *a{before}]\n"));
        }
        text
    };
    let cases = [
        ("alias bomb", alias),
        ("merge bomb", merges),
        ("flow depth", "[".repeat(100_000)),
        (
            "block depth",
            (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect(),
        ),
        (
            "duplicate",
            "services:\n  web: { image: a }\n  web: { image: b }\n".into(),
        ),
        ("nul", "services:\n  web: { image: \"a\0\" }\n".into()),
        ("too large", "#".repeat(300_000)),
        ("two documents", "services: {}\n---\nservices: {}\n".into()),
        ("tag", "services:\n  web: !frob { image: a }\n".into()),
        ("tab", "services:\n\tweb: x\n".into()),
        ("self", "a: &a [*a]\n".into()),
        ("scalar", "just text".into()),
        ("list", "- a\n".into()),
        ("empty", String::new()),
        (
            "deep variable",
            format!(
                "services: {{ web: {{ image: \"{}\" }} }}",
                "${A:-".repeat(500)
            ),
        ),
    ];
    for (name, text) in cases {
        let found = problems(&text);
        assert!(found.iter().any(|p| p.level == Level::Error), "{name}");
        let source = Source::new("f", &text);
        assert!(source.line_column(found[0].place.offset).0 >= 1, "{name}");
        assert!(found[0].to_string().len() < 400, "{name}: {}", found[0]);
    }
}

#[test]
fn a_bracket_that_stays_open_is_marked_where_the_text_says() {
    let text = "services:\n  wéb:\n    image: [a, b\n    ports: [\"8080:80\"]\n";
    let Err(error) = read(text) else {
        panic!("taken")
    };
    let said = drawn(&error);
    let (_, column) = said.split_once("line 4, column ").expect(&said);
    let column = column.split_whitespace().next().unwrap();
    assert!(
        said.contains(&format!("[compose.yaml:4:{column}]")),
        "{said}"
    );
    assert!(
        said.contains("brackets and quotes must be closed"),
        "{said}"
    );
}

/// YAML wants a `:` within 1,024 characters of a key without a mark.
#[test]
fn a_name_that_is_too_long_is_said_to_be() {
    let long = "a".repeat(2_000);
    let text = format!("services:\n  {long}:\n    image: nginx\n");
    let found = problems(&text);
    assert!(
        found[0].to_string().contains("key is too long"),
        "{}",
        found[0]
    );
    let text = format!("services:\n  {}:\n    image: nginx\n", &long[..200]);
    assert!(!problems(&text)[0].to_string().contains("YAML"));
}

#[test]
fn byte_order_mark_and_windows_line_ends_are_fine() {
    let text = "\u{feff}services:\r\n  web:\r\n    image: nginx\r\n    command: a b\r\n";
    let loaded = read(text).unwrap_or_else(|e| panic!("{}", drawn(&e)));
    let spec = loaded.services.into_values().next().unwrap();
    assert_eq!(spec.container.command.unwrap(), ["a", "b"]);
    let found = problems("\u{feff}services:\r\n  web:\r\n    image: nginx\r\n    comand: a\r\n");
    let source = Source::new(
        "f",
        "services:\r\n  web:\r\n    image: nginx\r\n    comand: a\r\n",
    );
    assert_eq!(source.line_column(found[0].place.offset), (4, 5));
}
