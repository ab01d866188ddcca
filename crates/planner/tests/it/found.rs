//! What random clusters have found (`laws`), kept by name.

use crate::laws::settles;
use crate::world::acts::Act;

fn deploy(service: usize, image: u8, replicas: u32, shape: u8) -> Act {
    Act::Apply {
        service,
        image,
        replicas,
        shape,
    }
}

#[test]
fn found_a_file_that_loses_its_policy_and_its_count() {
    settles(1, &[(deploy(2, 2, 1, 0), 3), (deploy(2, 0, 0, 2), 1)]);
}

#[test]
fn found_a_cluster_without_room() {
    let scale = Act::Scale {
        service: 2,
        count: 6,
    };
    let acts = [
        (deploy(2, 0, 0, 32), 1),
        (scale, 1),
        (deploy(0, 0, 5, 32), 1),
    ];
    settles(1, &acts);
}

#[test]
fn found_five_that_fail_together_to_be_one_try() {
    let broken = Act::Break {
        image: 1,
        broken: true,
    };
    settles(1, &[(broken, 1), (deploy(0, 1, 5, 14), 39)]);
}

#[test]
fn found_an_unreachable_service_that_loses_its_route_in_a_rollout() {
    let cut = Act::Reach { node: 0, on: false };
    let cordon = Act::Available { node: 0, to: 1 };
    let acts = [
        (deploy(1, 0, 0, 33), 1),
        (cut, 1),
        (cordon, 2),
        (deploy(1, 1, 2, 182), 1),
    ];
    settles(1, &acts);
}

#[test]
fn found_a_count_that_falls_in_a_stop_first_rollout() {
    let scale = |count| Act::Scale { service: 0, count };
    let acts = [
        (deploy(0, 1, 4, 0), 3),
        (deploy(0, 0, 4, 170), 4),
        (scale(4), 4),
        (scale(1), 1),
    ];
    settles(1, &acts);
}

#[test]
fn found_a_stopped_rollout_of_a_service_that_no_edge_reaches() {
    let cut = Act::Reach { node: 0, on: false };
    let broken = Act::Break {
        image: 0,
        broken: true,
    };
    let acts = [
        (deploy(0, 0, 2, 32), 1),
        (cut, 1),
        (deploy(0, 0, 3, 64), 6),
        (broken, 14),
    ];
    settles(1, &acts);
}

#[test]
fn found_a_restart_with_a_node_that_only_edges_still_reach() {
    let away = Act::Session { node: 0, on: false };
    let drain = Act::Available { node: 1, to: 2 };
    let acts = [
        (deploy(0, 0, 2, 4), 4),
        (away, 1),
        (Act::Restart, 1),
        (drain, 1),
    ];
    settles(3, &acts);
}

/// What the file gave up before is still on its way out when the rollout stops.
#[test]
fn a_stopped_rollout_is_at_rest_once_what_leaves_is_gone() {
    let acts = [
        (deploy(2, 0, 2, 134), 1),
        (
            Act::Break {
                image: 1,
                broken: true,
            },
            1,
        ),
        (deploy(2, 2, 0, 193), 19),
        (deploy(2, 1, 0, 60), 19),
    ];
    settles(1, &acts);
}

#[test]
fn found_a_wait_that_only_the_next_run_says() {
    let load = Act::Load {
        node: 0,
        bits: 4_608_360_873_342_467_796,
    };
    let acts = [
        (deploy(2, 0, 2, 0), 1),
        (load, 1),
        (deploy(0, 1, 3, 32), 1),
        (deploy(0, 0, 0, 113), 10),
        (deploy(2, 0, 0, 55), 3),
    ];
    settles(1, &acts);
}

#[test]
fn found_a_word_of_an_edge_that_counts_only_in_the_next_run() {
    let acts = [
        (Act::Reach { node: 0, on: false }, 1),
        (deploy(2, 0, 1, 0), 1),
        (deploy(2, 1, 0, 199), 2),
        (deploy(0, 0, 2, 4), 1),
        (
            Act::Scale {
                service: 0,
                count: 2,
            },
            8,
        ),
        (deploy(1, 0, 0, 0), 9),
    ];
    settles(2, &acts);
}

#[test]
fn found_a_move_whose_successor_is_wanted_beside_it() {
    let on = || Act::Session { node: 0, on: true };
    let acts = [
        (deploy(2, 0, 0, 57), 1),
        (deploy(0, 0, 0, 61), 1),
        (on(), 1),
        (on(), 1),
        (deploy(1, 0, 1, 64), 1),
        (on(), 1),
        (deploy(1, 0, 3, 64), 5),
        (Act::Rebalance { mode: 2 }, 1),
        (
            Act::Load {
                node: 0,
                bits: 4_616_482_352_037_968_423,
            },
            3,
        ),
    ];
    settles(3, &acts);
}

#[test]
fn found_a_count_of_none_in_a_stop_first_rollout() {
    let none = Act::Scale {
        service: 0,
        count: 0,
    };
    let acts = [
        (deploy(1, 0, 1, 16), 1),
        (Act::Reach { node: 0, on: false }, 1),
        (deploy(1, 1, 0, 5), 5),
        (Act::Commits { refused: true }, 7),
        (deploy(1, 0, 0, 176), 2),
        (none, 11),
    ];
    settles(1, &acts);
}
