//! `depends_on`.

use longshore_model::depends::Until;

use crate::networks::{errors, name, taken, warnings};

/// What `web` waits for.
fn waits(web: &str) -> (Vec<(String, Until)>, Vec<String>) {
    let text = format!(
        "services:\n  web: {{ image: a, {web} }}\n  db: {{ image: b }}\n  cache: {{ image: b }}\n"
    );
    let loaded = taken(&text);
    let on = loaded.services[&name("web")].depends_on.clone().into_iter();
    let on = on.map(|(name, until)| (name.to_string(), until)).collect();
    (on, warnings(&loaded))
}

#[test]
fn the_short_and_the_long_form_say_whom_the_first_start_waits_for() {
    let both = vec![
        ("cache".to_owned(), Until::Started),
        ("db".to_owned(), Until::Healthy),
    ];
    let (on, said) = waits(
        "depends_on: { db: { condition: service_healthy }, cache: { condition: service_started } }",
    );
    assert_eq!((on, said), (both.clone(), vec![]));
    let (on, said) =
        waits("depends_on: { db: { condition: service_healthy } }, links: [cache, db]");
    assert_eq!((on, said), (both, vec![]), "a link is one, too");
    let (on, _) = waits("depends_on: [db]");
    assert_eq!(on, [("db".to_owned(), Until::Started)]);
    let optional =
        "depends_on: { db: { condition: service_healthy, required: false, restart: true } }";
    let (on, said) = waits(optional);
    assert!(on.is_empty(), "{on:?}");
    assert_eq!(
        said,
        [
            "services.web.depends_on.db.required: it is not waited for",
            "services.web.depends_on.db.restart: nothing follows from it: the name leads to whatever runs then"
        ]
    );
}

#[test]
fn what_cannot_be_waited_for_is_refused() {
    let cases = [
        (
            "depends_on: [dbs]",
            "depends_on names dbs, which is not in the app; did you mean `db`?",
        ),
        (
            "depends_on: [web]",
            "is a circle: web -> web; one of them must start",
        ),
        ("depends_on: [db, db]", "\"db\" is there twice"),
        ("depends_on: [d.b]", "may hold only letters"),
        (
            "depends_on: { db: { condition: service_haelthy } }",
            "did you mean `service_healthy`?",
        ),
        ("depends_on: { db: {} }", "says no condition"),
        (
            "depends_on: { db: { condition: service_started, frob: 1 } }",
            "unknown key `frob`",
        ),
    ];
    for (web, words) in cases {
        let said = errors(&format!(
            "services:\n  web: {{ image: a, {web} }}\n  db: {{ image: b }}\n"
        ));
        assert!(said.contains(words), "{web}\n{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let around = "services:\n  a: { image: a, depends_on: [b] }\n  b: { image: a, links: [a] }\n";
    assert!(errors(around).contains("is a circle: a -> b -> a"));
    let linked = "services:\n  a: { image: a, links: [b] }\n  b: { image: a, links: [a] }\n";
    assert!(errors(linked).starts_with("services.a.links: depends_on is a circle"));
    // Each has its own words, once.
    assert_eq!(
        errors("services: { a: { image: a, links: [b] } }\n")
            .lines()
            .count(),
        1
    );
    let broken = "services:\n  web: { image: a, depends_on: [db] }\n  db: { imag: b }\n";
    assert!(!errors(broken).contains("which is not in the app"));
}
