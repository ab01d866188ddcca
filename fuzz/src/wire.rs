//! Messages of peers, decoded and looked at: they are taken or refused, and what is taken survives the way back.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use longshore_proto::agent::v1 as agent;
use longshore_proto::spec::v1 as spec;
use longshore_wire as wire;
use prost::Message;

/// Reads a message, and what it means once more from what it was written as.
fn survives<M: Message + Default, T: Debug, E: Debug>(
    bytes: &[u8],
    read: impl Fn(M) -> Result<T, E>,
    write: impl Fn(&T) -> M,
) {
    let Ok(message) = M::decode(bytes) else {
        return;
    };
    let Ok(meant) = read(message) else { return };
    // By words: a number that is none is equal to itself then.
    let words = format!("{meant:?}");
    let again = read(M::decode(&*write(&meant).encode_to_vec()).expect("our own bytes"));
    assert_eq!(
        format!("{:?}", again.expect("what was taken is taken again")),
        words
    );
}

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else {
        return;
    };
    match which % 8 {
        0 => survives(bytes, wire::assignment_from_pb, |(fence, meant)| {
            wire::assignment_to_pb(meant, *fence)
        }),
        1 => survives(bytes, wire::routes_from_pb, |(fence, meant)| {
            wire::routes_to_pb(meant, *fence)
        }),
        2 => survives(bytes, wire::names_from_pb, |(fence, meant)| {
            wire::names_to_pb(meant, *fence)
        }),
        3 => survives(bytes, wire::run_from_pb, wire::run_to_pb),
        4 => survives(bytes, wire::node_report_from_pb, wire::node_report_to_pb),
        5 => survives(bytes, wire::edge_report_from_pb, wire::edge_report_to_pb),
        6 => survives(bytes, wire::service_spec_from_pb, wire::service_spec_to_pb),
        _ => {
            let _ = agent::SessionRequest::decode(bytes);
            let _ = agent::SessionResponse::decode(bytes);
            let _ = spec::ServiceSpec::decode(bytes);
        }
    }
});
