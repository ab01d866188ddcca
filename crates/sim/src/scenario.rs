//! What one seed is: sizes, settings, and which kinds of faults it may use. Each seed enables a
//! random part of them (swarm testing), so that rare combinations are not drowned by loud ones.

use longshore_planner::{PlannerConfig, RebalanceMode};

use crate::dice::Dice;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The controller dies: at once, or just before, between or after effects.
    ControllerCrash,
    /// The controller is stopped for a while and goes on.
    ControllerFreeze,
    /// The controller's wall clock is another one at its next start.
    ControllerClock,
    /// The store has no space.
    StoreFull,
    /// A write of the store fails, before or after it took effect.
    StoreFails,
    /// An agent dies; containers and HAProxy go on.
    AgentCrash,
    /// An agent is stopped for a while and goes on.
    AgentFreeze,
    /// An agent's clock jumps forward.
    AgentClock,
    /// An agent's disk takes no writes.
    LedgerFull,
    /// An agent restarts without its ledger.
    LedgerLost,
    /// A host loses its power and comes back.
    HostPower,
    /// A host loses its power and comes back, several times.
    Flap,
    /// An engine is not there; containers go on.
    EngineDown,
    /// An engine takes calls and does not answer in time.
    EngineStuck,
    /// An engine is slow.
    EngineSlow,
    /// An engine restarts and takes its containers with it.
    EngineRestart,
    /// An engine has no space for new containers.
    EngineFull,
    /// An image is not on a host and cannot be pulled for a while.
    ImageGone,
    /// A foreign program takes a port of the range.
    PortTaken,
    /// A container ends by itself.
    ContainerCrash,
    /// A container is killed for its memory.
    ContainerOom,
    /// A container runs and does not answer.
    ContainerSick,
    /// Somebody removes a container by hand.
    ContainerRemoved,
    /// No way between a node and the controller, both ways or one.
    ControlCut,
    /// A session breaks.
    ControlReset,
    /// A session is slow.
    ControlSlow,
    /// An agent is told again what it was told before.
    StaleCommand,
    /// No way between an edge and a node.
    DataCut,
    /// HAProxy dies and is started from its file.
    HaproxyCrash,
    /// HAProxy is stopped for a while and goes on.
    HaproxyFreeze,
    /// Somebody reloads HAProxy.
    HaproxyReload,
    /// Somebody changes a server by hand.
    HaproxyHand,
    /// Samples that are no numbers, negative or absurd.
    SamplesBad,
    /// No samples.
    SamplesMissing,
}

impl Fault {
    /// All of them but [`Self::Flap`], which seeds from [`FLAPS_FROM`] on use.
    pub const ALL: [Self; 33] = [
        Self::ControllerCrash,
        Self::ControllerFreeze,
        Self::ControllerClock,
        Self::StoreFull,
        Self::StoreFails,
        Self::AgentCrash,
        Self::AgentFreeze,
        Self::AgentClock,
        Self::LedgerFull,
        Self::LedgerLost,
        Self::HostPower,
        Self::EngineDown,
        Self::EngineStuck,
        Self::EngineSlow,
        Self::EngineRestart,
        Self::EngineFull,
        Self::ImageGone,
        Self::PortTaken,
        Self::ContainerCrash,
        Self::ContainerOom,
        Self::ContainerSick,
        Self::ContainerRemoved,
        Self::ControlCut,
        Self::ControlReset,
        Self::ControlSlow,
        Self::StaleCommand,
        Self::DataCut,
        Self::HaproxyCrash,
        Self::HaproxyFreeze,
        Self::HaproxyReload,
        Self::HaproxyHand,
        Self::SamplesBad,
        Self::SamplesMissing,
    ];

    /// Does it reach the way of requests by itself? Where none of these is enabled, no request
    /// may fail.
    #[must_use]
    pub fn hits_requests(self) -> bool {
        matches!(
            self,
            Self::HostPower
                | Self::Flap
                | Self::EngineRestart
                | Self::ContainerCrash
                | Self::ContainerOom
                | Self::ContainerSick
                | Self::ContainerRemoved
                | Self::DataCut
                | Self::HaproxyCrash
                | Self::HaproxyFreeze
                | Self::HaproxyHand
        )
    }
}

