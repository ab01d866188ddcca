//! The check: what it finds, and that a check of what changed finds what a check of everything
//! finds.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::world::*;
use longshore_model::plan::{Replica, ServicePlan, Traffic};
use longshore_model::spec::Resources;
use longshore_model::*;
use longshore_planner::{Checker, Outcome, PlanInput, check};
use proptest::prelude::*;

/// A mistake that a planner could make in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    StopsAtOnce,
    ServesUnasked,
    DrainsUnasked,
    Forgets,
    Moves,
    OtherPort,
    SameSlot,
    Calls,
    Standby,
    ForgetsService,
    TwoServices,
    ForgottenGeneration,
    NeedlessGeneration,
    ForgottenRoutes,
    NeedlessVersion,
    OldVersion,
    IdFalls,
    NeedlessLoss,
    Crowds,
    PortTwice,
    /// Not in the plan: a replica in the routes failed, and the planner did not see it.
    Blind,
    Sick,
}

const MISTAKES: [Mistake; 22] = [
    Mistake::StopsAtOnce,
    Mistake::ServesUnasked,
    Mistake::DrainsUnasked,
    Mistake::Forgets,
    Mistake::Moves,
    Mistake::OtherPort,
    Mistake::SameSlot,
    Mistake::Calls,
    Mistake::Standby,
    Mistake::ForgetsService,
    Mistake::TwoServices,
    Mistake::ForgottenGeneration,
    Mistake::NeedlessGeneration,
    Mistake::ForgottenRoutes,
    Mistake::NeedlessVersion,
    Mistake::OldVersion,
    Mistake::IdFalls,
    Mistake::NeedlessLoss,
    Mistake::Crowds,
    Mistake::PortTwice,
    Mistake::Blind,
    Mistake::Sick,
];

/// Is it about versions and generations alone?
fn of_versions(mistake: Mistake) -> bool {
    matches!(
        mistake,
        Mistake::ForgottenGeneration
            | Mistake::NeedlessGeneration
            | Mistake::ForgottenRoutes
            | Mistake::NeedlessVersion
            | Mistake::OldVersion
    )
}

/// The nth replica of a plan, to be changed.
fn replica(plan: &mut Plan, nth: usize) -> Option<&mut Replica> {
    let count = plan.replicas().count();
    let nth = nth.checked_rem(count)?;
    let services = plan.services.values_mut();
    let mut left = nth;
    for service in services {
        if left < service.replicas.len() {
            let replicas = &mut Arc::make_mut(service).replicas;
            return replicas.values_mut().nth(left).map(Arc::make_mut);
        }
        left -= service.replicas.len();
    }
    None
}

fn service(plan: &mut Plan, nth: usize) -> Option<&mut ServicePlan> {
    let nth = nth.checked_rem(plan.services.len())?;
    plan.services.values_mut().nth(nth).map(Arc::make_mut)
}

