//! Volumes whose data is on one node, and the judges of where it is and who writes to it: seeds from
//! eight million on.

use controller::store::NodeRecord;
use longshore_model::spec::Mount;

use crate::adapter::Wish;
use crate::event::HostNo;
use crate::policies::Policies;
use crate::world::World;

/// Agents look that often at the volumes of their node.
const LOOK_MS: u64 = 10_000;

/// What an engine calls the volume of a service of that app.
#[must_use]
pub(crate) fn name_of(app: &str) -> String {
    format!("{app}_data")
}

/// As specs have it.
#[must_use]
pub(crate) fn mount(volume: &str) -> Mount {
    Mount {
        source: volume.to_owned(),
        target: "/data".to_owned(),
        ..Mount::default()
    }
}

impl World {
    /// With what only these seeds have.
    pub(crate) fn enrich_volumes(&mut self, app: &str, usual: Wish) -> Wish {
        if self.dice.one_in(3) {
            return usual;
        }
        let order = self.dice.one_in(3);
        Wish {
            volume: Some(name_of(app)),
            replicas: 1,
            stop_first: order,
            max_unavailable: 0,
            scaling: None,
            warm: 0,
            policies: Policies {
                global: false,
                max_per_node: 0,
                packs: false,
                to_zero: false,
                gives_back: false,
                ..usual.policies
            },
            ..usual
        }
    }

    /// 10: a container with a volume starts where the volume's data is, and nobody else writes to it.
    pub(crate) fn judge_writers(&mut self, host: HostNo, container: &str) {
        let engine = &self.hosts[host].engine;
        let Some(starts) = engine.containers.get(container) else {
            return;
        };
        let Some(volume) = starts.volume.clone() else {
            return;
        };
        let replica = starts.replica;
        let mut others = engine.containers.values();
        let beside = others
            .find(|c| c.runs() && c.replica != replica && c.volume.as_ref() == Some(&volume))
            .map(|c| c.replica);
        let id = &self.hosts[host].id;
        let beside = beside.map(|other| format!("{replica} and {other} write to {volume} on {id}"));
        // What no plan names any more is started again by an agent that has not heard of it.
        let planned = self.truth.lives.get(&replica).is_some_and(|l| l.planned);
        if self.truth.left.contains(&host) || !planned {
            return;
        }
        let home = *self.truth.volumes.entry(volume.clone()).or_insert(host);
        let elsewhere = (home != host).then(|| {
            let data = &self.hosts[home].id;
            format!("{replica} finds {volume} empty on {id}: its data is on {data}")
        });
        for what in beside.into_iter().chain(elsewhere) {
            self.violation(&what);
        }
    }

    /// The volume of a service that is down is removed, if no container has it: by its node's agent,
    /// and then from the controller's books, unless that one dies in between.
    pub(crate) fn remove_volume(&mut self, service: usize) {
        let Some(volume) = self.users.services[service].usual.volume.clone() else {
            return;
        };
        let Some(host) = self.truth.volumes.get(&volume).copied() else {
            return;
        };
        let mut there = self.hosts[host].engine.containers.values();
        let known = self.cluster().map(|c| (c.desired(), c.now_ms()));
        let id = self.hosts[host].id.clone();
        let Some((desired, at_ms)) = known.filter(|(d, _)| d.nodes.contains_key(&id)) else {
            return;
        };
        if there.any(|c| c.volume.as_ref() == Some(&volume)) {
            return;
        }
        self.truth.volumes.remove(&volume);
        self.hosts[host].engine.volumes.remove(&volume);
        if self.dice.one_in(4) {
            say!(self, "user removes {volume} of {id}, and nobody hears");
            return;
        }
        let mut node = desired.nodes[&id].clone();
        node.volume_removed(volume.clone(), at_ms);
        let serials = Vec::new();
        let record = NodeRecord {
            node: node.clone(),
            serials,
        };
        let acked = self.change(
            |desired| {
                desired.nodes.insert(id.clone(), node.clone());
            },
            |repository, _| repository.put_node(&record, &[]),
        );
        say!(self, "user removes {volume} of {id}: {acked}");
    }

    /// A host's agent looks now and then which volumes there are.
    pub(crate) fn look_at_volumes(&mut self, host: HostNo) {
        let (now, at) = (self.now, &mut self.hosts[host]);
        let seen = at.agent.volumes.as_ref();
        let due = seen.is_none_or(|(at_ms, _)| now >= at_ms + LOOK_MS);
        if self.scenario.volumes && due {
            at.agent.volumes = Some((now, at.engine.volumes.clone()));
        }
    }

    /// A node leaves the cluster: its users gave up what it has.
    pub(crate) fn volumes_are_left(&mut self, host: HostNo) {
        self.truth.volumes.retain(|_, home| *home != host);
        self.truth.left.insert(host);
    }
}