/// From this seed on, services and users use what the ones before leave out: warm standbys, what a
/// failed rollout does, pauses between batches, drains with a deadline, replicas moved to even
/// out the cluster. What a smaller seed means stays as it is.
pub const RICH_FROM: u64 = 1_000_000;

/// From this seed on, users pause autoscalers as well.
pub const PAUSES_FROM: u64 = 2_000_000;

/// From this seed on, services and users use schedules, dry runs, consent, holds, gates, fixed
/// host ports, HAProxy's signals and numbers from outside.
pub const POLICIES_FROM: u64 = 3_000_000;

/// From this seed on, services may fall to nothing and give back on silence, gates look at the
/// response time, users set bounds and undo, and files say how long an autoscaler looks back, how
/// many share a node, over what they are spread and how many failures a rollout bears.
pub const LIMITS_FROM: u64 = 4_000_000;

/// From this seed on, some images are healthy on their nodes and out of every edge's reach.
pub const REACH_FROM: u64 = 5_000_000;

/// From this seed on, some services have one replica on each node.
pub const GLOBAL_FROM: u64 = 6_000_000;

/// From this seed on, apps have a job that goes before their service.
pub const JOBS_FROM: u64 = 7_000_000;

/// From this seed on, some services write to a volume whose data is on one node.
pub const VOLUMES_FROM: u64 = 8_000_000;

/// From this seed on, a host may come and go.
pub const FLAPS_FROM: u64 = 9_000_000;

/// The first seed of each family.
pub const FAMILIES: [u64; 10] = [
    1,
    RICH_FROM + 1,
    PAUSES_FROM + 1,
    POLICIES_FROM + 1,
    LIMITS_FROM + 1,
    REACH_FROM + 1,
    GLOBAL_FROM + 1,
    JOBS_FROM + 1,
    VOLUMES_FROM + 1,
    FLAPS_FROM + 1,
];

/// So many seeds shared over the families, where none is chosen: the first one of each, and how
/// many.
#[must_use]
pub fn shares(from: Option<u64>, seeds: u64) -> Vec<(u64, u64)> {
    let Some(from) = from else {
        let families = FAMILIES.len() as u64;
        let share = |n: u64| seeds / families + u64::from(n < seeds % families);
        return FAMILIES.into_iter().zip((0..families).map(share)).collect();
    };
    vec![(from, seeds)]
}

/// When a schedule begins or ends: 2027-01-15T08:00:00Z. The clock on the wall at the start of all
/// smaller seeds.
pub const DAWN_MS: u64 = 1_800_000_000_000;

/// One seed.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The seed.
    pub seed: u64,
    /// Nodes that run containers.
    pub workers: usize,
    /// Nodes that run HAProxy.
    pub edges: usize,
    /// Services.
    pub services: usize,
    /// Faults and users act until then.
    pub chaos_ms: u64,
    /// Between two faults, on the mean.
    pub fault_every_ms: u64,
    /// Between two operations of users, on the mean.
    pub user_every_ms: u64,
    /// Kinds of faults.
    pub faults: Vec<Fault>,
    /// No fault reaches requests: none may fail.
    pub clean: bool,
    /// See [`RICH_FROM`].
    pub rich: bool,
    /// See [`PAUSES_FROM`].
    pub pauses: bool,
    /// See [`POLICIES_FROM`].
    pub policies: bool,
    /// See [`REACH_FROM`].
    pub shy: bool,
    /// See [`LIMITS_FROM`].
    pub limits: bool,
    /// See [`GLOBAL_FROM`].
    pub global: bool,
    /// See [`JOBS_FROM`].
    pub jobs: bool,
    /// See [`VOLUMES_FROM`].
    pub volumes: bool,
    /// Racks that the nodes stand in, where they are labelled.
    pub racks: Option<usize>,
    /// The clock on the wall at the start.
    pub wall_ms: u64,
    /// Settings of the planner: its real times, shortened so that a minute shows much.
    pub planner: PlannerConfig,
}

