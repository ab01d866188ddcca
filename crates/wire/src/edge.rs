//! Parts of an edge's report.

use std::collections::BTreeSet;

use longshore_model::SecretKey;
use longshore_model::certificate::{
    CertificateObserved, CertificateRefused, CertificateServed, CertificatesObserved,
};
use longshore_model::observe::PortsBySharer;
use longshore_model::repair::{REPAIR_CHARS_MAX, REPAIRS_MAX, Repair, RepairKind};
use longshore_model::secret::SECRETS_ALL_MAX;
use longshore_proto::agent::v1 as pb;

use crate::error::{WireError, invalid, list, named};

/// Other programs on the ports of one HAProxy.
const SHARERS_MAX: usize = 64;
/// Ports of one of them.
const PORTS_MAX: usize = 4_096;
/// Characters of a program's name and pid.
const PROGRAM_CHARS_MAX: usize = 64;
/// Characters of a certificate's mark.
const MARK_CHARS: usize = 64;
/// Characters of why HAProxy refuses one.
const WHY_CHARS_MAX: usize = 500;

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

pub(crate) fn certificates_to_pb(seen: &CertificatesObserved) -> pb::CertificatesSeen {
    let seen = seen.iter().take(SECRETS_ALL_MAX);
    let certificate = seen.map(|(key, seen)| {
        let served = seen.served.clone().unwrap_or_default();
        let refused = seen.refused.clone().unwrap_or_default();
        pb::CertificateSeen {
            app: key.app.to_string(),
            name: key.name.to_string(),
            served_mark: served.mark,
            served_until_ms: served.until_ms,
            refused_mark: refused.mark,
            refused_why: refused.why,
        }
    });
    pb::CertificatesSeen {
        certificates: certificate.collect(),
    }
}

pub(crate) fn certificates_from_pb(
    message: pb::CertificatesSeen,
) -> Result<CertificatesObserved, WireError> {
    let mark = |mark: String| {
        let is_mark = mark.len() == MARK_CHARS && mark.bytes().all(|b| b.is_ascii_hexdigit());
        match (mark.is_empty(), is_mark) {
            (true, _) => Ok(None),
            (false, true) => Ok(Some(mark)),
            (false, false) => Err(invalid("certificates.mark", "is no SHA-256")),
        }
    };
    let certificate = |seen: pb::CertificateSeen| {
        let app = seen.app.parse().map_err(named("certificates.app"))?;
        let name = seen.name.parse().map_err(named("certificates.name"))?;
        let until_ms = seen.served_until_ms;
        let plain = seen.refused_why.chars().filter(|c| !c.is_control());
        let why: String = plain.take(WHY_CHARS_MAX).collect();
        let observed = CertificateObserved {
            served: mark(seen.served_mark)?.map(|mark| CertificateServed { mark, until_ms }),
            refused: mark(seen.refused_mark)?.map(|mark| CertificateRefused { mark, why }),
        };
        Ok((SecretKey::new(app, name), observed))
    };
    let certificates = message.certificates;
    let certificates = list("certificates", SECRETS_ALL_MAX, certificates, certificate)?;
    Ok(certificates.into_iter().collect())
}

pub(crate) fn repairs_to_pb(repairs: &[(u64, Repair)]) -> Vec<pb::Repair> {
    let surplus = repairs.len().saturating_sub(REPAIRS_MAX);
    let repair = |(ago_ms, repair): &(u64, Repair)| pb::Repair {
        number: repair.number,
        ago_ms: *ago_ms,
        kind: match repair.kind {
            RepairKind::Changed => pb::RepairKind::Changed,
            RepairKind::Certificates => pb::RepairKind::Certificates,
            RepairKind::File => pb::RepairKind::File,
            RepairKind::Socket => pb::RepairKind::Socket,
            RepairKind::Restarted => pb::RepairKind::Restarted,
            RepairKind::Back => pb::RepairKind::Back,
            RepairKind::Hung => pb::RepairKind::Hung,
        }
        .into(),
        what: repair.what.clone(),
        more: repair.more,
        away_ms: repair.away_ms,
    };
    repairs.iter().skip(surplus).map(repair).collect()
}

pub(crate) fn repairs_from_pb(repairs: Vec<pb::Repair>) -> Result<Vec<(u64, Repair)>, WireError> {
    let repair = |repair: pb::Repair| {
        let kind = match repair.kind() {
            // A later agent may know more of them.
            pb::RepairKind::Unspecified | pb::RepairKind::Changed => RepairKind::Changed,
            pb::RepairKind::Certificates => RepairKind::Certificates,
            pb::RepairKind::File => RepairKind::File,
            pb::RepairKind::Socket => RepairKind::Socket,
            pb::RepairKind::Restarted => RepairKind::Restarted,
            pb::RepairKind::Back => RepairKind::Back,
            pb::RepairKind::Hung => RepairKind::Hung,
        };
        // It is shown: names in it are HAProxy's.
        let plain = repair.what.chars().filter(|c| !c.is_control());
        let seen = Repair {
            number: repair.number,
            kind,
            what: plain.take(REPAIR_CHARS_MAX).collect(),
            more: repair.more,
            away_ms: repair.away_ms,
        };
        Ok((repair.ago_ms, seen))
    };
    list("repairs", REPAIRS_MAX, repairs, repair)
}
