//! The cases, in the order of their numbers. 13 to 17 need several controllers.

mod control;
mod engines;
mod nodes;
mod releases;
mod several;

use std::time::Duration;

use super::containers::Allowed;
use super::strike::Strike;

/// Which requests may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    /// None.
    None,
    /// Those that begin so soon after the fault, or were in flight then.
    Within(Duration),
}

/// A case.
pub(super) struct Case {
    /// Its number in the list of the project's goals.
    pub(super) number: u8,
    /// What happens.
    pub(super) name: &'static str,
    /// What its recovery is.
    pub(super) well: &'static str,
    /// What comes before it, without load.
    pub(super) before: fn(),
    /// What happens, and what is waited for.
    pub(super) run: fn(&mut Strike),
    /// Requests that may fail.
    pub(super) failed: Bound,
    /// Containers that may end.
    pub(super) allowed: Allowed,
    /// Longest recovery.
    pub(super) recovers_within: Option<Duration>,
}

/// A case in which nothing fails, no container ends, and the time is only said.
const CALM: Case = Case {
    number: 0,
    name: "",
    well: "all as before after",
    before: || (),
    run: |_| (),
    failed: Bound::None,
    allowed: Allowed::Nothing,
    recovers_within: None,
};

const fn seconds(count: u64) -> Option<Duration> {
    Some(Duration::from_secs(count))
}

/// Requests fail at a host that is gone until HAProxy's checks have found out: 2 of 500 ms, and what
/// waited for a connection meanwhile.
const GONE: Bound = Bound::Within(Duration::from_millis(2_000));

/// Cases of several controllers.
pub(super) const OF_SEVERAL: std::ops::RangeInclusive<u8> = 13..=17;

/// All of them.
pub(super) const ALL: [Case; 24] = [
    Case {
        number: 1,
        name: "worker and controller cut, 30 s",
        run: nodes::partition,
        ..CALM
    },
    Case {
        number: 2,
        name: "controller hears no worker, 30 s",
        run: nodes::mute,
        ..CALM
    },
    Case {
        number: 3,
        name: "worker hears no controller, 30 s",
        run: nodes::deaf,
        ..CALM
    },
    Case {
        number: 4,
        name: "edge loses a worker's replicas",
        well: "full elsewhere",
        run: nodes::apart,
        failed: GONE,
        allowed: Allowed::Replaced,
        recovers_within: seconds(13),
        ..CALM
    },
    Case {
        number: 5,
        name: "worker loses power",
        well: "full elsewhere",
        run: nodes::power,
        failed: GONE,
        allowed: Allowed::Hosts,
        recovers_within: seconds(13),
        ..CALM
    },
    Case {
        number: 6,
        name: "worker returns",
        well: "exactly six again",
        before: nodes::lose_one,
        run: nodes::returns,
        allowed: Allowed::Replaced,
        ..CALM
    },
    Case {
        number: 7,
        name: "two of three workers lose power",
        well: "all back after the return",
        run: nodes::lose_two,
        failed: GONE,
        allowed: Allowed::Hosts,
        ..CALM
    },
    Case {
        number: 8,
        name: "all agents kill -9",
        run: nodes::agents_die,
        recovers_within: seconds(15),
        ..CALM
    },
    Case {
        number: 9,
        name: "all agents upgraded",
        run: nodes::agents_upgraded,
        recovers_within: seconds(30),
        ..CALM
    },
    Case {
        number: 10,
        name: "dockerd kill -9",
        well: "engine back after",
        run: engines::killed,
        ..CALM
    },
    Case {
        number: 11,
        name: "dockerd TERM and start",
        well: "engine back after",
        run: engines::restarted,
        ..CALM
    },
    Case {
        number: 12,
        name: "dockerd stands still, 30 s",
        well: "engine back after",
        run: engines::frozen,
        ..CALM
    },
    Case {
        number: 13,
        name: "leading controller kill -9",
        well: "changes taken by another after",
        run: several::leader_dies,
        recovers_within: seconds(8),
        ..CALM
    },
    Case {
        number: 14,
        name: "leading controller stands still",
        well: "changes taken by another after",
        run: several::leader_freezes,
        recovers_within: seconds(10),
        ..CALM
    },
    Case {
        number: 15,
        name: "etcd's leader kill -9",
        well: "changes taken after",
        run: several::etcd_leader_dies,
        recovers_within: seconds(10),
        ..CALM
    },
    Case {
        number: 16,
        name: "etcd member stands still",
        well: "changes taken after",
        run: several::etcd_freezes,
        recovers_within: seconds(10),
        ..CALM
    },
    Case {
        number: 17,
        name: "etcd without a majority, 20 s",
        well: "changes taken after the return",
        run: several::no_quorum,
        ..CALM
    },
    Case {
        number: 18,
        name: "controller kill -9 in a rollout",
        well: "rollout done after",
        run: control::killed_in_rollout,
        allowed: Allowed::Replaced,
        ..CALM
    },
    Case {
        number: 19,
        name: "disk full under the store",
        well: "changes taken again after",
        before: control::small_disk,
        run: control::full_disk,
        ..CALM
    },
    Case {
        number: 20,
        name: "HAProxy's worker kill -9",
        well: "serves again after",
        run: control::proxy_dies,
        failed: Bound::Within(Duration::from_millis(1_500)),
        recovers_within: seconds(3),
        ..CALM
    },
    Case {
        number: 21,
        name: "edge and controller cut, scale-out",
        well: "nine in its list after the return",
        run: control::edge_is_cut,
        allowed: Allowed::Replaced,
        ..CALM
    },
    Case {
        number: 22,
        name: "release that crashes",
        well: "rolled back after",
        run: releases::crashes,
        ..CALM
    },
    Case {
        number: 23,
        name: "registry away in a rollout",
        well: "said why after",
        run: releases::no_registry,
        ..CALM
    },
    Case {
        number: 24,
        name: "worker's certificate revoked",
        well: "full elsewhere",
        run: control::revoked,
        allowed: Allowed::Replaced,
        ..CALM
    },
];
