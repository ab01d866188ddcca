//! Apps: what a file would change, changing it, taking it down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_model::names::numbered;
use longshore_model::plan::Traffic;
use longshore_model::route::RouteSpec;
use longshore_model::{
    App, AppName, Desired, Event, EventKind, ServiceKey, ServiceName, ServiceSpec, SharedMap,
    depends, networks,
};
use longshore_proto::control::v1 as pb;
use longshore_wire::service_spec_from_pb;
use tonic::Status;

use super::forecast::{self, Forecast};
use super::lists::is_shut_out;
use super::parts::Part;
use super::{beforehand, external, files, find, images, jobs, secrets};
use crate::cluster::Cluster;
use crate::config::Policy;
use crate::grpc::Refusal;

/// Most replicas of one service.
pub(super) const REPLICAS_MAX: u32 = longshore_model::AutoscaleSpec::REPLICAS_MAX;
pub(super) const SERVICES_MAX: usize = 256;
/// Ports of the edges that are not for apps: HAProxy's own page and the controller.
const STATS_PORT: u16 = 8404;

pub(super) type Services = SharedMap<ServiceName, Arc<ServiceSpec>>;

/// Checks everything that can be said without the other apps.
fn read(app: Option<pb::App>, policy: &Policy) -> Result<(AppName, Services), Status> {
    let invalid = |why: String| Status::invalid_argument(why);
    let app = app.ok_or_else(|| invalid("the app is missing".into()))?;
    let name = AppName::new(app.name).map_err(|error| invalid(error.to_string()))?;
    if app.services.is_empty() {
        return Err(invalid(format!(
            "app {name} has no services; to remove it: controllerctl down {name}"
        )));
    }
    if app.services.len() > SERVICES_MAX {
        return Err(invalid(format!(
            "app {name}: at most {SERVICES_MAX} services are allowed"
        )));
    }
    let mut services = Services::new();
    for (service, spec) in app.services {
        let service = ServiceName::new(service).map_err(|error| invalid(error.to_string()))?;
        let spec = service_spec_from_pb(spec)
            .map_err(|error| invalid(format!("{name}/{service}: {}", crate::chain(&error))))?;
        check(&spec, policy).map_err(|status| {
            Status::new(
                status.code(),
                format!("{name}/{service}: {}", status.message()),
            )
        })?;
        services.insert(service, Arc::new(spec));
    }
    Ok((name, services))
}

/// Each name leads to one service of the app, and no two wait for each other.
fn check_neighbours(name: &AppName, services: &Services) -> Result<(), Status> {
    jobs::check(name, services)?;
    let names = networks::faults(services).into_iter().next();
    let waits = depends::faults(services).into_iter().next();
    let fault = names.map(|fault| fault.to_string());
    match fault.or_else(|| waits.map(|fault| fault.to_string())) {
        None => Ok(()),
        Some(fault) => Err(Status::invalid_argument(format!("{name}/{fault}"))),
    }
}

fn check(spec: &ServiceSpec, policy: &Policy) -> Result<(), Status> {
    let invalid = |why: String| Err(Status::invalid_argument(why));
    let most = spec
        .autoscale
        .as_ref()
        .map_or(0, |scaling| scaling.max)
        .max(spec.replicas);
    if most > REPLICAS_MAX {
        return invalid(format!(
            "{most} replicas; at most {REPLICAS_MAX} are allowed"
        ));
    }
    let scales = spec
        .autoscale
        .as_ref()
        .is_some_and(|scaling| scaling.max > 1);
    if let Some(volume) = spec.container.local_volumes().next().filter(|_| scales) {
        return invalid(format!(
            "volume {volume} is on one node, where all replicas would run; say x-shared: true of \
             the volume if its data is the same on every node, give it driver_opts of type nfs, or \
             max: 1 in x-autoscale"
        ));
    }
    // The client checks the same with positions; this one may be anything.
    let routed = !spec.routes.is_empty();
    let faults = spec.autoscale.as_ref();
    let faults = faults.map(|scaling| scaling.faults(&spec.container.resources, routed));
    if let Some(error) = faults.unwrap_or_default().first() {
        let help = error.fault.help();
        let help = help.map_or_else(String::new, |help| format!("; {help}"));
        return invalid(format!("{error}{help}"));
    }
    if let Some(label) = spec
        .container
        .labels
        .keys()
        .find(|key| key.starts_with("longshore."))
    {
        return invalid(format!(
            "label {label:?}: longshore.* is kept for the system; choose another prefix"
        ));
    }
    for route in &spec.routes {
        if !spec.container.ports.contains(&route.container_port) {
            return invalid(format!(
                "the route on port {} leads to container port {}, which is not published",
                route.listen_port, route.container_port
            ));
        }
    }
    match policy.refusal(spec) {
        None => Ok(()),
        Some((option, key)) if key.is_empty() => Err(Status::failed_precondition(format!(
            "{option} is allowed by no policy; remove it"
        ))),
        Some((option, key)) => Err(Status::failed_precondition(format!(
            "{option} gives a container power over its node and is not allowed here; remove it, \
             or set `{key}` under [policy] in controller.toml (each node's own policy decides \
             again)"
        ))),
    }
}

