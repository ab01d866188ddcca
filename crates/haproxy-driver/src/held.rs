//! Ports that other programs hold.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener};

use longshore_model::ServiceKey;

use crate::compile::refuse;
use crate::intent::Intent;

/// True if another program listens there. HAProxy itself would share its ports with a second
/// one; this does not.
pub(crate) fn is_taken(address: IpAddr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

/// What is said of such a port, with the way out.
pub(crate) const TAKEN: &str =
    "is taken by another program on this host: stop that program, or publish another port";

/// HAProxy is down: services with a port that keeps it from starting, and why.
pub(crate) fn keeps_down(intent: &Intent, address: IpAddr) -> BTreeMap<ServiceKey, String> {
    let mut held = BTreeMap::new();
    for (port, backends) in intent.frontends() {
        if is_taken(address, port) {
            for backend in backends {
                refuse(&mut held, &backend.service, &format!("port {port} {TAKEN}"));
            }
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use longshore_model::routes::{Backend, Routes};

    use super::*;

    #[test]
    fn the_port_and_its_service_are_named() {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let stranger = TcpListener::bind((here, 0)).unwrap();
        let port = stranger.local_addr().unwrap().port();
        let backend: Backend = serde_json::from_value(serde_json::json!({
            "service": "shop/web",
            "route": {"listen_port": port, "container_port": 80},
            "servers": []
        }))
        .unwrap();
        let routes = Routes {
            backends: vec![backend],
            ..Routes::default()
        };
        let (intent, errors) = Intent::compile(&routes, &BTreeSet::new(), 0);
        assert!(errors.is_empty(), "{errors:?}");
        let held = keeps_down(&intent, here);
        let said = &held[&"shop/web".parse().unwrap()];
        assert!(said.starts_with(&format!("port {port} is taken")), "{said}");
        drop(stranger);
        assert!(keeps_down(&intent, here).is_empty());
    }
}
