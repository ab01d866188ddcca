//! `config`: what becomes of a file, without a controller.

use super::fake::Cluster;
use super::{run, said};

const FILE: &str = "name: shop\nservices:\n  web: { image: \"a:${TAG}\", gpus: all, hostname: w }\n  db: { image: b, \
                    profiles: [data] }\n";

#[test]
fn the_table_says_what_becomes_of_each_key() {
    let cluster = Cluster::start();
    let path = cluster.dir.path().join("shop.yaml");
    std::fs::write(&path, FILE).unwrap();
    std::fs::write(cluster.dir.path().join(".env"), "TAG=1\n").unwrap();
    let file = path.display().to_string();
    let (code, out, _) = run(&cluster, &["config", "--check", "-f", &file]);
    assert_eq!(code, 1);
    for line in [
        "services.web.image     supported\n",
        "services.web.gpus      refused: devices are not",
        "services.web.hostname  with a condition: for one replica only\n",
        "left out, by profile: db (data); --profile NAME takes them in\n",
        "the file cannot be used as it is\n",
    ] {
        assert!(out.contains(line), "no {line}: {out}");
    }
    let args = ["config", "--check", "--ignore-unsupported", "-f", &file];
    let (code, out, _) = run(&cluster, &args);
    assert_eq!(code, 0);
    assert!(
        out.contains("services.web.gpus      dropped: devices are not"),
        "{out}"
    );
    assert!(
        out.contains("1 services; what is dropped above has no effect"),
        "{out}"
    );
    let args = [
        "config",
        "--check",
        "--profile",
        "*",
        "-o",
        "json",
        "-f",
        &file,
    ];
    let report: serde_json::Value = serde_json::from_str(&run(&cluster, &args).1).unwrap();
    let row = &report["keys"][2];
    assert_eq!(
        (&row["key"], &row["status"]),
        (&"services.web.gpus".into(), &"refused".into())
    );
    assert_eq!(report["left_out"], serde_json::json!([]));
}

#[test]
fn services_and_images_are_lists() {
    let cluster = Cluster::start();
    let text = "services: { web: { image: a }, api: { image: b }, more: { image: a } }\n";
    std::fs::write(cluster.dir.path().join("compose.yaml"), text).unwrap();
    assert_eq!(
        run(&cluster, &["config", "--services"]).1,
        "api\nmore\nweb\n"
    );
    assert_eq!(run(&cluster, &["config", "--images"]).1, "a\nb\n");
    let (_, out, _) = run(&cluster, &["config", "--images", "-o", "json"]);
    assert_eq!(
        serde_json::from_str::<Vec<String>>(&out).unwrap(),
        ["a", "b"]
    );
}

#[test]
fn profiles_env_files_and_what_is_left_out_reach_the_plan() {
    let cluster = Cluster::start();
    let write = |name: &str, text: &str| {
        std::fs::write(cluster.dir.path().join(name), text).unwrap();
    };
    write("compose.yaml", FILE);
    write("x.env", "TAG=9\n");
    let mut command = cluster.ctl(&["config", "--ignore-unsupported", "--env-file", "x.env"]);
    let (code, out, err) = said(&mut command);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("image: \"a:9\"") || out.contains("image: a:9"),
        "{out}"
    );
    assert!(!out.contains("gpus") && !out.contains("db"), "{out}");
    assert!(err.contains("left out, by profile: db (data)"), "{err}");
    let (code, _, err) = run(
        &cluster,
        &[
            "plan",
            "--ignore-unsupported",
            "--env-file",
            "x.env",
            "--profile",
            "data",
        ],
    );
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("left out, not supported") && !err.contains("by profile"),
        "{err}"
    );
    write("broken.env", "TAG 9\n");
    let (code, _, err) = run(&cluster, &["plan", "--env-file", "broken.env"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("broken.env:1: a name cannot hold ' '"),
        "{err}"
    );
}

#[test]
fn keys_are_explained_without_a_controller() {
    let cluster = Cluster::start();
    let (code, out, _) = run(&cluster, &["explain", "services.x-autoscale.mode"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("takes    on | dry-run | approve") && out.contains("default  on"),
        "{out}"
    );
    let (_, out, _) = run(&cluster, &["explain", "x-haproxy.check", "-o", "json"]);
    let page: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(page["keys"][0]["name"], "path");
    let (code, _, err) = run(&cluster, &["explain", "x-haproxy.balanec"]);
    assert_eq!(code, 1);
    assert!(err.contains("did you mean `balance`?"), "{err}");
}
