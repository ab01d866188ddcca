//! Tests of [`super`].

use super::*;

fn web() -> RouteSpec {
    RouteSpec::new(80, 8000)
}

fn of(domains: &[&str], path: Option<&str>) -> RouteSpec {
    RouteSpec {
        domains: domains.iter().map(|d| (*d).to_owned()).collect(),
        path: path.map(str::to_owned),
        ..web()
    }
}

#[test]
fn a_port_is_shared_by_host_and_path() {
    let all = [
        of(&[], None),
        of(&[], Some("/api")),
        of(&["a.org"], None),
        of(&["a.org"], Some("/api")),
        of(&["b.org"], Some("/api")),
    ];
    for (i, a) in all.iter().enumerate() {
        for (j, b) in all.iter().enumerate() {
            assert_eq!(a.clash(b).is_some(), i == j, "{a:?} {b:?}");
        }
    }
    let both = of(&["b.org", "a.org"], Some("/api"));
    let clash = both.clash(&all[3]).unwrap().to_string();
    assert_eq!(clash, "both take the host name a.org at /api");
}

#[test]
fn plain_tcp_and_the_proxy_protocol_are_not_shared() {
    let tcp = RouteSpec {
        mode: RouteMode::Tcp,
        ..web()
    };
    let proxied = RouteSpec {
        accept_proxy: true,
        ..of(&["a.org"], None)
    };
    assert_eq!(tcp.clash(&of(&["a.org"], None)), Some(Clash::PlainTcp));
    assert_eq!(proxied.clash(&web()), Some(Clash::AcceptProxy));
    let secret = RouteSpec {
        tls: vec!["shop-cert".into()],
        ..of(&["a.org"], None)
    };
    assert_eq!(secret.clash(&web()), Some(Clash::Tls));
    assert_eq!(secret.clash(&of(&["b.org"], None)), Some(Clash::Tls));
    let other = RouteSpec {
        tls: vec!["other".into()],
        ..of(&["b.org"], None)
    };
    assert_eq!(secret.clash(&other), None);
    let elsewhere = RouteSpec {
        listen_port: 81,
        ..tcp.clone()
    };
    assert_eq!(tcp.clash(&elsewhere), None);
}

#[test]
fn each_broken_rule_is_told_by_its_field() {
    let mut route = of(&["A.org", "ok.org"], Some("/api/"));
    route.check_path = Some("/a b".into());
    route.sticky_cookie = Some("a;b".into());
    route.hash_header = Some("x-user".into());
    route.maxconn_per_replica = MAXCONN_MAX + 1;
    route.slowstart_ms = u64::MAX;
    route.timeouts.tunnel_ms = u64::MAX;
    route.tls = vec!["ok".into(), "../x".into()];
    route.redirect_port = 443;
    route.compression = vec!["text/html".into(), "text/html;q=1".into()];
    route.hsts_max_age_s = Some(u32::MAX);
    route.check = CheckTimes {
        interval_ms: 5,
        rise: 101,
        fall: 1,
        timeout_ms: 1,
    };
    let fields: Vec<_> = route.problems().iter().map(|p| p.field).collect();
    let expected = [
        "domains",
        "path",
        "check.path",
        "sticky",
        "hash_header",
        "compression",
        "maxconn_per_replica",
        "hsts_max_age",
        "slowstart",
        "timeouts.tunnel",
        "check.interval",
        "check.timeout",
        "check.rise",
        "check.fall",
        "tls",
        "redirect_https",
    ];
    assert_eq!(fields, expected);
    assert!(of(&["a.org"], Some("/api/v1")).problems().is_empty());
    route = RouteSpec {
        mode: RouteMode::Tcp,
        tls: vec!["cert".into()],
        ..of(&["a.org"], Some("/api"))
    };
    assert_eq!(route.problems().len(), 3);
}

#[test]
fn hostile_words_are_refused() {
    for bad in [
        "", ".", "a..b", "a b", "a\nb", "a;b", "*.a", "-a", "a-", "a_b", "a{", "é", "A",
    ] {
        assert!(!is_domain(bad), "{bad:?} was taken");
    }
    for bad in [
        "", "x", "/", "/a/", "//a", "/..", "/a b", "/a\n", "/%61", "/a?b", "/a#",
    ] {
        assert!(!is_prefix(bad), "{bad:?} was taken");
    }
    for bad in ["", "1a", "a b", "a:b", "a,b", "a\n", "a)"] {
        assert!(!is_token(bad), "{bad:?} was taken");
    }
    for bad in [
        "", "x", "/a b", "/a\nb", "/a;b", "/a#b", "/a\"b", "/%[src]", "/$HOME", "/a\\",
    ] {
        assert!(!is_check_path(bad), "{bad:?} was taken");
    }
}
