//! Replicas that are followed, in words.

use std::collections::BTreeMap;

use longshore_proto::control::v1 as pb;

use crate::progress::{Reporter, Stage};

/// What became of each replica since it was last said.
pub(super) fn report_replicas(
    reporter: &mut Reporter,
    replicas: &[pb::Replica],
    shown: &mut BTreeMap<u64, String>,
) {
    for replica in replicas {
        let id = format!("{} on {}", replica.name, replica.node);
        // A slot may hold two replicas during a replacement; the number tells them apart.
        let id = format!("{id} (r{})", replica.id);
        let (stage, text) = words(replica);
        reporter.say(&id, Some(&replica.service), stage, &text);
        shown.insert(replica.id, id);
    }
    shown.retain(|number, id| {
        let lasts = replicas.iter().any(|r| r.id == *number);
        if !lasts {
            reporter.say(id, None, Stage::Done, "Removed");
        }
        lasts
    });
}

fn words(replica: &pb::Replica) -> (Stage, String) {
    let leaves = !replica.leaving.is_empty();
    let text = match (replica.state.as_str(), replica.traffic.as_str()) {
        ("gone", _) => return (Stage::Done, "Removed".into()),
        (_, "drain") if leaves => "Draining",
        // Out of the routes, told to stop or about to be: only forward from here.
        _ if leaves => "Stopping",
        ("failed", _) => return (Stage::Error, format!("Failed: {}", replica.reason)),
        ("stopping", _) => "Stopping",
        ("healthy", "serve") => return (Stage::Done, "Serving".into()),
        ("healthy", "down") => "Healthy, but no edge reaches it",
        ("healthy", _) => return (Stage::Done, "Healthy".into()),
        ("completed", _) => return (Stage::Done, "Completed".into()),
        ("assigned", _) => "Waiting",
        ("pulling", _) => "Pulling",
        ("starting", _) => "Starting",
        ("paused", _) => return (Stage::Done, "Warm standby".into()),
        (other, _) => other,
    };
    (Stage::Working, text.to_owned())
}
