//! Which older revision `undo` goes back to.

use std::sync::Arc;

use longshore_model::ServiceKey;
use longshore_model::spec::ServiceSpec;
use tonic::Status;

use crate::store::{RevisionOutcome, RevisionRecord};

/// Failed revisions named in a refusal.
const NAMED_MAX: usize = 3;

/// The newest kept revision before the present one at which the service was something else that is
/// not known to have failed, or the one asked for.
pub(super) fn older<'r>(
    records: &'r [RevisionRecord],
    key: &ServiceKey,
    now: &Arc<ServiceSpec>,
    to_revision: Option<u64>,
) -> Result<(u64, &'r Arc<ServiceSpec>), Status> {
    let mut of_service = records.iter().rev().filter_map(|record| {
        let spec = record.app.services.get(&key.service)?;
        Some((record.app.revision, spec))
    });
    let Some(revision) = to_revision else {
        return newest(records, key, now);
    };
    let history = format!("see: controllerctl rollout history {key}");
    let found = of_service.find(|(number, _)| *number == revision);
    let found = found.ok_or_else(|| {
        Status::not_found(format!("{key}: revision {revision} is not kept; {history}"))
    })?;
    match found.1 == now {
        true => Err(Status::failed_precondition(format!(
            "{key} is already what it was at revision {revision}; {history}"
        ))),
        false => Ok(found),
    }
}

/// A spec that a service had, the newest revision with it, and the last word on it.
struct Past<'r> {
    revision: u64,
    spec: &'r Arc<ServiceSpec>,
    /// How it failed; none: it is not known to have.
    failed: Option<&'r RevisionOutcome>,
}

fn newest<'r>(
    records: &'r [RevisionRecord],
    key: &ServiceKey,
    now: &Arc<ServiceSpec>,
) -> Result<(u64, &'r Arc<ServiceSpec>), Status> {
    // A revision that changed other services only says nothing of its own about this one: what is
    // known of a spec goes for every revision that has it.
    let mut past: Vec<Past<'r>> = Vec::new();
    for record in records {
        let Some(spec) = record.app.services.get(&key.service) else {
            continue;
        };
        let before = past.iter().position(|past| past.spec == spec);
        let before = before.map(|at| past.remove(at));
        let outcome = record.outcomes.get(&key.service);
        past.push(Past {
            revision: record.app.revision,
            spec,
            failed: match outcome {
                Some(outcome) => outcome.failed().then_some(outcome),
                None => before.and_then(|before| before.failed),
            },
        });
    }
    past.retain(|past| past.spec != now);
    if let Some(past) = past.iter().rev().find(|past| past.failed.is_none()) {
        return Ok((past.revision, past.spec));
    }
    Err(Status::failed_precondition(match past.last() {
        None => {
            format!("{key}: no kept revision has another spec, so there is nothing to go back to")
        }
        Some(last) => format!(
            "{key}: every kept revision with another spec is known to have failed ({}); to go to \
             one all the same, name it: controllerctl rollout undo {key} --to-revision {}",
            named(&past),
            last.revision
        ),
    }))
}

/// `revision 3: rolled back, exit code 1; revision 2: paused, …`
fn named(past: &[Past<'_>]) -> String {
    let newest = past.iter().rev().take(NAMED_MAX);
    let mut named: Vec<String> = newest
        .map(|past| {
            let (state, why) = past.failed.map_or(("", ""), |o| (&o.state, &o.why));
            let state = state.replace('_', " ");
            match why {
                "" => format!("revision {}: {state}", past.revision),
                why => format!("revision {}: {state}, {why}", past.revision),
            }
        })
        .collect();
    let more = past.len().saturating_sub(named.len());
    if more > 0 {
        named.push(format!("{more} more"));
    }
    named.join("; ")
}

#[cfg(test)]
mod tests {
    use longshore_model::App;

    use super::*;
    use crate::store::Origin;
    use crate::testing::service_spec;

    fn spec(image: &str) -> Arc<ServiceSpec> {
        let mut spec = service_spec();
        spec.container.image = image.into();
        Arc::new(spec)
    }

    fn record(revision: u64, image: &str, state: &str, why: &str) -> RevisionRecord {
        let outcome = RevisionOutcome {
            state: state.into(),
            at_ms: 1,
            why: why.into(),
        };
        let web = || "web".parse().unwrap();
        RevisionRecord {
            app: App {
                name: "shop".parse().unwrap(),
                revision,
                applied_ms: 1,
                applied_by: "ana".into(),
                numbers: Default::default(),
                services: [(web(), spec(image))].into(),
            },
            origin: Origin::Applied,
            outcomes: (!state.is_empty())
                .then(|| (web(), outcome))
                .into_iter()
                .collect(),
        }
    }

    fn back(records: &[RevisionRecord], now: &str) -> Result<u64, String> {
        let key = "shop/web".parse().unwrap();
        match older(records, &key, &spec(now), None) {
            Ok((revision, _)) => Ok(revision),
            Err(status) => Err(status.message().to_owned()),
        }
    }

    #[test]
    fn undo_passes_over_what_is_known_to_have_failed() {
        let mut records = vec![
            record(1, "a", "finished", ""),
            record(2, "b", "rolled_back", "exit code 1"),
            // Another service changed.
            record(3, "b", "", ""),
            record(4, "c", "superseded", "exit code 2"),
            record(5, "d", "rolled_back", "exit code 3"),
        ];
        assert_eq!(back(&records, "d"), Ok(1), "the present one failed as well");
        records.push(record(6, "a", "finished", ""));
        let refused = back(&records, "a").unwrap_err();
        assert_eq!(
            refused,
            "shop/web: every kept revision with another spec is known to have failed (revision 5: \
             rolled back, exit code 3; revision 4: superseded, exit code 2; revision 3: rolled \
             back, exit code 1); to go to one all the same, name it: controllerctl rollout undo \
             shop/web --to-revision 5"
        );
        // It was tried again, and worked.
        records.insert(5, record(6, "b", "finished", ""));
        records[6].app.revision = 7;
        assert_eq!(back(&records, "a"), Ok(6));
    }

    #[test]
    fn undo_goes_to_what_was_never_judged() {
        let records = [
            record(1, "a", "", ""),
            record(2, "b", "superseded", ""),
            record(3, "c", "finished", ""),
        ];
        assert_eq!(back(&records, "c"), Ok(2));
        let refused = back(&records[2..], "c").unwrap_err();
        assert!(refused.contains("nothing to go back to"), "{refused}");
    }
}
