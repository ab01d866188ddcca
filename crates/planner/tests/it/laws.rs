//! Laws that hold whatever happens: random clusters live through random changes and faults, every
//! run is checked (see `World::run`: invariants, determinism, planning again changes nothing), and
//! when the faults end the cluster becomes what was asked for.

use crate::world::acts::Act;
use crate::world::*;
use longshore_model::autoscale::{Behavior, RateAmount, RatePolicy};
use longshore_model::depends::Until;
use longshore_model::plan::ScaleChange;
use longshore_model::reason::ScaleCause;
use longshore_model::spec::{
    JobSpec, Mount, PlacementPolicy, Resources, ServiceMode, UpdateOrder, Weights,
};
use longshore_model::*;
use longshore_planner::RebalanceMode;
use proptest::prelude::*;

const SERVICES: [&str; 3] = ["web", "api", "db"];

fn act() -> impl Strategy<Value = (Act, usize)> {
    let node = 0..5_usize;
    let service = 0..SERVICES.len();
    let value = prop_oneof![
        4 => (0.0..1.5_f64).prop_map(f64::to_bits),
        1 => any::<u64>(),
        1 => Just(f64::NAN.to_bits()),
    ];
    let what = prop_oneof![
        6 => (service.clone(), 0..3_u8, 0..6_u32, any::<u8>()).prop_map(
            |(service, image, replicas, shape)| Act::Apply { service, image, replicas, shape }
        ),
        1 => service.clone().prop_map(|service| Act::Down { service }),
        4 => (service, 0..9_u32).prop_map(|(service, count)| Act::Scale { service, count }),
        2 => (node.clone(), 0..3_u8).prop_map(|(node, to)| Act::Available { node, to }),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, on)| Act::Power { node, on }),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, on)| Act::Session { node, on }),
        1 => any::<bool>().prop_map(|on| Act::EdgeSession { on }),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, on)| Act::Reach { node, on }),
        4 => (node.clone(), value).prop_map(|(node, bits)| Act::Load { node, bits }),
        2 => (0..20_usize).prop_map(|nth| Act::Fail { nth }),
        2 => (0..20_usize, any::<bool>()).prop_map(|(nth, sick)| Act::Sick { nth, sick }),
        1 => (0..3_u8, any::<bool>()).prop_map(|(image, broken)| Act::Break { image, broken }),
        1 => any::<bool>().prop_map(|on| Act::Sticky { on }),
        1 => any::<bool>().prop_map(|refused| Act::Commits { refused }),
        2 => (0..20_usize, any::<bool>()).prop_map(|(nth, aside)| Act::Aside { nth, aside }),
        1 => Just(Act::Restart),
        2 => (0..3_u8).prop_map(|mode| Act::Rebalance { mode }),
        1 => (node, any::<bool>()).prop_map(|(node, force)| Act::Drain { node, force }),
    ];
    (what, 1..12_usize)
}

/// A spec whose options come from the bits of `shape`.
fn shaped(service: usize, image: u8, replicas: u32, shape: u8) -> ServiceSpec {
    let mut spec = spec(&format!("{}:{image}", SERVICES[service]), replicas);
    let bit = |n: u8| shape & (1 << n) != 0;
    if bit(0) && service == 2 {
        // With a bit that only the other services use: on a host port of its own.
        (spec.mode, spec.replicas) = (ServiceMode::Global, 0);
        if bit(7) {
            spec.container.fixed_ports = [(8000, 8000)].into();
        }
    } else if bit(0) {
        let mut policy = node_cpu_policy(1, 7);
        policy.warm = u32::from(shape >> 4 & 3);
        spec.autoscale = Some(policy);
    }
    if bit(1) {
        spec.update.order = UpdateOrder::StopFirst;
    }
    if bit(2) {
        spec.update.max_unavailable = 1;
    }
    if bit(3) {
        spec.update.parallelism = 3;
    }
    if service == 1 {
        spec.routes[0].weights = Weights::Load;
    }
    if service == 0 && bit(6) {
        let until = if bit(7) {
            Until::Healthy
        } else {
            Until::Started
        };
        spec.depends_on.insert(SERVICES[1].parse().unwrap(), until);
    }
    if service == 0 && bit(6) && bit(3) {
        let until = Until::Completed;
        spec.depends_on.insert(SERVICES[2].parse().unwrap(), until);
    }
    if service == 2 && bit(6) {
        spec.job = Some(JobSpec {
            tries_max: u32::from(shape & 3),
        });
        (spec.autoscale, spec.mode, spec.replicas) = (None, ServiceMode::Replicated, 1);
        spec.container.ports.clear();
    }
    if bit(4) || spec.job.is_some() {
        spec.routes.clear();
    }
    if bit(5) {
        spec.container.resources = Resources {
            cpu_reserved_milli: 400,
            ..Default::default()
        };
    }
    if bit(6) {
        spec.placement.policy = PlacementPolicy::Binpack;
    }
    // One volume of two services: both are where its data is.
    if service > 0 && bit(2) && bit(3) {
        spec.container.mounts.push(Mount {
            source: "shop_data".into(),
            target: "/data".into(),
            read_only: bit(7),
            ..Mount::default()
        });
    }
    if bit(7) {
        spec.placement.spread_labels.push("zone".into());
    }
    spec
}

