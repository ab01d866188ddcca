//! `up SERVICE…`, `--force-recreate`.

use super::fake::Cluster;
use super::{run, said};

const FILE: &str = "\
name: shop
services:
  web: { image: fine, depends_on: [api] }
  api: { image: fine }
  jobs: { image: fine }
  debug: { image: fine, profiles: [debug] }
";

fn started() -> Cluster {
    let cluster = Cluster::start();
    std::fs::write(cluster.dir.path().join("compose.yaml"), FILE).unwrap();
    cluster
}

fn services(cluster: &Cluster) -> Vec<String> {
    let world = cluster.fake.world();
    let of_app = world.services.iter().filter(|s| s.app == "shop");
    let mut names: Vec<String> = of_app.map(|s| s.name.clone()).collect();
    names.sort();
    names
}

#[test]
fn only_what_is_named_and_what_it_waits_for_is_applied_and_followed() {
    let cluster = started();
    let (code, _, err) = run(&cluster, &["up", "-y", "web"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(services(&cluster), ["api", "web"]);
    assert_eq!(cluster.fake.world().calls, ["apply", "partial, anew: "]);
    // Its profile is not asked for, it is itself.
    let (code, _, err) = run(&cluster, &["up", "-y", "shop/debug"]);
    assert_eq!(code, 0, "{err}");
    assert!(!err.contains("left out"), "{err}");
    assert_eq!(services(&cluster), ["api", "debug", "web"]);
}

#[test]
fn replicas_are_replaced_of_those_that_are_named_or_of_all() {
    let cluster = started();
    let (code, _, err) = run(&cluster, &["up", "-y", "-d", "--force-recreate", "web"]);
    assert_eq!(code, 0, "{err}");
    let last = |cluster: &Cluster| cluster.fake.world().calls.last().cloned();
    assert_eq!(last(&cluster).as_deref(), Some("partial, anew: web"));
    let (code, _, err) = run(&cluster, &["up", "-y", "-d", "--force-recreate"]);
    assert_eq!(code, 0, "{err}");
    let whole = Some("whole, anew: api jobs web");
    assert_eq!(last(&cluster).as_deref(), whole);
    let plan = ["plan", "--force-recreate", "--scale", "web=2", "web"];
    let (_, out, err) = run(&cluster, &plan);
    assert!(
        out.contains("--force-recreate --scale web=2 web"),
        "{out}{err}"
    );
}

#[test]
fn names_that_are_not_in_the_files_are_refused_with_the_nearest() {
    let cluster = started();
    for (args, words) in [
        (&["wep"][..], "did you mean web?"),
        (&["web", "nothing"], "they have api, jobs, web"),
        (&["other/web"], "the files have no service \"other/web\""),
        (
            &["api", "--scale", "web=2"],
            "web is not among the services named",
        ),
    ] {
        for verb in ["up", "plan"] {
            let (code, _, err) = run(&cluster, &[&[verb], args].concat());
            assert!(code == 2 && err.contains(words), "{verb} {args:?}: {err}");
        }
    }
    assert!(cluster.fake.world().calls.is_empty());
}

#[test]
fn services_of_the_files_here_are_completed() {
    let cluster = started();
    let (code, out, err) = said(
        cluster
            .ctl(&["--", "controllerctl", "up", ""])
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", "2")
            .env("_CLAP_COMPLETE_COMP_TYPE", "9"),
    );
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("jobs") && out.contains("debug"), "{out}");
    let (code, out, err) = said(
        cluster
            .ctl(&["--", "controllerctl", "up", "--profile", ""])
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", "3")
            .env("_CLAP_COMPLETE_COMP_TYPE", "9"),
    );
    assert_eq!((code, out.trim()), (0, "debug"), "{err}");
}
