//! What edges say of certificates, on its way to the controller.
#![allow(clippy::semicolon_if_nothing_returned)] // one-line closures of a table

use longshore_model::certificate::{
    CertificateObserved, CertificateRefused, CertificateServed, CertificatesObserved,
};
use longshore_model::id::NameError;
use longshore_wire as wire;

fn certificates_seen() -> Result<CertificatesObserved, NameError> {
    let mark = |c: &str| c.repeat(64);
    let served = CertificateServed {
        mark: mark("a"),
        until_ms: 7,
    };
    let refused = CertificateRefused {
        mark: mark("b"),
        why: "unable to load it".into(),
    };
    let both = CertificateObserved {
        served: Some(served),
        refused: Some(refused),
    };
    let all = [("shop/cert", both), ("shop/none", Default::default())];
    let all = all.into_iter().map(|(key, seen)| Ok((key.parse()?, seen)));
    all.collect()
}

#[test]
fn what_an_edge_says_of_certificates_is_checked() {
    let seen = certificates_seen().unwrap();
    let report = |spoil: fn(&mut longshore_proto::agent::v1::CertificateSeen)| {
        let mut report = wire::edge_report_to_pb(&wire::EdgeReport {
            certificates: Some(seen.clone()),
            ..Default::default()
        });
        let seen = report.certificates.as_mut().unwrap();
        spoil(&mut seen.certificates[0]);
        let read = wire::edge_report_from_pb(report);
        read.map(|read| read.certificates)
            .map_err(|error| error.to_string())
    };
    assert_eq!(report(|_| {}), Ok(Some(seen.clone())));
    assert!(
        report(|c| c.served_mark = "abc".into())
            .unwrap_err()
            .contains("SHA-256")
    );
    assert!(
        report(|c| c.app = "A b".into())
            .unwrap_err()
            .contains("certificates.app")
    );
    let long = report(|c| c.refused_why = "x\n".repeat(9_999))
        .unwrap()
        .unwrap();
    let why = &long.values().next().unwrap().refused.as_ref().unwrap().why;
    assert_eq!(*why, "x".repeat(500));
    // One that does not say is not one that has none.
    let silent = wire::edge_report_from_pb(Default::default()).unwrap();
    assert_eq!(silent.certificates, None);
}
