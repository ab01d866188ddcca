//! One seed.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use controller::operators::OperatorRecord;
use controller::reconcile;
use controller::store::{MemStore, Meta, Repository};
use longshore_identity::OperatorRole;
use longshore_identity::ca::ClusterCa;
use longshore_model::{Mutant, mutant};
use node_agent::runtime::fake::FakeRuntime;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use turmoil::{Builder, Sim};

use crate::faults::Faults;
use crate::judge::Judge;
use crate::world::{CLUSTER, CONTROLLER, Host, IMAGE, PORT, World, lock};
use crate::{agent, controller as leader, operator};

/// How long faults come, then how long all has to settle.
const FAULTS_MS: u64 = 60_000;
const SETTLE_MS: u64 = 150_000;
/// Engines are looked at this often.
const LOOK_MS: u64 = 20;
/// All must stay as it is for so long.
const CALM_MS: u64 = 15_000;
/// And whether all is settled, this often.
const SETTLED_MS: u64 = 500;
const TICK: Duration = Duration::from_millis(2);

fn world(seed: u64, random: &mut StdRng) -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let now = SystemTime::now();
    let ca = ClusterCa::create(CLUSTER, now).expect("a CA");
    let store = Arc::new(MemStore::default());
    let meta = Meta::new(
        CLUSTER.into(),
        format!("0.0.0.0:{PORT}"),
        vec![CONTROLLER.into()],
    );
    let mut admin = OperatorRecord::new("admin".into(), OperatorRole::Admin, 0, String::new());
    admin.any_serial = true;
    Repository::create_by(&*store, &meta, Some(&admin)).expect("an empty store");
    let hosts = (1..=random.random_range(2..=4)).map(|number| {
        let name = format!("node{number}");
        let dir = dir.path().join(&name);
        Host {
            name,
            dir,
            engine: Arc::new(FakeRuntime::with_images(&[IMAGE])),
        }
    });
    World {
        seed,
        ca_cert: ca.cert_pem().to_owned(),
        ca_key: ca.key_pem().to_string(),
        store,
        hosts: hosts.collect(),
        dir,
        tokens: Mutex::default(),
        told: Mutex::default(),
        quiet: Mutex::new(false),
    }
}

fn simulation(world: &Arc<World>, random: &mut StdRng) -> Sim<'static> {
    let latency_ms = random.random_range(1..80);
    let mut sim = Builder::new()
        .rng_seed(random.next_u64())
        .tick_duration(TICK)
        .simulation_duration(Duration::from_millis(FAULTS_MS + SETTLE_MS * 2))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(latency_ms + 1))
        .enable_random_order()
        .tcp_capacity(4_096)
        .build();
    let one = Arc::clone(world);
    sim.host(CONTROLLER, move || leader::run(Arc::clone(&one)));
    for (at, host) in world.hosts.iter().enumerate() {
        let one = Arc::clone(world);
        sim.host(host.name.as_str(), move || agent::run(Arc::clone(&one), at));
    }
    let one = Arc::clone(world);
    sim.host("operator", move || operator::run(Arc::clone(&one)));
    sim
}

/// Runs a seed; what came of it, on one line.
///
/// # Errors
/// What must not be, with the trace.
pub fn one(seed: u64, trace: bool, mistake: Option<&str>) -> Result<String, String> {
    if let Some(name) = mistake {
        let known = Mutant::ALL.iter().find(|known| known.name() == name);
        mutant::switch(Some(
            *known.ok_or_else(|| format!("there is no mistake {name}"))?,
        ));
        reconcile::let_mistakes_through();
    }
    let mut random = StdRng::seed_from_u64(seed);
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(seed ^ 0x7261_6e64));
    let _clocks = mad_turmoil::time::SimClocksGuard::init();
    let world = Arc::new(world(seed, &mut random));
    let mut sim = simulation(&world, &mut random);
    let mut judge = Judge::default();
    let ended = drive(&mut sim, &world, &mut judge);
    if trace || ended.is_err() {
        eprintln!("{}", judge.trace.join("\n"));
        for stored in Repository::events(&*world.store, 0, usize::MAX).unwrap_or_default() {
            eprintln!("{:>6} {}", stored.event.at_ms, stored.event.kind);
        }
    }
    let settled_ms = ended.map_err(|why| format!("seed {seed}: {why}"))?;
    let mut hasher = DefaultHasher::new();
    judge.trace.hash(&mut hasher);
    let (events, hash) = (judge.trace.len(), hasher.finish());
    let changes = lock(&world.told).changes;
    Ok(format!(
        "seed {seed}: trace {hash:016x}, {events} events, {changes} changes acknowledged, settled after {settled_ms} ms"
    ))
}

fn drive(sim: &mut Sim<'_>, world: &World, judge: &mut Judge) -> Result<u64, String> {
    let mut faults = Faults::new(world.seed);
    let (mut looked_ms, mut healed_ms, mut settled_ms) = (0, None, None);
    loop {
        sim.step()
            .map_err(|error| format!("a program ended: {error}"))?;
        let now_ms = u64::try_from(sim.elapsed().as_millis()).unwrap_or(u64::MAX);
        match healed_ms {
            None if now_ms < FAULTS_MS => {
                if let Some(words) = faults.step(sim, world, now_ms) {
                    judge.say(now_ms, &words);
                }
            }
            None => {
                faults.end(sim, world);
                *lock(&world.quiet) = true;
                judge.say(now_ms, "no more faults");
                healed_ms = Some(now_ms);
            }
            Some(_) => {}
        }
        if now_ms < looked_ms + LOOK_MS {
            continue;
        }
        looked_ms = now_ms;
        judge.look(world, now_ms)?;
        if now_ms % SETTLED_MS < LOOK_MS {
            judge.enough(world)?;
        }
        let Some(healed_ms) = healed_ms else { continue };
        if now_ms % SETTLED_MS >= LOOK_MS {
            continue;
        }
        match judge.settled(world) {
            Ok(()) => {
                let since = *settled_ms.get_or_insert(now_ms);
                if now_ms >= since + CALM_MS {
                    return Ok(since - healed_ms);
                }
            }
            Err(why) if now_ms > healed_ms + SETTLE_MS => return Err(why),
            Err(_) => settled_ms = None,
        }
    }
}