fn apply(world: &mut World, act: &Act) {
    let name = |n: &usize| id(&format!("node{}", n + 1));
    match act {
        Act::Apply {
            service,
            image,
            replicas,
            shape,
        } => {
            world.apply(
                SERVICES[*service],
                shaped(*service, *image, *replicas, *shape),
            );
        }
        Act::Down { service } => {
            if let Some(app) = world.desired.apps.get_mut(&key("web").app) {
                app.services.remove(&key(SERVICES[*service]).service);
            }
        }
        Act::Scale { service, count } => world.scale(SERVICES[*service], *count),
        Act::Available { node, to } => {
            let to = [
                Availability::Active,
                Availability::Cordoned,
                Availability::Draining,
            ][usize::from(*to)];
            world.available(name(node).as_str(), to);
        }
        Act::Power { node, on } => world.node(name(node).as_str()).power = *on,
        Act::Session { node, on } => world.node(name(node).as_str()).session = *on,
        Act::EdgeSession { on } => world.edge().session = *on,
        Act::Reach { node, on } => world.node(name(node).as_str()).reachable = *on,
        Act::Load { node, bits } => {
            world.node(name(node).as_str()).load = f64::from_bits(*bits);
        }
        Act::Fail { nth } => set_state(world, *nth, ReplicaState::Failed),
        Act::Sick { nth, sick } => {
            let to = if *sick {
                ReplicaState::Unhealthy
            } else {
                ReplicaState::Healthy
            };
            set_state(world, *nth, to);
        }
        Act::Break { image, broken } => {
            world.broken.clear();
            let images = SERVICES.iter().map(|s| format!("{s}:{image}"));
            world.broken.extend(images.filter(|_| *broken));
        }
        Act::Aside { nth, aside } => crate::aside::set(world, *nth, *aside),
        Act::Sticky { on } => world.sticky = *on,
        Act::Commits { refused } => world.refuse_commits = *refused,
        Act::Rebalance { mode } => {
            world.config.rebalance = [
                RebalanceMode::Off,
                RebalanceMode::OnJoin,
                RebalanceMode::Continuous,
            ][usize::from(*mode)];
        }
        Act::Drain { node, force } => {
            world.drain(name(node).as_str(), 3_000, *force);
        }
        Act::Restart => {
            world.started = world.now;
            world.memory = Default::default();
            world.observed = Observed::default();
        }
    }
}

fn set_state(world: &mut World, nth: usize, to: ReplicaState) {
    let containers = world
        .nodes
        .values_mut()
        .flat_map(|sim| sim.containers.values_mut());
    let mut running: Vec<_> = containers
        .filter(|s| matches!(s.state, ReplicaState::Healthy | ReplicaState::Unhealthy))
        .collect();
    if !running.is_empty() {
        let nth = nth % running.len();
        running[nth].state = to;
    }
}

fn heal(world: &mut World) {
    world.broken.clear();
    world.sticky = false;
    world.refuse_commits = false;
    for sim in world.nodes.values_mut() {
        (sim.power, sim.session, sim.reachable, sim.load) = (true, true, true, 0.6);
        for status in sim.containers.values_mut() {
            if status.state == ReplicaState::Unhealthy {
                status.state = ReplicaState::Healthy;
            }
        }
    }
    world.edge().session = true;
    world.desired.aside.clear();
    for node in world.desired.nodes.values_mut() {
        (node.availability, node.drain) = (Availability::Active, None);
    }
    // What moves goes on; nothing new begins in the quiet time.
    world.config.rebalance = RebalanceMode::Off;
}

fn lived(nodes: usize, acts: &[(Act, usize)]) -> World {
    let mut world = World::new(nodes);
    world.config.rebalance_cooldown_ms = 2_000;
    world.config.rebalance_period_ms = 500;
    for (n, node) in world.desired.nodes.values_mut().enumerate() {
        node.labels.insert("zone".into(), (n % 2).to_string());
    }
    for (act, ticks) in acts {
        let node = match act {
            Act::Available { node, .. }
            | Act::Drain { node, .. }
            | Act::Power { node, .. }
            | Act::Session { node, .. }
            | Act::Reach { node, .. }
            | Act::Load { node, .. } => *node,
            _ => 0,
        };
        if node < nodes {
            apply(&mut world, act);
        }
        world.ticks(*ticks);
    }
    world
}

