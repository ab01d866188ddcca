//! `secrets`, `configs` and small files that services bind: what containers are given.

use std::path::Path;

use controllerctl::compose::interpolate::Variables;
use controllerctl::compose::source::Source;
use controllerctl::compose::{Here, Loaded, parse};
use longshore_model::spec::{FileKind, FileSpec};

use crate::compose::drawn;

const CANARY: &str = "canary-51d0";

fn read(directory: &Path, text: &str) -> Result<Loaded, String> {
    let here = Here {
        directory: directory.to_owned(),
        now: std::time::SystemTime::UNIX_EPOCH,
    };
    let variables = Variables::new([("TOKEN".to_owned(), format!("{CANARY}-token"))]);
    let source = vec![Source::new("compose.yaml", text)];
    parse(source, None, "shop", (&here, &variables)).map_err(|error| drawn(&error))
}

/// A file with secrets, configs and a service.
fn file(service: &str) -> String {
    format!(
        "secrets:\n  db_password: {{ file: ./password.txt }}\n  token: {{ environment: TOKEN }}\n\
         configs:\n  app.conf: {{ file: app.conf }}\n  motd:\n    content: |\n      hello \
         ${{TOKEN}}\nservices:\n  web:\n    image: nginx\n{service}"
    )
}

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    put("password.txt", &format!("{CANARY}-password"));
    put("app.conf", "a = 1\n");
    put("nginx.conf", "events {}\n");
    std::fs::create_dir(dir.path().join("conf.d")).unwrap();
    dir
}

fn files(loaded: &Loaded) -> Vec<FileSpec> {
    let services = loaded.services.values();
    services
        .flat_map(|spec| spec.container.files.clone())
        .collect()
}

/// Target, owner, group, mode, contents.
fn seen(loaded: &Loaded) -> Vec<(String, u32, u32, u32, String)> {
    let of = |file: FileSpec| {
        let contents = loaded.contents[&file.digest].expose().to_vec();
        assert_eq!(file.bytes, contents.len() as u64);
        let text = String::from_utf8(contents).unwrap();
        (file.target, file.uid, file.gid, file.mode, text)
    };
    files(loaded).into_iter().map(of).collect()
}

#[test]
fn secrets_and_configs_become_files_where_they_belong() {
    let dir = directory();
    let service = "    secrets:\n      - db_password\n      - { source: token, target: api/token, uid: \
                   \"1000\", gid: \"65534\", mode: 0440 }\n    configs:\n      - app.conf\n      - { \
                   source: motd, target: /etc/motd }\n";
    let loaded = read(dir.path(), &file(service)).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let file = |target: &str, text: &str| (target.to_owned(), 0, 0, 0o444, text.to_owned());
    let token = (
        "/run/secrets/api/token".to_owned(),
        1_000,
        65_534,
        0o440,
        format!("{CANARY}-token"),
    );
    let expected = [
        file("/run/secrets/db_password", &format!("{CANARY}-password")),
        token,
        file("/app.conf", "a = 1\n"),
        file("/etc/motd", &format!("hello {CANARY}-token\n")),
    ];
    assert_eq!(seen(&loaded), expected);
    let kinds: Vec<FileKind> = files(&loaded).iter().map(|file| file.kind).collect();
    let (secret, config) = (FileKind::Secret, FileKind::Config);
    assert_eq!(kinds, [secret, secret, config, config]);
    // Nothing that is printed has it; `config` prints contents as they are written.
    let tree = serde_json::to_string(&loaded.tree).unwrap();
    let shown = format!("{:?} {:?} {tree}", loaded.services, loaded.contents);
    assert!(!shown.contains(CANARY), "{shown}");
    assert!(tree.contains("hello ${"), "{tree}");
}

#[test]
fn an_external_secret_is_named_and_the_controller_knows_the_rest() {
    let dir = directory();
    let service = "    secrets: [db_password, { source: token, target: /t }]\n";
    let text = file(service)
        .replace("file: ./password.txt", "external: true")
        .replace("environment: TOKEN", "external: true, name: shop.token");
    let older = text.replace("true, name: shop.token", "{ name: shop.token }");
    let off = file(service).replace("./password.txt", "password.txt, external: false");
    for text in [text, older] {
        let loaded = read(dir.path(), &text).unwrap();
        let named = files(&loaded).into_iter();
        let named: Vec<_> = named.map(|f| (f.target, f.external, f.bytes)).collect();
        let expected = [
            ("/run/secrets/db_password", "db_password"),
            ("/t", "shop.token"),
        ];
        let expected = expected.map(|(target, name)| (target.into(), Some(name.into()), 0));
        assert_eq!(named, expected);
        assert!(loaded.contents.is_empty(), "nothing is sent");
    }
    let loaded = read(dir.path(), &off).unwrap();
    assert_eq!(files(&loaded)[0].external, None);
}

