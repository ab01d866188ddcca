//! What etcd does with our calls.

use std::time::Duration;

use longshore_etcd::limits::{TXN_BYTES_MAX, TXN_OPS_MAX};
use longshore_etcd::{Compare, EtcdError, Op, Outcome, Range, Refusal, Reply, Span, Txn};

use longshore_etcd_host::{Cluster, patient, until};

async fn one() -> (Cluster, longshore_etcd::Client) {
    let cluster = Cluster::start(1).await;
    let client = patient(&cluster.urls());
    (cluster, client)
}

#[tokio::test]
async fn a_transaction_goes_one_way_or_the_other() {
    let (_cluster, client) = one().await;
    let make = || {
        Txn::new()
            .when(Compare::absent("a/1"))
            .then(Op::put("a/1", "x"))
            .then(Op::put("a/2", "y"))
            .otherwise(Op::Get(Range::of(Span::prefix("a/"))))
    };
    let first = client.txn(make()).await.unwrap();
    assert!(first.succeeded);
    assert_eq!(first.replies, [Reply::Put, Reply::Put]);
    let second = client.txn(make()).await.unwrap();
    assert!(!second.succeeded);
    let Reply::Got(rows) = &second.replies[0] else {
        panic!("{second:?}");
    };
    assert_eq!((rows.count, rows.rows[1].value.as_slice()), (2, &b"y"[..]));
    assert_eq!(rows.rows[0].create_revision, first.revision);
    let lease = client.grant(Duration::from_secs(60)).await.unwrap().id;
    // Each comparison, true and not.
    let at = first.revision;
    for (compare, holds) in [
        (Compare::created_at("a/1", at), true),
        (Compare::created_at("a/1", at + 1), false),
        (Compare::modified_at("a/1", at), true),
        (Compare::modified_at("a/1", at - 1), false),
        (Compare::version("a/1", 1), true),
        (Compare::version("a/1", 2), false),
        (Compare::value("a/1", "x"), true),
        (Compare::value("a/1", "y"), false),
        (Compare::lease("a/1", lease), false),
        (Compare::present("a/1"), true),
        (Compare::present("a/3"), false),
    ] {
        let shown = format!("{compare:?}");
        let txn = Txn::new()
            .when(compare)
            .then(Op::Get(Range::of(Span::key("a/1"))));
        assert_eq!(client.txn(txn).await.unwrap().succeeded, holds, "{shown}");
    }
    let gone = Txn::new().then(Op::Delete(Span::prefix("a/")));
    assert_eq!(client.txn(gone).await.unwrap().replies, [Reply::Deleted(2)]);
    let past = Range::of(Span::prefix("a/")).at(at).limit(1).keys_only();
    let past = client.range(past).await.unwrap();
    assert!(past.is_cut() && past.rows[0].value.is_empty(), "{past:?}");
    client.compact(at + 1).await.unwrap();
    let past = Range::of(Span::prefix("a/")).at(at);
    let error = client.range(past).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&Refusal::Compacted), "{error}");
}

#[tokio::test]
async fn rows_go_with_their_lease() {
    let (_cluster, client) = one().await;
    let lease = client.grant(Duration::from_secs(2)).await.unwrap();
    let put = Txn::new().then(Op::put_with("k", "v", lease.id));
    client.txn(put.clone()).await.unwrap();
    assert_eq!(client.keep_alive(lease.id).await.unwrap(), Some(lease.ttl));
    let left = client.time_to_live(lease.id).await.unwrap().unwrap();
    assert_eq!((left.granted, left.keys), (lease.ttl, vec![b"k".to_vec()]));
    until("the row goes", async || {
        match client.range(Range::of(Span::key("k"))).await.unwrap().count {
            0 => Ok(()),
            n => Err(format!("{n} rows")),
        }
    })
    .await;
    assert_eq!(client.keep_alive(lease.id).await.unwrap(), None);
    assert_eq!(client.time_to_live(lease.id).await.unwrap(), None);
    client.revoke(lease.id).await.unwrap();
    let error = client.txn(put).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&Refusal::LeaseGone), "{error}");
}

