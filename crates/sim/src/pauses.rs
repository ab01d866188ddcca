//! Users who tell autoscalers to keep their hands off, and to go on: seeds from two million on.

use longshore_model::ServiceKey;
use longshore_model::autoscale::{AutoscaleControl, Pause};

use crate::world::World;

impl World {
    /// Pauses the autoscaler of a service, or lets it go on.
    pub(crate) fn pause_or_resume(&mut self, service: usize) {
        let Some(cluster) = self.cluster().cloned() else {
            return;
        };
        let key = self.users.services[service].key.clone();
        let paused = cluster.desired().autoscale.contains_key(&key);
        let pause = Pause {
            since_ms: cluster.now_ms(),
            until_ms: None,
            by: "sim".into(),
        };
        let control = AutoscaleControl {
            paused: (!paused).then_some(pause),
            ..AutoscaleControl::default()
        };
        if self.tell_autoscaler(&key, &control) {
            say!(self, "user pauses {key}: {}", !paused);
        }
    }

    /// All autoscalers go on. Those whose pause ends by itself are left to it.
    pub(crate) fn resume_all(&mut self) {
        let paused: Vec<ServiceKey> = self.cluster().map_or_else(Vec::new, |cluster| {
            let desired = cluster.desired();
            let ends = |pause: &Pause| pause.until_ms.is_some();
            let said = desired.autoscale.iter();
            let said = said.filter(|(_, control)| !control.paused.as_ref().is_some_and(ends));
            said.map(|(key, _)| key.clone()).collect()
        });
        for key in paused {
            self.tell_autoscaler(&key, &AutoscaleControl::default());
        }
    }

    pub(crate) fn tell_autoscaler(&mut self, key: &ServiceKey, control: &AutoscaleControl) -> bool {
        self.change(
            |desired| {
                if *control == AutoscaleControl::default() {
                    desired.autoscale.remove(key);
                } else {
                    desired.autoscale.insert(key.clone(), control.clone());
                }
            },
            |repository, _| repository.put_autoscale(key, control, &[]),
        )
    }
}
