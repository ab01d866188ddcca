//! `scale`: counts set by a person.

use longshore_proto::control::v1 as pb;

use super::rollout::{Goal, follow, ready};
use super::{Run, millis};
use crate::cli::ScaleArgs;
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::text::printable;

pub(super) async fn scale(run: &Run, args: &ScaleArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let to_zero: Vec<&str> = args
        .counts
        .iter()
        .filter(|(_, n)| *n == 0)
        .map(|(s, _)| s.as_str())
        .collect();
    if !to_zero.is_empty() {
        // The command says all else by itself; nothing left is worth a question.
        let question = format!("Scale {} to nothing?", to_zero.join(", "));
        run.confirm(&question, &client.context)?;
    }
    let mut wanted: Vec<(String, u32)> = Vec::new();
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
        wanted.push((answer.service, answer.to));
    }
    if args.detach {
        return Ok(Exit::Done);
    }
    let names: Vec<String> = wanted.iter().map(|(service, _)| service.clone()).collect();
    let title = format!("Scaling {}", names.join(", "));
    let again = format!("controllerctl ls, controllerctl why {}", names[0]);
    let goal = Goal {
        services: names,
        app: None,
        revision: 0,
        done: Box::new(move |services| {
            wanted.iter().all(|(key, count)| {
                let service = services.iter().find(|s| s.key == *key || s.name == *key);
                service.is_some_and(|s| ready(s) == *count && s.leaving == 0)
            })
        }),
        judge: true,
        again,
    };
    follow(run, &mut client, &title, &goal, args.wait_timeout).await
}
