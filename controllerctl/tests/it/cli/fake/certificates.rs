//! Services whose certificates edges take, or do not.

use longshore_proto::control::v1 as pb;

/// By the image of the service.
pub(super) fn of(image: &str) -> Vec<pb::ServiceCertificate> {
    let state = |edge: &str, state: &str, why: &str| pb::ServiceCertificate {
        name: "cert".into(),
        edge: edge.into(),
        state: state.into(),
        why: why.into(),
    };
    match image {
        "weak" => vec![
            state("edge1", "served", ""),
            state("edge2", "refused", "unable to load it"),
        ],
        "certless" => vec![state("edge1", "lacks", "unable to load it")],
        "late" => vec![
            state("edge1", "served", ""),
            state("edge2", "waits", "it is not connected"),
        ],
        "renewed" => vec![
            state("edge1", "served", ""),
            state("edge2", "away", "it is not connected"),
        ],
        _ => Vec::new(),
    }
}