#[tokio::test]
async fn what_is_as_large_as_etcd_takes_is_taken_and_no_more() {
    let (_cluster, client) = one().await;
    let ops = |n| (0..n).fold(Txn::new(), |txn, n| txn.then(Op::put(format!("{n}"), "")));
    assert!(client.txn(ops(TXN_OPS_MAX)).await.unwrap().succeeded);
    let error = client.txn(ops(TXN_OPS_MAX + 1)).await.unwrap_err();
    assert!(
        matches!(
            error,
            EtcdError::TooLarge {
                size: 129,
                max: 128,
                ..
            }
        ),
        "{error}"
    );
    let bytes = |n: usize| Txn::new().then(Op::put("k", vec![7; n]));
    // What surrounds a value of this size: its key, four tags, their lengths.
    let around = 15;
    let most = TXN_BYTES_MAX - around;
    assert!(client.txn(bytes(most)).await.unwrap().succeeded);
    let error = client.txn(bytes(most + 1)).await.unwrap_err();
    assert!(
        matches!(error, EtcdError::TooLarge { size, .. } if size == TXN_BYTES_MAX + 1),
        "{error}"
    );
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_told_from_silence() {
    let (_cluster, client) = one().await;
    for n in 0..17 {
        let put = Txn::new().then(Op::put(format!("k{n}"), vec![7; 1 << 20]));
        client.txn(put).await.unwrap();
    }
    let error = client
        .range(Range::of(Span::prefix("k")))
        .await
        .unwrap_err();
    assert!(matches!(error, EtcdError::AnswerTooLarge { .. }), "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    let fewer = Range::of(Span::prefix("k")).limit(12);
    assert!(client.range(fewer).await.unwrap().is_cut());
}

/// Why [`Refusal::NoSpace`] is no proof that nothing was changed. Which write it is depends on when
/// etcd looks at its file, and in about one round of twenty none is hit: hence the rounds.
#[tokio::test]
async fn the_write_that_fills_etcd_up_is_refused_and_made() {
    for _ in 0..10 {
        let cluster = Cluster::with(1, &["--quota-backend-bytes", "4000000"]).await;
        let client = patient(&cluster.urls());
        for key in refused_puts(&client).await {
            let rows = client.range(Range::of(Span::key(key))).await;
            if rows.unwrap().count == 1 {
                return;
            }
        }
    }
    panic!("nothing that was refused was made");
}

/// Puts at the same time, until some are refused; the keys of those.
async fn refused_puts(client: &longshore_etcd::Client) -> Vec<String> {
    for batch in 0..40 {
        let mut puts = tokio::task::JoinSet::new();
        for n in 0..16 {
            let (client, key) = (client.clone(), format!("k{batch}/{n}"));
            puts.spawn(async move {
                let put = Txn::new().then(Op::put(key.clone(), vec![7; 50_000]));
                (key, client.txn(put).await)
            });
        }
        let mut refused = Vec::new();
        for (key, answer) in puts.join_all().await {
            if let Err(error) = answer {
                assert_eq!(error.refusal(), Some(&Refusal::NoSpace), "{error}");
                assert_eq!(error.outcome(), Outcome::Unknown);
                refused.push(key);
            }
        }
        if !refused.is_empty() {
            return refused;
        }
    }
    panic!("it never filled up");
}

#[tokio::test]
async fn a_full_etcd_says_the_way_out() {
    let cluster = Cluster::with(1, &["--quota-backend-bytes", "2000000"]).await;
    let client = patient(&cluster.urls());
    let error = until("it is full", async || {
        let put = Txn::new().then(Op::put("k", vec![7; 500_000]));
        match client.txn(put).await {
            Ok(_) => Err("it takes more".to_owned()),
            Err(error) => Ok(error),
        }
    })
    .await;
    assert_eq!(error.refusal(), Some(&Refusal::NoSpace), "{error}");
    assert!(
        error.to_string().contains("etcdctl alarm disarm"),
        "{error}"
    );
    let alarms = client.status().await.unwrap().alarms;
    assert!(
        alarms.iter().any(|alarm| alarm.contains("NOSPACE")),
        "{alarms:?}"
    );
}
