//! What tests share.

use longshore_model::ServiceSpec;
use longshore_model::spec::{ContainerSpec, PlacementSpec, RouteSpec, UpdateSpec};

/// A small service with one route.
pub(crate) fn service_spec() -> ServiceSpec {
    ServiceSpec {
        container: ContainerSpec {
            image: "hello:1".into(),
            stop_grace_ms: 1_000,
            ports: vec![8080],
            ..ContainerSpec::default()
        },
        replicas: 1,
        placement: PlacementSpec::default(),
        update: UpdateSpec::default(),
        rollback: None,
        gate: None,
        autoscale: None,
        routes: vec![RouteSpec::new(80, 8080)],
        drain_ms: 1_000,
        ..ServiceSpec::default()
    }
}
