//! `deploy.mode`: a count, or one replica on each node.

use longshore_model::spec::ServiceMode;

use crate::compose::{faults, web};
use crate::networks::{taken, warnings};

#[test]
fn one_on_each_node_has_no_count() {
    let spec = web("    deploy: { mode: global }\n");
    assert_eq!((spec.mode, spec.replicas), (ServiceMode::Global, 0));
    let spec = web("    deploy: { mode: replicated, replicas: 3 }\n");
    assert_eq!((spec.mode, spec.replicas), (ServiceMode::Replicated, 3));
}

#[test]
fn words_about_a_count_are_refused_at_their_place() {
    for (body, place, word) in [
        (
            "    deploy:\n      mode: global\n      replicas: 3\n",
            "services.web.deploy.replicas:",
            "deploy.replicas",
        ),
        (
            "    scale: 3\n    deploy:\n      mode: global\n",
            "services.web.scale:",
            "deploy.replicas",
        ),
        (
            "    deploy:\n      mode: global\n      placement: { max_replicas_per_node: 2 }\n",
            "services.web.deploy.placement.max_replicas_per_node:",
            "max_replicas_per_node",
        ),
        (
            "    deploy:\n      mode: global\n    x-autoscale: { max: 4, node_cpu: 60% }\n",
            "services.web.x-autoscale:",
            "x-autoscale",
        ),
        (
            "    deploy:\n      mode: global\n    hostname: web\n",
            "services.web:",
            "hostname cannot be the same on each node",
        ),
    ] {
        let said = faults(body);
        assert!(said.contains(place) && said.contains(word), "{said}");
    }
}

/// What is on a node's volume is meant for that node.
#[test]
fn each_node_has_a_volume_of_its_own() {
    let of = |deploy: &str| {
        let text = format!(
            "services:\n  web:\n    image: a:1\n    volumes: [\"data:/data\"]\n    deploy: {deploy}\n\
             volumes:\n  data:\n"
        );
        warnings(&taken(&text)).join("\n")
    };
    let one_node = "run where the data of volume";
    assert!(of("{ replicas: 2 }").contains(one_node));
    assert!(!of("{ mode: global }").contains(one_node));
}
