//! `secrets`, `x-haproxy.tls` and `redirect_https`: certificates from a file to a service.

use std::path::Path;
use std::time::{Duration, SystemTime};

use controllerctl::compose::interpolate::Variables;
use controllerctl::compose::source::Source;
use controllerctl::compose::{Here, Loaded, parse};
use longshore_model::ServiceSpec;

use crate::compose::drawn;

const DAY: Duration = Duration::from_secs(86_400);

fn at(days: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + DAY * days
}

/// A certificate that is valid from day 1,000 to day 1,100, and its key.
fn site(names: &[&str]) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = at(1_000).into();
    params.not_after = at(1_100).into();
    let certificate = params.self_signed(&key).unwrap().pem();
    (certificate, key.serialize_pem())
}

fn whole(names: &[&str]) -> String {
    let (certificate, key) = site(names);
    certificate + &key
}

fn read_at(directory: &Path, day: u32, text: &str) -> Result<Loaded, String> {
    let here = Here {
        directory: directory.to_owned(),
        now: at(day),
    };
    let variables = Variables::new([("PEM".to_owned(), whole(&["a.org"]))]);
    let source = vec![Source::new("compose.yaml", text)];
    parse(source, None, "shop", (&here, &variables)).map_err(|error| drawn(&error))
}

/// A file with the secret `cert` of `shop.pem`, and a service.
fn file(service: &str) -> String {
    format!(
        "secrets:\n  cert: {{ file: ./shop.pem }}\nservices:\n  web:\n    image: nginx\n{service}"
    )
}

const TLS: &str = "    ports: [\"80:8000\", \"443:8000\"]\n    x-haproxy: { tls: cert, domains: \
                   [a.org] }\n";

fn spec(loaded: Loaded) -> ServiceSpec {
    loaded.services.into_values().next().unwrap()
}

#[test]
fn certificates_are_read_and_end_tls_where_a_port_says() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shop.pem"), whole(&["a.org"])).unwrap();
    let loaded = read_at(dir.path(), 1_050, &file(TLS)).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let names: Vec<_> = loaded.secrets.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["cert"]);
    let shown = format!("{loaded:?}");
    assert!(!shown.contains("PRIVATE") && shown.contains("secret bytes"));
    let tls = |loaded: Loaded| -> Vec<(u16, bool, u16)> {
        let routes = spec(loaded).routes;
        let routes = routes.iter();
        routes
            .map(|r| (r.listen_port, !r.tls.is_empty(), r.redirect_port))
            .collect()
    };
    assert_eq!(tls(loaded), [(80, false, 0), (443, true, 0)]);
    let service = "    ports:\n      - { target: 80, published: 8443, app_protocol: https }\n      \
                   - { target: 80, published: 443, app_protocol: http }\n      - { target: 81, \
                   published: 81, app_protocol: tcp }\n    x-haproxy: { tls: [cert], \
                   redirect_https: true }\n";
    let loaded = read_at(dir.path(), 1_050, &file(service)).unwrap();
    assert_eq!(
        tls(loaded),
        [(8443, true, 0), (443, false, 8443), (81, false, 0)]
    );
    // From a variable; and one that is not named is not sent.
    let text = file(TLS).replace("file: ./shop.pem", "environment: PEM");
    let text = text.replace("secrets:\n", "secrets:\n  other: { file: /nowhere }\n");
    let loaded = read_at(dir.path(), 1_050, &text).unwrap();
    assert_eq!(loaded.secrets.len(), 1);
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(
        loaded.warnings[0]
            .to_string()
            .starts_with("secrets.other: no service")
    );
}

/// What is said of a file, on one line; it has a place, and nothing of a key.
fn said_of(dir: &Path, text: &str) -> String {
    let drawn = read_at(dir, 1_050, text).unwrap_err();
    assert!(drawn.contains("compose.yaml:"), "{drawn}");
    assert!(!drawn.contains("MC4") && !drawn.contains("MIG"), "{drawn}");
    let words = drawn.split_whitespace().filter(|word| *word != "│");
    words.collect::<Vec<_>>().join(" ")
}

