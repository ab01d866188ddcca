//! Certificates whose time is over, by whichever clock.

use super::*;
use longshore_identity::ca::pem_of_certificates;
use longshore_identity::key::KeyPair;
use longshore_identity::tls::CertificateRefusal;

impl Cluster {
    fn renewals(&self) -> usize {
        self.lates.renewed.load(Ordering::SeqCst)
    }

    /// Lets the certificate of a node that has joined be over for so long.
    fn age(&self, dir: &Path, since: Duration) {
        let store = IdentityDir::new(dir);
        let key = KeyPair::from_pem(&store.key_pem().unwrap()).unwrap();
        let (csr, then) = (key.csr_der("w1").unwrap(), SystemTime::now() - since - DAY);
        let identity = Identity::Node(NodeId::new("w1").unwrap());
        let roles = Roles::default();
        let leaf = self
            .ca
            .issue_from_csr(&csr, &identity, roles, &[], DAY, then);
        let chain = pem_of_certificates([&leaf.unwrap()[..]]);
        store.replace_cert(&chain).unwrap();
    }
}

async fn joined() -> (Cluster, tempfile::TempDir) {
    let (cluster, dir) = (cluster().await, tempfile::tempdir().unwrap());
    join(&options(&cluster, dir.path())).await.unwrap();
    (cluster, dir)
}

fn identity(dir: &Path) -> NodeIdentity {
    IdentityDir::new(dir).load().unwrap()
}

#[tokio::test]
async fn a_node_that_was_away_for_too_long_renews_before_its_session() {
    let (mut cluster, dir) = joined().await;
    cluster.age(dir.path(), DAY);
    assert!(identity(dir.path()).is_late(SystemTime::now()));
    let _agent = start(dir.path(), FakeRuntime::default());
    cluster.session().await.welcome().await;
    assert_eq!(cluster.renewals(), 1);
    assert!(!identity(dir.path()).is_late(SystemTime::now()), "kept");
}

#[tokio::test]
async fn whether_it_is_over_is_the_controllers_word() {
    let (mut cluster, dir) = joined().await;
    cluster.lates.is_ahead.store(true, Ordering::SeqCst);
    let _agent = start(dir.path(), FakeRuntime::default());
    cluster.session().await.welcome().await;
    assert_eq!(cluster.renewals(), 1);
}

#[tokio::test]
async fn a_node_whose_clock_is_ahead_renews_once_and_has_its_session() {
    let (cluster, dir) = joined().await;
    cluster.age(dir.path(), DAY);
    // What it gets is over by its clock, too.
    cluster.lates.is_behind.store(true, Ordering::SeqCst);
    let (identity, store) = (identity(dir.path()), IdentityDir::new(dir.path()));
    let mut late = Late::Unknown;
    late.renew_first(&identity, &store).await.unwrap();
    assert_eq!((late, cluster.renewals()), (Late::ClockIsWrong, 1));
    late.renew_first(&identity, &store).await.unwrap();
    assert_eq!(cluster.renewals(), 1, "a session is tried next");
    // Unless the controller says the same.
    late = Late::Told;
    cluster.lates.is_behind.store(false, Ordering::SeqCst);
    late.renew_first(&identity, &store).await.unwrap();
    assert_eq!((late, cluster.renewals()), (Late::Unknown, 2));
}

#[tokio::test]
async fn two_that_renew_at_the_same_time_are_given_one_certificate() {
    let (cluster, dir) = joined().await;
    let (identity, store) = (identity(dir.path()), IdentityDir::new(dir.path()));
    let (one, other) = tokio::join!(renew(&store, &identity), renew(&store, &identity));
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    assert_eq!(cluster.renewals(), 1);
}

#[tokio::test]
async fn a_certificate_that_is_over_for_too_long_names_the_way_out() {
    let (cluster, dir) = joined().await;
    cluster.age(dir.path(), 31 * DAY);
    let (identity, store) = (identity(dir.path()), IdentityDir::new(dir.path()));
    let refused = Late::Unknown.renew_first(&identity, &store).await;
    let why = refused.unwrap_err();
    let expired = CertificateRefusal::Expired;
    assert!(
        matches!(why, SessionError::Certificate { refusal, .. } if refusal == expired),
        "{why:?}"
    );
    assert!(
        why.is_refusal() && why.to_string().contains("token create"),
        "{why}"
    );
}

#[tokio::test]
async fn who_has_a_token_need_not_wait_for_a_late_renewal() {
    let (cluster, dir) = joined().await;
    cluster.age(dir.path(), DAY);
    join(&options(&cluster, dir.path())).await.unwrap();
    assert!(!identity(dir.path()).is_late(SystemTime::now()));
    assert_eq!(cluster.renewals(), 0);
}