/// The outcome and what was seen with the mistake in it.
fn with(
    mistake: Mistake,
    nth: usize,
    outcome: &Outcome,
    observed: &Observed,
) -> Option<(Outcome, Observed)> {
    let (mut outcome, mut observed) = (outcome.clone(), observed.clone());
    let plan = Arc::make_mut(&mut outcome.plan);
    match mistake {
        Mistake::StopsAtOnce => replica(plan, nth)?.stop = true,
        Mistake::ServesUnasked => replica(plan, nth)?.traffic = Traffic::Serve,
        Mistake::DrainsUnasked => replica(plan, nth)?.traffic = Traffic::Drain,
        Mistake::Forgets => {
            let service = service(plan, nth)?;
            let id = *service.replicas.keys().next()?;
            service.replicas.remove(&id);
        }
        Mistake::Moves => replica(plan, nth)?.node = id("node1"),
        Mistake::OtherPort => replica(plan, nth)?.ports.first_mut()?.host_port = 20_003,
        Mistake::SameSlot => replica(plan, nth)?.slot = 1,
        Mistake::Calls => replica(plan, nth)?.leaving = None,
        Mistake::Standby => replica(plan, nth)?.paused ^= true,
        Mistake::ForgetsService => {
            let key = plan.services.keys().next()?.clone();
            plan.services.remove(&key);
        }
        Mistake::TwoServices => {
            let taken = Arc::new(replica(plan, nth)?.clone());
            service(plan, nth + 1)?.replicas.insert(taken.id, taken);
        }
        Mistake::ForgottenGeneration => {
            let generation = Arc::make_mut(&mut plan.generations).values_mut().next()?;
            *generation = generation.saturating_sub(1);
        }
        Mistake::NeedlessGeneration => {
            *Arc::make_mut(&mut plan.generations)
                .values_mut()
                .next_back()? += 1;
        }
        Mistake::ForgottenRoutes => plan.routes_generation ^= 1,
        Mistake::NeedlessVersion => (plan.version, plan.parent) = (plan.version + 1, plan.version),
        Mistake::OldVersion => plan.version = plan.version.saturating_sub(1),
        Mistake::IdFalls => plan.next_replica = plan.next_replica.saturating_sub(1),
        Mistake::NeedlessLoss => {
            plan.lost = BTreeMap::from([(id("node1"), START), (id("node2"), START)]);
        }
        Mistake::Crowds => add(plan, nth, 9, |port| port + 500)?,
        Mistake::PortTwice => add(plan, nth, 1, |port| port)?,
        Mistake::Blind | Mistake::Sick => {
            let node = nth.checked_rem(observed.nodes.len())?;
            let seen = observed.nodes.values_mut().nth(node)?;
            let statuses = &mut Arc::make_mut(seen).replicas;
            let nth = nth.checked_rem(statuses.len())?;
            let status = Arc::make_mut(statuses).values_mut().nth(nth)?;
            status.state = match mistake {
                Mistake::Sick => ReplicaState::Unhealthy,
                _ => ReplicaState::Failed,
            };
        }
    }
    Some((outcome, observed))
}

/// New replicas like the nth, beside it.
fn add(plan: &mut Plan, nth: usize, count: u32, port: fn(u16) -> u16) -> Option<()> {
    let like = replica(plan, nth)?.clone();
    for n in 0..count {
        let mut fresh = like.clone();
        fresh.id = ReplicaId(plan.next_replica);
        fresh.slot = 100 + n;
        (fresh.traffic, fresh.leaving, fresh.stop) = (Traffic::Out, None, false);
        for binding in &mut fresh.ports {
            binding.host_port = port(binding.host_port) + u16::try_from(n).ok()?;
        }
        plan.next_replica += 1;
        let service = Arc::make_mut(plan.services.get_mut(&fresh.service)?);
        service.replicas.insert(fresh.id, Arc::new(fresh));
    }
    Some(())
}

/// Gives the plan the versions and generations that go with its content, so that the mistake is
/// not given away by them.
fn smooth(plan: &mut Plan, current: &Plan) {
    (plan.version, plan.parent) = (current.version + 1, current.version);
    let differs = plan.routes().backends != current.routes().backends;
    plan.routes_generation = current.routes_generation + u64::from(differs);
    let nodes: Vec<NodeId> = (1..4).map(|n| id(&format!("node{n}"))).collect();
    let (before, now) = (current.assignments(&nodes), plan.assignments(&nodes));
    let generations = nodes.iter().map(|node| {
        let differs = before[node].replicas != now[node].replicas;
        let generation = before[node].generation + u64::from(differs);
        (node.clone(), generation)
    });
    let generations = generations.filter(|(_, generation)| *generation > 0);
    plan.generations = Arc::new(generations.collect());
}