fn says(dir: &Path, text: &str, words: &[&str]) {
    let said = said_of(dir, text);
    for words in words {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
}

#[test]
fn a_file_that_holds_no_certificate_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = site(&["a.org"]);
    let lacks = |text: &str, words: &[&str]| {
        std::fs::write(dir.path().join("shop.pem"), text).unwrap();
        says(dir.path(), &file(TLS), words);
    };
    says(
        dir.path(),
        &file(TLS),
        &["secrets.cert.file: cannot read", "No such file"],
    );
    let way_out = "cat fullchain.pem privkey.pem";
    lacks(&certificate, &["no private key in it", way_out]);
    lacks(&key, &["no certificate in it"]);
    let mixed = format!("{certificate}{}", site(&["a.org"]).1);
    lacks(&mixed, &["private key does not belong to its first"]);
    let long = format!("{}{key}", certificate.repeat(40));
    lacks(&long, &["at most 15000 are allowed"]);
    let sha1 = include_str!("../../../crates/identity/testdata/sha1.pem");
    let weak = format!("{certificate}{sha1}{key}");
    let why = "shop.pem: certificate 2 in it is signed with SHA-1, which HAProxy refuses";
    lacks(&weak, &["secrets.cert.file:", why, "have it issued again"]);
}

#[test]
fn what_does_not_fit_together_has_its_place_and_its_way_out() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shop.pem"), whole(&["a.org"])).unwrap();
    let changed = |from: &str, to: &str, words: &[&str]| {
        let text = file(TLS).replace(from, to);
        assert_ne!(text, file(TLS));
        says(dir.path(), &text, words);
    };
    let undefined = "services.web.x-haproxy.tls: there is no secret `certs`";
    changed(
        "tls: cert",
        "tls: certs",
        &[undefined, "did you mean `cert`?"],
    );
    let external = "a certificate for x-haproxy.tls cannot be external";
    changed("{ file: ./shop.pem }", "{ external: true }", &[external]);
    changed(
        "file: ./shop.pem",
        "environment: NONE",
        &["variable NONE is not set"],
    );
    changed(
        "\"443:8000\"",
        "\"444:8000\"",
        &["no published port ends TLS", "publish 443"],
    );
    changed(
        "tls: cert",
        "mode: tcp, tls: cert",
        &["tls: needs mode http"],
    );
    changed("tls: cert", "redirect_https: true", &["no port with TLS"]);
    let renamed = "there is no secret `cert` in the file";
    changed("  cert:", "  Cert_1:", &[renamed]);
    let misnamed = file(TLS).replace("cert", "cert.1");
    let why = "x-haproxy.tls: secret name \"cert.1\" may hold only letters";
    says(dir.path(), &misnamed, &[why]);
    let bare = "    ports: [{ target: 1, published: 2, app_protocol: https }]\n";
    says(
        dir.path(),
        &file(bare),
        &["app_protocol: https needs a certificate"],
    );
    let api = "  api:\n    image: nginx\n    ports: [\"443:1\"]\n";
    let shared = "a port takes TLS for all its services or for none";
    says(dir.path(), &(file(TLS) + api), &[shared]);
    // A container may be given the same file.
    let both = format!("{TLS}    secrets: [cert]\n");
    let loaded = read_at(dir.path(), 1_050, &file(&both)).unwrap();
    assert_eq!((loaded.secrets.len(), loaded.contents.len()), (1, 1));
}

#[test]
fn what_clients_will_refuse_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("shop.pem"), whole(&["*.a.org", "c.org"])).unwrap();
    let said = |day: u32, domains: &str| -> Vec<String> {
        let text = file(TLS).replace("[a.org]", domains);
        let loaded = read_at(dir.path(), day, &text).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect()
    };
    assert!(said(1_050, "[b.a.org, c.org]").is_empty());
    let wrong = said(1_050, "[x.b.a.org, c.org]");
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].contains("x-haproxy.domains: no certificate in tls is for x.b.a.org"));
    for (day, words) in [
        (999, "is valid only from"),
        (1_090, "expires soon"),
        (1_101, "expired at 1973"),
    ] {
        let said = said(day, "[c.org]");
        assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
    }
}
