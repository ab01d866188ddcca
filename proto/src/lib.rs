//! Generated protobuf types and services of Longshore. Nothing here is written by hand but the
//! module tree and what hides secrets; conversions to the model live in `longshore-wire`.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

pub mod spec {
    pub mod v1 {
        tonic::include_proto!("longshore.spec.v1");
    }
}
pub mod agent {
    pub mod v1 {
        tonic::include_proto!("longshore.agent.v1");
    }
}
pub mod control {
    pub mod v1 {
        tonic::include_proto!("longshore.control.v1");
    }
}

pub mod images {
    pub mod v1 {
        tonic::include_proto!("longshore.images.v1");
    }
}

pub mod secrets {
    pub mod v1 {
        tonic::include_proto!("longshore.secrets.v1");
    }
}

pub mod operators {
    pub mod v1 {
        tonic::include_proto!("longshore.operators.v1");
    }
}

include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// Messages with a secret in them show its length only.
mod redacted {
    use std::fmt;

    impl fmt::Debug for super::agent::v1::Certificate {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let (app, name, bytes) = (&self.app, &self.name, self.pem.len());
            write!(f, "Certificate({app}/{name}, {bytes} secret bytes)")
        }
    }

    impl fmt::Debug for super::agent::v1::JoinOperatorRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JoinOperatorRequest(secret withheld)")
        }
    }

    impl fmt::Debug for super::operators::v1::Secret {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Secret(withheld)")
        }
    }

    impl fmt::Debug for super::agent::v1::Contents {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let bytes = self.contents.len();
            write!(f, "Contents(sha256:{}, {bytes} bytes)", self.digest)
        }
    }

    impl fmt::Debug for super::control::v1::FileContents {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let bytes = self.contents.len();
            write!(f, "FileContents(sha256:{}, {bytes} bytes)", self.digest)
        }
    }

    impl fmt::Debug for super::control::v1::BackupResponse {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "BackupResponse({} bytes)", self.data.len())
        }
    }

    impl fmt::Debug for super::images::v1::GetCredentialsResponse {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let (user, bytes) = (&self.user, self.password.len());
            write!(f, "GetCredentialsResponse({user}, {bytes} secret bytes)")
        }
    }

    impl fmt::Debug for super::secrets::v1::PutRegistryRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let (server, user, bytes) = (&self.server, &self.user, self.password.len());
            write!(
                f,
                "PutRegistryRequest({server}, {user}, {bytes} secret bytes)"
            )
        }
    }

    impl fmt::Debug for super::secrets::v1::PutSecretRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(
                f,
                "PutSecretRequest({}, {} bytes)",
                self.name,
                self.contents.len()
            )
        }
    }

    impl fmt::Debug for super::control::v1::Secret {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "Secret({}, {} secret bytes)", self.name, self.pem.len())
        }
    }
}

/// Encoded `FileDescriptorSet` of all of them: for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