/// One tick; then one that would follow, with a mistake in it. What the check says to that: the
/// number of the invariant, if one is broken.
fn verdict(world: &mut World, mistake: Mistake, nth: usize) -> Option<u8> {
    world.tick(500);
    let mut checker: Checker = world.checker.clone();
    world.now += 500;
    let input = world.input();
    let outcome = longshore_planner::plan(&input);
    let (mut outcome, observed) = with(mistake, nth, &outcome, &world.observed)?;
    if !of_versions(mistake) && *outcome.plan != **input.current {
        smooth(Arc::make_mut(&mut outcome.plan), input.current);
    }
    let input = PlanInput {
        observed: &observed,
        ..input
    };
    let full = check(&input, &outcome);
    let scoped = checker.check(&input, &outcome);
    assert_eq!(scoped, full, "{mistake:?} in {nth}");
    if full.is_err() {
        // What was found once is found again: a bad outcome leaves nothing behind.
        assert_eq!(checker.check(&input, &outcome), full, "again");
    }
    full.err().map(|violation| violation.invariant)
}

fn deployed() -> World {
    let mut world = World::new(3);
    for (name, replicas) in [("web", 3), ("api", 4), ("db", 2)] {
        let mut spec = spec(&format!("{name}:1"), replicas);
        spec.container.resources = Resources {
            cpu_reserved_milli: 500,
            ..Resources::default()
        };
        world.apply(name, spec);
    }
    world.ticks(12);
    assert_eq!(world.answering("web"), 3, "the fixture serves");
    world
}

#[test]
fn each_mistake_is_found_by_both() {
    for mistake in MISTAKES {
        let mut world = deployed();
        // Some need replicas that leave, or that are not in the routes.
        world.apply("web", spec("web:2", 3));
        let found = (0..40).filter_map(|nth| verdict(&mut world, mistake, nth));
        let found: Vec<u8> = found.collect();
        // It is found for what it is, not for versions that do not rise with it.
        let for_itself = found
            .iter()
            .any(|invariant| (*invariant == 6) == of_versions(mistake));
        assert!(for_itself, "{mistake:?} is never found: {found:?}");
    }
}

/// A plan that the store refused is not taken for the one in force.
#[test]
fn a_refused_plan_leaves_nothing_in_the_check() {
    let mut world = deployed();
    world.refuse_commits = true;
    world.apply("new", spec("new:1", 5));
    world.tick(500);
    world.desired.apps.values_mut().for_each(|app| {
        app.services.remove(&key("new").service);
    });
    world.refuse_commits = false;
    // The same ports again: what the check still held of the refused plan would be in the way.
    world.apply("other", spec("other:1", 5));
    world.ticks(8);
    assert_eq!(world.answering("other"), 5);
}

/// Something happens to the world.
fn happen(world: &mut World, what: u8, nth: usize) {
    let name = ["web", "api", "db"][nth % 3];
    match what {
        0 => world.apply(name, spec(&format!("{name}:{nth}"), 1 + nth as u32 % 5)),
        1 => world.scale(name, nth as u32 % 6),
        2 => world.node("node1").session ^= true,
        3 => world.node("node2").power ^= true,
        4 => world.edge().session ^= true,
        5 => world.refuse_commits ^= true,
        6 => world.drain("node3", 3_000, nth.is_multiple_of(2)),
        7 => world.available("node3", Availability::Active),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(48, |_| ProptestConfig::default().cases),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_check_of_what_changed_finds_what_a_check_of_all_finds(
        acts in proptest::collection::vec((0..12_u8, 0..20_usize, 0..MISTAKES.len(), 0..4_usize), 1..30),
    ) {
        judged(&acts);
    }
}

fn judged(acts: &[(u8, usize, usize, usize)]) {
    let mut world = deployed();
    for &(what, nth, mistake, ticks) in acts {
        happen(&mut world, what, nth);
        world.ticks(ticks);
        verdict(&mut world, MISTAKES[mistake], nth);
    }
}

/// What HAProxy saw of a replica stayed with its node in what runs take over from each other.
#[test]
fn found_a_replica_that_is_gone_and_leaves_nothing_with_its_node() {
    judged(&[
        (1, 18, 0, 0),
        (5, 0, 0, 2),
        (3, 0, 0, 0),
        (0, 0, 0, 3),
        (0, 0, 0, 2),
        (6, 0, 0, 3),
        (0, 0, 0, 2),
        (4, 0, 0, 2),
        (4, 0, 0, 1),
    ]);
}
