//! `init --from`: older Compose files, as they were written for Docker Cloud and before.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::said;

struct Old(tempfile::TempDir);

impl Old {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("docker-compose.yml"), text).unwrap();
        Self(dir)
    }

    fn ctl(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = assert_cmd::Command::cargo_bin("controllerctl").unwrap();
        command
            .env_clear()
            .current_dir(self.0.path())
            .timeout(Duration::from_secs(60))
            .args(args);
        said(&mut command)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The new file, which the reader takes, and what was said.
    fn converted(&self) -> (String, String) {
        let (code, out, err) = self.ctl(&["init", "--from", "docker-compose.yml"]);
        assert_eq!(code, 0, "{out}{err}");
        let (code, table, err) = self.ctl(&["config", "--check", "-f", "compose.yaml"]);
        assert_eq!(code, 0, "{table}{err}");
        (
            std::fs::read_to_string(self.path("compose.yaml")).unwrap(),
            out,
        )
    }

    /// Nothing is written; what was said.
    fn refused(&self) -> String {
        let (code, out, err) = self.ctl(&["init", "--from", "docker-compose.yml"]);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(!self.path("compose.yaml").exists());
        assert!(err.contains("nothing was written"), "{err}");
        err
    }
}

/// As people wrote them in 2015.
const V1: &str = "\
web:
  image: shop/flask_app
  expose:
    - \"8000\"
  links:
    - db.main
    - cache
  environment:
    - BALANCE=leastconn
    - GREETING=hello
  net: bridge
  log_driver: json-file
  log_opt:
    max-size: 10m

db.main:
  image: postgres:9.4
cache:
  image: redis:3

# the way in
lb:
  image: tutum/haproxy:0.2
  links:
    - web:web
  ports:
    - \"80:80\"
    - \"1936:1936\"
  environment:
    - BACKEND_PORT=8000
    - STATS_AUTH=admin:secret
    - TIMEOUT=connect 5000, client 50000, server 1m
";

#[test]
fn a_file_of_version_1_behind_tutum_haproxy_is_one_of_today() {
    let old = Old::new(V1);
    let (text, said) = old.converted();
    let wanted = "\
# Made from docker-compose.yml, where its comments are.
# To be looked at, then deleted here:
#   line 16: service db.main -> service db-main: REASON
services:
  web:
    image: shop/flask_app
    expose:
    - \"8000\"
    depends_on:
    - cache
    links:
    - db-main:db.main
    environment:
    - GREETING=hello
    logging:
      driver: json-file
      options:
        max-size: 10m
    ports:
    - 80:8000
    x-haproxy:
      timeouts:
        connect: 5s
        server: 1m
      balance: leastconn
  db-main:
    image: postgres:9.4
  cache:
    image: redis:3
";
    let reason = |line: &str| match line.split_once(" -> service db-main: ") {
        Some((before, _)) if line.starts_with('#') => {
            format!("{before} -> service db-main: REASON")
        }
        _ => line.to_owned(),
    };
    let shown: Vec<String> = text.lines().map(reason).collect();
    assert_eq!(shown.join("\n") + "\n", wanted);
    for line in [
        "  docker-compose.yml:1  a file of version 1 -> services: …: ",
        "  docker-compose.yml:7  web.links cache -> web.depends_on cache: ",
        "  docker-compose.yml:9  web.BALANCE=leastconn -> x-haproxy.balance: leastconn: ",
        "  docker-compose.yml:11  web.net: bridge is gone: ",
        "  docker-compose.yml:12  web.log_driver -> logging.driver: ",
        "! docker-compose.yml:16  service db.main -> service db-main: ",
        "  docker-compose.yml:22  service lb (tutum/haproxy:0.2) is gone: the edges' HAProxy serves web",
        "  docker-compose.yml:27  lb.ports 80:80 -> services.web.ports 80:8000: ",
        "  docker-compose.yml:28  lb.ports 1936:1936 is gone: statistics",
        "  docker-compose.yml:30  lb.BACKEND_PORT=8000 is gone: ",
        "  docker-compose.yml:31  lb.STATS_AUTH is gone: ",
        "  docker-compose.yml:32  lb.TIMEOUT client 50000 is gone: a client may be silent",
    ] {
        assert!(said.contains(line), "no {line:?}: {said}");
    }
    assert!(!said.contains("admin:secret"), "a password: {said}");
    let left = std::fs::read_to_string(old.path("docker-compose.yml")).unwrap();
    assert_eq!(left, V1, "the old file is as it was");
    let (code, _, err) = old.ctl(&["init", "--from", "docker-compose.yml"]);
    assert!(
        code == 1 && err.contains("cannot write compose.yaml"),
        "{err}"
    );
}

