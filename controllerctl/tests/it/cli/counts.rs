//! `up --scale`.

use super::fake::{Cluster, service};
use super::run;

#[test]
fn a_new_service_begins_with_the_count_and_one_that_is_there_is_scaled() {
    let cluster = Cluster::start();
    let file = cluster.compose("fine");
    let args = ["up", "-f", &file, "-y", "-d", "--scale", "web=3"];
    let (code, _, err) = run(&cluster, &args);
    assert_eq!(code, 0, "{err}");
    let web = |cluster: &Cluster| {
        let world = cluster.fake.world();
        let found = world.services.iter().find(|s| s.key == "app/web");
        found.map(|s| s.wanted)
    };
    assert_eq!(web(&cluster), Some(3));
    assert!(!err.contains("scaled to"), "{err}");
    let cluster = Cluster::start();
    cluster.fake.world().services.push(service("app", "web", 2));
    let file = cluster.compose("fine");
    let args = ["up", "-f", &file, "-y", "-d", "--scale", "web=4"];
    let (code, _, err) = run(&cluster, &args);
    assert_eq!((code, web(&cluster)), (0, Some(4)), "{err}");
    assert!(
        err.contains("* app/web  scaled to 4") && err.contains("app/web: 2 -> 4"),
        "{err}"
    );
    let (code, out, _) = run(
        &cluster,
        &["up", "-f", &file, "--dry-run", "--scale", "web=5"],
    );
    assert_eq!((code, web(&cluster)), (0, Some(4)));
    assert!(out.contains("* app/web  scaled to 5"), "{out}");
}

#[test]
fn counts_that_cannot_be_are_refused_before_anything_is_changed() {
    let cluster = Cluster::start();
    let path = cluster.dir.path().join("compose.yaml");
    let text = "services:\n  web: { image: a, x-autoscale: { max: 4, node_cpu: 60% } }\n  one: { image: b, hostname: h }\n";
    std::fs::write(path, text).unwrap();
    for (counts, words) in [
        (&["nope=1"][..], "they have one, web"),
        (&["web=5"], "between 1 and 4"),
        (&["one=2"], "hostname cannot be the same"),
        (&["one=1", "one=1"], "is there twice"),
        (&["one=4294967295"], "at most"),
        (&["one"], "SERVICE=N"),
    ] {
        let mut args = vec!["up", "-y", "-d"];
        for count in counts {
            args.extend(["--scale", count]);
        }
        let (code, _, err) = run(&cluster, &args);
        assert!(code == 2 && err.contains(words), "{counts:?}: {err}");
    }
    assert!(cluster.fake.world().calls.is_empty());
}