/// Two services share a port of the edges by host name and path, or not at all.
fn check_ports(
    cluster: &Cluster,
    desired: &Desired,
    name: &AppName,
    services: &Services,
) -> Result<(), Status> {
    let mut taken: Vec<(ServiceKey, RouteSpec)> = Vec::new();
    for (key, app, spec) in desired.services() {
        if app.name != *name {
            taken.extend(spec.routes.iter().map(|route| (key.clone(), route.clone())));
        }
    }
    for (service, spec) in services {
        let key = ServiceKey::new(name.clone(), service.clone());
        let before = desired
            .apps
            .get(name)
            .and_then(|app| app.services.get(service));
        if let Some(before) = before {
            check_speech(cluster, &key, before, spec)?;
        }
        for route in &spec.routes {
            let port = route.listen_port;
            if port == STATS_PORT || port == cluster.port {
                return Err(Status::already_exists(format!(
                    "{key}: port {port} of the edges is kept for the system; choose another"
                )));
            }
            let clash = taken
                .iter()
                .find_map(|(other, taken)| Some((other, route.clash(taken)?)));
            if let Some((other, clash)) = clash {
                return Err(Status::already_exists(format!(
                    "{key}: port {port} of the edges is taken by {other} ({clash}); choose another \
                     published port, share it by x-haproxy.domains or x-haproxy.path, or take that \
                     down: controllerctl down {}",
                    other.app
                )));
            }
            taken.push((key.clone(), route.clone()));
        }
    }
    Ok(())
}

/// What HAProxy speaks to replicas is one setting for all of them, so a change of it would cut off
/// those that serve before one new replica does.
fn check_speech(
    cluster: &Cluster,
    key: &ServiceKey,
    before: &ServiceSpec,
    after: &ServiceSpec,
) -> Result<(), Status> {
    let speech = |route: &RouteSpec| (route.proxy_protocol, route.http2);
    let changed = after.routes.iter().find(|new| {
        let mut same = before.routes.iter();
        same.any(|old| old.container_port == new.container_port && speech(old) != speech(new))
    });
    let Some(route) = changed else { return Ok(()) };
    let observed = cluster.fleet.snapshot();
    let view = cluster.view();
    let mut serving = view.plan.replicas_of(key);
    let is_reached = serving.any(|replica| {
        replica.traffic == Traffic::Serve && !is_shut_out(key, replica.id, &observed)
    });
    if !is_reached {
        return Ok(());
    }
    Err(Status::failed_precondition(format!(
        "{key}: proxy_protocol or http2 of container port {} changes while replicas serve there: \
         they would be cut off at once, since HAProxy speaks one way to all of them; let the app \
         listen for it on another container port, or deploy it as another service and take this one \
         down then",
        route.container_port
    )))
}