#[test]
fn other_contents_are_another_template() {
    let dir = directory();
    let template = || {
        let loaded = read(dir.path(), &file("    configs: [app.conf]\n")).unwrap();
        let spec = loaded.services.into_values().next().unwrap();
        spec.container.template_id()
    };
    let before = template();
    assert_eq!(before, template());
    std::fs::write(dir.path().join("app.conf"), "a = 2\n").unwrap();
    assert_ne!(before, template());
}

#[test]
fn a_small_file_that_is_bound_to_be_read_is_sent() {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;
    let dir = directory();
    let run = dir.path().join("run.sh");
    std::fs::write(&run, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&run, Permissions::from_mode(0o750)).unwrap();
    let service = "    volumes:\n      - ./nginx.conf:/etc/nginx/nginx.conf:ro\n      - { type: bind, \
                   source: run.sh, target: /run.sh, read_only: true }\n      - /srv:/srv\n";
    let loaded = read(dir.path(), &file(service)).unwrap();
    let said: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    let words =
        "services.web.volumes[0]: bind mount ./nginx.conf (10 bytes) will be sent as a config";
    assert!(said.iter().any(|said| said == words), "{said:?}");
    let names: Vec<(String, u32)> = files(&loaded)
        .into_iter()
        .map(|f| (f.name, f.mode))
        .collect();
    assert_eq!(
        names,
        [
            ("./nginx.conf".to_owned(), 0o444),
            ("run.sh".to_owned(), 0o554)
        ]
    );
    let spec = loaded.services.values().next().unwrap();
    assert_eq!(
        spec.container.mounts.len(),
        1,
        "the absolute one is on the nodes"
    );
    // What nobody uses is not read.
    assert_eq!(
        said.iter()
            .filter(|said| said.contains("no service uses it"))
            .count(),
        4
    );
    assert_eq!(loaded.contents.len(), 2);
}

/// What is said of a file, on one line; it has a place, and nothing of a secret.
fn said_of(dir: &Path, text: &str) -> String {
    let drawn = read(dir, text).unwrap_err();
    assert!(drawn.contains("compose.yaml:"), "{drawn}");
    assert!(!drawn.contains(CANARY), "{drawn}");
    let words = drawn.split_whitespace().filter(|word| *word != "│");
    words.collect::<Vec<_>>().join(" ")
}

