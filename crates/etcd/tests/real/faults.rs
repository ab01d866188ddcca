//! Members that are frozen, killed, or of another cluster.

use std::time::Instant;

use longshore_etcd::{Client, Compare, EtcdError, Op, Outcome, Range, Settings, Span, Txn};

use longshore_etcd_host::{Cluster, Way, patient, until};

fn any() -> Range {
    Range::of(Span::prefix("k"))
}

#[tokio::test]
async fn one_endpoint_is_held_on_to_and_left_when_it_is_frozen() {
    let cluster = Cluster::start(3).await;
    let client = cluster.client();
    client.range(any()).await.unwrap();
    let held = client.status().await.unwrap().endpoint;
    for _ in 0..20 {
        assert_eq!(client.status().await.unwrap().endpoint, held);
    }
    cluster.members[cluster.place(&held)].freeze();
    let begun = Instant::now();
    until("another endpoint serves", async || {
        let rows = client.range(any()).await;
        rows.map_err(|error| error.to_string())
    })
    .await;
    println!(
        "frozen endpoint left, another serves: {:?}",
        begun.elapsed()
    );
    assert_ne!(client.status().await.unwrap().endpoint, held);
}

#[tokio::test]
async fn a_write_that_a_frozen_member_may_have_made_is_unknown_and_not_made_twice() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client();
    client.range(any()).await.unwrap();
    cluster.members[0].freeze();
    let put = || {
        Txn::new()
            .when(Compare::absent("k"))
            .then(Op::put("k", "v"))
    };
    let error = client.txn(put()).await.unwrap_err();
    assert!(matches!(error, EtcdError::Unknown { .. }), "{error}");
    // Nobody is held on to now, and nothing is sent.
    let error = client.txn(put()).await.unwrap_err();
    assert!(matches!(error, EtcdError::NoEndpoint { .. }), "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    let error = client.range(any()).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    cluster.members[0].thaw();
    let rows = until("it serves again", async || {
        client.range(any()).await.map_err(|error| error.to_string())
    })
    .await;
    // The kernel had taken the bytes, so it was made in the end; but once at most.
    assert!(
        rows.count <= 1 && rows.rows.iter().all(|row| row.version == 1),
        "{rows:?}"
    );
}

#[tokio::test]
async fn the_death_of_etcds_leader_is_survived() {
    let mut cluster = Cluster::start(3).await;
    let client = cluster.client();
    client.range(any()).await.unwrap();
    let leader = cluster.leader().await;
    let begun = Instant::now();
    cluster.members[leader].kill();
    until("a write is made", async || {
        let put = Txn::new().then(Op::put("k", "v"));
        client.txn(put).await.map_err(|error| error.to_string())
    })
    .await;
    println!(
        "etcd's leader killed, the next write made: {:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_minority_is_no_endpoint() {
    let mut cluster = Cluster::start(3).await;
    let client = Client::new(Settings::new(&[&cluster.members[0].url], None).unwrap());
    client.range(any()).await.unwrap();
    cluster.members[1].kill();
    cluster.members[2].kill();
    until("it is told from one that serves", async || {
        match client.range(any()).await {
            Err(EtcdError::NoEndpoint { tried, .. }) if tried.0.len() == 1 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_of_another_cluster_is_refused() {
    let (ours, theirs) = (
        Cluster::start(1).await,
        Cluster::with(1, &["--initial-cluster-token", "b"]).await,
    );
    let client = patient(&ours.urls());
    client.range(any()).await.unwrap();
    let mut settings = Settings::new(&theirs.urls(), None).unwrap();
    settings.cluster_id = client.cluster_id();
    let error = Client::new(settings).range(any()).await.unwrap_err();
    assert!(matches!(error, EtcdError::NoEndpoint { .. }), "{error}");
    assert!(error.to_string().contains("it is of cluster"), "{error}");
}

#[tokio::test]
async fn hints_outlive_compaction_and_a_change_of_endpoint() {
    let cluster = Cluster::start(3).await;
    let ways = [
        Way::to(&cluster.members[0].url).await,
        Way::to(&cluster.members[1].url).await,
    ];
    let urls: Vec<&str> = ways.iter().map(|way| &*way.url).collect();
    let client = Client::new(Settings::new(&urls, None).unwrap());
    let other = patient(&[&cluster.members[2].url]);
    let mut hints = client.hints(Span::prefix("k"));
    let put = async || {
        let put = Txn::new().then(Op::put("k", "v"));
        other.txn(put).await.unwrap().revision
    };
    hints.next().await; // The watch is open.
    let revision = put().await;
    hints.next().await;
    other.compact(revision).await.unwrap();
    put().await;
    hints.next().await;
    let held = client.status().await.unwrap().endpoint;
    let place = usize::from(ways[1].url == held);
    ways[place].cut();
    // Pings would find it, too; a call does sooner.
    until("the other way is taken", async || {
        match client.status().await {
            Ok(status) if status.endpoint != held => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    hints.next().await; // Something may have been missed in between.
    put().await;
    hints.next().await;
}
