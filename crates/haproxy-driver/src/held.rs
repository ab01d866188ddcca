//! Ports that other programs hold.

use std::io::ErrorKind;
use std::net::{IpAddr, TcpListener};

use crate::error::EdgeError;
use crate::intent::Intent;

/// True if another program listens there. HAProxy itself would share its ports with a second
/// one; this does not.
pub(crate) fn is_taken(address: IpAddr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

/// HAProxy is down: which ports that it needs keep it from starting, if any.
pub(crate) fn keeps_down(intent: &Intent, address: IpAddr) -> Option<EdgeError> {
    let frontends = intent.frontends();
    let held: Vec<String> = frontends
        .iter()
        .filter(|(port, _)| is_taken(address, **port))
        .map(|(port, backends)| {
            let services: Vec<String> = backends.iter().map(|b| b.service.to_string()).collect();
            format!("port {port} of {}", services.join(", "))
        })
        .collect();
    (!held.is_empty()).then(|| EdgeError::Held {
        ports: held.join("; "),
    })
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
        let said = keeps_down(&intent, here).unwrap().to_string();
        assert!(said.contains(&format!("port {port} of shop/web")), "{said}");
        drop(stranger);
        assert!(keeps_down(&intent, here).is_none());
    }
}
