//! `up --scale`: counts beside what the files say.

use longshore_model::AutoscaleSpec;
use longshore_proto::control::v1 as pb;

use crate::client::Client;
use crate::compose::Loaded;
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::text::printable;

/// Counts that are set once the app is applied, by app/service: a file says only with how many
/// replicas a service begins.
pub(super) type Later = Vec<(String, u32)>;

/// Takes the counts of new services into the app; the others are for later.
///
/// # Errors
/// A service that is not there, or that cannot have that count.
pub(super) fn take(
    loaded: &mut Loaded,
    asked: &[(String, u32)],
    there: &[pb::Service],
) -> Result<Later, Failure> {
    let mut later = Later::new();
    for (at, (name, count)) in asked.iter().enumerate() {
        let usage = |message: String| Failure::new(message).exit(Exit::Usage);
        if asked.iter().skip(at + 1).any(|(other, _)| other == name) {
            return Err(usage(format!("--scale {name} is there twice")));
        }
        let names: Vec<String> = loaded.services.keys().map(ToString::to_string).collect();
        let mut services = loaded.services.iter_mut();
        let Some((_, spec)) = services.find(|(service, _)| service.as_str() == name) else {
            let failure = usage(format!(
                "--scale {name}={count}: the files have no such service"
            ));
            return Err(failure.hint(format!("they have {}", names.join(", "))));
        };
        if spec.is_global() {
            let message = format!(
                "--scale {name}={count}: it has one replica on each node (deploy.mode: global)"
            );
            let help = "constraints say which nodes; to have a count: deploy.mode: replicated";
            return Err(usage(message).hint(help));
        }
        if *count > AutoscaleSpec::REPLICAS_MAX {
            let most = AutoscaleSpec::REPLICAS_MAX;
            return Err(usage(format!("--scale {name}={count}: at most {most}")));
        }
        if let Some(bounds) = &spec.autoscale
            && !(bounds.min..=bounds.max).contains(count)
        {
            let (min, max) = (bounds.min, bounds.max);
            let message =
                format!("--scale {name}={count}: it scales by load between {min} and {max}");
            return Err(usage(message).hint("choose a count within, or change x-autoscale"));
        }
        if *count > 1 && spec.container.hostname.is_some() {
            let message =
                format!("--scale {name}={count}: hostname cannot be the same for all of them");
            return Err(usage(message).hint("drop hostname: each replica has its own name"));
        }
        let key = format!("{}/{name}", loaded.app);
        match there
            .iter()
            .any(|service| service.key == key && service.wanted > 0)
        {
            true => later.push((key, *count)),
            false => spec.replicas = *count,
        }
    }
    Ok(later)
}

/// What `up` shows beside its plan.
pub(super) fn text(later: &Later) -> String {
    let line = |(service, count): &(String, u32)| format!("  * {service}  scaled to {count}\n");
    later
        .iter()
        .map(|count| printable(line(count).trim_end()) + "\n")
        .collect()
}

/// Sets them.
///
/// # Errors
/// The refusal or the failed connection, in words; the app is applied by then.
pub(super) async fn set(client: &mut Client, later: &Later) -> Result<(), Failure> {
    for (service, count) in later {
        let request = pb::ScaleRequest {
            service: service.clone(),
            count: *count,
            hold_ms: 0,
        };
        let answer = client.scale(request).await?;
        let said = format!("{}: {} -> {}", answer.service, answer.from, answer.to);
        note(&printable(&said));
    }
    Ok(())
}
