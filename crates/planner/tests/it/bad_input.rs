//! Whatever the planner is given (hostile files, plans that nobody made, samples of any bits,
//! clocks at both ends of time), it answers: no panic, no overflow, bounded work, and a reason for
//! what it does not do.

use crate::hostile::state::{GOOD, State, decode, survives};
use crate::world::*;
use longshore_model::*;
use proptest::prelude::*;

#[test]
fn what_is_not_changed_is_read_as_it_is() {
    for (nth, good) in GOOD.0.iter().enumerate() {
        let state: State = serde_json::from_value(good.clone()).unwrap();
        let read = decode(nth, &[]).unwrap();
        assert_eq!(format!("{state:?}"), format!("{read:?}"));
        survives(&state, &read);
    }
}

#[test]
fn types_take_most_of_what_bytes_make() {
    // Else the law below would be about nothing.
    let mut number = 88_172_645_463_325_252_u64;
    let mut byte = || {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        number.to_le_bytes()[3]
    };
    let mut taken = 0;
    for nth in 0..200 {
        let bytes: Vec<u8> = (0..40).map(|_| byte()).collect();
        let changed = decode(nth, &bytes);
        let good = decode(nth, &[]).unwrap();
        taken += usize::from(changed.is_some_and(|c| format!("{c:?}") != format!("{good:?}")));
    }
    assert!(taken > 120, "{taken} of 200");
}

#[test]
fn a_count_beyond_any_service_is_held_and_said() {
    let most = AutoscaleSpec::REPLICAS_MAX;
    let limited = |world: &World, asked| {
        let report = &world.report.services[&key("web")];
        let said = Reason::CountLimit { asked, most };
        assert!(report.scale.reasons.contains(&said), "{report:?}");
        assert_eq!(report.wanted, most);
    };
    let mut world = World::new(2);
    let mut web = spec("web:1", u32::MAX);
    web.placement.max_per_node = 2;
    world.apply("web", web.clone());
    world.tick(500);
    limited(&world, u32::MAX);
    web.replicas = 2;
    world.apply("web", web.clone());
    world.tick(500);
    assert_eq!(world.report.services[&key("web")].wanted, 2);
    world.scale("web", most + 1);
    world.tick(500);
    limited(&world, most + 1);
    web.autoscale = Some(node_cpu_policy(u32::MAX, 1));
    world.apply("web", web);
    world.tick(500);
    limited(&world, u32::MAX);
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |most: usize| proptest::collection::vec(any::<u8>(), 0..most);
    prop_oneof![bytes(24), bytes(400), bytes(2_000)]
}

fn config() -> ProptestConfig {
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 96,
    };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]
    #[test]
    fn bad_input_is_survived(nth in 0..9_usize, first in bytes(), second in bytes()) {
        if let (Some(first), Some(second)) = (decode(nth, &first), decode(nth, &second)) {
            survives(&first, &second);
        }
    }
}
