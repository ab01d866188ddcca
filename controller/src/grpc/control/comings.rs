//! Why a replica came and why it goes, in the few words that a log has room for. Pure.

use longshore_model::plan::{Replica, ServicePlan};
use longshore_model::reason::LeaveReason;

/// Why it was made; none: the service is new, or nobody knows any more.
pub(super) fn came(service: &ServicePlan, replica: &Replica) -> Option<String> {
    if service.moves.iter().any(|m| m.successor == replica.id) {
        return Some("moved to even out the cluster".into());
    }
    let rollout = service.rollout.as_ref();
    let made_by = |since_ms: u64| replica.created_ms >= since_ms;
    if let Some(change) = &service.last_change
        && change.to > change.from
        && change.from > 0
        && made_by(change.at_ms)
        && replica.slot > change.from
    {
        return Some(format!("scaled up {} -> {}", change.from, change.to));
    }
    let by_rollout = rollout.filter(|r| r.to == replica.template && r.from.is_some());
    if let Some(rollout) = by_rollout.filter(|r| made_by(r.started_ms)) {
        return Some(format!("rollout rev {}", rollout.revision));
    }
    // Its slot was another one's, who goes.
    let others = service.replicas.values();
    let mut before = others.filter(|other| other.id < replica.id && other.slot == replica.slot);
    let gone = before.next_back()?;
    let leaving = gone.leaving.as_ref()?;
    Some(format!(
        "in place of the one on {}: {}",
        gone.node, leaving.reason
    ))
}

/// Why it goes.
pub(super) fn goes(service: &ServicePlan, replica: &Replica) -> Option<String> {
    let leaving = replica.leaving.as_ref()?;
    let change = service.last_change.as_ref();
    let rollout = service.rollout.as_ref();
    Some(match &leaving.reason {
        LeaveReason::Replaced => match rollout.filter(|r| r.to != replica.template) {
            Some(rollout) => format!("rollout rev {}", rollout.revision),
            None => leaving.reason.to_string(),
        },
        LeaveReason::ScaleIn => match change.filter(|change| change.to < change.from) {
            Some(change) => format!("scaled down {} -> {}", change.from, change.to),
            None => leaving.reason.to_string(),
        },
        reason => reason.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use longshore_model::plan::{Leaving, ScaleChange, Traffic};
    use longshore_model::reason::ScaleCause;
    use longshore_model::{ReplicaId, TemplateId};

    use super::*;
    use crate::testing::service_spec;

    fn template(image: &str) -> TemplateId {
        let mut spec = service_spec();
        spec.container.image = image.into();
        spec.container.template_id()
    }

    fn replica(id: u64, slot: u32, image: &str, created_ms: u64) -> Replica {
        Replica {
            id: ReplicaId(id),
            service: "shop/web".parse().unwrap(),
            slot,
            node: "a".parse().unwrap(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            template: template(image),
            revision: 1,
            ports: Vec::new(),
            created_ms,
            traffic: Traffic::Serve,
            leaving: None,
            stop: false,
            paused: false,
            woken: None,
            ended: None,
        }
    }

    fn leaves(reason: LeaveReason, mut replica: Replica) -> Replica {
        replica.leaving = Some(Box::new(Leaving {
            reason,
            since_ms: 9,
            deadline_ms: 10,
            drain_generation: 0,
            park_generation: 0,
            receipts: Default::default(),
            stop_generation: 0,
            stop_ms: 0,
        }));
        replica
    }

    fn scaled(from: u32, to: u32) -> ServicePlan {
        ServicePlan {
            last_change: Some(ScaleChange {
                at_ms: 5,
                from,
                to,
                cause: ScaleCause::Initial,
            }),
            ..ServicePlan::default()
        }
    }

    #[test]
    fn a_count_that_changes_is_why_replicas_come_and_go() {
        let up = scaled(3, 4);
        let why = came(&up, &replica(9, 4, "a", 5));
        assert_eq!(why.as_deref(), Some("scaled up 3 -> 4"));
        assert_eq!(came(&up, &replica(2, 2, "a", 1)), None, "it was there");
        assert_eq!(came(&scaled(0, 2), &replica(1, 1, "a", 5)), None, "new");
        let down = scaled(4, 3);
        let gone = leaves(LeaveReason::ScaleIn, replica(9, 4, "a", 1));
        assert_eq!(goes(&down, &gone).as_deref(), Some("scaled down 4 -> 3"));
        assert_eq!(goes(&down, &replica(1, 1, "a", 1)), None);
    }

    #[test]
    fn one_that_takes_the_place_of_another_says_whose() {
        let old = leaves(LeaveReason::NodeDrain, replica(2, 1, "a", 1));
        let mut service = ServicePlan::default();
        service.replicas.insert(old.id, Arc::new(old.clone()));
        let why = came(&service, &replica(3, 1, "a", 8)).unwrap();
        assert_eq!(why, "in place of the one on a: its node is drained");
        assert_eq!(goes(&service, &old).unwrap(), "its node is drained");
        let old = leaves(LeaveReason::Replaced, old);
        assert_eq!(
            goes(&service, &old).unwrap(),
            "replaced by another revision"
        );
    }
}
