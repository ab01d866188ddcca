//! Load of several kinds at once: open-loop rates, no second tries, a verdict for every request.
//! Only the clients of a queue wait for their answers before they ask again.

mod http1;
mod requests;
mod sockets;
mod table;
mod target;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use table::table;
pub use target::{Target, TargetError};
pub use verdict::{Counts, Failed, Failure, Tally};

use crate::kind::Kind;

/// Requests of one kind in flight at most; one that is due above it is not begun, and counted.
const IN_FLIGHT_MAX: usize = 400;

/// How much of what.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Where to.
    pub target: Target,
    /// Requests a second on kept connections.
    pub keep_alive_rate: f64,
    /// Requests a second with a connection each.
    pub new_connection_rate: f64,
    /// Requests of [`Plan::slow_ms`] a second.
    pub slow_rate: f64,
    /// What a slow request takes.
    pub slow_ms: u64,
    /// Downloads a second.
    pub download_rate: f64,
    /// What a download takes.
    pub download_s: u64,
    /// Its size.
    pub download_kib: u64,
    /// WebSockets open at any time.
    pub sockets: u32,
    /// Life of a WebSocket.
    pub socket_s: u64,
    /// Echoes a second on each.
    pub echo_rate: f64,
    /// Where requests go that wait in a queue; none: there are none.
    pub queue: Option<Target>,
    /// Clients there, each of which has always one request waiting or answered. More than there
    /// are seats, or the queue runs empty.
    pub queue_clients: u32,
    /// What such a request takes once it has a seat.
    pub queue_ms: u64,
    /// The run ends after this time at the latest.
    pub time_max: Duration,
    /// And after this many requests.
    pub requests_max: u64,
    /// At the end of each request's id: which of several generators sent it.
    pub tag: String,
}

impl Plan {
    /// The bench's load: about 260 requests and echoes a second, and no queue.
    #[must_use]
    pub fn standard(target: Target) -> Self {
        Self {
            target,
            keep_alive_rate: 150.0,
            new_connection_rate: 60.0,
            slow_rate: 8.0,
            slow_ms: 2_000,
            download_rate: 0.5,
            download_s: 30,
            download_kib: 64,
            sockets: 20,
            socket_s: 20,
            echo_rate: 2.0,
            queue: None,
            queue_clients: 20,
            queue_ms: 250,
            time_max: Duration::from_secs(4 * 3_600),
            requests_max: 10_000_000,
            tag: String::new(),
        }
    }

    /// The same load on several targets, each with a name: none has more of it than its part.
    #[must_use]
    pub fn shared_by(targets: Vec<(&str, Target)>) -> Vec<Self> {
        let parts = u32::try_from(targets.len()).unwrap_or(u32::MAX).max(1);
        let share = |rate: f64| rate / f64::from(parts);
        let plan = |(name, target): (&str, Target)| {
            let all = Self::standard(target);
            Self {
                keep_alive_rate: share(all.keep_alive_rate),
                new_connection_rate: share(all.new_connection_rate),
                slow_rate: share(all.slow_rate),
                download_rate: share(all.download_rate),
                sockets: all.sockets / parts,
                tag: match parts {
                    1 => String::new(),
                    _ => format!("@{name}"),
                },
                ..all
            }
        };
        targets.into_iter().map(plan).collect()
    }
}

/// What all tasks of a run share.
struct Shared {
    plan: Plan,
    tally: Arc<Tally>,
    stop: CancellationToken,
    begun: AtomicU64,
}

impl Shared {
    /// The next id; none if the run has had its requests.
    fn next_id(&self, kind: Kind) -> Option<String> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        if number >= self.plan.requests_max {
            self.stop.cancel();
            return None;
        }
        Some(format!("{}-{number}{}", kind.name(), self.plan.tag))
    }
}

/// Sends load until `stop`, or a bound of the plan; then waits for what is in flight.
pub async fn run(plan: Plan, tally: Arc<Tally>, stop: CancellationToken) {
    let end = Instant::now() + plan.time_max;
    let tasks = TaskTracker::new();
    let shared = Arc::new(Shared {
        plan,
        tally,
        stop: stop.clone(),
        begun: AtomicU64::new(0),
    });
    for kind in [
        Kind::KeepAlive,
        Kind::NewConnection,
        Kind::Slow,
        Kind::Download,
    ] {
        tasks.spawn(tick(kind, Arc::clone(&shared), tasks.clone()));
    }
    for number in 0..shared.plan.sockets {
        tasks.spawn(sockets::one_after_another(number, Arc::clone(&shared)));
    }
    if shared.plan.queue.is_some() {
        for _ in 0..shared.plan.queue_clients {
            tasks.spawn(requests::one_after_another(Arc::clone(&shared)));
        }
    }
    tokio::select! {
        () = stop.cancelled() => {}
        () = sleep_until(end) => stop.cancel(),
    }
    tasks.close();
    tasks.wait().await;
}

/// Begins requests of one kind at its rate, whatever became of those before.
async fn tick(kind: Kind, shared: Arc<Shared>, tasks: TaskTracker) {
    let rate = match kind {
        Kind::KeepAlive => shared.plan.keep_alive_rate,
        Kind::NewConnection => shared.plan.new_connection_rate,
        Kind::Slow => shared.plan.slow_rate,
        Kind::Download => shared.plan.download_rate,
        Kind::WebSocket | Kind::Queued => 0.0,
    };
    if rate <= 0.0 {
        return;
    }
    let mut due = interval(Duration::from_secs_f64(1.0 / rate));
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let seats = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let kept = Arc::new(requests::Kept::default());
    loop {
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            _ = due.tick() => {}
        }
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
            shared.tally.held_back();
            continue;
        };
        let Some(id) = shared.next_id(kind) else {
            return;
        };
        let (shared, kept) = (Arc::clone(&shared), Arc::clone(&kept));
        tasks.spawn(async move {
            requests::one(kind, &id, &shared, &kept).await;
            drop(seat);
        });
    }
}
