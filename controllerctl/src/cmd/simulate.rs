//! `autoscale simulate`: the autoscaler of a file against the recorded load of a service.

use std::collections::BTreeSet;

use longshore_model::{ServiceName, ServiceSpec};
use longshore_proto::control::v1 as pb;
use longshore_wire::service_spec_to_pb;

use super::moment::since_ms;
use super::{Run, app};
use crate::cli::{Format, SimulateArgs};
use crate::failure::{Exit, Failure};
use crate::output::simulated::Simulation;
use crate::output::{note, print};
use crate::text::printable;

pub(super) async fn simulate(run: &Run, args: &SimulateArgs) -> Result<Exit, Failure> {
    let since = args.since.as_deref().map(since_ms).transpose()?;
    let loaded = app::read(run, &args.files)?;
    let name = args.service.rsplit('/').next().unwrap_or_default();
    let found = loaded
        .services
        .iter()
        .find(|(known, _)| known.as_str() == name);
    let Some((_, spec)) = found else {
        let names: Vec<&str> = loaded.services.keys().map(ServiceName::as_str).collect();
        let failure = Failure::new(format!("there is no service {name:?} in that file"));
        return Err(failure.hint(printable(&format!("services: {}", names.join(", ")))));
    };
    let signals = signals(spec);
    if spec.autoscale.is_none() {
        let message =
            format!("{name} has no x-autoscale in that file: there is nothing to simulate");
        return Err(Failure::new(message).hint("controllerctl explain services.x-autoscale"));
    }
    let service = match args.service.contains('/') {
        true => args.service.clone(),
        false => format!("{}/{name}", loaded.app),
    };
    let mut client = run.connect(loaded.context.as_deref()).await?;
    let request = pb::SimulateAutoscaleRequest {
        service,
        spec: Some(service_spec_to_pb(spec)),
        since_ms: since.unwrap_or(0),
    };
    let told = client.simulate_autoscale(request).await?;
    if !told.unrecorded.is_empty() {
        let recorded = printable(&told.recorded.join(", "));
        let missing = printable(&told.unrecorded.join(", "));
        if told.unrecorded.len() >= signals.len() {
            return Err(Failure::new(format!("nothing is recorded of {missing}")).hint(format!(
                "recorded of it: {recorded}; the nodes' CPU and Prometheus are recorded while an \
                 x-autoscale that runs asks for them"
            )));
        }
        note(&format!(
            "! nothing is recorded of {missing}, so the others decide alone; recorded: {recorded}"
        ));
    }
    let as_it_was = ["node_cpu", "latency", "errors"];
    let undivided: Vec<&str> = as_it_was
        .into_iter()
        .filter(|s| signals.contains(*s))
        .collect();
    if !undivided.is_empty() {
        note(&format!(
            "! {} would have been another with another count; nobody knows which, so it is replayed \
             as it was",
            undivided.join(", ")
        ));
    }
    let simulation = Simulation::from(&told);
    let (chart, wide) = (run.out.terminal, run.out.format == Format::Wide);
    print(&match run.out.format {
        Format::Name => printable(&simulation.service) + "\n",
        _ => run
            .out
            .document(&simulation, || simulation.text(chart, wide)),
    })?;
    Ok(Exit::Done)
}

fn signals(spec: &ServiceSpec) -> BTreeSet<String> {
    let policies = spec.autoscale.iter();
    let signals = policies.flat_map(|policy| {
        let targets = policy.metrics.iter().map(|metric| &metric.signal);
        targets.chain(policy.steps.iter().map(|rule| &rule.signal))
    });
    signals.map(ToString::to_string).collect()
}
