//! Reasons for failures, and how containers ended.

use longshore_model::NodeId;
use longshore_model::reason::FailReason;
use longshore_model::receipt::{Exit, Killed};
use longshore_proto::agent::v1 as pb;
use pb::fail_reason::Reason as Wire;

use crate::error::{WireError, list, named, port, required};

/// Longest text that is passed on from an engine or a container.
const DETAIL_CHARS_MAX: usize = 1000;
/// Most edges that one failure names.
const EDGES_MAX: usize = 64;

fn short(text: &str) -> String {
    text.chars().take(DETAIL_CHARS_MAX).collect()
}

/// To the wire.
pub(crate) fn exit_to_pb(exit: Exit) -> pb::Exit {
    let killed = match exit.killed {
        None => pb::Killed::Unspecified,
        Some(Killed::Grace) => pb::Killed::Grace,
        Some(Killed::Memory) => pb::Killed::Memory,
    };
    pb::Exit {
        code: exit.code,
        after_ms: exit.after_ms,
        killed: killed.into(),
    }
}

/// From the wire.
pub(crate) fn exit_from_pb(exit: pb::Exit) -> Exit {
    let killed = match exit.killed() {
        pb::Killed::Unspecified => None,
        pb::Killed::Grace => Some(Killed::Grace),
        pb::Killed::Memory => Some(Killed::Memory),
    };
    Exit {
        code: exit.code,
        after_ms: exit.after_ms,
        killed,
    }
}

/// To the wire.
#[must_use]
pub fn fail_reason_to_pb(reason: &FailReason) -> pb::FailReason {
    let reason = match reason {
        FailReason::ImageMissing { image, detail } => Wire::ImageMissing(pb::ImageMissing {
            image: image.clone(),
            detail: short(detail),
        }),
        FailReason::PortTaken { port } => Wire::PortTaken(pb::PortTaken {
            port: u32::from(*port),
        }),
        FailReason::PolicyRefused { option, hint } => Wire::PolicyRefused(pb::PolicyRefused {
            option: short(option),
            hint: short(hint),
        }),
        FailReason::VolumeMissing { volume, node } => Wire::VolumeMissing(pb::VolumeMissing {
            volume: short(volume),
            node: node.to_string(),
        }),
        FailReason::Engine { attempted, detail } => Wire::EngineFailed(pb::EngineFailed {
            attempted: short(attempted),
            detail: short(detail),
        }),
        FailReason::Exited {
            code,
            oom,
            last_line,
        } => Wire::Exited(pb::Exited {
            code: *code,
            oom: *oom,
            last_line: short(last_line),
        }),
        FailReason::NeverHealthy { after_ms, detail } => Wire::NeverHealthy(pb::NeverHealthy {
            after_ms: *after_ms,
            detail: short(detail),
        }),
        FailReason::CheckFails { detail } => Wire::CheckFails(pb::CheckFails {
            detail: short(detail),
        }),
        FailReason::Removed => Wire::Removed(pb::Removed {}),
        FailReason::NotReached { after_ms, edges } => Wire::NotReached(pb::NotReached {
            after_ms: *after_ms,
            edges: edges.iter().map(ToString::to_string).collect(),
        }),
    };
    pb::FailReason {
        reason: Some(reason),
    }
}

/// From the wire, checked.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn fail_reason_from_pb(reason: pb::FailReason) -> Result<FailReason, WireError> {
    Ok(match required("reason", reason.reason)? {
        Wire::ImageMissing(r) => FailReason::ImageMissing {
            image: short(&r.image),
            detail: short(&r.detail),
        },
        Wire::PortTaken(r) => FailReason::PortTaken {
            port: port("reason.port", r.port)?,
        },
        Wire::PolicyRefused(r) => FailReason::PolicyRefused {
            option: short(&r.option),
            hint: short(&r.hint),
        },
        Wire::VolumeMissing(r) => FailReason::VolumeMissing {
            volume: short(&r.volume),
            node: NodeId::new(r.node).map_err(named("reason.node"))?,
        },
        Wire::EngineFailed(r) => FailReason::Engine {
            attempted: short(&r.attempted),
            detail: short(&r.detail),
        },
        Wire::Exited(r) => FailReason::Exited {
            code: r.code,
            oom: r.oom,
            last_line: short(&r.last_line),
        },
        Wire::NeverHealthy(r) => FailReason::NeverHealthy {
            after_ms: r.after_ms,
            detail: short(&r.detail),
        },
        Wire::CheckFails(r) => FailReason::CheckFails {
            detail: short(&r.detail),
        },
        Wire::Removed(pb::Removed {}) => FailReason::Removed,
        Wire::NotReached(r) => FailReason::NotReached {
            after_ms: r.after_ms,
            edges: list("reason.edges", EDGES_MAX, r.edges, |edge| {
                NodeId::new(edge).map_err(named("reason.edges"))
            })?,
        },
    })
}
