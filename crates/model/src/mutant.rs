//! Seeded mistakes for the simulation, which must find each of them. Compiled only with the
//! feature `mutants`, which nothing but the simulation asks for; one build holds all of them, and
//! one of them at a time is switched on.

use std::sync::atomic::{AtomicU8, Ordering};

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutant {
            $($(#[$doc])* $name,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

mutants! {
    /// Planner: destructive decisions from the first second on.
    NoObserveWindow,
    /// Planner: no pause after failures.
    NoBackoff,
    /// Planner: the pause after failures does not grow.
    FlatBackoff,
    /// Planner: a silent node is lost, whatever HAProxy says.
    UnknownIsDead,
    /// Planner: any number of nodes may be lost at once.
    NoBrake,
    /// Planner: a node that comes and goes takes replicas at once.
    NoPenalty,
    /// Planner: out of the routes at once, sessions or not.
    StopBeforeDrain,
    /// Planner: stopped before the edges are without it.
    StopBeforePark,
    /// Planner: sessions get no time.
    DrainDeadlineZero,
    /// Planner: an edge that is away for a moment is waited for by nobody.
    EdgeLeaseIgnored,
    /// Planner: the last one may go.
    FloorIgnored,
    /// Planner: old ones leave before new ones are there.
    StartFirstAsStopFirst,
    /// Planner: while one service fails, none is planned.
    OneBadServiceBlocks,
    /// Planner: a node that is drained gets replicas.
    DrainingNodeTaken,
    /// Planner: an id is given again.
    ReplicaIdReused,
    /// Planner: routed as soon as it starts.
    RouteBeforeHealthy,
    /// Planner: scaled in without samples.
    ScaleInWithoutSamples,
    /// Planner: a count that a person set is obeyed for ever.
    ManualObeyedTwice,
    /// Planner: an autoscaler that is told to keep its hands off scales.
    PauseIgnored,
    /// Planner: a drain by force does not wait for its deadline.
    ForcedAtOnce,
    /// Planner: an autoscaler that shall only say what it would do does it.
    DryRunActs,
    /// Planner: an autoscaler that shall ask does not.
    ApprovalNotAsked,
    /// Planner: somebody's consent to a count is obeyed for ever.
    ApprovalObeyedTwice,
    /// Planner: bounds are the file's at all times.
    ScheduleIgnored,
    /// Planner: HAProxy may have what it wants against new replicas.
    GateIgnored,
    /// Planner: an edge that says nothing of a service is taken for one at rest.
    MissingIsZero,
    /// Planner: what an outside query answered counts however old it is.
    StaleIsFresh,
    /// Planner: a count that a person holds is scaled.
    HoldIgnored,
    /// Planner: a pause has no end.
    PauseIsForEver,
    /// Planner: what has no replica stays so.
    NeverWakes,
    /// Planner: bounds that a person set are passed over.
    OverrideIgnored,
    /// Planner: without samples what serves is given back as well.
    GivesBackServing,
    /// Planner: a fixed host port is given to as many as want it.
    FixedPortTwice,
    /// Planner: any number of a service shares a node.
    NodeCrowded,
    /// Planner: what has one on each node keeps the one on a drained node.
    GlobalOutstaysDrain,
    /// Planner: nobody knows where the data of volumes is.
    VolumeHasNoHome,
    /// Planner: who follows a replica that writes to a volume does not wait for its end.
    VolumeWrittenTwice,
    /// Planner: what has one on each node gets none where a node joins.
    GlobalMissesNewcomers,
    /// Planner: new replicas start before the job that goes before them has completed.
    JobNotAwaited,
    /// Planner: a job that has completed runs again.
    JobRunsAgain,
    /// Planner: a rollout waits for what no edge reaches.
    UnreachedIsWaitedFor,
    /// Controller: sent before it is stored.
    CommitAfterExecute,
    /// Controller: a command that a full disk refused is not sent again.
    RefusedIsForgotten,
    /// Agent: any leadership is obeyed.
    NoFence,
    /// Agent: any generation is obeyed.
    OlderGenerationObeyed,
    /// Agent: what it does not know is stopped at once.
    WipesUnknown,
    /// Agent: a crashed container is started again at once, for ever.
    RestartsWithoutWaits,
    /// Agent: what runs is healthy.
    RunningIsHealthy,
    /// HAProxy driver: a draining server goes on taking requests.
    DrainIgnored,
    /// HAProxy driver: a slot that nobody holds stays as it was.
    ParkIgnored,
    /// HAProxy driver: a server is opened before its check.
    OpensUnchecked,
    /// Edge: a generation is acknowledged before it is in force.
    AckBeforeReadback,
}

/// None of them.
const NOBODY: u8 = u8::MAX;

static ACTIVE: AtomicU8 = AtomicU8::new(NOBODY);

/// Switches one on, and all others off.
pub fn switch(mutant: Option<Mutant>) {
    ACTIVE.store(
        mutant.map_or(NOBODY, |mutant| mutant as u8),
        Ordering::Relaxed,
    );
}

/// Is it switched on?
#[must_use]
pub fn is(mutant: Mutant) -> bool {
    ACTIVE.load(Ordering::Relaxed) == mutant as u8
}