/// Is there no worker with room for one more replica of the service? Counted anew.
fn full(world: &World, service: &ServiceKey) -> bool {
    let Some((_, spec)) = world.desired.service(service) else {
        return false;
    };
    let asked = spec.container.resources.cpu_reserved_milli;
    let free = |node: &NodeId| {
        let holds = |r: &&std::sync::Arc<plan::Replica>| r.node == *node && !r.rests();
        let here = world.plan.replicas().filter(holds);
        let used: u64 = here
            .map(|r| {
                let template = world.plan.template(r);
                template.map_or(0, |t| t.resources.cpu_reserved_milli)
            })
            .sum();
        4_000 - used
    };
    let mut nodes = world.nodes.keys();
    // One on each node lacks room as soon as one of them has none.
    let full = match spec.is_global() {
        true => nodes.any(|node| free(node) < asked),
        false => nodes.all(|node| free(node) < asked),
    };
    asked > 0 && full
}

/// Nodes that have another number of replicas than one of a service that has one on each.
fn uneven(world: &World) -> Vec<String> {
    let services = world.desired.services();
    let stops = |key: &ServiceKey| world.report.services.get(key).is_some_and(|r| stopped(r));
    let global = services.filter(|(_, _, spec)| spec.is_global());
    let global = global.filter(|(key, _, _)| !full(world, key) && !stops(key));
    let mut wrong = Vec::new();
    for (key, _, _) in global {
        for node in world.nodes.keys() {
            let there = world.plan.replicas_of(&key);
            let there = there.filter(|r| r.node == *node && r.leaving.is_none());
            let count = there.count();
            if count != 1 {
                wrong.push(format!("{key} has {count} on {node}"));
            }
        }
    }
    wrong
}

/// Does it wait for a person, after failures of its replicas or of its job?
fn stopped(report: &report::ServiceReport) -> bool {
    let stops = |reason: &Reason| {
        matches!(
            reason,
            Reason::RolloutPaused { .. } | Reason::RolledBack { .. } | Reason::JobFailed { .. }
        )
    };
    report.waits.iter().any(stops)
}

/// What is still not as it was asked to be.
fn unsettled(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for (service, report) in world.report.services.iter() {
        let desired = world.desired.service(service).is_some();
        let target = world.plan.services.get(service).map_or(0, |s| s.target);
        let runs = report.healthy == report.planned
            && report.serving == report.planned
            && report.leaving == 0;
        // Failures are forgotten a minute after all is well again.
        let entry = world.plan.services.get(service);
        let remembers = target > 0 && entry.is_some_and(|s| s.failures.is_some());
        let warm = &report.warm;
        let no_room = matches!(warm.waits, Some(report::WarmWait::Unplaceable { .. }));
        // With none wanted nothing proves a revision, for as long as that is so.
        let mut waits = report.waits.iter();
        let waits = waits.any(|r| target > 0 || !matches!(r, Reason::Unproved { .. }));
        let settled = runs
            && report.planned == target
            && report.outdated == 0
            && !waits
            && (warm.ready == warm.wanted || no_room)
            && !remembers
            && !report.weights.iter().any(|look| look.rule.moves());
        // Without room the rest waits for a node, and says so.
        let waits_for_room = runs
            && full(world, service)
            && report
                .waits
                .iter()
                .any(|r| matches!(r, Reason::Unplaceable { .. }));
        // A rollout that failures stopped waits for a person, once all that leaves is gone.
        let stopped = stopped(report) && report.leaving == 0;
        if !((settled || waits_for_room) && desired || stopped) {
            wrong.push(format!("{service} wants {target}: {report:?}"));
        }
    }
    wrong
}

/// Lives through `acts`, then five quiet minutes must be enough.
pub(crate) fn settles(nodes: usize, acts: &[(Act, usize)]) {
    let mut world = lived(nodes, acts);
    heal(&mut world);
    for _ in 0..60 {
        world.ticks(10);
        if unsettled(&world).is_empty() {
            break;
        }
    }
    let wrong = unsettled(&world);
    assert!(wrong.is_empty(), "after five quiet minutes: {wrong:#?}");
    assert_eq!(uneven(&world), Vec::<String>::new());
    // What serves at last is still watched for the monitoring time of its rollout.
    world.ticks(20);
    let before = world.plan.clone();
    world.tick(500);
    let fixed = |spec: &ServiceSpec| spec.autoscale.is_none();
    if world.desired.services().all(|(_, _, spec)| fixed(spec)) {
        assert_eq!(world.plan, before, "a settled cluster keeps its plan");
    }
}

