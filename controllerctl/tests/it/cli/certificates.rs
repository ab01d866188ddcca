//! `up` and the certificates that edges take, or do not.

use super::fake::Cluster;
use super::run;

#[test]
fn a_certificate_that_an_edge_refuses_ends_with_4_and_what_became_of_it() {
    let cluster = Cluster::start();
    let up = |image: &str| {
        let file = cluster.compose(image);
        run(
            &cluster,
            &["up", "-f", &file, "-y", "--wait-timeout", "300ms"],
        )
    };
    let (code, _, err) = up("weak");
    assert_eq!(code, 4, "{err}");
    for words in [
        "app/web: edge2 refuses the new certificate cert: unable to load it",
        "the certificate before goes on being served there",
        "where secret cert comes from, then: controllerctl up",
    ] {
        assert!(err.contains(words), "no {words:?}: {err}");
    }
    assert!(!err.contains("renewed"), "{err}");
    let restart = || cluster.fake.world().services.clear();
    restart();
    let (code, _, err) = up("certless");
    assert_eq!(code, 5, "nothing is served in its place: {err}");
    restart();
    let (code, _, err) = up("late");
    assert_eq!(code, 7, "{err}");
    let words = "certificate cert is on its way to edge2: it is not connected";
    assert!(err.contains(words), "{err}");
    restart();
    let (code, _, err) = up("renewed");
    assert_eq!(code, 0, "{err}");
    let words = "certificate cert renewed; served by edge1; not waited for: edge2 (it is not \
                 connected; it gets it when it is back)";
    assert!(err.contains(words), "{err}");
}