/// What an apply would do.
pub(super) fn plan_app(
    cluster: &Cluster,
    request: pb::PlanAppRequest,
) -> Result<pb::PlanAppResponse, Status> {
    let (name, services) = read(request.app, &cluster.config.policy)?;
    let part = Part::read(request.partial, request.recreate, &name, &services)?;
    let sent = secrets::read(request.secrets, &name, &services, false)?;
    let desired = cluster.desired();
    let none = Services::new();
    let app = desired.apps.get(&name);
    let before = app.map_or(&none, |app| &app.services);
    let services = whole(cluster, &part, &name, services, before)?;
    check_neighbours(&name, &services)?;
    check_ports(cluster, &desired, &name, &services)?;
    numbers(cluster, &desired, &name, &services)?;
    let (runs, mut warnings) =
        beforehand::as_it_runs(&cluster.view().plan, &desired, &name, &services);
    let before = runs.apps.get(&name);
    let mut forecast = forecast::forecast(cluster, &runs, &name, &services, |_| true);
    let still = |service: &ServiceName| forecast.stands_still(service);
    warnings.append(&mut beforehand::warnings(
        cluster, &name, &services, before, still,
    ));
    let before = before.map_or(&none, |app| &app.services);
    let changes = changes(before, &services, &part, &mut forecast);
    warnings.append(&mut forecast.copies);
    let secrets = secrets::next(cluster, &name, &services, &sent)?.said;
    Ok(pb::PlanAppResponse {
        secrets,
        revision: app.map_or(0, |app| app.revision),
        changes,
        warnings,
        placement: Some(forecast.placement),
    })
}

/// Service by service.
fn changes(
    before: &Services,
    services: &Services,
    part: &Part,
    forecast: &mut Forecast,
) -> Vec<pb::Change> {
    let wanted = services.iter().map(|(name, spec)| match before.get(name) {
        None => ("add", name, forecast::described(spec)),
        Some(old) if old == spec => ("same", name, Vec::new()),
        Some(old) => ("change", name, part.differences(name, old, spec)),
    });
    let gone = before.keys().filter(|name| !services.contains_key(*name));
    let gone = gone.map(|name| ("remove", name, Vec::new()));
    let change = |(action, service, details): (&str, &ServiceName, Vec<String>)| pb::Change {
        action: action.into(),
        service: service.to_string(),
        details,
        forecast: forecast.take(service),
    };
    wanted.chain(gone).map(change).collect()
}

/// All services of the app as they shall be: with what is kept of those that are there, images as
/// they are now, and the runs of jobs.
fn whole(
    cluster: &Cluster,
    part: &Part,
    name: &AppName,
    sent: Services,
    before: &Services,
) -> Result<Services, Status> {
    let at_ms = cluster.now_ms();
    let sent = images::pinned(cluster, keep_restarts(sent, before));
    // What is not asked for stays as it runs, with what its secrets held then.
    let sent = external::pinned(cluster, name, sent)?;
    let services = part.whole(name, sent, before, at_ms)?;
    Ok(jobs::with_tries(&cluster.view(), name, services, at_ms))
}

/// A restart that somebody asked for is no part of a file, so the next file does not undo it.
fn keep_restarts(mut services: Services, before: &Services) -> Services {
    for (name, old) in before {
        let restarted_ms = old.container.restarted_ms;
        if restarted_ms > 0
            && let Some(spec) = services.get_mut(name)
        {
            Arc::make_mut(spec).container.restarted_ms = restarted_ms;
        }
    }
    services
}

/// Checks an app of earlier days as if it were applied now.
pub(super) fn check_again(cluster: &Cluster, desired: &Desired, app: &App) -> Result<(), Status> {
    for (service, spec) in &app.services {
        check(spec, &cluster.config.policy).map_err(|status| {
            let key = ServiceKey::new(app.name.clone(), service.clone());
            Status::new(status.code(), format!("{key}: {}", status.message()))
        })?;
    }
    check_neighbours(&app.name, &app.services)?;
    secrets::check_present(cluster, &app.name, &app.services)?;
    files::check_present(cluster, &app.name, &app.services)?;
    images::check_present(cluster, &app.name, &app.services)?;
    check_ports(cluster, desired, &app.name, &app.services)
}

/// Numbers of the services' addresses, beside those of other apps and of what is on its way out.
fn numbers(
    cluster: &Cluster,
    desired: &Desired,
    name: &AppName,
    services: &Services,
) -> Result<BTreeMap<ServiceName, u16>, Status> {
    let known = desired.apps.get(name).map(|app| &app.numbers);
    let others = desired.apps.values().filter(|app| app.name != *name);
    let mut taken: BTreeSet<u16> = cluster.names(|directory| directory.numbers().collect());
    taken.extend(others.flat_map(|app| app.numbers.values().copied()));
    let known = known.cloned().unwrap_or_default();
    numbered(&known, services.keys(), &taken)
        .map_err(|full| Status::resource_exhausted(format!("app {name}: {full}")))
}

