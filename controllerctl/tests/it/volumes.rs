//! What a volume whose data is on one node means for its service.

use controllerctl::compose::problem::draw;

use crate::compose::{drawn, read};

fn file(service: &str, volume: &str) -> String {
    format!(
        "services:\n  db:\n    image: postgres\n    volumes: [\"data:/data\"]\n{service}volumes:\n  \
         data: {volume}\n"
    )
}

fn warnings(text: &str) -> String {
    let loaded = read(text).unwrap_or_else(|e| panic!("{text}\n{}", drawn(&e)));
    draw(&loaded.warnings, &loaded.sources, false)
}

const SCALES: &str = "    x-autoscale: { max: 3, node_cpu: 60% }\n";

#[test]
fn scaling_over_one_node_is_an_error_with_the_ways_out() {
    let said = drawn(&read(&file(SCALES, "{}")).map(|_| ()).unwrap_err());
    for part in [
        "compose.yaml:5:",
        "is on one node",
        "x-shared: true",
        "type nfs",
        "max: 1",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let nfs = "{ driver_opts: { type: nfs, device: \":/x\", o: addr=10.0.0.1 } }";
    for elsewhere in [
        "{ x-shared: true }",
        "{ external: true, x-shared: true }",
        nfs,
    ] {
        let said = warnings(&file(SCALES, elsewhere));
        assert!(!said.contains("is on one node"), "{elsewhere}: {said}");
    }
    let one = "    x-autoscale: { max: 1, node_cpu: 60% }\n";
    assert!(read(&file(one, "{}")).is_ok());
}

#[test]
fn several_replicas_are_all_where_the_data_is() {
    let three = "    deploy: { replicas: 3 }\n";
    let said = warnings(&file(three, "{}"));
    assert!(
        said.contains("all 3 replicas run where the data of volume"),
        "{said}"
    );
    assert!(!warnings(&file(three, "{ x-shared: true }")).contains("replicas run where"));
}

#[test]
fn what_is_shared_is_no_other_template_where_it_is_not() {
    let mount = |volume: &str| {
        let loaded = read(&file("", volume)).unwrap_or_else(|e| panic!("{}", drawn(&e)));
        let spec = loaded.services.into_values().next().unwrap();
        spec.container.mounts[0].clone()
    };
    assert_eq!(mount("{ x-shared: false }"), mount("{}"));
    assert!(mount("{ x-shared: true }").options.shared);
}

#[test]
fn an_external_volume_is_sent_as_one_that_nobody_makes() {
    for (volume, name, external) in [
        ("{ external: true }", "data", true),
        ("{ external: true, name: other }", "other", true),
        ("{ external: { name: older } }", "older", true),
        ("{ external: false }", "shop_data", false),
    ] {
        let loaded = read(&file("", volume)).unwrap_or_else(|e| panic!("{}", drawn(&e)));
        let spec = loaded.services.into_values().next().unwrap();
        let mount = &spec.container.mounts[0];
        let said = (mount.source.as_str(), mount.options.external);
        assert_eq!(said, (name, external), "{volume}");
    }
}
