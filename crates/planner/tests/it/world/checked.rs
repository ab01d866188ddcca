//! What HAProxy's checks find, and whom edges let in by that.

use longshore_model::observe::{CheckState, ServerAdmin};
use longshore_model::routes::{Backend, Server, ServerMode};
use longshore_model::*;

use super::heard::answers;
use super::{SimEdge, SimNode, World};

/// As the edge has set it.
pub(super) fn admin_of(edge: &SimEdge, backend: &Backend, server: &Server) -> ServerAdmin {
    match server.mode {
        ServerMode::Serve if edge.let_in.contains(&server.replica) => ServerAdmin::Ready,
        ServerMode::Drain if edge.has_queue && all_leave(backend) => ServerAdmin::Ready,
        _ => ServerAdmin::Drain,
    }
}

fn all_leave(backend: &Backend) -> bool {
    let mut servers = backend.servers.iter();
    servers.all(|server| server.mode == ServerMode::Drain)
}

impl World {
    /// Does it report no servers?
    pub(super) fn is_deaf(&self, edge: &SimEdge) -> bool {
        self.deaf_edges || edge.deaf
    }

    pub(super) fn check_of(&self, edge: &SimEdge, replica: ReplicaId) -> CheckState {
        let reaches = |name: &str| !edge.blind_to.iter().any(|blind| blind == name);
        let shut_out = |sim: &SimNode| {
            let mut assigned = sim.assignment.replicas.iter();
            let template = assigned.find(|r| r.id == replica).map(|r| &r.template);
            let spec = template.and_then(|id| sim.assignment.templates.get(id));
            spec.is_some_and(|spec| self.shut_out.contains(&spec.image) || !reaches(&spec.image))
        };
        let up = self.nodes.iter().any(|(name, sim)| {
            let runs = sim.containers.get(&replica);
            let there = sim.power && sim.reachable && reaches(&name.to_string());
            there && runs.is_some_and(answers) && !shut_out(sim)
        });
        if up { CheckState::Up } else { CheckState::Down }
    }

    /// A new server is drained until its check passes.
    pub(super) fn let_in(&mut self) {
        let serving = |edge: &SimEdge| {
            let servers = edge.routes.backends.iter().flat_map(|b| &b.servers);
            let servers = servers.filter(|server| server.mode == ServerMode::Serve);
            servers.map(|server| server.replica).collect::<Vec<_>>()
        };
        let edges = self.edges.iter();
        let asked: Vec<_> = edges
            .flat_map(|(name, edge)| serving(edge).into_iter().map(|id| (name.clone(), id)))
            .filter(|(name, id)| self.check_of(&self.edges[name], *id) == CheckState::Up)
            .collect();
        for (name, id) in asked {
            self.edges.entry(name).or_default().let_in.insert(id);
        }
    }
}