/// Applies an app; the same content again changes nothing.
pub(super) fn apply_app(
    cluster: &Cluster,
    request: pb::ApplyAppRequest,
    by: &str,
) -> Result<pb::ApplyAppResponse, Refusal> {
    let (name, services) = read(request.app, &cluster.config.policy).map_err(Refusal)?;
    let part = Part::read(request.partial, request.recreate, &name, &services).map_err(Refusal)?;
    let sent = secrets::read(request.secrets, &name, &services, true).map_err(Refusal)?;
    let brought = files::read(request.files, &name, &services).map_err(Refusal)?;
    let at_ms = cluster.now_ms();
    cluster.change(|ledger, desired| {
        let present = desired.apps.get(&name);
        let revision = present.map_or(0, |app| app.revision);
        if let Some(expected) = request.check_revision
            && expected != revision
        {
            return Err(Status::failed_precondition(format!(
                "app {name} is at revision {revision}, not {expected}: somebody else applied it; \
                 look at the difference (controllerctl plan) and apply again"
            ))
            .into());
        }
        let before = &present.map(|app| app.services.clone()).unwrap_or_default();
        let services = whole(cluster, &part, &name, services, before)?;
        check_neighbours(&name, &services)?;
        check_ports(cluster, desired, &name, &services)?;
        let next = secrets::next(cluster, &name, &services, &sent)?;
        let contents = files::next(cluster, &name, &services, &brought)?;
        let mut renewed = next.events(cluster, &name, &services, by);
        let numbers = numbers(cluster, desired, &name, &services)?;
        let same = |app: &App| app.services == services && app.numbers == numbers;
        if present.is_some_and(same) {
            let repository = &mut ledger.repository;
            let stored = repository.apply_app(None, &next.changes, &contents, &renewed)?;
            next.publish(cluster, desired, by);
            files::publish(cluster, &contents);
            let secrets = next.said;
            let answer = pb::ApplyAppResponse {
                revision,
                changed: false,
                secrets,
            };
            return Ok((answer, stored));
        }
        let revision = revision + 1;
        let app = App {
            name: name.clone(),
            revision,
            services,
            applied_ms: at_ms,
            applied_by: by.into(),
            numbers,
        };
        let kind = EventKind::AppApplied {
            app: name.clone(),
            revision,
            by: by.into(),
        };
        renewed.push(Event { at_ms, kind });
        let events = ledger
            .repository
            .apply_app(Some(&app), &next.changes, &contents, &renewed)?;
        next.publish(cluster, desired, by);
        files::publish(cluster, &contents);
        desired.apps.insert(name, app);
        Ok((
            pb::ApplyAppResponse {
                revision,
                changed: true,
                secrets: next.said,
            },
            events,
        ))
    })
}

/// Takes an app down.
pub(super) fn down_app(
    cluster: &Cluster,
    word: &str,
    by: &str,
) -> Result<pb::DownAppResponse, Refusal> {
    let at_ms = cluster.now_ms();
    cluster.change(|ledger, desired| {
        let name = find::app(desired, word)?;
        let plan = &cluster.view().plan;
        let replicas = plan.replicas().filter(|r| r.service.app == name).count();
        let spoken = desired.manual.keys().chain(desired.autoscale.keys());
        let spoken = spoken.chain(desired.aside.keys());
        let spoken: BTreeSet<ServiceKey> = spoken.filter(|key| key.app == name).cloned().collect();
        let spoken: Vec<ServiceKey> = spoken.into_iter().collect();
        let kind = EventKind::AppDown {
            app: name.clone(),
            by: by.into(),
        };
        let events = ledger
            .repository
            .remove_app(&name, &spoken, &[Event { at_ms, kind }])?;
        secrets::forget(cluster, desired, &name);
        files::forget(cluster, &name);
        desired.apps.remove(&name);
        desired.manual.retain(|key, _| key.app != name);
        desired.rollout.retain(|key, _| key.app != name);
        desired.autoscale.retain(|key, _| key.app != name);
        desired.aside.retain(|key, _| key.app != name);
        let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
        Ok((pb::DownAppResponse { replicas }, events))
    })
}
