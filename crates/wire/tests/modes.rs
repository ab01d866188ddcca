//! What a service's count goes by, over the wire.

#![allow(clippy::unwrap_used)]

use longshore_model::spec::ServiceMode;
use longshore_model::{ContainerSpec, ServiceSpec};
use longshore_proto::spec::v1 as pb;
use longshore_wire::{service_spec_from_pb, service_spec_to_pb};

fn spec(mode: ServiceMode, replicas: u32) -> ServiceSpec {
    ServiceSpec {
        container: ContainerSpec {
            image: "web:1".into(),
            ..ContainerSpec::default()
        },
        mode,
        replicas,
        ..ServiceSpec::default()
    }
}

#[test]
fn each_mode_comes_back_the_same() {
    for spec in [
        spec(ServiceMode::Replicated, 3),
        spec(ServiceMode::Global, 0),
    ] {
        assert_eq!(service_spec_from_pb(service_spec_to_pb(&spec)), Ok(spec));
    }
}

/// What a client from before there were modes sends has a count.
#[test]
fn no_mode_means_a_count() {
    let message = pb::ServiceSpec {
        mode: 0,
        ..service_spec_to_pb(&spec(ServiceMode::Replicated, 3))
    };
    assert_eq!(
        service_spec_from_pb(message).unwrap().mode,
        ServiceMode::Replicated
    );
}

#[test]
fn modes_of_other_versions_and_counts_where_there_are_none_are_refused() {
    let refused = |change: &dyn Fn(&mut pb::ServiceSpec)| {
        let mut message = service_spec_to_pb(&spec(ServiceMode::Global, 0));
        change(&mut message);
        service_spec_from_pb(message).unwrap_err().to_string()
    };
    let said = refused(&|m| m.mode = 99);
    assert_eq!(said, "mode: is none that this version knows");
    let said = refused(&|m| m.replicas = 2);
    assert!(said.contains("deploy.replicas has no meaning"), "{said}");
    let said = refused(&|m| m.placement.as_mut().unwrap().max_per_node = 2);
    assert!(said.contains("max_replicas_per_node has no"), "{said}");
}
