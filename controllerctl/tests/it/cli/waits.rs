//! `wait`: what can be waited for, of what, and how it ends.

use super::fake::Cluster;
use super::run;

#[test]
fn a_replica_and_a_node_are_waited_for_as_services_are() {
    let cluster = Cluster::start();
    for (target, state) in [
        ("hello", "running"),
        ("hello.1", "running"),
        ("hello.1", "healthy"),
        ("node/node1", "running"),
        ("nobody.7", "deleted"),
        ("nobody", "deleted"),
    ] {
        let (code, _, err) = run(&cluster, &["wait", target, "--for", state]);
        assert_eq!(code, 0, "{target} {state}: {err}");
    }
    let wait = ["wait", "node1", "--for", "drained", "--timeout", "300ms"];
    let (code, _, err) = run(&cluster, &wait);
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("controllerctl node drain node1"), "{err}");
    // One that may come.
    let wait = ["wait", "hello.9", "--for", "healthy", "--timeout", "300ms"];
    let (code, _, err) = run(&cluster, &wait);
    assert_eq!(code, 7, "{err}");
    assert!(err.contains("there is no such replica now"), "{err}");
}

#[test]
fn what_has_no_meaning_is_refused_with_what_has() {
    let cluster = Cluster::start();
    for (target, state, kind) in [
        ("hello", "drained", "an app"),
        ("hello.1", "stable", "a replica"),
        ("node1", "stable", "a node"),
    ] {
        let (code, _, err) = run(&cluster, &["wait", target, "--for", state]);
        assert_eq!(code, 2, "{target} {state}: {err}");
        let can = format!("{kind} can be waited for with --for ");
        assert!(err.contains(&can), "{err}");
    }
    let (code, _, err) = run(&cluster, &["wait", "helo.1", "--for", "drained"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("no app, service, replica or node"), "{err}");
}
