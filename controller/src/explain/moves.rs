//! Whether a replica moves to another node, in words.

use longshore_model::record::{MoveRecord, Moved, Seat};
use longshore_model::{NodeId, ServiceKey};

/// The look in one line.
#[must_use]
pub(super) fn summary(service: &ServiceKey, record: &MoveRecord) -> String {
    let name = &service.service;
    match (&record.moved, &record.stays) {
        (Some(moved), _) => {
            let Moved {
                replica,
                from,
                successor,
                to,
            } = moved;
            format!(
                "{name}: {replica} on {from} gives way to {successor} on {to}{}",
                gain(record, moved)
            )
        }
        (None, Some(stay)) => format!("{name}: nothing moves: {stay}"),
        (None, None) => format!("{name}: nothing moves"),
    }
}

/// The first number that the move evens out.
fn gain(record: &MoveRecord, moved: &Moved) -> String {
    let seat = |seats: &[Seat], node: &NodeId| {
        let mut seats = seats.iter();
        seats
            .find(|seat| seat.node == *node)
            .map(|s| s.tally.clone())
    };
    let (Some(from), Some(to)) = (seat(&record.from, &moved.from), seat(&record.to, &moved.to))
    else {
        return String::new();
    };
    let change = from.change(&to);
    let labels = from.zones.len();
    let first = change.iter().position(|field| *field != 0);
    let Some(field) = first else {
        return String::new();
    };
    let (what, a, b) = match (from.zones.get(field), to.zones.get(field)) {
        (Some(a), Some(b)) => ("replicas of the service in its zone", *a, *b),
        _ if field == labels => ("replicas of the service there", from.here, to.here),
        _ => ("replicas there", from.total, to.total),
    };
    format!(": {what} {b}, not {a}")
}

#[cfg(test)]
mod tests {
    use longshore_model::ReplicaId;
    use longshore_model::record::Tally;
    use longshore_model::report::Stay;

    use super::*;

    #[test]
    fn a_move_says_what_it_evens_out() {
        let seat = |node: &str, zone, here, total| Seat {
            node: node.parse().unwrap(),
            tally: Tally {
                zones: vec![zone],
                here,
                total,
                values: vec![0],
            },
        };
        let moved = Moved {
            replica: ReplicaId(7),
            from: "node1".parse().unwrap(),
            successor: ReplicaId(9),
            to: "node2".parse().unwrap(),
        };
        let key = "shop/web".parse().unwrap();
        let mut record = MoveRecord {
            gain_min: 2,
            from: vec![seat("node1", 6, 4, 9)],
            to: vec![seat("node2", 6, 1, 3)],
            moved: Some(moved),
            ..MoveRecord::default()
        };
        let line = summary(&key, &record);
        assert_eq!(
            line,
            "web: r7 on node1 gives way to r9 on node2: replicas of the service there 1, not 4"
        );
        (record.moved, record.stays) = (None, Some(Stay::Even));
        assert_eq!(
            summary(&key, &record),
            "web: nothing moves: no move would gain enough"
        );
    }
}
