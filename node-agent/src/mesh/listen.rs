//! One listener for each port of each name address, kept over changes of the directory.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use longshore_model::ServiceKey;
use longshore_model::names::{NAMES_MAX, Names, PORTS_MAX};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Shared, door_name, forward, reset};
use crate::backoff::Backoff;

/// Most listeners of one agent: each is a file descriptor.
const LISTENERS_MAX: usize = 4_096;
const BACKLOG: u32 = 1_024;
const BIND_FIRST: Duration = Duration::from_millis(200);
const BIND_CAP: Duration = Duration::from_secs(30);
/// Out of file descriptors, or the caller gave up: neither ends a listener.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type At = (Ipv4Addr, u16);

/// Listens where the directory says, until `stop`; begins once `ready` says so.
pub(super) async fn run(
    shared: &Arc<Shared>,
    mut ready: watch::Receiver<bool>,
    stop: &CancellationToken,
) {
    tokio::select! {
        () = stop.cancelled() => return,
        Ok(_) = ready.wait_for(|ready| *ready) => {}
    }
    let mut names = shared.names.clone();
    let mut open: BTreeMap<At, (ServiceKey, CancellationToken)> = BTreeMap::new();
    loop {
        let directory = Arc::clone(&names.borrow_and_update());
        let wanted = wanted(shared, &directory);
        open.retain(|at, (service, stop)| {
            let stays = wanted.get(at) == Some(service);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for (at, service) in wanted {
            open.entry(at).or_insert_with(|| {
                let stop = stop.child_token();
                let work = keep(Arc::clone(shared), service.clone(), at, stop.clone());
                tokio::spawn(work);
                (service, stop)
            });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = names.changed() => if changed.is_err() {
                // Nobody can change it any more: what is open stays open.
                return stop.cancelled().await;
            }
        }
    }
}

fn wanted(shared: &Shared, directory: &Names) -> BTreeMap<At, ServiceKey> {
    let mut wanted = BTreeMap::new();
    let mut outside = None;
    let mut over = 0;
    for (service, named) in directory.services.iter().take(NAMES_MAX) {
        if !shared.range.contains(named.address) {
            outside = Some(service);
            continue;
        }
        for port in named.ports.iter().take(PORTS_MAX).filter(|port| **port > 0) {
            if wanted.len() < LISTENERS_MAX {
                wanted.insert((named.address, *port), service.clone());
            } else {
                over += 1;
            }
        }
    }
    let range = shared.range;
    match outside {
        None => shared.problems.clear("directory"),
        Some(service) => {
            let text = format!(
                "containers of this node do not reach {service}: its name address is beyond the last \
                 one of {range}; give this node a larger range (`names_range` in node-agent.toml: a \
                 /16 has room for all)"
            );
            shared.problems.say("directory", text);
        }
    }
    match over {
        0 => shared.problems.clear("listeners"),
        _ => {
            let text = format!("{over} ports of services beyond {LISTENERS_MAX} are not served");
            shared.problems.say("listeners", text);
        }
    }
    wanted
}

/// Keeps one listener until `stop`.
async fn keep(shared: Arc<Shared>, service: ServiceKey, at: At, stop: CancellationToken) {
    let (address, port) = at;
    let about = door_name(&service, address, port);
    let mut backoff = Backoff::new(BIND_FIRST, BIND_CAP);
    loop {
        match bind(SocketAddr::from(at)) {
            Ok(listener) => {
                shared.problems.clear(&about);
                serve(&shared, &service, port, &listener, &stop).await;
                return;
            }
            Err(error) => shared.problems.say(&about, unbound(&about, port, &error)),
        }
        let wait = backoff.next_wait().max(BIND_FIRST / 4);
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(wait) => {}
        }
    }
    shared.problems.clear(&about);
}

fn unbound(about: &str, port: u16, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "containers of this node do not reach {about}: another program of this host listens \
             on port {port} of all addresses; let it listen on addresses of its own, or the \
             service on another port"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "containers of this node do not reach {about}: the agent may not listen on port \
             {port}; run it as root or with CAP_NET_BIND_SERVICE"
        ),
        _ => format!("containers of this node do not reach {about}: {error}"),
    }
}

/// HAProxy and other programs of root's may listen on the same port of all addresses beside this
/// one, before or after it: both must say that the port is shared, and the more exact address wins.
fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

async fn serve(
    shared: &Arc<Shared>,
    service: &ServiceKey,
    port: u16,
    listener: &TcpListener,
    stop: &CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((client, caller)) if shared.guests.knows(caller.ip()) => {
                let work = forward::take(Arc::clone(shared), service.clone(), port, client);
                tokio::spawn(work);
            }
            Ok((client, caller)) => look_up(shared, service, port, client, caller.ip()),
            Err(error) => {
                tracing::warn!(%error, %service, port, "accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes a connection of a caller whose network is not known, once it is.
fn look_up(
    shared: &Arc<Shared>,
    service: &ServiceKey,
    port: u16,
    client: TcpStream,
    caller: IpAddr,
) {
    let Ok(place) = Arc::clone(&shared.strangers).try_acquire_owned() else {
        return reset(client);
    };
    let (shared, service) = (Arc::clone(shared), service.clone());
    tokio::spawn(async move {
        let may = shared.guests.may(caller).await;
        drop(place);
        if may {
            return forward::take(shared, service, port, client).await;
        }
        tracing::debug!(%caller, %service, port, "a caller from outside this host is refused");
        reset(client);
    });
}
