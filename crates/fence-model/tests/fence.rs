//! The fence within small bounds; `make fencing` goes further.

use longshore_fence_model::cli::{bounds_of, check};
use longshore_fence_model::{Bounds, System, Weakness};

fn holds(bounds: Bounds) {
    let weakness = None;
    let found = check(System { bounds, weakness }, 2);
    assert_eq!(found.breach, None);
    assert_eq!(found.impossible, Vec::<&str>::new());
    assert!(found.states > 10_000, "only {} states", found.states);
}

#[test]
fn the_fence_holds_beside_a_restored_cluster() {
    holds(Bounds {
        terms_max: 2,
        changes_max: 1,
        restores: true,
    });
}

#[test]
fn the_fence_holds_while_leaders_follow_each_other() {
    holds(Bounds {
        terms_max: 3,
        changes_max: 2,
        restores: false,
    });
}

#[test]
fn no_part_of_it_can_be_left_out() {
    for weakness in Weakness::ALL {
        let system = System {
            bounds: bounds_of(weakness),
            weakness: Some(weakness),
        };
        let found = check(system, 1);
        let states = found.states;
        assert!(
            found.breach.is_some(),
            "{weakness}: not found in {states} states"
        );
    }
}
