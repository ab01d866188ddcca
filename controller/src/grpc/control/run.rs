//! `run`: a container like a service's replicas, once, on a node that the planner chooses.
//!
//! Nothing of it is committed: the planner is asked where it would put one more service of this spec,
//! with the same filters and the same room as for replicas, and its plan is thrown away.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_model::names::hosts;
use longshore_model::spec::{FileContents, FileSpec};
use longshore_model::{
    App, AppName, ContainerSpec, Memory, NodeId, Reason, ServiceKey, ServiceName, ServiceSpec,
};
use longshore_planner::{PlanInput, plan};
use longshore_proto::control::v1 as pb;
use longshore_proto::spec::v1::Words;
use longshore_wire::RunSpec;
use tonic::Status;

use super::exec::{ENV_MAX, WORDS_MAX};
use super::find;
use crate::cluster::Cluster;
use crate::grpc::Refusal;

/// Nodes that are named where no node takes it.
const NODES_SHOWN: usize = 8;

/// A container and its node.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) node: NodeId,
    pub(super) run: RunSpec,
}

/// Chooses a node and makes the container's spec.
pub(super) fn place(cluster: &Cluster, start: pb::RunStart) -> Result<Placed, Refusal> {
    let desired = cluster.desired();
    let key = find::service(&desired, &cluster.view().plan, &start.service).map_err(Refusal)?;
    let app = desired.apps.get(&key.app);
    let found = app.and_then(|app| Some((app, app.services.get(&key.service)?)));
    let Some((app, spec)) = found else {
        let why = format!("{key} was taken down; its replicas are about to leave");
        return Err(Refusal(Status::failed_precondition(why)));
    };
    let (tty, stdin) = (start.tty, start.stdin);
    let container = container(spec, start).map_err(Refusal)?;
    let files = contents(cluster, &key, &container).map_err(Refusal)?;
    let spec = ServiceSpec {
        container,
        replicas: 1,
        placement: spec.placement.clone(),
        drain_ms: 0,
        ..ServiceSpec::default()
    };
    let node = choose(cluster, &key, &spec).map_err(Refusal)?;
    let id = getrandom::u64().map_err(|error| Refusal(Status::internal(error.to_string())))?;
    let run = RunSpec {
        id: format!("{:010x}", id & 0xff_ffff_ffff),
        hosts: hosts(app, &key.service),
        service: key,
        container: Arc::new(spec.container),
        files,
        tty,
        stdin,
    };
    Ok(Placed { node, run })
}

/// As the service's, but for what was asked for; without ports and checks.
fn container(spec: &ServiceSpec, start: pb::RunStart) -> Result<ContainerSpec, Status> {
    let words = |words: Option<Words>| words.map(|words| words.words);
    let (entrypoint, command) = (words(start.entrypoint), words(start.command));
    let too_many = |words: &Option<Vec<String>>| {
        let count = words.as_ref().map_or(0, Vec::len);
        count > WORDS_MAX
    };
    if too_many(&entrypoint) || too_many(&command) || start.env.len() > ENV_MAX {
        return Err(Status::invalid_argument(format!(
            "a run takes at most {WORDS_MAX} words and at most {ENV_MAX} variables"
        )));
    }
    let mut container = spec.container.clone();
    // As with docker: another entrypoint takes none of the old command.
    if let Some(entrypoint) = entrypoint {
        (container.entrypoint, container.command) = (Some(entrypoint), None);
    }
    container.command = command.or(container.command);
    container.env.extend(start.env);
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    container.user = filled(start.user).or(container.user);
    container.working_dir = filled(start.working_dir).or(container.working_dir);
    container.ports.clear();
    container.fixed_ports.clear();
    (container.healthcheck, container.probe) = (None, None);
    // What was asked for is checked as an app's file is.
    let message = longshore_wire::container_spec_to_pb(&container);
    longshore_wire::container_spec_from_pb(message)
        .map_err(|error| Status::invalid_argument(crate::chain(&error)))
}

fn contents(
    cluster: &Cluster,
    key: &ServiceKey,
    container: &ContainerSpec,
) -> Result<Vec<(FileSpec, FileContents)>, Status> {
    let kept = cluster.contents();
    let with = |file: &FileSpec| {
        let found = kept.all.get(&(key.app.clone(), file.digest.clone()));
        let found = found.ok_or_else(|| {
            let why = format!("{key}: what is in {file} is not here; apply its file anew");
            Status::failed_precondition(why)
        })?;
        Ok((file.clone(), found.clone()))
    };
    container.files.iter().map(with).collect()
}

/// Where the planner would put it.
fn choose(cluster: &Cluster, key: &ServiceKey, spec: &ServiceSpec) -> Result<NodeId, Status> {
    let mut desired = longshore_model::Desired::clone(&cluster.desired());
    let name = free_name(&desired)?;
    let asked = ServiceKey::new(name.clone(), key.service.clone());
    let services: [(ServiceName, Arc<ServiceSpec>); 1] =
        [(key.service.clone(), Arc::new(spec.clone()))];
    let app = App {
        name: name.clone(),
        revision: 1,
        services: services.into_iter().collect(),
        applied_ms: cluster.now_ms(),
        applied_by: String::new(),
        numbers: BTreeMap::new(),
    };
    desired.apps.insert(name, app);
    let mut observed = cluster.fleet.snapshot();
    observed.watched_since_ms = cluster.started_ms;
    let outcome = plan(&PlanInput {
        now_ms: cluster.now_ms(),
        started_ms: cluster.started_ms,
        desired: &Arc::new(desired),
        current: &cluster.view().plan,
        memory: &Arc::<Memory>::default(),
        observed: &observed,
        config: &cluster.config.planner,
    });
    let planned = outcome.plan.services.get(&asked);
    let placed = planned.and_then(|service| service.replicas.values().next());
    if let Some(replica) = placed {
        return Ok(replica.node.clone());
    }
    let report = outcome.report.services.get(&asked);
    let waits = report.map(|report| report.waits.as_slice());
    Err(Status::failed_precondition(no_place(
        key,
        waits.unwrap_or_default(),
    )))
}

/// Of an app that there is not.
fn free_name(desired: &longshore_model::Desired) -> Result<AppName, Status> {
    let names = (0..=desired.apps.len()).map(|n| AppName::new(format!("run{n}")));
    for name in names {
        let name = name.map_err(|error| Status::internal(error.to_string()))?;
        if !desired.apps.contains_key(&name) {
            return Ok(name);
        }
    }
    Err(Status::internal("no name is left for a run"))
}

fn no_place(key: &ServiceKey, waits: &[Reason]) -> String {
    let mut words = vec![format!("{key}: no node takes the run")];
    for reason in waits {
        words.push(reason.to_string());
        if let Reason::Unplaceable { refusals, .. } = reason {
            let shown = refusals.iter().take(NODES_SHOWN);
            words.extend(shown.map(|(node, refusal)| format!("{node}: {refusal}")));
        }
    }
    words.join("; ")
}
