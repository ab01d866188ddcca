//! Ways in of any kind, hostile words among them.

use longshore_model::ReplicaId;
use longshore_model::route::{
    Balance, CheckTimes, ProxyProtocol, RouteMode, RouteSpec, Timeouts, Weights,
};
use longshore_model::routes::{Backend, Server, ServerMode};
use proptest::prelude::*;

use crate::backend;

/// A number that is left out, usual, or out of all bounds.
fn number<T: Copy + std::fmt::Debug + Default + Arbitrary + 'static>(
    usual: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = T> {
    prop_oneof![6 => Just(T::default()), 6 => usual, 1 => any::<T>()]
}

fn word(usual: &'static str) -> impl Strategy<Value = Option<String>> {
    let usual = usual.prop_map(Some);
    let hostile = "/?[ -~\n]{0,6}".prop_map(Some);
    prop_oneof![8 => Just(None), 8 => usual, 1 => hostile]
}

prop_compose! {
    fn any_times()(
        interval_ms in number(10u32..60_000), rise in number(1u32..100), fall in number(2u32..100), timeout_ms in number(10u32..60_000),
        connect_ms in number(1u64..9_000), server_ms in number(1u64..200_000),
        queue_ms in number(1u64..9_000), tunnel_ms in number(1u64..9_000),
    ) -> (CheckTimes, Timeouts) {
        (CheckTimes { interval_ms, rise, fall, timeout_ms }, Timeouts { connect_ms, server_ms, queue_ms, tunnel_ms })
    }
}

fn any_tls() -> impl Strategy<Value = (Vec<String>, u16)> {
    let names = prop::collection::vec(
        prop_oneof![9 => "[a-c]-cert(-2)?", 1 => "[a-z_/. \n]{0,6}"],
        1..3,
    );
    prop_oneof![
        6 => Just((Vec::new(), 0)),
        2 => (Just(Vec::new()), prop_oneof![Just(443), any::<u16>()]),
        4 => (names, prop_oneof![9 => Just(0), 1 => any::<u16>()]),
    ]
}

fn any_answers() -> impl Strategy<Value = (Vec<String>, Option<u32>)> {
    let media = prop_oneof![9 => "[a-c]{1,3}/[a-c][a-c.+-]{0,2}", 1 => "[a-z/ \n;#\"A-Z]{0,6}"];
    let age = prop_oneof![9 => 0u32..=63_072_000, 1 => any::<u32>()];
    (prop::collection::vec(media, 0..3), prop::option::of(age))
}

prop_compose! {
    fn any_route()(
        port in 80u16..84, tcp in prop::bool::weighted(0.15), http2 in any::<bool>(),
        domains in prop::collection::vec(prop_oneof![9 => "[a-c]\\.org", 1 => "[a-z \n;#.\"A-Z]{0,6}"], 0..3),
        path in word("(/[ab]{1,2}){1,2}"), check_path in word("/ok"),
        hash_header in word("X-[A-Z]"), sticky_cookie in word("[A-Z]{3}"),
        balance in 0usize..5, maxconn_per_replica in number(1u32..100),
        slowstart_ms in number(1u64..9_000), (check, timeouts) in any_times(),
        proxy in 0u8..3, accept_proxy in prop::bool::weighted(0.05),
        ((tls, redirect_port), by_load) in (any_tls(), any::<bool>()),
        (compression, hsts_max_age_s) in any_answers(),
    ) -> RouteSpec {
        let balances = [
            Balance::Roundrobin, Balance::Leastconn, Balance::Random, Balance::Source, Balance::Hash,
        ];
        let balance = balances[balance];
        let plain = RouteSpec {
            balance, check_path, check, maxconn_per_replica, slowstart_ms, timeouts, accept_proxy,
            mode: if tcp { RouteMode::Tcp } else { RouteMode::Http },
            weights: if by_load { Weights::Load } else { Weights::Equal },
            proxy_protocol: [None, Some(ProxyProtocol::V1), Some(ProxyProtocol::V2)][usize::from(proxy)],
            ..RouteSpec::new(port, 80)
        };
        match tcp {
            true => plain,
            false => RouteSpec {
                domains, path, sticky_cookie, http2, tls, redirect_port, compression, hsts_max_age_s,
                hash_header: hash_header.filter(|_| balance == Balance::Hash),
                ..plain
            },
        }
    }
}

prop_compose! {
    pub(crate) fn any_backend()(
        app in "[a-c]", service in "[a-c-]{0,2}", route in any_route(),
        servers in prop::collection::btree_map(0u64..20, (any::<[u8; 4]>(), any::<u16>(), any::<bool>(), prop::option::of(10..=100_u8)), 0..5),
    ) -> Backend {
        let mut one = backend(&format!("{app}/x{service}"), 80, &[]);
        one.route = route;
        one.servers = servers.into_iter().map(|(id, (address, port, serve, weight))| Server {
            replica: ReplicaId(id), address: address.into(), port, weight,
            mode: if serve { ServerMode::Serve } else { ServerMode::Drain },
        }).collect();
        one
    }
}
