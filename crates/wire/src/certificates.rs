//! Certificates on their way to edges.

use std::collections::BTreeMap;

use longshore_model::secret::{PEM_BYTES_MAX, SECRETS_ALL_MAX};
use longshore_model::{SecretKey, SecretText};
use longshore_proto::agent::v1 as pb;

use crate::agent::Fence;
use crate::error::{WireError, invalid, list, named, required};

/// To the wire.
#[must_use]
pub fn certificates_to_pb(
    certificates: &BTreeMap<SecretKey, SecretText>,
    fence: Fence,
) -> pb::Certificates {
    let certificate = |(key, pem): (&SecretKey, &SecretText)| pb::Certificate {
        app: key.app.to_string(),
        name: key.name.to_string(),
        pem: pem.expose().to_owned(),
    };
    pb::Certificates {
        fence: Some(fence.into()),
        certificates: certificates.iter().map(certificate).collect(),
    }
}

/// From the wire: names and lengths checked, contents not.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn certificates_from_pb(
    message: pb::Certificates,
) -> Result<(Fence, BTreeMap<SecretKey, SecretText>), WireError> {
    let fence = required("fence", message.fence)?.into();
    let certificate = |certificate: pb::Certificate| {
        let app = certificate.app.parse().map_err(named("certificates.app"))?;
        let name = certificate
            .name
            .parse()
            .map_err(named("certificates.name"))?;
        if certificate.pem.len() > PEM_BYTES_MAX {
            return Err(invalid("certificates.pem", "is too long"));
        }
        let pem = SecretText::new(certificate.pem);
        Ok((SecretKey::new(app, name), pem))
    };
    let certificates = list(
        "certificates",
        SECRETS_ALL_MAX,
        message.certificates,
        certificate,
    )?;
    Ok((fence, certificates.into_iter().collect()))
}
