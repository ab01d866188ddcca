//! Joins: what is asked, what is stored, what a failed one leaves.

use longshore_identity::tls::peer_info;

use super::*;
use crate::join::{JoinError, dial};

#[tokio::test]
async fn joining_stores_a_private_identity_and_refuses_a_second_time() {
    use std::os::unix::fs::PermissionsExt;
    let (cluster, dir) = (cluster().await, tempfile::tempdir().unwrap());
    let file = join(&options(&cluster, dir.path())).await.unwrap();
    assert_eq!((file.node.as_str(), file.cluster.as_str()), ("w1", "test"));
    let mode = |path: &str| {
        std::fs::metadata(dir.path().join(path))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode("identity"), mode("identity/key.pem")), (0o700, 0o600));
    let again = join(&options(&cluster, dir.path()))
        .await
        .unwrap_err()
        .to_string();
    assert!(again.contains("already enrolled"), "{again}");
    let key = dir.path().join("identity/key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = IdentityDir::new(dir.path()).load().unwrap_err().to_string();
    assert!(open.contains("may be read by others"), "{open}");
}

#[tokio::test]
async fn every_failed_join_says_why_and_leaves_nothing() {
    let (cluster, other) = (cluster().await, cluster().await);
    let dir = tempfile::tempdir().unwrap();
    let good = || options(&cluster, dir.path());
    let wrong_secret = Token::generate(TokenKind::Join, cluster.ca.digest())
        .unwrap()
        .to_string();
    let cases = [
        (
            JoinOptions {
                token: "lsj1.x".into(),
                ..good()
            },
            "controllerctl token create",
        ),
        (
            JoinOptions {
                token: wrong_secret,
                ..good()
            },
            "the token is unknown",
        ),
        (
            JoinOptions {
                token: other.token.clone(),
                ..good()
            },
            "another cluster's CA",
        ),
        (
            JoinOptions {
                controller: "https://127.0.0.1:1".into(),
                ..good()
            },
            "refused",
        ),
        (
            JoinOptions {
                controller: "10.0.0.1".into(),
                ..good()
            },
            "https://",
        ),
        (
            JoinOptions {
                name: "W 1".into(),
                ..good()
            },
            "--name",
        ),
    ];
    for (options, words) in cases {
        let why = join(&options).await.unwrap_err().to_string();
        assert!(why.contains(words), "{why:?} does not say {words:?}");
        // The key may stay, for the next try.
        let enrolled = ["identity/cert.pem", "identity/ca.pem", "node.toml"];
        assert!(
            !enrolled.iter().any(|f| dir.path().join(f).exists()),
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_join_is_prepared_before_its_token_is_spent_and_repeated_with_the_same_key() {
    let (cluster, dir) = (cluster().await, tempfile::tempdir().unwrap());
    let blocked = dir.path().join("blocked");
    std::fs::write(&blocked, "").unwrap();
    // Nobody listens there: had it asked first, it would speak of that.
    let away = JoinOptions {
        controller: "https://127.0.0.1:1".into(),
        ..options(&cluster, &blocked)
    };
    let why = join(&away).await.unwrap_err();
    assert!(matches!(why, JoinError::Identity(_)), "{why:?}");
    let away = JoinOptions {
        data_dir: dir.path().to_owned(),
        ..away
    };
    let why = join(&away).await.unwrap_err();
    assert!(matches!(why, JoinError::Connect(_)), "{why:?}");
    let key = || std::fs::read(dir.path().join("identity/key.pem")).unwrap();
    let before = key();
    join(&options(&cluster, dir.path())).await.unwrap();
    assert_eq!(key(), before, "a repeated join must show the same key");
}

#[tokio::test]
async fn a_node_whose_certificate_was_revoked_says_the_way_out_and_joins_again() {
    let (cluster, dir) = (cluster().await, tempfile::tempdir().unwrap());
    join(&options(&cluster, dir.path())).await.unwrap();
    let identity = IdentityDir::new(dir.path()).load().unwrap();
    let leaf = identity.certs.leaf_der().unwrap();
    let peer = peer_info(Some(&[leaf]), "127.0.0.1:1".parse().unwrap()).unwrap();
    cluster.trust.revoke([peer.serial]);
    let refused = dial(&identity).await.unwrap_err();
    let why = SessionError::dialled(refused, &identity.file);
    assert!(why.is_refusal(), "{why:?}");
    for word in [
        "was revoked",
        "token create",
        "node-agent join",
        "--name w1",
    ] {
        assert!(why.to_string().contains(word), "no {word}: {why}");
    }
    assert_eq!(Chain(&why).to_string(), why.to_string(), "said once");
    // A running agent takes the new certificate over by itself.
    let store = IdentityDir::new(dir.path());
    assert!(!take_over(&identity, &store), "there is no new one yet");
    join(&options(&cluster, dir.path())).await.unwrap();
    assert!(take_over(&identity, &store));
    dial(&identity).await.expect("the new certificate is taken");
}