/// Few enough to be run at every change; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default().cases,
        None => 64,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_is_checked_and_settles(
        nodes in 1..6_usize,
        acts in proptest::collection::vec(act(), 1..25),
    ) {
        settles(nodes, &acts);
    }

    #[test]
    fn counts_obey_bounds_rates_and_bad_data(
        loads in proptest::collection::vec(
            prop_oneof![
                4 => (0.0..2.0_f64, 0.0..2.0_f64).prop_map(|(a, b)| Some((a.to_bits(), b.to_bits()))),
                2 => (any::<u64>(), any::<u64>()).prop_map(Some),
                1 => Just(None),
            ],
            1..25,
        ),
        bounds in (1..4_u32, 0..12_u32),
        up in (1..4_u32, 10..150_u32, any::<bool>()),
        down in (1..4_u32, 5..100_u32, any::<bool>()),
        stabilization_ms in (0..10_000_u64, 0..20_000_u64),
    ) {
        let mut world = World::new(2);
        world.observed = Observed::default();
        let mut policy = node_cpu_policy(bounds.0, bounds.0 + bounds.1);
        policy.scale_up = behavior(up, stabilization_ms.0);
        policy.scale_down = behavior(down, stabilization_ms.1);
        let (min, max) = (policy.min, policy.max);
        let mut auto = spec("web:1", min);
        auto.autoscale = Some(policy.clone());
        world.apply("web", auto);
        let mut history: Vec<ScaleChange> = Vec::new();
        for load in loads {
            for (n, sim) in world.nodes.values_mut().enumerate() {
                sim.session = load.is_some() || n == 0;
                if let Some((a, b)) = load {
                    sim.load = f64::from_bits(if n == 0 { a } else { b });
                }
            }
            for _ in 0..8 {
                let before = world.plan.services.get(&key("web")).map_or(min, |s| s.target);
                world.tick(500);
                let entry = &world.plan.services[&key("web")];
                prop_assert!((min..=max).contains(&entry.target), "{}", entry.target);
                if entry.target == before {
                    continue;
                }
                if entry.target < before {
                    // One that is lost, and whose replicas others have taken over, has no say.
                    let good = good_nodes(&world, policy.window_ms);
                    let lost = world.plan.lost.len();
                    prop_assert!(good > 0 && good + lost == 2, "in on {}, {} lost", good, lost);
                }
                history.extend(entry.last_change.clone());
                rates_hold(&history, &policy)?;
            }
        }
    }
}

fn behavior((count, percent, select_min): (u32, u32, bool), stabilization_ms: u64) -> Behavior {
    let policies = vec![
        RatePolicy {
            amount: RateAmount::Replicas(count),
            period_ms: 7_000,
        },
        RatePolicy {
            amount: RateAmount::Percent(percent),
            period_ms: 12_000,
        },
    ];
    Behavior {
        stabilization_ms,
        tolerance: 0.1,
        policies,
        select_min,
    }
}

/// Nodes with a fresh sample that is a number, counted anew.
fn good_nodes(world: &World, window_ms: u64) -> usize {
    let good = |node: &observe::NodeObserved| {
        let alive = node.session.connected;
        let sample = node.samples.cpu_ratio.iter().any(|s| {
            let age = world.now - s.at_ms;
            s.value.is_finite() && s.value >= 0.0 && age <= window_ms.min(5_000)
        });
        alive && sample
    };
    world
        .observed
        .nodes
        .values()
        .filter(|node| good(node))
        .count()
}

/// In no period did the metrics move the count further than a policy allows.
fn rates_hold(history: &[ScaleChange], policy: &AutoscaleSpec) -> Result<(), TestCaseError> {
    let Some(last) = history.last() else {
        return Ok(());
    };
    if !matches!(last.cause, ScaleCause::Metric { .. }) {
        return Ok(());
    }
    let up = last.to > last.from;
    let behavior = if up {
        &policy.scale_up
    } else {
        &policy.scale_down
    };
    let allows = |rate: &RatePolicy| {
        let inside = history.iter().filter(|c| {
            last.at_ms - c.at_ms < rate.period_ms && matches!(c.cause, ScaleCause::Metric { .. })
        });
        let moved: u32 = inside
            .map(|c| {
                if up {
                    c.to.saturating_sub(c.from)
                } else {
                    c.from.saturating_sub(c.to)
                }
            })
            .sum();
        let start = if up { last.to - moved } else { last.to + moved };
        match rate.amount {
            RateAmount::Replicas(count) => moved <= count,
            // From nothing, a share of nothing is one.
            RateAmount::Percent(part) if up => {
                let start = start.max(1);
                last.to <= start + (start * part).div_ceil(100)
            }
            RateAmount::Percent(part) => moved <= (start * part).div_ceil(100),
        }
    };
    let mut each = behavior.policies.iter().map(allows);
    let holds = if behavior.select_min {
        each.all(|ok| ok)
    } else {
        each.any(|ok| ok)
    };
    prop_assert!(holds, "{history:?} against {behavior:?}");
    Ok(())
}
