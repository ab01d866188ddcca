//! `wait`: until something holds.

use super::settle::{Goal, follow, settled};
use super::{Run, certificates};
use crate::cli::{WaitArgs, WaitState};
use crate::failure::{Exit, Failure};
use crate::output::outcome::Waited;
use crate::output::print;

pub(super) async fn wait(run: &Run, args: &WaitArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let services = client.services().await?;
    let is_app = services.iter().any(|s| s.app == args.target)
        && services
            .iter()
            .all(|s| s.name != args.target || s.app == args.target);
    let known = is_app
        || services
            .iter()
            .any(|s| s.key == args.target || s.name == args.target);
    if !known && args.state != WaitState::Deleted {
        return Err(
            Failure::new(format!("there is no app or service {:?}", args.target))
                .hint("controllerctl ls"),
        );
    }
    let (app, names) = match is_app {
        true => (Some(args.target.clone()), Vec::new()),
        false => (None, vec![args.target.clone()]),
    };
    let word = match args.state {
        WaitState::Stable => "stable",
        WaitState::Healthy => "healthy",
        WaitState::Deleted => "deleted",
    };
    let state = args.state;
    let goal = Goal {
        services: names,
        app,
        revision: 0,
        done: Box::new(move |services| match state {
            WaitState::Stable => {
                let stable = |s: &_| settled(s) && !certificates::on_their_way(s);
                !services.is_empty() && services.iter().all(stable)
            }
            WaitState::Healthy => {
                !services.is_empty() && services.iter().all(|s| s.healthy >= s.wanted)
            }
            WaitState::Deleted => services.is_empty(),
        }),
        counts: Vec::new(),
        certificates: None,
        judge: false,
        leaves: false,
        again: format!("controllerctl wait {} --for {word}", args.target),
    };
    let title = format!("Waiting for {} to be {word}", args.target);
    let exit = follow(run, &mut client, &title, &goal, args.timeout).await?;
    let document = Waited {
        target: args.target.clone(),
        state: word,
        done: exit == Exit::Done,
    };
    print(&run.out.document(&document, String::new))?;
    Ok(exit)
}
