//! What HAProxy's checks find, and whom edges let in by that.

use longshore_model::observe::{CheckState, ServerAdmin};
use longshore_model::routes::{Server, ServerMode};
use longshore_model::*;

use super::heard::answers;
use super::{SimNode, World};

/// As the edge has set it.
pub(super) fn admin_of(edge: &super::SimEdge, server: &Server) -> ServerAdmin {
    match server.mode {
        ServerMode::Serve if edge.let_in.contains(&server.replica) => ServerAdmin::Ready,
        _ => ServerAdmin::Drain,
    }
}

impl World {
    pub(super) fn check_of(&self, replica: ReplicaId) -> CheckState {
        let shut_out = |sim: &SimNode| {
            let mut assigned = sim.assignment.replicas.iter();
            let template = assigned.find(|r| r.id == replica).map(|r| &r.template);
            let spec = template.and_then(|id| sim.assignment.templates.get(id));
            spec.is_some_and(|spec| self.shut_out.contains(&spec.image))
        };
        let up = self.nodes.values().any(|sim| {
            let runs = sim.containers.get(&replica);
            sim.power && sim.reachable && runs.is_some_and(answers) && !shut_out(sim)
        });
        if up { CheckState::Up } else { CheckState::Down }
    }

    /// A new server is drained until its check passes.
    pub(super) fn let_in(&mut self) {
        let serving = |edge: &super::SimEdge| {
            let servers = edge.routes.backends.iter().flat_map(|b| &b.servers);
            let servers = servers.filter(|server| server.mode == ServerMode::Serve);
            servers.map(|server| server.replica).collect::<Vec<_>>()
        };
        let edges = self.edges.iter();
        let asked: Vec<_> = edges
            .flat_map(|(name, edge)| serving(edge).into_iter().map(|id| (name.clone(), id)))
            .filter(|(_, id)| self.check_of(*id) == CheckState::Up)
            .collect();
        for (name, id) in asked {
            self.edges.entry(name).or_default().let_in.insert(id);
        }
    }
}