/// As Docker Cloud's balancer knew it.
const CLOUD: &str = "version: '2'
services:
  web:
    image: shop/web:1
    ports: ['8000']
    environment:
      VIRTUAL_HOST: 'http://shop.example, WWW.shop.example/'
      VIRTUAL_HOST_WEIGHT: '10'
      COOKIE: SRV insert indirect nocache
      HEALTH_CHECK: check inter 2000 rise 2 fall 3
      HTTP_CHECK: 'GET /health HTTP/1.0'
      PORT: '8000'
  api:
    image: shop/api:1
    environment:
      - VIRTUAL_HOST=*/api/*
      - SERVICE_PORTS=5000
      - BALANCE=hdr(X-User)
      - TCP_PORTS=9000
  lb:
    image: registry.example:5000/dockercloud/haproxy:1.6
    links: [web, api]
    volumes: ['/var/run/docker.sock:/var/run/docker.sock']
    environment: ['MAXCONN=4096', 'OPTION=redispatch, forwardfor', 'TIMEOUT=connect 2500, check 3000']
    ports: ['80:80', '9000:9000', '443:443']
";

const CLOUD_TODAY: &str = "\
# Made from docker-compose.yml, where its comments are.
services:
  web:
    image: shop/web:1
    ports:
    - 80:8000
    environment:
      PORT: \"8000\"
    x-haproxy:
      timeouts:
        connect: 2500ms
      check:
        timeout: 3s
        interval: 2s
        rise: 2
        fall: 3
        path: /health
      sticky: SRV
      domains:
      - shop.example
      - www.shop.example
  api:
    image: shop/api:1
    x-haproxy:
      timeouts:
        connect: 2500ms
      check:
        timeout: 3s
      balance: hash
      hash_header: X-User
      path: /api
    ports:
    - 80:5000
    - target: 9000
      published: \"9000\"
      app_protocol: tcp
";

#[test]
fn every_setting_of_docker_clouds_balancer_becomes_a_key() {
    let (text, said) = Old::new(CLOUD).converted();
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&text), sorted(CLOUD_TODAY), "{text}");
    for line in [
        "web.ports 8000 is gone: it has the balancer's port now",
        "lb.MAXCONN is gone: ",
        "web.VIRTUAL_HOST_WEIGHT is gone: ",
        "lb.ports 443:443 is gone: no certificate was named",
        "lb.volumes is gone: the edges need no engine",
    ] {
        assert_eq!(said.matches(line).count(), 1, "{line:?}: {said}");
    }
}

#[test]
fn lines_that_a_key_stands_for_become_it_and_are_to_be_looked_at() {
    let old = Old::new(
        "version: '2'
services:
  web:
    image: a
    expose: ['80']
    environment:
      EXTRA_SETTINGS: 'balance source, timeout server 90s, option httpchk GET /up'
      EXTRA_ROUTE_SETTINGS: send-proxy
      GZIP_COMPRESSION_TYPE: text/html text/css
  lb:
    image: dockercloud/haproxy
    links: [web]
    ports: ['80:80']
    environment:
      EXTRA_BIND_SETTINGS: '80:accept-proxy, 80:name http'
      EXTRA_FRONTEND_SETTINGS_80: 'http-request set-header X-Forwarded-Proto http, maxconn 9'
",
    );
    let (text, said) = old.converted();
    let parts = [
        "balance: source\n",
        "server: 90s\n",
        "path: /up\n",
        "proxy_protocol: v1\n",
        "accept_proxy: true\n",
        "compression:\n      - text/html\n      - text/css\n",
    ];
    for part in parts {
        assert!(text.contains(part), "no {part}: {text}");
    }
    assert!(!text.contains("EXTRA_BIND_SETTINGS:"), "{text}");
    for line in [
        "! docker-compose.yml:7  web.EXTRA_SETTINGS=source -> x-haproxy.balance: source: ",
        "! docker-compose.yml:15  lb.EXTRA_BIND_SETTINGS=accept-proxy -> x-haproxy.accept_proxy: true: ",
        "! docker-compose.yml:16  lb.EXTRA_FRONTEND_SETTINGS_80=maxconn 9 is gone: ",
    ] {
        assert!(said.contains(line), "no {line}: {said}");
    }
    let head = "#   line 7: web.EXTRA_SETTINGS=source -> x-haproxy.balance: source: ";
    assert!(text.contains(head), "{text}");
}

#[test]
fn certificates_of_a_folder_become_secrets() {
    let old = Old::new(
        "version: '2'
services:
  web:
    image: shop/web:1
    expose: [8000]
    environment: ['VIRTUAL_HOST=https://shop.example', 'FORCE_SSL=yes']
  lb:
    image: dockercloud/haproxy
    links: [web]
    volumes: ['./certs:/certs']
    environment: ['CERT_FOLDER=/certs/']
    ports: ['80:80', '8443:443']
",
    );
    std::fs::create_dir(old.path("certs")).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    std::fs::write(old.path("certs/Shop_1.pem"), pem).unwrap();
    let (text, said) = old.converted();
    for lines in [
        "secrets:\n  shop_1:\n    file: ./certs/Shop_1.pem\n",
        "      tls:\n      - shop_1\n      redirect_https: true\n",
        "    - target: 8000\n      published: \"8443\"\n      app_protocol: https\n",
    ] {
        assert!(text.contains(lines), "no {lines}: {text}");
    }
    let line =
        "lb.CERT_FOLDER=/certs/ -> secrets.shop_1 from ./certs/Shop_1.pem, x-haproxy.tls: shop_1";
    assert!(said.contains(line), "{said}");
}

/// Two services behind a balancer with certificates, that come to the same names today.
const ALIKE: &str = "version: '2'
secrets:
  shop: { file: ./other.pem }
services:
  web-1:
    image: shop/web:1
    expose: [8000]
  lb:
    image: dockercloud/haproxy
    links: [web-1]
    volumes: ['./certs:/certs']
    environment: ['CERT_FOLDER=/certs/', 'ADDITIONAL_SERVICES=shop:web-1,shop:nobody']
    ports: ['80:80', '443:443']
";

#[test]
fn names_that_would_be_one_are_refused_and_none_is_lost() {
    let old = Old::new(&ALIKE.replace("  lb:\n", "  web.1:\n    image: shop/web:2\n  lb:\n"));
    let said = old.refused();
    assert!(said.contains("\"web-1\" is taken"), "{said}");

    let old = Old::new(ALIKE);
    std::fs::create_dir(old.path("certs")).unwrap();
    for name in ["a-example.pem", "a.example.pem", "shop.pem"] {
        std::fs::write(old.path("certs").join(name), "").unwrap();
    }
    let said = old.refused();
    for why in [
        "./certs/a.example.pem would be the secret \"a-example\"",
        "./certs/shop.pem would be the secret \"shop\"",
        "services.lb.environment.ADDITIONAL_SERVICES: there is no service \"nobody\"",
    ] {
        assert!(said.contains(why), "no {why}: {said}");
    }
    assert!(!said.contains("no service \"web"), "{said}");

    for number in 0..65 {
        std::fs::write(old.path(&format!("certs/{number}.pem")), "").unwrap();
    }
    let said = old.refused();
    assert!(said.contains("there are 68 .pem files"), "{said}");
}

/// What has no counterpart, and the words that say so.
const REFUSED: [(&str, &str, &str); 15] = [
    ("web", "TCP_PORTS=9000,b", "is no list of ports"),
    ("lb", "BACKEND_PORT=$PORT", "is no list of ports"),
    ("web", "HTTP_CHECK=$CHECK", "its value is a variable"),
    (
        "web",
        "VIRTUAL_HOST=*.example.com",
        "domains are whole names",
    ),
    (
        "web",
        "VIRTUAL_HOST=a.example/x/*,b.example/y/*",
        "one path for all",
    ),
    ("web", "COOKIE=SRV prefix", "HAProxy inserts"),
    (
        "web",
        "SSL_CERT=-----BEGIN PRIVATE KEY-----\\nSESAME",
        "private key in a Compose file",
    ),
    ("web", "FORCE_SSL=true", "there is no certificate"),
    (
        "web",
        "EXTRA_SETTINGS=balance source, http-request auth realm SESAME",
        "stands for the line \"http-request auth\"",
    ),
    (
        "lb",
        "EXTRA_GLOBAL_SETTINGS=spread-checks 5",
        "HAProxy's own are not",
    ),
    ("lb", "HSTS_MAX_AGE=soon", "no number of seconds"),
    ("web", "BALANCE=first", "there is no balance"),
    ("lb", "HTTP_BASIC_AUTH=ana:SESAME", "ask for no password"),
    ("lb", "OPTION=redispatch, nolinger", "option \"nolinger\""),
    ("lb", "TIMEOUT=connect soon", "is no time limit"),
];

#[test]
fn what_has_no_counterpart_is_refused_at_its_place_with_the_way_out() {
    for (service, var, words) in REFUSED {
        let vars = |name: &str| match name == service {
            true => format!("environment: ['{var}']"),
            false => "restart: always".to_owned(),
        };
        let text = format!(
            "version: '2'\nservices:\n  web:\n    image: a\n    expose: ['80']\n    {}\n  lb:\n    image: \
             dockercloud/haproxy\n    links: [web]\n    ports: ['80:80']\n    {}\n",
            vars("web"),
            vars("lb")
        );
        let old = Old::new(&text);
        let said = old.refused();
        let flat = said.replace("\n  │ ", " ");
        assert!(
            flat.contains(words) && flat.contains("help: "),
            "{var}: {said}"
        );
        // The key itself is quoted by the excerpt of its line and by nothing else.
        let quoted = said
            .lines()
            .filter(|l| l.contains("SESAME") && !l.contains("environment:"));
        assert_eq!(quoted.count(), 0, "{said}");
        let args = [
            "init",
            "--from",
            "docker-compose.yml",
            "--ignore-unsupported",
        ];
        let (code, out, err) = old.ctl(&args);
        assert_eq!(code, 0, "{var}: {err}");
        assert!(out.contains("left out, no counterpart: "), "{var}: {out}");
    }
}

#[test]
fn links_and_balancers_that_point_nowhere_are_refused() {
    for (text, words) in [
        (
            "web: {image: a, links: [db]}\n",
            "there is no service \"db\"",
        ),
        (
            "lb: {image: tutum/haproxy, ports: ['80:80']}\nweb: {image: a}\n",
            "names no service",
        ),
        (
            "lb: {image: tutum/haproxy, links: [a, b]}\na: {image: a}\nb: {image: b}\n",
            "spread the same requests over a and b",
        ),
        (
            "lb: {image: tutum/haproxy, links: [a], ports: ['53:53/udp']}\na: {image: a}\n",
            "no single TCP port",
        ),
    ] {
        let said = Old::new(text).refused();
        assert!(said.contains(words), "no {words}: {said}");
    }
}

#[test]
fn changes_are_data_and_other_directories_are_refused() {
    let old = Old::new(V1);
    let (code, _, err) = old.ctl(&[
        "init",
        "--from",
        "docker-compose.yml",
        "/tmp/x/compose.yaml",
    ]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("in the directory of the old one"), "{err}");
    let args = [
        "init",
        "--from",
        "docker-compose.yml",
        "-o",
        "json",
        "new.yaml",
    ];
    let (code, out, err) = old.ctl(&args);
    assert_eq!(code, 0, "{err}");
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&report["file"], &report["from"]),
        (&"new.yaml".into(), &"docker-compose.yml".into())
    );
    let row = report["changes"].as_array().unwrap().iter();
    let row = row
        .clone()
        .find(|row| row["was"] == "service db.main")
        .unwrap();
    assert_eq!((&row["line"], &row["review"]), (&16.into(), &true.into()));
    assert!(
        err.contains("see whether the 1 marked with ! are right"),
        "{err}"
    );
}

#[test]
fn each_old_file_of_others_is_converted_or_refused_with_reasons() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/compose/corpus/tutum");
    let Ok(files) = std::fs::read_dir(&corpus) else {
        eprintln!("skipped: no corpus beside the repository");
        return;
    };
    let mut taken = 0;
    for file in files {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let old = Old::new(&text);
        if old.ctl(&["init", "--from", "docker-compose.yml"]).0 == 0 {
            std::fs::remove_file(old.path("compose.yaml")).unwrap();
            old.converted();
            taken += 1;
        } else {
            old.refused();
        }
    }
    assert!(taken >= 4, "{taken} were taken");
}
