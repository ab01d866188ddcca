//! `stats`: what replicas use.

use longshore_proto::control::v1 as pb;

use super::Run;
use crate::cli::StatsArgs;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::now_ms;
use crate::output::usage::Usage;

pub(super) async fn stats(run: &Run, args: &StatsArgs) -> Result<Exit, Failure> {
    // One document is printed once.
    let once = args.no_stream || run.out.prints_one_document();
    run.watch(!once, async |client: &mut Client| {
        let request = pb::ListReplicasRequest {
            services: services(&args.targets),
        };
        let mut replicas = client.replicas(request).await?.replicas;
        if !args.targets.is_empty() {
            replicas.retain(|r| args.targets.iter().any(|target| is_meant(r, target)));
        }
        let rows: Vec<_> = replicas.iter().map(Usage).collect();
        Ok(run.out.list(&rows, now_ms()))
    })
    .await
}

/// The services that targets name: `web` of `web.3`.
fn services(targets: &[String]) -> Vec<String> {
    let mut services: Vec<String> = targets.iter().map(|t| service_of(t).to_owned()).collect();
    services.sort();
    services.dedup();
    services
}

fn service_of(target: &str) -> &str {
    match target.rsplit_once('.') {
        Some((service, slot)) if slot.parse::<u32>().is_ok() => service,
        _ => target,
    }
}

fn is_meant(replica: &pb::Replica, target: &str) -> bool {
    let name = replica.service.rsplit('/').next().unwrap_or_default();
    let full = format!("{}.{}", replica.service, replica.slot);
    [name, &replica.service, &replica.name, &full].contains(&target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_and_services_are_told_apart() {
        let all = ["web.3", "shop/web", "web", "web.x"].map(str::to_owned);
        assert_eq!(services(&all), ["shop/web", "web", "web.x"]);
        let replica = pb::Replica {
            service: "shop/web".into(),
            slot: 3,
            name: "web.3".into(),
            ..pb::Replica::default()
        };
        for target in ["web", "shop/web", "web.3", "shop/web.3"] {
            assert!(is_meant(&replica, target), "{target}");
        }
        assert!(!is_meant(&replica, "web.2") && !is_meant(&replica, "shop"));
    }
}
