//! Weights by load: live, after a restart, through a reload, and put right.

use longshore_model::ReplicaId;
use longshore_model::observe::ServerAdmin;
use longshore_model::route::{Balance, Weights};
use longshore_model::routes::Backend;
use longshore_model::routes::ServerMode::Serve;

use crate::host::{Host, Replica, free_port, get, http, routes, until};

/// A way in to these replicas with these weights.
fn weighed(port: u16, replicas: &[(&Replica, Option<u8>)], balance: Balance) -> Backend {
    let servers = replicas.iter().map(|(replica, weight)| {
        let mut server = replica.server(Serve);
        server.weight = *weight;
        server
    });
    let mut backend = http("shop/web", port, servers.collect());
    backend.route.weights = Weights::Load;
    backend.route.balance = balance;
    backend
}

/// What HAProxy says of two slots: the weight as set, and as its file has it.
async fn said(host: &Host) -> Vec<(String, String)> {
    let states = host.by_hand("show servers state").await;
    let rows = states.lines().filter(|line| line.contains(" be_shop_"));
    let fields = rows.map(|row| row.split(' ').map(str::to_owned).collect::<Vec<_>>());
    let held = fields.filter(|row| row[4] != "127.0.0.1" || row[18] != "1");
    held.map(|row| (row[7].clone(), row[8].clone())).collect()
}

fn weights(said: &[(String, String)]) -> Vec<&str> {
    said.iter().map(|(user, _)| user.as_str()).collect()
}