impl Scenario {
    /// What a seed means.
    #[must_use]
    pub fn new(seed: u64, dice: &mut Dice) -> Self {
        let clean = dice.one_in(4);
        let share = dice.pick(&[80, 250, 600]).unwrap_or(250);
        let faults: Vec<Fault> = Fault::ALL
            .into_iter()
            .filter(|fault| dice.permille(share) && !(clean && fault.hits_requests()))
            .collect();
        let small = dice.one_in(2);
        let workers = dice.between(1, if small { 3 } else { 8 });
        let services = dice.between(1, if small { 2 } else { 6 });
        let rich = seed >= RICH_FROM;
        let policies = seed >= POLICIES_FROM;
        let mut scenario = Self {
            seed,
            workers: usize::try_from(workers).unwrap_or(1),
            edges: usize::try_from(dice.between(1, 3)).unwrap_or(1),
            services: usize::try_from(services).unwrap_or(1),
            chaos_ms: dice.between(15_000, 50_000),
            fault_every_ms: dice.between(600, 6_000),
            user_every_ms: dice.between(1_500, 10_000),
            faults,
            clean,
            rich,
            pauses: seed >= PAUSES_FROM,
            policies,
            limits: seed >= LIMITS_FROM,
            global: seed >= GLOBAL_FROM,
            jobs: seed >= JOBS_FROM,
            volumes: seed >= VOLUMES_FROM,
            shy: seed >= REACH_FROM,
            racks: None,
            wall_ms: DAWN_MS,
            planner: planner(dice, services, rich),
        };
        if policies {
            scenario.wall_ms -= dice.between(3_000, scenario.chaos_ms - 5_000);
            scenario.planner.external_stale_ms = 5_000;
        }
        if seed >= FLAPS_FROM && !clean && dice.one_in(2) {
            scenario.faults.push(Fault::Flap);
        }
        if scenario.limits {
            scenario.racks = dice.pick(&[None, Some(1), Some(2), Some(3)]).flatten();
        }
        scenario
    }

    /// May this kind be used?
    #[must_use]
    pub fn uses(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }
}

/// The planner's settings: waits of a minute and more are shortened, or nothing would be seen of
/// what comes after them; the range of ports is small, so that ports come round.
fn planner(dice: &mut Dice, services: u64, rich: bool) -> PlannerConfig {
    let port_min = 20_000;
    // Room for every replica of every service on one node, its successor, and a few that leave.
    let ports = u16::try_from(14 * services + dice.between(8, 30)).unwrap_or(100);
    let usual = PlannerConfig::default();
    let rebalance = match rich && dice.one_in(2) {
        true => PlannerConfig {
            rebalance: RebalanceMode::Continuous,
            rebalance_window_ms: 30_000,
            rebalance_period_ms: 1_000,
            rebalance_cooldown_ms: dice.between(2_000, 10_000),
            ..usual
        },
        // As short as the other waits.
        false if rich => PlannerConfig {
            rebalance_cooldown_ms: 5_000,
            ..usual
        },
        false => usual,
    };
    PlannerConfig {
        port_min,
        port_max: port_min + ports,
        single_witness_timeout_ms: dice.between(4_000, 10_000),
        hold_while_serving_ms: dice.between(5_000, 15_000),
        observe_ms: dice.between(4_000, 10_000),
        edge_lease_ms: dice.between(4_000, 10_000),
        unreachable_hold_ms: dice.between(2_000, 5_000),
        unreached_fail_ms: 10_000,
        unhealthy_hold_ms: dice.between(3_000, 10_000),
        missing_hold_ms: dice.between(4_000, 10_000),
        outage_window_ms: dice.between(5_000, 20_000),
        park_grace_ms: dice.between(2_000, 5_000),
        backoff_cap_ms: dice.between(4_000, 8_000),
        backoff_reset_ms: dice.between(5_000, 20_000),
        outage_calm_ms: 10_000,
        flap_penalty_base_ms: 2_000,
        flap_penalty_cap_ms: 8_000,
        flap_forget_ms: 20_000,
        ..rebalance
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_shared_over_all_families_unless_one_is_chosen() {
        let shared = shares(None, 20);
        assert_eq!(shared.iter().map(|(_, count)| count).sum::<u64>(), 20);
        assert_eq!(shared[0], (1, 2));
        assert_eq!(shared[9], (9_000_001, 2));
        assert_eq!(shares(Some(7), 12), [(7, 12)]);
    }
}
