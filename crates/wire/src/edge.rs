//! Parts of an edge's report.

use std::collections::BTreeSet;

use longshore_model::observe::PortsBySharer;
use longshore_proto::agent::v1 as pb;

use crate::error::{WireError, invalid, list};

/// Other programs on the ports of one HAProxy.
const SHARERS_MAX: usize = 64;
/// Ports of one of them.
const PORTS_MAX: usize = 4_096;
/// Characters of a program's name and pid.
const PROGRAM_CHARS_MAX: usize = 64;

pub(crate) fn sharers_to_pb(sharers: &PortsBySharer) -> Vec<pb::Sharer> {
    let sharers = sharers.iter().take(SHARERS_MAX);
    let sharer = sharers.map(|(program, ports)| pb::Sharer {
        program: program.clone(),
        ports: ports
            .iter()
            .take(PORTS_MAX)
            .map(|port| u32::from(*port))
            .collect(),
    });
    sharer.collect()
}

pub(crate) fn sharers_from_pb(sharers: Vec<pb::Sharer>) -> Result<PortsBySharer, WireError> {
    let port = |port: u32| u16::try_from(port).map_err(|_| invalid("sharers.ports", "is no port"));
    let sharer = |sharer: pb::Sharer| {
        let ports = list("sharers.ports", PORTS_MAX, sharer.ports, port)?;
        // It is shown: a program calls itself what it likes.
        let plain = sharer.program.chars().filter(|c| !c.is_control());
        let program: String = plain.take(PROGRAM_CHARS_MAX).collect();
        Ok((program, ports.into_iter().collect::<BTreeSet<u16>>()))
    };
    let sharers = list("sharers", SHARERS_MAX, sharers, sharer)?;
    Ok(sharers.into_iter().collect())
}
