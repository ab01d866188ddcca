//! `deploy`: how many, where, and how one revision follows another.

use longshore_model::AutoscaleSpec;
use longshore_model::spec::{ContainerSpec, ModeFault, PlacementSpec, ServiceMode, UpdateSpec};

use super::super::problem::Problems;
use super::item::Item;
use super::{engine, job, keys, limits, placement, update};

/// Most replicas that a file may ask for: what the controller takes.
pub(super) const REPLICAS_MAX: u32 = AutoscaleSpec::REPLICAS_MAX;

/// `deploy` without the resources, which go into the container.
#[derive(Debug, Default)]
pub(super) struct Deploy {
    pub(super) mode: ServiceMode,
    pub(super) replicas: Option<u32>,
    pub(super) placement: PlacementSpec,
    pub(super) update: UpdateSpec,
    pub(super) rollback: Option<UpdateSpec>,
    /// Times that a job is started at most, where `restart_policy` is there.
    pub(super) tries: Option<u32>,
}

pub(super) fn read(
    item: Option<Item<'_>>,
    spec: &mut ContainerSpec,
    is_job: bool,
    p: &mut Problems,
) -> Deploy {
    let mut deploy = Deploy::default();
    let Some(mut fields) = item.and_then(|item| item.fields(p)) else {
        return deploy;
    };
    deploy.mode = fields
        .take("mode")
        .and_then(|i| mode(&i, p))
        .unwrap_or_default();
    if let Some(i) = fields.take("replicas") {
        deploy.replicas = i.number(p, 0, REPLICAS_MAX);
        refuse(&i, deploy.mode, ModeFault::Replicas, p);
    }
    if let Some(i) = fields.take("resources") {
        resources(&i, spec, p);
    }
    if let Some(i) = fields.take("placement") {
        deploy.placement = placement::read(&i, p).unwrap_or_default();
        if deploy.placement.max_per_node > 0 {
            let most = i.at("max_replicas_per_node");
            refuse(&most, deploy.mode, ModeFault::MaxPerNode, p);
        }
    }
    if let Some(i) = fields.take("update_config") {
        deploy.update = update::update(&i, p).unwrap_or_default();
    }
    deploy.rollback = fields
        .take("rollback_config")
        .and_then(|i| update::rollback(&i, p));
    if let Some(i) = fields.take("restart_policy") {
        deploy.tries = update::restart_policy(&i, is_job, p);
    }
    if let Some(i) = fields.take("labels")
        && !i.pairs(p).is_empty()
    {
        engine::ignored(
            &i,
            p,
            "nothing reads labels of a service; `labels` beside image is kept",
        );
    }
    if let Some(i) = fields.take("endpoint_mode")
        && i.choice(p, &[("vip", true), ("dnsrr", false)]) == Some(false)
    {
        i.unsupported(p, "every service is balanced by HAProxy, which is vip");
    }
    fields.finish(p, keys::DEPLOY);
    deploy
}

fn mode(item: &Item<'_>, p: &mut Problems) -> Option<ServiceMode> {
    const JOB: &str = "a job is run once, on one node: write mode: replicated-job";
    let choices = [
        ("replicated", Ok(ServiceMode::Replicated)),
        ("global", Ok(ServiceMode::Global)),
        (job::MODE, Ok(ServiceMode::Replicated)),
        ("global-job", Err(JOB)),
    ];
    match item.choice(p, &choices)? {
        Ok(mode) => Some(mode),
        Err(reason) => {
            item.unsupported(p, reason);
            None
        }
    }
}

/// The key says something about a count, and the mode has none.
pub(super) fn refuse(item: &Item<'_>, mode: ServiceMode, fault: ModeFault, p: &mut Problems) {
    if mode == ServiceMode::Global {
        item.invalid_help(p, fault.message(), fault.help());
    }
}

fn resources(item: &Item<'_>, spec: &mut ContainerSpec, p: &mut Problems) {
    let Some(mut fields) = item.fields(p) else {
        return;
    };
    let mut pids = None;
    let mut side = |name, p: &mut Problems| -> (u64, u64) {
        let item: Option<Item<'_>> = fields.take(name);
        let Some(mut fields) = item.and_then(|i| i.fields(p)) else {
            return (0, 0);
        };
        let cpus = fields
            .take("cpus")
            .and_then(|i| i.cpu_milli(p))
            .unwrap_or(0);
        let memory = fields.take("memory").and_then(|i| i.bytes(p)).unwrap_or(0);
        if name == "limits" {
            pids = fields.take("pids").and_then(|i| limits::pids(&i, p));
        }
        fields.finish(p, keys::RESOURCES);
        (cpus, memory)
    };
    let r = &mut spec.resources;
    (r.cpu_limit_milli, r.memory_limit_bytes) = side("limits", p);
    (r.cpu_reserved_milli, r.memory_reserved_bytes) = side("reservations", p);
    spec.engine.pids_max = pids.unwrap_or(0);
    fields.finish(p, &[]);
    let over = |reserved, limit| limit > 0 && reserved > limit;
    if over(r.cpu_reserved_milli, r.cpu_limit_milli) {
        item.invalid(p, "reservations.cpus is above limits.cpus");
    }
    if over(r.memory_reserved_bytes, r.memory_limit_bytes) {
        item.invalid(p, "reservations.memory is above limits.memory");
    }
}
