//! `autoscale` and `approve`: how services scale, and what people tell their autoscalers.

use longshore_model::report::measured;
use longshore_proto::control::v1 as pb;
use pb::set_autoscale_request::Action;

use super::moment::since_ms;
use super::{Run, millis};
use crate::cli::{ApproveArgs, AutoscaleCommand, BoundsArgs, HistoryArgs, PauseArgs};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::explained::Autoscale;
use crate::output::rows::Of;
use crate::output::{note, now_ms, print};
use crate::text::printable;

pub(super) async fn autoscale(run: &Run, command: &AutoscaleCommand) -> Result<Exit, Failure> {
    if let AutoscaleCommand::Approve(args) = command {
        return approve(run, args).await;
    }
    if let AutoscaleCommand::Simulate(args) = command {
        return super::simulate::simulate(run, args).await;
    }
    let mut client = run.connect(None).await?;
    match command {
        AutoscaleCommand::Ls => {
            let states = list(&mut client, Vec::new()).await?;
            let rows: Vec<_> = states.iter().map(Of).collect();
            print(&run.out.list(&rows, now_ms()))?;
        }
        AutoscaleCommand::Show(args) => {
            let states = list(&mut client, vec![args.service.clone()]).await?;
            for state in &states {
                show(run, state)?;
            }
        }
        AutoscaleCommand::History(args) => history(run, &mut client, args).await?,
        AutoscaleCommand::Pause(args) => pause(run, &mut client, args).await?,
        AutoscaleCommand::Resume(args) => {
            let action = Action::Resume(pb::ResumeAutoscale {});
            tell(run, &mut client, &args.service, action).await?;
        }
        AutoscaleCommand::Set(args) => bounds(run, &mut client, args).await?,
        AutoscaleCommand::Approve(_) | AutoscaleCommand::Simulate(_) => {}
    }
    Ok(Exit::Done)
}

/// `controllerctl approve`, the short form.
pub(super) async fn approve(run: &Run, args: &ApproveArgs) -> Result<Exit, Failure> {
    if args.interactive {
        return super::approve::interactive(run, args).await;
    }
    let mut client = run.connect(None).await?;
    say_yes(run, &mut client, args).await?;
    Ok(Exit::Done)
}

async fn list(
    client: &mut Client,
    services: Vec<String>,
) -> Result<Vec<pb::AutoscaleState>, Failure> {
    let request = pb::ListAutoscaleRequest { services };
    Ok(client.list_autoscale(request).await?.services)
}

async fn history(run: &Run, client: &mut Client, args: &HistoryArgs) -> Result<(), Failure> {
    let since_ms = args.since.as_deref().map(since_ms).transpose()?;
    let request = pb::ListDecisionsRequest {
        service: args.service.clone().unwrap_or_default(),
        kind: "scale".into(),
        since_ms: since_ms.unwrap_or(0),
        until_ms: 0,
        // All that there are, where some are left out below.
        limit: if args.changes { 0 } else { args.tail },
    };
    let mut decisions = client.list_decisions(request).await?.decisions;
    if args.changes {
        decisions.retain(|decision| !decision.summary.starts_with("stays"));
        let over = decisions.len().saturating_sub(args.tail as usize);
        decisions.drain(..over);
    }
    let rows: Vec<_> = decisions.iter().map(Of).collect();
    print(&run.out.list(&rows, now_ms()))
}

async fn pause(run: &Run, client: &mut Client, args: &PauseArgs) -> Result<(), Failure> {
    let for_ms = args.length.map_or(0, millis);
    let action = Action::Pause(pb::PauseAutoscale { for_ms });
    tell(run, client, &args.service, action).await
}

async fn bounds(run: &Run, client: &mut Client, args: &BoundsArgs) -> Result<(), Failure> {
    let action = Action::Bounds(pb::SetAutoscaleBounds {
        min: args.min,
        max: args.max,
        clear: args.clear,
    });
    tell(run, client, &args.service, action).await
}

async fn say_yes(run: &Run, client: &mut Client, args: &ApproveArgs) -> Result<(), Failure> {
    let action = Action::Approve(pb::ApproveAutoscale { count: args.count });
    tell(
        run,
        client,
        args.service.as_deref().unwrap_or_default(),
        action,
    )
    .await
}

/// Says it and shows what holds now.
async fn tell(
    run: &Run,
    client: &mut Client,
    service: &str,
    action: Action,
) -> Result<(), Failure> {
    let request = pb::SetAutoscaleRequest {
        service: service.to_owned(),
        action: Some(action),
    };
    match client.set_autoscale(request).await?.state {
        Some(state) => show(run, &state),
        None => {
            note("the service was taken down meanwhile");
            Ok(())
        }
    }
}

fn show(run: &Run, state: &pb::AutoscaleState) -> Result<(), Failure> {
    let view = Autoscale::from(state);
    let text = run.out.document(&view, || {
        let lines = lines(&view);
        lines.iter().map(|line| printable(line) + "\n").collect()
    });
    print(&text)
}

fn lines(view: &Autoscale) -> Vec<String> {
    let mut lines = vec![format!(
        "{} wants {}, bounds {}..{}, mode {}",
        view.service, view.wanted, view.min, view.max, view.mode
    )];
    if (view.min, view.max) != (view.file_min, view.file_max) {
        lines.push(format!(
            "  the file says {}..{}",
            view.file_min, view.file_max
        ));
    }
    for signal in &view.signals {
        let value = signal
            .value
            .map_or_else(|| "-".into(), |v| measured(&signal.signal, v));
        let asks = signal
            .recommendation
            .map_or_else(String::new, |count| format!(" -> {count}"));
        let against = signal.against.clone().unwrap_or_else(|| {
            let target = measured(&signal.signal, signal.target);
            format!("of target {target}")
        });
        lines.push(format!("  {} {value} {against}{asks}", signal.signal));
    }
    let cause = view.cause.iter().map(|cause| format!("  because {cause}"));
    lines.extend(cause);
    lines.extend(view.reasons.iter().map(|reason| format!("  {reason}")));
    let at = |time: &Option<String>| time.clone().unwrap_or_else(|| "-".into());
    if let Some(pause) = &view.paused {
        let until = match &pause.until {
            Some(until) => format!("until {until}"),
            None => "until it is resumed".into(),
        };
        lines.push(format!("  paused by {} {until}", pause.by));
    }
    if let Some(bounds) = &view.bounds {
        lines.push(format!(
            "  bounds set by {} at {}",
            bounds.by,
            at(&bounds.at)
        ));
    }
    if let Some(count) = view.awaits_approval {
        let name = view.service.rsplit('/').next().unwrap_or(&view.service);
        lines.push(format!(
            "  asks for {count}; to agree: controllerctl approve {name}"
        ));
    }
    if let Some(approved) = &view.approved {
        lines.push(format!(
            "  {} approved by {} at {}",
            approved.count,
            approved.by,
            at(&approved.at)
        ));
    }
    if let Some(change) = &view.last_change {
        lines.push(format!("last change: {}  {change}", at(&view.last_changed)));
    }
    lines
}
