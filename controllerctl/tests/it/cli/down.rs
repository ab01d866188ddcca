//! `down`, and its `--volumes`.

use super::fake::{Cluster, service};
use super::{json, run};

#[test]
fn volumes_go_after_the_app_and_are_named_before() {
    let cluster = Cluster::start();
    cluster.fake.world().services.push(service("shop", "db", 1));
    cluster.fake.world().lingering = 3;
    let (code, _, err) = run(&cluster, &["down", "shop", "--volumes"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("- volume shop_old  on node2"), "{err}");
    assert!(cluster.fake.world().calls.is_empty());
    let gone = json(&cluster, &["down", "shop", "--volumes", "-y", "-o", "json"]);
    assert_eq!(gone["volumes"].as_array().unwrap().len(), 3, "{gone}");
    assert_eq!(
        (&gone["done"], cluster.fake.world().lingering),
        (&true.into(), 0)
    );
    let calls = cluster.fake.world().calls.clone();
    let rest = [
        "rm shop_data on node1",
        "rm shop_old on node1",
        "rm shop_old on node2",
    ];
    assert_eq!(
        (calls[0].as_str(), &calls[1..]),
        ("down", &rest.map(str::to_owned)[..])
    );
}

#[test]
fn without_the_word_and_of_other_apps_volumes_stay() {
    let cluster = Cluster::start();
    let (code, _, err) = run(&cluster, &["down", "hello", "--volumes", "-y"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(cluster.fake.world().calls, ["down"]);
    let (code, _, err) = run(&cluster, &["down", "hello", "--volumes", "-d", "-y"]);
    assert!(code == 2 && err.contains("--detach"), "{err}");
}

#[test]
fn a_volume_that_cannot_go_is_named_and_the_others_go() {
    let cluster = Cluster::start();
    cluster.fake.world().services.push(service("shop", "db", 1));
    cluster.fake.world().kept_volume = Some("shop_data".into());
    let (code, _, err) = run(&cluster, &["down", "shop", "--volumes", "-y"]);
    assert_eq!(code, 1, "{err}");
    assert!(
        err.contains("! shop_data on node1 stays") && err.contains("in use"),
        "{err}"
    );
    assert_eq!(cluster.fake.world().calls.len(), 3, "{err}");
}

#[test]
fn external_volumes_stay_and_are_named() {
    let cluster = Cluster::start();
    cluster.fake.world().services.push(service("shop", "db", 1));
    cluster.fake.world().external_volume = Some("shop_data".into());
    let (code, _, err) = run(&cluster, &["down", "shop", "--volumes"]);
    assert_eq!(code, 2, "{err}");
    let stays = "volume shop_data  on node1 is external and stays";
    assert!(
        err.contains(stays) && !err.contains("- volume shop_data"),
        "{err}"
    );
    let gone = json(&cluster, &["down", "shop", "--volumes", "-y", "-o", "json"]);
    assert_eq!(gone["external"][0]["name"], "shop_data", "{gone}");
    let calls = cluster.fake.world().calls.clone();
    assert_eq!(
        calls,
        ["down", "rm shop_old on node1", "rm shop_old on node2"]
    );
}

/// What cannot be done is refused with the way out, and nothing begins.
#[test]
fn another_time_to_stop_is_refused() {
    let cluster = Cluster::start();
    for flag in ["-t", "--timeout"] {
        let (code, _, err) = run(&cluster, &["down", "hello", flag, "30", "-y"]);
        assert!(code == 2 && err.contains("stop_grace_period: 30s"), "{err}");
    }
    assert!(cluster.fake.world().calls.is_empty());
}
