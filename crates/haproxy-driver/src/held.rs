//! Ports that other programs hold.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpSocket;
use tokio::time::Instant;

use crate::intent::Intent;

/// So long HAProxy must be gone and a port held before the port is left out of the file. A
/// HAProxy that starts holds its ports for milliseconds before its sockets listen.
const GONE_MS: u64 = 2_000;

/// True if another program listens there. HAProxy itself would share its ports with a second
/// one; this does not. It never listens, so a HAProxy that starts at this moment is not disturbed.
pub(crate) fn is_taken(address: IpAddr, port: u16) -> bool {
    let bound = match address {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }
    .and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::new(address, port))
    });
    bound.is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

/// Since when HAProxy has been gone while other programs hold ports of its file.
#[derive(Debug, Default)]
pub(crate) struct KeptDown {
    since: Option<Instant>,
}

impl KeptDown {
    /// Notes one look; true when this has lasted long enough to be no start that is under way.
    pub(crate) fn lasts(&mut self, is_so: bool, now: Instant) -> bool {
        if !is_so {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now.duration_since(since) >= Duration::from_millis(GONE_MS)
    }
}

/// What is said of such a port, with the way out.
pub(crate) const TAKEN: &str =
    "is taken by another program on this host: stop that program, or publish another port";

/// Ports of the intent that other programs listen on. Only while HAProxy is down: its own would
/// be among them.
pub(crate) fn taken_ports(intent: &Intent, address: IpAddr) -> Vec<u16> {
    let ports = intent.frontends().into_keys();
    ports.filter(|port| is_taken(address, *port)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, TcpListener};

    use longshore_model::routes::{Backend, Routes};

    use super::*;

    #[test]
    fn only_what_lasts_without_a_break_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut kept_down = KeptDown::default();
        assert!(!kept_down.lasts(true, at(0)));
        assert!(!kept_down.lasts(true, at(GONE_MS - 1)));
        assert!(!kept_down.lasts(false, at(GONE_MS)));
        assert!(!kept_down.lasts(true, at(GONE_MS + 1)));
        assert!(kept_down.lasts(true, at(2 * GONE_MS + 1)));
    }

    #[test]
    fn a_port_is_taken_while_somebody_listens() {
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
        let (intent, errors) = Intent::compile(&routes, &BTreeSet::new(), &[]);
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(taken_ports(&intent, here), [port]);
        drop(stranger);
        assert!(taken_ports(&intent, here).is_empty());
        // A start of HAProxy at the moment of the question would succeed.
        let asked = TcpSocket::new_v4().unwrap();
        asked.set_reuseaddr(true).unwrap();
        asked.bind(SocketAddr::new(here, port)).unwrap();
        assert!(TcpListener::bind((here, port)).is_ok());
    }
}
