//! `deploy.placement`, `platform` and ports of the node itself, from a file to a service.

use controllerctl::compose::interpolate::Variables;
use controllerctl::compose::problem::draw;
use controllerctl::compose::source::Source;
use controllerctl::compose::{ComposeError, parse};
use longshore_model::ServiceSpec;
use longshore_model::spec::{NodeAttribute, PlacementPolicy, Platform};

fn read(body: &str) -> Result<ServiceSpec, String> {
    let text = format!("services:\n  web:\n    image: nginx\n{body}");
    let source = vec![Source::new("compose.yaml", &text)];
    let surroundings = (&crate::here(), &Variables::new([]));
    match parse(source, None, "shop", surroundings) {
        Ok(loaded) => Ok(loaded.services.into_values().next().unwrap()),
        Err(ComposeError::Problems { problems, sources }) => Err(draw(&problems, &sources, false)),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn placement_reads_swarms_words_and_our_two() {
    let spec = read(
        "    deploy:\n      placement:\n        constraints: [engine.labels.rack==7, node.role != edge]\n        \
         preferences: [{ spread: node.labels.zone }, { spread: engine.labels.rack }]\n        \
         x-policy: binpack\n        x-rebalance: false\n",
    );
    let placement = spec.unwrap().placement;
    let attributes: Vec<_> = placement.constraints.iter().map(|c| &c.attribute).collect();
    let rack = NodeAttribute::EngineLabel("rack".into());
    assert_eq!(attributes, [&rack, &NodeAttribute::Role]);
    assert_eq!(placement.spread_labels, ["zone", "engine.labels.rack"]);
    assert_eq!(placement.policy, PlacementPolicy::Binpack);
    assert!(placement.stay);
}

#[test]
fn what_placement_does_not_know_is_an_error_with_its_place() {
    let facts = [
        (
            "constraints: [node.ip == 10.0.0.1]",
            "no attribute of a node",
        ),
        ("constraints: [node.role == manager]", "worker or edge"),
        ("constraints: [node.labels.a = b]", "needs == or !="),
        (
            "preferences: [{ spread: zone }]",
            "must be node.labels.NAME",
        ),
        (
            "preferences: [{ spred: node.labels.zone }]",
            "did you mean `spread`",
        ),
        (
            "constraints: [node.role == edge, node.role != edge]",
            "no node can be both node.role == edge and",
        ),
        ("x-policy: pack", "pack"),
        ("x-rebalance: sometimes", "x-rebalance"),
    ];
    for (line, wanted) in facts {
        let body = format!("    deploy:\n      placement:\n        {line}\n");
        let text = read(&body).expect_err(line);
        assert!(text.contains(wanted), "{line}\n{text}");
        assert!(
            text.contains("compose.yaml:6:"),
            "no place for {line}\n{text}"
        );
    }
    let long = "a".repeat(900);
    let line = format!("preferences: [{{ spread: node.labels.{long} }}]");
    let text = read(&format!("    deploy:\n      placement:\n        {line}\n"));
    let text = text.unwrap_err();
    assert!(text.contains("the name has 912 bytes"), "{text}");
}

#[test]
fn a_port_of_the_node_itself_is_fixed_or_any() {
    let spec = read(
        "    ports:\n      - { target: 8000, published: 9000, mode: host }\n      \
         - { target: 8001, mode: host }\n      - \"80:8000\"\n",
    );
    let spec = spec.unwrap();
    assert_eq!(spec.container.ports, [8000, 8001]);
    assert_eq!(spec.container.fixed_ports, [(8000, 9000)].into());
    assert_eq!(
        spec.routes.len(),
        1,
        "host ports are no way in through the edges"
    );
    let twice = "    ports:\n      - { target: 1, published: 9000, mode: host }\n      \
                 - { target: 2, published: 9000, mode: host }\n";
    assert!(read(twice).unwrap_err().contains("published twice"));
}

#[test]
fn a_platform_is_one_of_oci() {
    let platform = |text: &str| read(&format!("    platform: {text}\n"));
    let arm = Platform {
        os: "linux".into(),
        arch: "arm64".into(),
        variant: "v8".into(),
    };
    assert_eq!(
        platform("linux/aarch64/v8").unwrap().container.platform,
        Some(arm)
    );
    assert!(platform("arm64").unwrap_err().contains("linux/arm64"));
}

/// An extension of ours in a place where nobody reads it would be believed.
#[test]
fn our_extensions_in_wrong_places_are_refused() {
    for (body, place) in [
        ("    x-rebalance: false\n", "services.NAME.deploy.placement"),
        (
            "    deploy: { x-policy: binpack }\n",
            "services.NAME.deploy.placement",
        ),
        ("    deploy: { x-autoscale: { max: 3 } }\n", "services.NAME"),
    ] {
        let text = read(body).expect_err(body);
        assert!(text.contains("is not read here"), "{text}");
        assert!(text.contains(&format!("it belongs to {place}")), "{text}");
        assert!(text.contains("compose.yaml:4:"), "{text}");
    }
    assert!(
        read("    x-team: web\n").is_ok(),
        "those of others are none of our business"
    );
}
