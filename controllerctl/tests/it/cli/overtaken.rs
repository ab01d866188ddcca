//! Commands that somebody else overtakes while they wait: they say so, with a code of its own.

use longshore_proto::control::v1 as pb;

use super::fake::{Cluster, service};
use super::run;

/// A service of the app in `Cluster::compose`, at a revision.
fn web(revision: u64) -> pb::Service {
    let mut web = service("app", "web", 1);
    (web.revision, web.serving) = (revision, 0);
    web
}

/// Ends with 8, says these words once, and does not claim to have done it.
fn ends(cluster: &Cluster, args: &[&str], words: &str) {
    let (code, out, err) = run(cluster, args);
    assert_eq!((code, out.as_str()), (8, ""), "{args:?}: {err}");
    assert_eq!(err.matches(words).count(), 1, "{words}, once: {err}");
}

#[test]
fn a_down_that_an_up_overtakes_says_that_the_app_stays() {
    let cluster = Cluster::start();
    let again = service("hello", "hello", 2);
    cluster.fake.world().meanwhile = Some(vec![again]);
    let words = "hello: overtaken: it was applied again meanwhile (revision 1), and stays";
    ends(&cluster, &["down", "hello", "-y"], words);
}

#[test]
fn an_up_that_a_down_or_another_up_overtakes_says_which() {
    for (left, words) in [
        (vec![], "app: overtaken: it was taken down meanwhile"),
        (vec![web(0)], "app: overtaken: it was taken down meanwhile"),
        (
            vec![web(8)],
            "revision 8 was applied meanwhile, and revision 7 is not wanted any more",
        ),
        (
            vec![web(2)],
            "taken down and applied anew meanwhile (revision 2)",
        ),
    ] {
        let cluster = Cluster::start();
        let file = cluster.compose("fine");
        cluster.fake.world().revision = 6;
        cluster.fake.world().meanwhile = Some(left);
        ends(&cluster, &["up", "-f", &file, "-y"], words);
    }
    // What serves by now is not what was asked for, even if it is as many.
    let cluster = Cluster::start();
    let file = cluster.compose("fine");
    let mut other = web(2);
    other.serving = 1;
    cluster.fake.world().meanwhile = Some(vec![other]);
    let words = "revision 2 was applied meanwhile";
    ends(&cluster, &["up", "-f", &file, "-y"], words);
}

#[test]
fn a_count_and_a_restart_end_with_their_service() {
    for args in [&["scale", "hello=3"][..], &["restart", "hello", "-y"]] {
        let cluster = Cluster::start();
        cluster.fake.world().meanwhile = Some(Vec::new());
        ends(
            &cluster,
            args,
            "hello/hello: overtaken: it was taken down meanwhile",
        );
    }
}