fn says(dir: &Path, text: &str, words: &[&str]) {
    let said = said_of(dir, text);
    for words in words {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
}

/// Keys of a service, and what is said of them.
const WRONG: &[(&str, &[&str])] = &[
    (
        "secrets: [db_passwrd]",
        &[
            "services.web.secrets[0]: there is no secret",
            "did you mean `db_password`?",
        ],
    ),
    (
        "configs: [frob]",
        &[
            "there is no config `frob`",
            "configs: { frob: { file: ./frob } }",
        ],
    ),
    (
        "secrets: [{ target: a }]",
        &[
            "services.web.secrets[0]: names no secret",
            "write source: NAME",
        ],
    ),
    (
        "secrets: [token, { source: db_password, target: token }]",
        &["secrets[1]: \"/run/secrets/token\" is the target of secret token, too"],
    ),
    (
        "configs: [{ source: motd, target: /etc/../etc/shadow }]",
        &["configs[0]: target \"/etc/../etc/shadow\" is no path"],
    ),
    (
        "configs: [{ source: motd, target: /proc/1/mem }]",
        &["is in /proc, which the kernel fills"],
    ),
    (
        "secrets: [{ source: token, uid: root }]",
        &["secrets[0].uid: \"root\" is no number of a user"],
    ),
    (
        "secrets: [{ source: token, mode: 440 }]",
        &[
            "secrets[0].mode: \"440\" is no mode",
            "octal digits with a 0",
        ],
    ),
    (
        "secrets: [{ source: token, mode: \"07777\" }]",
        &["is no mode of a file"],
    ),
    (
        "secrets: [{ source: token, frob: 1 }]",
        &["unknown key `frob`"],
    ),
    (
        "read_only: true\n    configs: [motd]",
        &[
            "configs[0]: read_only: the engine can write no file to \"/motd\"",
            "below /run/secrets, or drop read_only",
        ],
    ),
    (
        "tmpfs: [/etc]\n    configs: [{ source: motd, target: /etc/motd }]",
        &["in the tmpfs at \"/etc\""],
    ),
    (
        "volumes: [\"/srv:/srv\"]\n    configs: [{ source: motd, target: /srv/motd }]",
        &["in what is mounted at \"/srv\""],
    ),
    (
        "volumes: [\"./nginx.conf:/a\"]",
        &[
            "volumes[0]: \"./nginx.conf\": that path is on your machine",
            "with :ro (read_only) a file is sent as a config",
        ],
    ),
    (
        "volumes: [\"./conf.d:/a:ro\"]",
        &["cannot read ./conf.d: it is a directory", "name each file"],
    ),
    (
        "volumes: [\"./none:/a:ro\"]",
        &["cannot read ./none: No such file"],
    ),
    (
        "volumes: [\"./large:/a:ro\"]",
        &[
            "volumes[0]: ./large is longer than 1048576 bytes",
            "into the image, or into a volume",
        ],
    ),
    (
        "volumes: [\"./nginx.conf:/a:ro,rslave\"]",
        &["have no meaning for a file that is sent"],
    ),
    (
        "volumes: [\"./nginx.conf:/a:ro\", \"./app.conf:/a:ro\"]",
        &["volumes[1]: \"/a\" is the target of config ./nginx.conf, too"],
    ),
    (
        "volumes: [\"~/nginx.conf:/a:ro\"]",
        &["that path is on your machine"],
    ),
];

#[test]
fn what_is_wrong_in_a_service_has_its_place_and_its_way_out() {
    let dir = directory();
    std::fs::write(dir.path().join("large"), vec![0; (1 << 20) + 1]).unwrap();
    for (service, words) in WRONG {
        says(dir.path(), &file(&format!("    {service}\n")), words);
    }
}

#[test]
fn what_is_wrong_at_the_top_has_its_place_and_its_way_out() {
    let dir = directory();
    std::fs::write(dir.path().join("large"), vec![b'x'; (1 << 20) + 1]).unwrap();
    let used = "    secrets: [db_password]\n    configs: [motd]\n";
    let changed = |from: &str, to: &str, words: &[&str]| {
        let text = file(used).replace(from, to);
        assert_ne!(text, file(used));
        says(dir.path(), &text, words);
    };
    let password = "file: ./password.txt";
    let cases: [(&str, &[&str]); 12] = [
        (
            "file: ./none",
            &["secrets.db_password.file: cannot read", "No such file"],
        ),
        ("file: ./conf.d", &["it is a directory"]),
        (
            "file: ./large",
            &["secret db_password is longer than 512000 bytes"],
        ),
        ("environment: NONE", &["the variable NONE is not set"]),
        (
            "external: true, file: x",
            &["an external secret has its contents in the controller"],
        ),
        (
            "external: true, name: a/b",
            &["\"a/b\" is no name of a secret"],
        ),
        ("external: true, driver: x", &["kept by the controller"]),
        ("external: maybe", &["secrets.db_password.external"]),
        ("content: x", &["who reads the file would read the secret"]),
        (
            "file: ./password.txt, environment: TOKEN",
            &["must have one of: file, environment"],
        ),
        ("labels: { a: b }", &["have no labels"]),
        ("driver: x", &["kept by the controller"]),
    ];
    for (to, words) in cases {
        changed(password, to, words);
    }
    let conf = "app.conf: { file: app.conf }";
    let external = "only secrets stand apart from apps";
    changed(conf, "app.conf: { external: true }", &[external]);
    changed(
        "  db_password:",
        "  db password:",
        &["is no name of a secret", "letters, digits"],
    );
    let text = file(used).replace(
        "motd:\n    content: |\n      hello ${TOKEN}\n",
        "motd: { file: large }\n",
    );
    says(
        dir.path(),
        &text,
        &["config motd is longer than 1048576 bytes"],
    );
}

#[test]
fn all_files_of_a_container_have_a_limit_together() {
    let dir = directory();
    let part = "x".repeat((1 << 20) - 1);
    let mut service = "    volumes:\n".to_owned();
    for i in 0..5 {
        std::fs::write(dir.path().join(i.to_string()), format!("{i}{part}")).unwrap();
        service += &format!("      - ./{i}:/{i}:ro\n");
    }
    says(
        dir.path(),
        &file(&service),
        &["services.web: its secrets and configs have 5242880 bytes together; at most 4194304"],
    );
}
