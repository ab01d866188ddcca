//! `context create`.

use std::time::SystemTime;

use longshore_identity::{OperatorRole, ca::ClusterCa};

use super::fake::Cluster;
use super::said;

#[test]
fn a_context_is_made_of_files_or_of_another_one() {
    let cluster = Cluster::start();
    let imported = cluster.context("lab.toml", OperatorRole::Viewer, SystemTime::now());
    let text = std::fs::read_to_string(&imported).unwrap();
    let file: toml::Table = text.parse().unwrap();
    let lab = &file["context"]["lab"];
    let dir = cluster.dir.path();
    for key in ["ca", "cert", "key"] {
        std::fs::write(dir.join(key), lab[key].as_str().unwrap()).unwrap();
    }
    let config = dir.join("made/config.toml");
    let ctl = |args: &[&str]| {
        let args = [&["context", "create"], args].concat();
        said(cluster.ctl_with(&config, &args).current_dir(dir))
    };
    let url = lab["servers"][0].as_str().unwrap();
    let files = ["--ca", "ca", "--cert", "cert", "--key", "key"];
    let first = [&["prod", "--server", url][..], &files].concat();
    let (code, out, err) = ctl(&first);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(
        err.contains("operator") && err.contains("it is current"),
        "{err}"
    );
    let (code, _, err) = said(&mut cluster.ctl_with(&config, &["status"]));
    assert_eq!(code, 0, "{err}");
    assert_eq!(ctl(&first).0, 0, "the same again");
    let other = "https://10.0.0.9:7443, https://10.0.0.8:7443";
    let moved = ["prod", "--server", other, "--from", "prod"];
    let (code, _, err) = ctl(&moved);
    assert!(code == 1 && err.contains("--force"), "{err}");
    assert_eq!(ctl(&[&moved[..], &["--force"]].concat()).0, 0);
    let made = std::fs::read_to_string(&config).unwrap();
    assert!(made.contains("10.0.0.9:7443") && made.contains("10.0.0.8:7443"));

    std::fs::write(dir.join("empty"), "nothing").unwrap();
    let stranger = ClusterCa::create("other", SystemTime::now()).unwrap();
    std::fs::write(dir.join("other-ca"), stranger.cert_pem()).unwrap();
    refused(url, ctl);
    assert_eq!(
        std::fs::read_to_string(&config).unwrap(),
        made,
        "nothing was added"
    );
}

/// What is left out is taken from the context that fits, and said.
#[test]
fn what_is_left_out_comes_from_the_context_that_fits() {
    let cluster = Cluster::start();
    let config = cluster.context("lab.toml", OperatorRole::Viewer, SystemTime::now());
    let file: toml::Table = std::fs::read_to_string(&config).unwrap().parse().unwrap();
    let lab = &file["context"]["lab"];
    let dir = cluster.dir.path();
    std::fs::write(dir.join("ca"), lab["ca"].as_str().unwrap()).unwrap();
    let url = lab["servers"][0].as_str().unwrap();
    let ctl = |config: &std::path::Path, args: &[&str]| {
        let args = [&["context", "create"], args].concat();
        said(cluster.ctl_with(config, &args).current_dir(dir))
    };
    for (name, more) in [("short", &[][..]), ("by-ca", &["--ca", "ca"])] {
        let (code, _, err) = ctl(&config, &[&[name, "--server", url][..], more].concat());
        assert!(
            code == 0 && err.contains("(with what context lab has)"),
            "{err}"
        );
        let (code, _, err) = said(&mut cluster.ctl_with(&config, &["-c", name, "status"]));
        assert_eq!(code, 0, "{err}");
    }
    // Nothing to take it from.
    let none = dir.join("none.toml");
    for (more, words) in [
        (
            &[][..],
            "--ca, --cert and --key are missing, and there is no context",
        ),
        (
            &["--ca", "ca"],
            "--cert and --key are missing, and no context here",
        ),
    ] {
        let (code, _, err) = ctl(&none, &[&["x", "--server", url][..], more].concat());
        assert!(code == 2 && err.contains(words), "{err}");
        assert!(err.contains("controllerctl context import FILE"), "{err}");
    }
    assert!(!none.exists());
}

/// What is missing, or makes no context.
fn refused(url: &str, ctl: impl Fn(&[&str]) -> (i32, String, String)) {
    let damaged = [
        "x", "--server", url, "--ca", "empty", "--cert", "cert", "--key", "key",
    ];
    let swapped = [
        "x", "--server", url, "--ca", "ca", "--cert", "ca", "--key", "key",
    ];
    for (args, code, words) in [
        (&["x"][..], 2, "--server URL"),
        (
            &["x", "--server", url, "--ca", "cert"],
            2,
            "--cert and --key are missing, and no context here has this CA",
        ),
        (&["x", "--from", "prod"], 2, "--server URL"),
        (
            &["x", "--server", "http://a:1", "--from", "prod"],
            2,
            "https://HOST:PORT",
        ),
        (
            &["x", "--server", "https://a", "--from", "prod"],
            2,
            "https://HOST:PORT",
        ),
        (
            &["x", "--server", url, "--from", "nobody"],
            2,
            "there are: prod",
        ),
        (
            &["x", "--server", url, "--from", "prod", "--cert", "cert"],
            2,
            "--key",
        ),
        (
            &["x", "--server", url, "--from", "prod", "--ca", "other-ca"],
            2,
            "the certificate is not of this CA",
        ),
        (&damaged, 2, "holds no certificate"),
        (&swapped, 1, "cannot be used"),
    ] {
        let (is, _, err) = ctl(args);
        assert!(is == code && err.contains(words), "{args:?}: {is} {err}");
    }
}
