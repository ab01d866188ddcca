//! `scale`: counts set by a person.

use std::time::Duration;

use longshore_proto::control::v1 as pb;

use super::settle::{Goal, follow, ready};
use super::{Run, asked, millis};
use crate::cli::ScaleArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::outcome::{Count, Scaled};
use crate::output::{note, print};
use crate::text::printable;

pub(super) async fn scale(run: &Run, args: &ScaleArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let to_zero: Vec<&str> = args
        .counts
        .iter()
        .filter(|(_, n)| *n == 0)
        .map(|(s, _)| s.as_str())
        .collect();
    let mut plan = Vec::new();
    if !to_zero.is_empty() {
        // The command says all else by itself; nothing left is worth a question.
        plan = asked::show(&mut client, args.request()).await?;
        let question = format!("Scale {} to nothing?", to_zero.join(", "));
        run.confirm(&question, &client.context)?;
    }
    let mut scaled: Vec<Count> = Vec::new();
    for (service, count) in &args.counts {
        let request = pb::ScaleRequest {
            service: service.clone(),
            count: *count,
            hold_ms: args.hold.map_or(0, millis),
        };
        let answer = client.scale(request).await?;
        note(&printable(&format!(
            "{}: {} -> {}",
            answer.service, answer.from, answer.to
        )));
        if answer.to != *count {
            note(&printable(&format!(
                "{}: {count} is outside of its bounds",
                answer.service
            )));
        }
        scaled.push(Count {
            service: answer.service,
            from: answer.from,
            to: answer.to,
            asked: (answer.to != *count).then_some(*count),
        });
    }
    let exit = match args.detach {
        true => Exit::Done,
        false => serving(run, &mut client, &scaled, args.wait_timeout).await?,
    };
    let document = Scaled {
        services: scaled,
        plan,
        done: !args.detach && exit == Exit::Done,
    };
    print(&run.out.document(&document, String::new))?;
    Ok(exit)
}

impl ScaleArgs {
    /// What is asked of the planner beforehand.
    fn request(&self) -> pb::PlanServicesRequest {
        let count = |(service, count): &(String, u32)| pb::ServiceCount {
            service: service.clone(),
            count: *count,
            hold_ms: self.hold.map_or(0, millis),
        };
        pb::PlanServicesRequest {
            counts: self.counts.iter().map(count).collect(),
            restart: Vec::new(),
        }
    }
}

/// Follows services until each has its count.
async fn serving(
    run: &Run,
    client: &mut Client,
    scaled: &[Count],
    timeout: Duration,
) -> Result<Exit, Failure> {
    let wanted: Vec<(String, u32)> = scaled.iter().map(|c| (c.service.clone(), c.to)).collect();
    let names: Vec<String> = wanted.iter().map(|(service, _)| service.clone()).collect();
    let counts = wanted.clone();
    let title = format!("Scaling {}", names.join(", "));
    let again = format!("controllerctl ls, controllerctl why {}", names[0]);
    let goal = Goal {
        services: names,
        app: None,
        revision: 0,
        done: Box::new(move |services| {
            wanted.iter().all(|(key, count)| {
                let service = services.iter().find(|s| s.key == *key || s.name == *key);
                service.is_some_and(|s| s.wanted == *count && ready(s) == *count && s.leaving == 0)
            })
        }),
        counts,
        certificates: None,
        judge: true,
        leaves: false,
        again,
    };
    follow(run, client, &title, &goal, timeout).await
}
