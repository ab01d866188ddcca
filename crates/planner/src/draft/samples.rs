//! What was measured of replicas.

use longshore_model::observe::{CpuSample, Sample};

use super::Draft;

impl<'a> Draft<'a> {
    /// CPU samples of a row's replica.
    pub(crate) fn cpu_milli(&self, row: usize) -> &'a [CpuSample] {
        let row = &self.rows[row];
        let seen = row.node.and_then(|number| self.cluster.nodes[number].seen);
        let samples = seen.and_then(|seen| seen.samples.replicas.get(&row.id));
        samples.map_or(&[], |samples| &samples.cpu_milli)
    }

    /// Memory samples of a row's replica.
    pub(crate) fn memory_samples(&self, row: usize) -> &'a [Sample] {
        let row = &self.rows[row];
        let seen = row.node.and_then(|number| self.cluster.nodes[number].seen);
        let samples = seen.and_then(|seen| seen.samples.replicas.get(&row.id));
        samples.map_or(&[], |samples| &samples.memory_samples)
    }
}
