//! Where load may go: this machine and the lab's hosts, nowhere else.

use std::net::{IpAddr, SocketAddr};

/// An address that load may be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target(SocketAddr);

/// The generator does not aim there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No address.
    #[error("{0}: give IP:PORT")]
    Form(String),
    /// An address of somebody else.
    #[error("{0} is neither loopback nor one of the lab's hosts: no load goes there")]
    Foreign(SocketAddr),
}

impl Target {
    /// Checks an address (`IP:PORT`) against loopback and the lab's network (three numbers, such
    /// as `192.168.56`).
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(text: &str, lab_net: &str) -> Result<Self, TargetError> {
        let address: SocketAddr = text
            .parse()
            .map_err(|_| TargetError::Form(text.to_owned()))?;
        let of_lab = match address.ip() {
            IpAddr::V4(ip) => ip.is_private() && ip.to_string().starts_with(&format!("{lab_net}.")),
            IpAddr::V6(_) => false,
        };
        match of_lab || address.ip().is_loopback() {
            true => Ok(Self(address)),
            false => Err(TargetError::Foreign(address)),
        }
    }

    /// The address.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_goes_to_this_machine_and_the_lab_only() {
        for (text, allowed) in [
            ("127.0.0.1:80", true),
            ("[::1]:80", true),
            ("192.168.56.10:8090", true),
            ("192.168.5.6:80", false),
            ("192.168.57.10:80", false),
            ("8.8.8.8:80", false),
            ("example.com:80", false),
        ] {
            let found = Target::parse(text, "192.168.56");
            assert_eq!(found.is_ok(), allowed, "{text}");
        }
        // A lab net cannot make the world's addresses the lab's.
        assert!(Target::parse("8.8.8.8:80", "8.8.8").is_err());
    }
}
