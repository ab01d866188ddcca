//! Model to protobuf and back: the only place that knows both. Everything that comes in is
//! checked here, limits included; everything inside is typed.

mod agent;
mod autoscale;
mod certificates;
mod contents;
mod control;
mod edge;
mod error;
mod logs;
mod names;
mod reason;
mod route;
mod routes;
mod runs;
mod spec;

pub use agent::{
    EdgeReport, Fence, NodeReport, ReplicaReport, assignment_from_pb, assignment_to_pb,
    capacity_from_pb, capacity_to_pb, edge_report_from_pb, edge_report_to_pb, engine_labels,
    node_report_from_pb, node_report_to_pb,
};
pub use certificates::{certificates_from_pb, certificates_to_pb};
pub use contents::{checked_contents, contents_from_pb, contents_to_pb};
pub use control::{event_to_pb, event_type, json_to_struct, struct_to_json, to_struct};
pub use error::WireError;
pub use logs::{LogPosition, LogResume};
pub use names::{names_from_pb, names_to_pb};
pub use reason::{fail_reason_from_pb, fail_reason_to_pb};
pub use route::{route_spec_from_pb, route_spec_to_pb};
pub use routes::{routes_from_pb, routes_to_pb};
pub use runs::{RunSpec, run_from_pb, run_to_pb};
pub use spec::{
    container_spec_from_pb, container_spec_to_pb, service_spec_from_pb, service_spec_to_pb,
};
