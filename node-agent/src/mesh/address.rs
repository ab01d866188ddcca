//! Makes the kernel take the whole range of name addresses as this host's own, so that the agent
//! can listen on any of them and containers reach them through their bridge's gateway.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::{RouteMessageBuilder, new_connection};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::problems::Problems;
use super::range::Range;

/// `RT_TABLE_LOCAL`: what the host takes for itself.
const TABLE_LOCAL: u8 = 255;
/// `LOOPBACK_IFINDEX`: the same in every network namespace.
const LOOPBACK: u32 = 1;
/// The kernel answers at once; a wedged socket must not hold up the agent's end.
const DEADLINE: Duration = Duration::from_secs(5);
/// Somebody may flush the table.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(10);
/// Most routes that are looked at: a router of the internet's has a million.
const ROUTES_MAX: usize = 100_000;

/// Why the range is not this host's.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddressError {
    #[error("cannot speak with the kernel about routes: {0}")]
    Socket(#[source] io::Error),
    #[error(
        "names of services do not work here: the range {range} overlaps with {route}, which this \
         host uses already; give this node another range, a /16 that is free here (`names_range` in \
         node-agent.toml)"
    )]
    Overlap { range: Range, route: String },
    #[error(
        "names of services do not work here: the kernel does not let the agent take {0} for this \
         host (operation not permitted); run it as root or with CAP_NET_ADMIN, or make the route \
         yourself: ip route add local {0} dev lo"
    )]
    NotPermitted(Range),
    #[error("names of services do not work here: the route of {range} failed: {detail}")]
    Kernel { range: Range, detail: String },
    #[error("names of services do not work here: the kernel did not answer in time")]
    Late,
}

/// Keeps the range this host's until `stop`; `ready` says when it is.
pub(super) async fn keep(
    range: Range,
    problems: &Problems,
    ready: watch::Sender<bool>,
    stop: CancellationToken,
) {
    loop {
        let found = timeout(DEADLINE, ensure(range)).await;
        let wait = match found.unwrap_or(Err(AddressError::Late)) {
            Ok(()) => {
                problems.clear("range");
                ready.send_replace(true);
                LOOK_AGAIN
            }
            Err(error) => {
                problems.say("range", error.to_string());
                RETRY
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}

/// One route of this host, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct HostRoute {
    to: Range,
    local: bool,
    interface: Option<u32>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ours,
    Missing,
    Overlap(Range),
}

/// Is the range ours, free, or somebody else's? The way to everywhere does not count.
fn judge(range: Range, routes: impl IntoIterator<Item = HostRoute>) -> Verdict {
    let mut ours = false;
    for route in routes {
        if route.to == range && route.local && route.interface == Some(LOOPBACK) {
            ours = true;
        } else if route.to.bits() > 0 && route.to.overlaps(&range) {
            return Verdict::Overlap(route.to);
        }
    }
    if ours {
        Verdict::Ours
    } else {
        Verdict::Missing
    }
}

async fn ensure(range: Range) -> Result<(), AddressError> {
    let (connection, handle, _messages) = new_connection().map_err(AddressError::Socket)?;
    // The connection ends with its handle.
    tokio::spawn(connection);
    let failed = |error: rtnetlink::Error| kernel(range, &error);
    let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let mut dump = Box::pin(handle.route().get(all).execute());
    let mut routes = Vec::new();
    while let Some(message) = dump.try_next().await.map_err(failed)? {
        routes.extend(seen(&message));
        if routes.len() >= ROUTES_MAX {
            break;
        }
    }
    match judge(range, routes) {
        Verdict::Ours => return Ok(()),
        Verdict::Overlap(with) => {
            let route = with.to_string();
            return Err(AddressError::Overlap { range, route });
        }
        Verdict::Missing => {}
    }
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range.base(), range.bits())
        .output_interface(LOOPBACK)
        .table_id(u32::from(TABLE_LOCAL))
        .scope(RouteScope::Host)
        .kind(RouteType::Local)
        .build();
    handle.route().add(route).execute().await.map_err(failed)?;
    tracing::info!(%range, "this host takes the addresses of service names");
    Ok(())
}

fn kernel(range: Range, error: &rtnetlink::Error) -> AddressError {
    if let rtnetlink::Error::NetlinkError(message) = error
        && message.to_io().kind() == io::ErrorKind::PermissionDenied
    {
        return AddressError::NotPermitted(range);
    }
    let detail = error.to_string();
    AddressError::Kernel { range, detail }
}

fn seen(message: &RouteMessage) -> Option<HostRoute> {
    let mut to = Ipv4Addr::UNSPECIFIED;
    let (mut interface, mut table) = (None, u32::from(message.header.table));
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = *address,
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Table(id) => table = *id,
            _ => {}
        }
    }
    // Tables that only rules lead to are their owner's business.
    let looked_at = [TABLE_LOCAL, RouteHeader::RT_TABLE_MAIN].map(u32::from);
    looked_at.contains(&table).then(|| HostRoute {
        to: Range::around(to, message.header.destination_prefix_length),
        local: message.header.kind == RouteType::Local && table == u32::from(TABLE_LOCAL),
        interface,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(to: &str, local: bool, interface: u32) -> HostRoute {
        let (base, bits) = to.split_once('/').unwrap();
        let to = Range::around(base.parse().unwrap(), bits.parse().unwrap());
        let interface = Some(interface);
        HostRoute {
            to,
            local,
            interface,
        }
    }

    #[test]
    fn a_range_is_ours_free_or_somebody_elses() {
        let range: Range = "10.213.0.0/16".parse().unwrap();
        let host = [
            route("0.0.0.0/0", false, 2),
            route("10.0.0.0/24", false, 2),
            route("127.0.0.0/8", true, 1),
            route("172.17.0.0/16", false, 3),
        ];
        let with = |more: &[HostRoute]| judge(range, host.iter().chain(more).copied());
        let ours = route("10.213.0.0/16", true, 1);
        assert_eq!(with(&[]), Verdict::Missing);
        assert_eq!(with(&[ours]), Verdict::Ours);
        for theirs in [
            route("10.213.0.0/16", false, 2),
            route("10.213.0.0/16", true, 2),
            route("10.0.0.0/8", false, 2),
            route("10.213.4.0/24", false, 3),
            route("10.213.4.1/32", true, 3),
        ] {
            assert_eq!(with(&[theirs]), Verdict::Overlap(theirs.to));
            assert_eq!(with(&[ours, theirs]), Verdict::Overlap(theirs.to));
        }
    }

    /// Changes the host's routes: `make route-test` runs it in a network namespace of its own.
    #[tokio::test]
    #[ignore = "needs a network namespace of its own: make route-test"]
    async fn the_kernel_takes_the_range_and_keeps_it() {
        let range: Range = "10.213.0.0/16".parse().unwrap();
        ensure(range).await.unwrap();
        ensure(range).await.unwrap();
        std::net::TcpListener::bind("10.213.4.5:6379").unwrap();
        let overlapping = ensure("10.0.0.0/8".parse().unwrap()).await.unwrap_err();
        assert!(
            overlapping.to_string().contains("10.213.0.0/16"),
            "{overlapping}"
        );
    }

    #[tokio::test]
    async fn the_kernels_refusal_names_the_way_out() {
        let range: Range = "10.213.0.0/16".parse().unwrap();
        let said = AddressError::NotPermitted(range).to_string();
        assert!(
            said.contains("CAP_NET_ADMIN") && said.contains("ip route add local 10.213.0.0/16")
        );
    }
}
