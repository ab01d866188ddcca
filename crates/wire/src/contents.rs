//! Contents of secrets and configs on their way to the nodes that run them.

use longshore_model::spec::file::CONFIG_BYTES_MAX;
use longshore_model::spec::{ContentDigest, FileContents};
use longshore_proto::agent::v1 as pb;

use crate::agent::Fence;
use crate::error::{WireError, invalid, required};

/// To the wire.
#[must_use]
pub fn contents_to_pb(
    digest: &ContentDigest,
    contents: &FileContents,
    fence: Fence,
) -> pb::Contents {
    pb::Contents {
        fence: Some(fence.into()),
        digest: digest.to_string(),
        contents: contents.expose().to_vec(),
    }
}

/// From the wire: they are what their digest says.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn contents_from_pb(
    message: pb::Contents,
) -> Result<(Fence, ContentDigest, FileContents), WireError> {
    let fence = required("fence", message.fence)?.into();
    let (digest, contents) = checked_contents(&message.digest, message.contents)?;
    Ok((fence, digest, contents))
}

/// Contents with their digest, from whoever sent them.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn checked_contents(
    digest: &str,
    contents: Vec<u8>,
) -> Result<(ContentDigest, FileContents), WireError> {
    let digest: ContentDigest = digest
        .parse()
        .map_err(|e| invalid("contents.digest", format!("{e}")))?;
    if contents.len() as u64 > CONFIG_BYTES_MAX {
        return Err(invalid("contents", "are longer than 1 MiB"));
    }
    if ContentDigest::of(&contents) != digest {
        let rule = format!("are not those of sha256:{}", digest.short());
        return Err(invalid("contents", rule));
    }
    Ok((digest, FileContents::new(contents)))
}
