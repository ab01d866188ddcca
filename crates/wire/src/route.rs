//! Ways in.

use longshore_model::spec::{
    Balance, CheckTimes, ProxyProtocol, RouteMode, RouteSpec, Timeouts, Weights,
};
use longshore_proto::spec::v1 as pb;

use crate::error::{WireError, bounded, invalid, port};

/// Most host names that are read; what a way in may have is the model's rule.
const DOMAINS_MAX: usize = 256;
/// Most certificates that are read.
const TLS_MAX: usize = 64;
/// Most media types that are read.
const COMPRESSION_MAX: usize = 64;

/// To the wire.
#[must_use]
pub fn route_spec_to_pb(route: &RouteSpec) -> pb::RouteSpec {
    let CheckTimes {
        interval_ms,
        rise,
        fall,
        timeout_ms,
    } = route.check;
    let Timeouts {
        connect_ms,
        server_ms,
        queue_ms,
        tunnel_ms,
    } = route.timeouts;
    pb::RouteSpec {
        listen_port: route.listen_port.into(),
        container_port: route.container_port.into(),
        mode: match route.mode {
            RouteMode::Http => pb::RouteMode::Http,
            RouteMode::Tcp => pb::RouteMode::Tcp,
        }
        .into(),
        domains: route.domains.clone(),
        path: route.path.clone(),
        balance: match route.balance {
            Balance::Roundrobin => pb::Balance::Roundrobin,
            Balance::Leastconn => pb::Balance::Leastconn,
            Balance::Random => pb::Balance::Random,
            Balance::Source => pb::Balance::Source,
            Balance::Hash => pb::Balance::Hash,
        }
        .into(),
        hash_header: route.hash_header.clone(),
        sticky_cookie: route.sticky_cookie.clone(),
        check_path: route.check_path.clone(),
        check: Some(pb::CheckTimes {
            interval_ms,
            rise,
            fall,
            timeout_ms,
        }),
        maxconn_per_replica: route.maxconn_per_replica,
        slowstart_ms: route.slowstart_ms,
        timeouts: Some(pb::Timeouts {
            connect_ms,
            server_ms,
            queue_ms,
            tunnel_ms,
        }),
        proxy_protocol: match route.proxy_protocol {
            None => pb::ProxyProtocol::Unspecified,
            Some(ProxyProtocol::V1) => pb::ProxyProtocol::V1,
            Some(ProxyProtocol::V2) => pb::ProxyProtocol::V2,
        }
        .into(),
        accept_proxy: route.accept_proxy,
        http2: route.http2,
        tls: route.tls.clone(),
        redirect_port: route.redirect_port.into(),
        weights: match route.weights {
            Weights::Equal => pb::Weights::Equal,
            Weights::Load => pb::Weights::Load,
        }
        .into(),
        compression: route.compression.clone(),
        hsts_max_age_s: route.hsts_max_age_s,
    }
}

/// From the wire, checked by the model's own rules.
///
/// # Errors
/// [`WireError`] names the field and the rule.
pub fn route_spec_from_pb(route: pb::RouteSpec) -> Result<RouteSpec, WireError> {
    let route = route_from_pb(route)?;
    match route.problems().into_iter().next() {
        None => Ok(route),
        Some(problem) => Err(invalid("routes", problem.to_string())),
    }
}

/// From the wire, its words not checked: an edge checks them way in by way in, so that one that
/// breaks a rule does not cost the others.
///
/// # Errors
/// [`WireError`]: a port that is none, or too many host names to look at.
pub(crate) fn route_from_pb(route: pb::RouteSpec) -> Result<RouteSpec, WireError> {
    let (mode, balance, proxy) = (route.mode(), route.balance(), route.proxy_protocol());
    let weights = route.weights();
    let (check, times) = (
        route.check.unwrap_or_default(),
        route.timeouts.unwrap_or_default(),
    );
    Ok(RouteSpec {
        listen_port: port("routes.listen_port", route.listen_port)?,
        container_port: port("routes.container_port", route.container_port)?,
        mode: match mode {
            pb::RouteMode::Tcp => RouteMode::Tcp,
            pb::RouteMode::Http | pb::RouteMode::Unspecified => RouteMode::Http,
        },
        domains: bounded("routes.domains", DOMAINS_MAX, route.domains)?,
        path: route.path,
        balance: match balance {
            pb::Balance::Leastconn => Balance::Leastconn,
            pb::Balance::Random => Balance::Random,
            pb::Balance::Source => Balance::Source,
            pb::Balance::Hash => Balance::Hash,
            pb::Balance::Roundrobin | pb::Balance::Unspecified => Balance::Roundrobin,
        },
        hash_header: route.hash_header,
        sticky_cookie: route.sticky_cookie,
        check_path: route.check_path,
        check: CheckTimes {
            interval_ms: check.interval_ms,
            rise: check.rise,
            fall: check.fall,
            timeout_ms: check.timeout_ms,
        },
        maxconn_per_replica: route.maxconn_per_replica,
        slowstart_ms: route.slowstart_ms,
        timeouts: Timeouts {
            connect_ms: times.connect_ms,
            server_ms: times.server_ms,
            queue_ms: times.queue_ms,
            tunnel_ms: times.tunnel_ms,
        },
        proxy_protocol: match proxy {
            pb::ProxyProtocol::Unspecified => None,
            pb::ProxyProtocol::V1 => Some(ProxyProtocol::V1),
            pb::ProxyProtocol::V2 => Some(ProxyProtocol::V2),
        },
        accept_proxy: route.accept_proxy,
        http2: route.http2,
        tls: bounded("routes.tls", TLS_MAX, route.tls)?,
        redirect_port: match route.redirect_port {
            0 => 0,
            number => port("routes.redirect_port", number)?,
        },
        weights: match weights {
            pb::Weights::Load => Weights::Load,
            pb::Weights::Equal | pb::Weights::Unspecified => Weights::Equal,
        },
        compression: bounded("routes.compression", COMPRESSION_MAX, route.compression)?,
        hsts_max_age_s: route.hsts_max_age_s,
    })
}