/// Of so many requests, how many each replica answered.
async fn shares(port: u16, requests: usize) -> (usize, usize) {
    let mut first = 0;
    for _ in 0..requests {
        let (_, body) = get(port, "/", "x").await.unwrap();
        first += usize::from(body == "r1");
    }
    (first, requests - first)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_shift_traffic_live_and_survive_a_restart_and_a_reload() {
    let mut host = Host::start().await;
    let (port, other, third) = (free_port(), free_port(), free_port());
    let replicas = [Replica::start(1).await, Replica::start(2).await];
    let web = |a, b| {
        weighed(
            port,
            &[(&replicas[0], a), (&replicas[1], b)],
            Balance::Roundrobin,
        )
    };
    host.serve(1, vec![web(Some(100), Some(100))]).await;
    assert_eq!(weights(&said(&host).await), ["100", "100"]);

    // Absolute, without a reload, and one command for one weight.
    let applied = host
        .edge
        .apply(&routes(2, vec![web(Some(100), Some(25))]))
        .await
        .unwrap();
    assert_eq!(
        (applied.generation, applied.steps, applied.reloaded),
        (2, 1, false)
    );
    assert_eq!(weights(&said(&host).await), ["100", "25"]);
    let (first, second) = shares(port, 200).await;
    assert!(
        (150..=170).contains(&first) && second == 200 - first,
        "{first} {second}"
    );
    let again = host.edge.tick().await.unwrap();
    assert_eq!((again.steps, again.repaired.len()), (0, 0), "{again:?}");

    // A restart serves by the file before anybody speaks to it.
    host.stop_haproxy();
    host.start_haproxy().await;
    assert_eq!(weights(&said(&host).await), ["100", "25"]);

    // A reload for another service: by the file and the snapshot, without a repair.
    let more = |name: &str, port: u16| http(name, port, vec![replicas[0].server(Serve)]);
    let backends = vec![web(Some(100), Some(40)), more("shop/api", other)];
    let applied = host.serve(3, backends).await;
    assert!(applied.reloaded);
    assert_eq!(weights(&said(&host).await)[1..], ["100", "40"]);
    // Back to what the file had when the worker began, and on through one more reload.
    let backends = vec![web(Some(100), Some(25)), more("shop/api", other)];
    host.serve(4, backends).await;
    let backends = |weight| {
        let third = more("shop/third", third);
        vec![web(Some(100), Some(weight)), more("shop/api", other), third]
    };
    let applied = host.serve(5, backends(40)).await;
    assert!(applied.reloaded);
    assert_eq!(weights(&said(&host).await)[2..], ["100", "40"]);

    // Without the key all are equal again.
    let mut plain = backends(40);
    plain[0].route.weights = Weights::Equal;
    let applied = host.serve(6, plain).await;
    assert!(!applied.reloaded);
    assert_eq!(weights(&said(&host).await)[2..], ["1", "1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weight_set_by_hand_is_put_right_and_a_slow_start_is_not_drift() {
    let mut host = Host::start().await;
    let port = free_port();
    let replicas = [Replica::start(1).await, Replica::start(2).await];
    let web = |count: usize| {
        let all = [(&replicas[0], Some(100)), (&replicas[1], Some(60))];
        let mut backend = weighed(port, &all[..count], Balance::Leastconn);
        backend.route.slowstart_ms = 60_000;
        vec![backend]
    };
    host.serve(1, web(1)).await;
    host.serve(2, web(2)).await;
    // It is on its way up, with its weight as it was set.
    assert_eq!(weights(&said(&host).await), ["100", "60"]);
    let stat = host.by_hand("show stat").await;
    let row = stat.lines().find(|line| line.contains(",slot2,")).unwrap();
    let now: u32 = row.split(',').nth(18).unwrap().parse().unwrap();
    assert!(now < 60, "not in its slow start: {row}");
    let quiet = host.edge.tick().await.unwrap();
    assert_eq!((quiet.steps, quiet.repaired.len()), (0, 0), "{quiet:?}");

    let backend = said_backend(&host).await;
    host.by_hand(&format!("set server {backend}/slot2 weight 200"))
        .await;
    let ticked = host.edge.tick().await.unwrap();
    assert_eq!(ticked.repaired.len(), 1, "{ticked:?}");
    assert!(
        ticked.repaired[0].ends_with("(r2) had another weight"),
        "{ticked:?}"
    );
    assert_eq!(weights(&said(&host).await), ["100", "60"]);
    let seen = host.read().await.server(ReplicaId(2)).unwrap();
    assert_eq!(seen.admin, ServerAdmin::Ready);
}

async fn said_backend(host: &Host) -> String {
    let states = host.by_hand("show servers state").await;
    let row = states
        .lines()
        .find(|line| line.contains("be_shop_web"))
        .unwrap();
    row.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_balance_that_may_have_weights_takes_them() {
    for (balance, expected) in [
        (Balance::Roundrobin, ["100", "35"]),
        (Balance::Leastconn, ["100", "35"]),
        // An entry per unit of weight: the units are coarse.
        (Balance::Random, ["10", "4"]),
    ] {
        let mut host = Host::start().await;
        let port = free_port();
        let replicas = [Replica::start(1).await, Replica::start(2).await];
        let web = |weight| {
            let all = [(&replicas[0], Some(100)), (&replicas[1], Some(weight))];
            vec![weighed(port, &all, balance)]
        };
        host.serve(1, web(100)).await;
        host.serve(2, web(35)).await;
        assert_eq!(weights(&said(&host).await), expected, "{balance:?}");
        // By chance about two of three go to the first: of so many requests the difference is more
        // than five deviations from both equal shares and this limit.
        let (first, second) = shares(port, 600).await;
        let skewed = balance == Balance::Leastconn || first > second + 70;
        assert!(skewed, "{balance:?}: {first} {second}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_added_at_run_time_comes_in_with_its_weight() {
    let mut host = Host::with(|settings| settings.slots_initial = 1).await;
    let port = free_port();
    let replicas = [
        Replica::start(1).await,
        Replica::start(2).await,
        Replica::start(3).await,
    ];
    let web = |count: usize| {
        let all = [
            (&replicas[0], Some(100)),
            (&replicas[1], Some(30)),
            (&replicas[2], Some(30)),
        ];
        vec![weighed(port, &all[..count], Balance::Roundrobin)]
    };
    host.serve(1, web(1)).await;
    let applied = host.serve(2, web(3)).await;
    assert!(!applied.reloaded, "{applied:?}");
    until("all weigh what they should", async || {
        let said = said(&host).await;
        match weights(&said) == ["100", "30", "30"] {
            true => Ok(()),
            false => Err(format!("{said:?}")),
        }
    })
    .await;
}
