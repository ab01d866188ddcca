//! What a way of running an app must be able to do, to be compared.

/// Replicas of the app between the ends of a cycle.
pub(super) const REPLICAS: usize = 10;
/// Port of the app on the edge.
pub(super) const PORT: u16 = 8090;
/// Replicas of the queue's service between the ends of a cycle.
pub(super) const QUEUE_REPLICAS: usize = 4;
/// Port of the queue's service on the edge.
pub(super) const QUEUE_PORT: u16 = 8093;
/// Port of HAProxy's statistics.
pub(super) const STATS_PORT: u16 = 8404;

/// The lab's workers.
pub(super) const WORKERS: [&str; 3] = ["worker1", "worker2", "worker3"];

/// A way of running the app. Each call returns when the change is complete, and panics if it does
/// not come to an end.
pub(super) trait System {
    /// Its name in the printed lines.
    fn name(&self) -> &'static str;
    /// Hosts at which users reach the app; load goes to all of them.
    fn entries(&self) -> Vec<(&'static str, String)> {
        vec![("edge", crate::edge())]
    }
    /// Port of its HAProxy's statistics there; none: it has no HAProxy.
    fn stats_port(&self) -> Option<u16>;
    /// Port of the app there.
    fn port(&self) -> u16;
    /// Port of the app whose requests always queue; none: it has no such app.
    fn queue_port(&self) -> Option<u16> {
        None
    }
    /// Runs one replica that tells its ledger to an address.
    fn deploy(&mut self, ledger_to: &str);
    /// Changes the count.
    fn scale(&mut self, count: usize);
    /// Replaces all [`REPLICAS`] by new ones.
    fn update(&mut self);
    /// Empties a worker, and takes it back.
    fn drain_node(&mut self, worker: &str);
    /// Host names of the app's replicas on a worker: what they call themselves in answers.
    fn replicas_on(&self, worker: &str) -> Vec<String>;
    /// Receipts since the deployment, and how many of them were forced; none: it has no receipts.
    fn forced(&self) -> Option<(u64, u64)>;
    /// Reloads of HAProxy since the deployment, where the system itself orders them.
    fn reloads(&self) -> Option<u64>;
    /// Takes the app down.
    fn down(&mut self);
}

/// A system that is expected to mend itself.
pub(super) trait Mends: System {
    /// Takes a worker's power; nothing runs there any more when this returns.
    fn kill_worker(&mut self, worker: &str);
    /// Waits until the others run [`REPLICAS`].
    fn await_others(&mut self, worker: &str);
    /// Gives it back, and waits until all is as before.
    fn revive_worker(&mut self, worker: &str);
}
