//! Contents of secrets and configs: in memory as long as the assignment names them, on no disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use longshore_model::Assignment;
use longshore_model::spec::file::ALL_CONTENTS_BYTES_MAX;
use longshore_model::spec::{ContentDigest, FileContents};
use longshore_proto::agent::v1 as pb;
use longshore_wire::contents_from_pb;

use super::SessionParts;
use super::live::SessionError;

/// Takes contents in: the assignment that names them follows.
pub(super) fn take_contents<R>(
    parts: &SessionParts<R>,
    message: pb::Contents,
) -> Result<Option<pb::Refused>, SessionError> {
    let (fence, digest, contents) = contents_from_pb(message)?;
    let Some(sender) = &parts.contents else {
        return Ok(None);
    };
    if sender.borrow().contains_key(&digest) {
        return Ok(None);
    }
    let have = parts.ledger.book().fence;
    let refused = |why: &str| pb::Refused {
        what: format!("contents of term {}", fence.term),
        have: Some(have.into()),
        have_generation: 0,
        why: why.to_owned(),
    };
    if fence < have {
        tracing::warn!(?fence, ?have, "refused contents of an older leader");
        return Ok(Some(refused("a newer leader was obeyed")));
    }
    let held: u64 = sender.borrow().values().map(FileContents::bytes).sum();
    // Those of the last assignment, and those of the next.
    if held.saturating_add(contents.bytes()) > 2 * ALL_CONTENTS_BYTES_MAX {
        tracing::warn!(held, "refused contents: there are too many");
        return Ok(Some(refused("there are too many of them")));
    }
    sender.send_modify(|all| drop(Arc::make_mut(all).insert(digest, contents)));
    Ok(None)
}

/// Only what an assignment names is kept: as its controller assumes.
pub(super) fn forget_others<R>(parts: &SessionParts<R>, assignment: &Assignment) {
    let Some(sender) = &parts.contents else {
        return;
    };
    let files = assignment.templates.values().flat_map(|spec| &spec.files);
    let named: BTreeSet<&ContentDigest> = files.map(|file| &file.digest).collect();
    sender.send_if_modified(|all| {
        let is_other = all.keys().any(|digest| !named.contains(digest));
        if is_other {
            Arc::make_mut(all).retain(|digest, _| named.contains(digest));
        }
        is_other
    });
}
