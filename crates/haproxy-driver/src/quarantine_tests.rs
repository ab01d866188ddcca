//! Whom HAProxy's words blame, and how a culprit is found where they blame nobody.

use std::collections::BTreeSet;

use super::*;
use longshore_model::routes::Routes;
use proptest::prelude::*;

const FILE: &str = "global
    maxconn 10

frontend fe_80
    bind 127.0.0.1:80
    use_backend be_a_b_80 if { x }
    default_backend be_c_d_80

backend be_a_b_80
    balance bogus
    server slot1 127.0.0.1:1 check

backend be_c_d_80
    cookie x
";

fn names(words: &str) -> Vec<String> {
    blamed(FILE, words)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn words_blame_by_line_and_by_name() {
    // As HAProxy 2.6.12 says it.
    let by = |line: u32, what: &str| {
        format!("[ALERT]    (7) : config : parsing [/tmp/h.cfg:{line}] : {what}")
    };
    assert_eq!(
        names(&by(10, "balance only supports 'roundrobin'")),
        ["be_a_b_80"]
    );
    assert_eq!(names(&by(14, "")), ["be_c_d_80"]);
    assert_eq!(names(&by(9, "")), ["be_a_b_80"]);
    // A line of a frontend is that of whom it names, else of all.
    assert_eq!(
        names(&by(6, "error detected while parsing switching rule")),
        ["be_a_b_80"]
    );
    assert_eq!(names(&by(5, "cannot bind")), ["be_a_b_80", "be_c_d_80"]);
    let two = format!("{}; {}", by(10, ""), by(14, ""));
    assert_eq!(names(&two), ["be_a_b_80", "be_c_d_80"]);
    let named = "[ALERT] (7) : config : 'server be_c_d_80/slot1' : unable to find required proxy";
    assert_eq!(names(named), ["be_c_d_80"]);
    let start = "[ALERT] (7) : Binding [/tmp/h.cfg:5] for frontend fe_80: cannot bind socket \
                 (Cannot assign requested address) for [192.0.2.1:10]";
    assert_eq!(names(start), ["be_a_b_80", "be_c_d_80"]);
}

#[test]
fn words_about_no_backend_blame_nobody() {
    for words in [
        "",
        "[ALERT] (7) : config : parsing [/tmp/h.cfg:2] : 'maxconn'",
        "[ALERT] (7) : config : parsing [/tmp/h.cfg:0] : x",
        "[ALERT] (7) : config : parsing [/tmp/h.cfg:999999999999999999999] : x",
        "[ALERT] (7) : cannot bind for [192.0.2.1:10]",
        "[ALERT] (7) : config : Fatal errors found in configuration.",
    ] {
        assert_eq!(names(words), [""; 0], "{words}");
    }
}

fn backend(service: &str, check_path: &str) -> Backend {
    serde_json::from_value(serde_json::json!({
        "service": service,
        "route": {"listen_port": 80, "container_port": 80, "domains": [format!("{}.org", &service[..1])],
                  "check_path": check_path},
        "servers": [{"replica": "r1", "address": "10.0.0.1", "port": 31000, "mode": "serve"}]
    }))
    .unwrap()
}

fn intent(backends: Vec<Backend>) -> Intent {
    let routes = Routes {
        backends,
        ..Routes::default()
    };
    let (intent, errors) = Intent::compile(&routes, &BTreeSet::new(), &[]);
    assert!(errors.is_empty(), "{errors:?}");
    intent
}

fn loaded(intent: &Intent) -> BTreeMap<String, RouteSpec> {
    let backends = intent.backends.iter();
    backends
        .map(|(name, b)| (name.to_string(), b.route.clone()))
        .collect()
}

#[test]
fn a_culprit_is_served_as_before_with_the_servers_of_now() {
    let before = intent(vec![backend("a/a", "/old"), backend("b/b", "/b")]);
    let mut changed = backend("a/a", "/new");
    changed.servers[0].port = 32_000;
    let wanted = intent(vec![changed, backend("b/b", "/b"), backend("c/c", "/c")]);
    let now = Instant::now();
    let mut quarantine = Quarantine::default();
    for name in ["be_a_a_80", "be_c_c_80"] {
        let backend = wanted.backends.values().find(|b| b.name.as_str() == name);
        quarantine.hold(backend.unwrap(), "bad\u{1b}[31m words\n", now);
    }
    let served = quarantine.hold_back(&wanted, &loaded(&before), &[], now);
    let seen: Vec<_> = served
        .backends
        .values()
        .map(|b| {
            let path = b.route.check_path.clone().unwrap();
            (
                b.name.as_str(),
                path,
                b.servers.values().map(|s| s.port).collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("be_a_a_80", "/old".to_owned(), vec![32_000]),
            ("be_b_b_80", "/b".to_owned(), vec![31_000]),
        ]
    );
    let said: Vec<_> = quarantine
        .says()
        .map(|(key, why)| (key.to_string(), why))
        .collect();
    assert_eq!(
        said,
        [
            (
                "a/a".to_owned(),
                "HAProxy refuses it as it is now; served as it was before: bad[31m words"
                    .to_owned()
            ),
            (
                "c/c".to_owned(),
                "HAProxy refuses it: bad[31m words".to_owned()
            ),
        ]
    );
}

#[test]
fn a_culprit_is_tried_again_when_it_changes_and_when_its_time_is_up() {
    let wanted = intent(vec![backend("a/a", "/new")]);
    let now = Instant::now();
    let held = |wanted: &Intent, after_ms| {
        let mut quarantine = Quarantine::default();
        let first = intent(vec![backend("a/a", "/new")]);
        quarantine.hold(first.backends.values().next().unwrap(), "no", now);
        let at = now + Duration::from_millis(after_ms);
        let served = quarantine.hold_back(wanted, &BTreeMap::new(), &[], at);
        served.backends.is_empty() && quarantine.says().count() == 1
    };
    assert!(held(&wanted, AGAIN_MS - 1));
    assert!(!held(&wanted, AGAIN_MS));
    assert!(!held(&intent(vec![backend("a/a", "/newer")]), 1));
    let mut other_servers = backend("a/a", "/new");
    other_servers.servers.clear();
    assert!(held(&intent(vec![other_servers]), 1));
}

#[test]
fn what_it_had_before_may_be_another_ones_now() {
    let before = intent(vec![backend("a/a", "/old")]);
    let mut taker = backend("b/b", "/b");
    taker.route.domains = vec!["a.org".to_owned()];
    let mut changed = backend("a/a", "/new");
    changed.route.domains = vec!["z.org".to_owned()];
    let wanted = intent(vec![changed, taker]);
    let mut quarantine = Quarantine::default();
    let now = Instant::now();
    quarantine.hold(wanted.backends.values().next().unwrap(), "no", now);
    let served = quarantine.hold_back(&wanted, &loaded(&before), &[], now);
    let names: Vec<_> = served.backends.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["be_b_b_80"]);
    assert_eq!(
        quarantine.says().next().unwrap().1,
        "HAProxy refuses it: no"
    );
}

#[test]
fn words_have_an_end() {
    assert!(bounded(&"ä".repeat(1_000)).len() <= WORDS_BYTES_MAX);
}

proptest! {
    /// One culprit among many is found, in as many questions as the number has bits.
    #[test]
    fn one_culprit_is_found(count in 1usize..200, pick in any::<prop::sample::Index>()) {
        let all: Vec<BackendName> = (0..count)
            .map(|i| BackendName::of(&format!("a/s{i}").parse().unwrap(), 80))
            .collect();
        let culprit = all[pick.index(count)].clone();
        let mut search = Search::among(all.clone());
        let mut questions = 0;
        while let Some(held) = search.hold_next(&all) {
            prop_assert!(held.len() < count);
            search.answered(held.contains(&culprit));
            questions += 1;
        }
        prop_assert_eq!(search.suspects(), [culprit]);
        prop_assert!(questions <= count.next_power_of_two().trailing_zeros());
    }
}
