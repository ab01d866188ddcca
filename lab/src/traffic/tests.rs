//! Generator and app against each other, over loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Failure, Plan, Tally, Target, run};
use crate::bench_app::{Ledger, Settings, serve};
use crate::kind::Kind;

/// Small and quick, with every kind in it.
fn plan(address: SocketAddr) -> Plan {
    let target = Target::parse(&address.to_string(), "192.168.56").unwrap();
    Plan {
        keep_alive_rate: 100.0,
        new_connection_rate: 50.0,
        slow_rate: 10.0,
        slow_ms: 100,
        download_rate: 5.0,
        download_s: 1,
        download_kib: 16,
        sockets: 4,
        socket_s: 1,
        echo_rate: 20.0,
        queue: Some(target),
        queue_clients: 3,
        queue_ms: 50,
        time_max: Duration::from_secs(2),
        ..Plan::standard(target)
    }
}

#[tokio::test]
async fn both_ledgers_tell_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = Settings {
        listen: address,
        grace: Duration::from_secs(5),
        ledger_to: None,
        replica: "one".to_owned(),
    };
    let (ledger, stop) = (Arc::new(Ledger::default()), CancellationToken::new());
    let app = tokio::spawn({
        let (ledger, stop) = (Arc::clone(&ledger), stop.clone());
        async move { serve(listener, &settings, ledger, stop).await }
    });
    let tally = Arc::new(Tally::default());
    run(plan(address), Arc::clone(&tally), CancellationToken::new()).await;
    stop.cancel();
    app.await.unwrap();
    let ledger = ledger.to_json("one", true);
    for kind in Kind::ALL {
        let counts = tally.counts(kind, false);
        assert!(counts.sent > 0, "{kind:?}: {counts:?}");
        assert_eq!((counts.failed, counts.ok), (0, counts.sent), "{kind:?}");
        let (written, answered) = tally.http(kind);
        let entry = &ledger["kinds"][kind.name()];
        let served = |what: &str| entry[what].as_u64().unwrap();
        assert_eq!(written, answered, "{kind:?}");
        assert_eq!(
            (served("finished"), served("cut")),
            (answered, 0),
            "{kind:?}"
        );
        if kind == Kind::WebSocket {
            assert_eq!(served("echoes"), counts.ok);
        }
    }
}

/// A server that answers each connection with these bytes and closes.
async fn wrong(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn every_kind_sees_what_is_not_a_whole_right_answer() {
    for (answer, failure) in [
        ("", Failure::NoAnswer),
        (
            "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
            Failure::Status(503),
        ),
        ("what is this?\r\n\r\n", Failure::BadHead),
    ] {
        let tally = Arc::new(Tally::default());
        let address = wrong(answer).await;
        run(plan(address), Arc::clone(&tally), CancellationToken::new()).await;
        for kind in Kind::ALL {
            let counts = tally.counts(kind, false);
            assert_eq!((counts.ok, counts.sent), (0, counts.failed), "{kind:?}");
            assert_eq!(
                tally.classes(false).get(&(kind, failure)),
                Some(&counts.failed),
                "{kind:?} {:?}",
                tally.classes(false)
            );
        }
    }
}

#[tokio::test]
async fn a_body_too_short_or_of_somebody_else_has_failed() {
    for (answer, failure) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
            Failure::Truncated,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            Failure::WrongBody,
        ),
    ] {
        let tally = Arc::new(Tally::default());
        let address = wrong(answer).await;
        run(plan(address), Arc::clone(&tally), CancellationToken::new()).await;
        for kind in Kind::ALL
            .into_iter()
            .filter(|kind| *kind != Kind::WebSocket)
        {
            let counts = tally.counts(kind, false);
            let of_class = tally.classes(false).get(&(kind, failure)).copied();
            assert_eq!((counts.ok, of_class), (0, Some(counts.failed)), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn what_overlaps_an_unplanned_event_is_counted_apart() {
    let tally = Tally::default();
    let now = std::time::Instant::now();
    let lost = Err(Failure::Reset);
    tally.count(Kind::Slow, "before", now, None, lost);
    tally.open_window();
    tally.count(Kind::Slow, "across", now, Some("r1"), lost);
    tally.close_window();
    let after = std::time::Instant::now();
    tally.count(Kind::Slow, "across to its end", now, None, Ok(()));
    tally.count(Kind::Slow, "after", after, None, Ok(()));
    let (planned, apart) = (
        tally.counts(Kind::Slow, false),
        tally.counts(Kind::Slow, true),
    );
    assert_eq!((planned.ok, planned.failed), (1, 1));
    assert_eq!((apart.ok, apart.failed), (1, 1));
}

#[test]
fn several_targets_share_the_load_and_tell_their_requests_apart() {
    let target = |ip: &str| Target::parse(&format!("{ip}:80"), "192.168.56").unwrap();
    let alone = Plan::shared_by(vec![("edge", target("127.0.0.1"))]);
    assert_eq!(alone, [Plan::standard(target("127.0.0.1"))]);
    let pair = vec![
        ("edge", target("127.0.0.1")),
        ("edge2", target("127.0.0.2")),
    ];
    let pair = Plan::shared_by(pair);
    let sum: f64 = pair.iter().map(|plan| plan.keep_alive_rate).sum();
    assert!((sum - alone[0].keep_alive_rate).abs() < 1e-9);
    let sockets: u32 = pair.iter().map(|plan| plan.sockets).sum();
    assert_eq!(sockets, alone[0].sockets);
    assert_eq!((&*pair[0].tag, &*pair[1].tag), ("@edge", "@edge2"));
}
