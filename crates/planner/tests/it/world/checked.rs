//! What HAProxy's checks find, and whom edges let in by that.

use std::collections::BTreeMap;

use longshore_model::observe::{
    BackendObserved, CheckState, ServerAdmin, ServerObserved, ServersByService,
};
use longshore_model::routes::{Backend, Server, ServerMode};
use longshore_model::*;

use super::heard::answers;
use super::{SimEdge, SimNode, World};

/// Requests that wait where some do.
const QUEUED: u32 = 3;

/// As the edge has set it.
fn admin_of(edge: &SimEdge, backend: &Backend, server: &Server) -> ServerAdmin {
    match server.mode {
        ServerMode::Serve if edge.let_in.contains(&server.replica) => ServerAdmin::Ready,
        ServerMode::Drain if queued_of(edge, backend, server) > 0 || backend.holds => {
            ServerAdmin::Ready
        }
        _ => ServerAdmin::Drain,
    }
}

/// What waits counts at each of those that leave last.
fn queued_of(edge: &SimEdge, backend: &Backend, server: &Server) -> u32 {
    let mut servers = backend.servers.iter();
    let all_leave = servers.all(|server| server.mode == ServerMode::Drain);
    match server.mode {
        ServerMode::Drain if all_leave && edge.has_queue => QUEUED,
        _ => 0,
    }
}

/// What waits for each service.
pub(super) fn queues_of(edge: &SimEdge) -> BTreeMap<ServiceKey, BackendObserved> {
    let queue = BackendObserved {
        queued: if edge.has_queue { QUEUED } else { 0 },
        ..BackendObserved::default()
    };
    let backends = edge.routes.backends.iter();
    backends
        .map(|backend| (backend.service.clone(), queue.clone()))
        .collect()
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

    /// What it says of its servers.
    pub(super) fn servers_of(&self, edge: &SimEdge) -> ServersByService {
        let mut servers = ServersByService::default();
        let backends = edge.routes.backends.iter();
        for backend in backends.filter(|_| !self.is_deaf(edge)) {
            for server in &backend.servers {
                let id = server.replica;
                let observed = ServerObserved {
                    check: self.check_of(edge, id),
                    admin: admin_of(edge, backend, server),
                    sessions: edge.sessions.get(&id).copied().unwrap_or(0),
                    queued: queued_of(edge, backend, server),
                    answers: edge.answers.get(&id).copied().unwrap_or_default(),
                };
                let of_service = servers.entry(backend.service.clone()).or_default();
                of_service.insert(id, observed);
            }
        }
        servers
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
