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
            services: args.targets.clone(),
        };
        let replicas = client.replicas(request).await?.replicas;
        let rows: Vec<_> = replicas.iter().map(Usage).collect();
        Ok(run.out.list(&rows, now_ms()))
    })
    .await
}
