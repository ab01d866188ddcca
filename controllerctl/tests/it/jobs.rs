//! Services that run once until they end.

use longshore_model::depends::Until;

use crate::networks::{errors, name, taken, warnings};

/// Times that `migrate` is started at most, and what is said.
fn tries(migrate: &str) -> (u32, Vec<String>) {
    let text = format!(
        "services:\n  migrate: {{ image: a{migrate} }}\n  web: {{ image: b, depends_on: {{ migrate: \
         {{ condition: service_completed_successfully }} }} }}\n"
    );
    let loaded = taken(&text);
    let web = &loaded.services[&name("web")];
    assert_eq!(web.depends_on[&name("migrate")], Until::Completed);
    assert!(web.job.is_none());
    let job = loaded.services[&name("migrate")].job.unwrap();
    (job.tries_max, warnings(&loaded))
}

#[test]
fn whose_end_is_waited_for_is_a_job_and_tried_as_often_as_its_file_says() {
    let table = [
        ("", 1),
        (", restart: \"no\"", 1),
        (", restart: on-failure", 0),
        (", restart: \"on-failure:3\"", 4),
        (", deploy: { restart_policy: { condition: none } }", 1),
        (", deploy: { restart_policy: { condition: on-failure } }", 0),
        (
            ", deploy: { restart_policy: { condition: on-failure, max_attempts: 2 } }",
            3,
        ),
        (
            ", restart: on-failure, deploy: { restart_policy: { condition: none } }",
            1,
        ),
    ];
    for (migrate, expected) in table {
        assert_eq!(tries(migrate), (expected, vec![]), "{migrate}");
    }
    let (most, said) = tries(", restart: always");
    assert_eq!(most, 0);
    assert_eq!(
        said,
        ["services.migrate.restart: a job is not started again once it has ended with 0"]
    );
}

#[test]
fn a_mode_makes_a_job_of_what_nobody_waits_for() {
    let loaded = taken("services: { tidy: { image: a, deploy: { mode: replicated-job } } }\n");
    let tidy = &loaded.services[&name("tidy")];
    assert_eq!(tidy.job.map(|job| job.tries_max), Some(1));
    assert_eq!(tidy.replicas, 1);
}

#[test]
fn what_only_services_that_stay_up_have_is_refused() {
    let table = [
        ("ports: [\"80:80\"]", "so it publishes no ports"),
        (
            "x-autoscale: { max: 3, node_cpu: 60% }",
            "does not follow the load",
        ),
        ("deploy: { replicas: 2 }", "as one replica"),
        ("restart: \"on-failure:x\"", "is no number of restarts"),
    ];
    for (migrate, words) in table {
        let said = errors(&format!(
            "services:\n  migrate: {{ image: a, {migrate} }}\n  web: {{ image: b, depends_on: {{ \
             migrate: {{ condition: service_completed_successfully }} }} }}\n"
        ));
        assert!(said.contains(words), "{migrate}: {said}");
        assert!(said.starts_with("services.migrate"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    let global = errors("services: { tidy: { image: a, deploy: { mode: global-job } } }\n");
    assert!(global.contains("write mode: replicated-job"), "{global}");
}
