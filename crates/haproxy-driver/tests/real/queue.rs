//! What waits for a replica that leaves last, or that an old worker knows, is served all the same.

use tokio::task::JoinHandle;

use longshore_model::ReplicaId;
use longshore_model::observe::ServerAdmin;
use longshore_model::route::Balance;
use longshore_model::routes::Backend;
use longshore_model::routes::ServerMode::{Drain, Serve};
use longshore_model::spec::RouteSpec;

use crate::host::{Host, Replica, free_port, get, http, key, routes, slow_arrived, until};

type Request = JoinHandle<Result<(u16, String), String>>;

/// One seat, and so many who want it.
const REQUESTS: usize = 6;

/// A service with one replica of one seat.
fn one_seat(port: u16, replica: &Replica) -> Backend {
    let mut web = http("shop/web", port, vec![replica.server(Serve)]);
    web.route.maxconn_per_replica = 1;
    web
}

/// The same once its replica leaves.
fn leaving(mut web: Backend) -> Backend {
    web.servers[0].mode = Drain;
    web
}

/// One is at work, the others wait. They come after it: of two that come at once, HAProxy's threads may
/// let both in where one has a seat.
async fn a_queue(host: &mut Host, port: u16, replica: &Replica) -> Vec<Request> {
    let ask = || tokio::spawn(get(port, "/slow", "x"));
    let mut requests = vec![ask()];
    slow_arrived(&[replica], 1).await;
    requests.extend((1..REQUESTS).map(|_| ask()));
    until("the others wait", async || {
        let seen = host.read().await.backends[&key("shop/web")].queued;
        let waiting = usize::try_from(seen).unwrap();
        (waiting == REQUESTS - 1)
            .then_some(())
            .ok_or(seen)
            .map_err(|seen| format!("{seen} do"))
    })
    .await;
    requests
}

async fn all_are_answered(requests: Vec<Request>, replica: &Replica) {
    replica.gate.add_permits(REQUESTS);
    for request in requests {
        let name = format!("r{}", replica.id);
        assert_eq!(request.await.unwrap(), Ok((200, name)));
    }
}

/// Ticks until the first replica has nothing to do and gets nothing.
async fn is_over(host: &mut Host) {
    until("r1 is drained", async || {
        host.edge.tick().await.unwrap();
        let seen = host.read().await.server(ReplicaId(1)).unwrap();
        seen.is_over().then_some(()).ok_or(format!("{seen:?}"))
    })
    .await;
}

/// Does this release keep what waits while no server takes requests? 2.6 does. 3.0 answers it with 503 at
/// once, so that none of it can be there. Which release between them began with it is not known.
async fn keeps_what_waits(host: &mut Host) -> bool {
    let version = host.read().await.haproxy_version;
    let keeps = version.starts_with("2.");
    if !keeps {
        println!("not asked: HAProxy {version} keeps nothing waiting without a server");
    }
    keeps
}

async fn leaves_last(change: impl FnOnce(&mut RouteSpec)) {
    let mut host = Host::start().await;
    let port = free_port();
    let a = Replica::start(1).await;
    let mut web = one_seat(port, &a);
    change(&mut web.route);
    host.serve(1, vec![web.clone()]).await;
    let requests = a_queue(&mut host, port, &a).await;

    let web = leaving(web);
    let applied = host.edge.apply(&routes(2, vec![web])).await.unwrap();
    assert_eq!(applied.generation, 2);
    let ticked = host.edge.tick().await.unwrap();
    assert!(ticked.pending > 0, "{ticked:?}");
    let seen = host.read().await.server(ReplicaId(1)).unwrap();
    assert_eq!(seen.admin, ServerAdmin::Ready);
    let waiting = usize::try_from(seen.queued).unwrap();
    assert_eq!(waiting, REQUESTS - 1, "{seen:?}");

    all_are_answered(requests, &a).await;
    is_over(&mut host).await;
    host.settle().await;
    assert_eq!(get(port, "/", "x").await.unwrap().0, 503, "nobody is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_one_serves_what_waits_before_it_is_drained() {
    leaves_last(|_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_does_the_last_one_with_a_cookie() {
    leaves_last(|route| route.sticky_cookie = Some("seat".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_does_one_that_a_hash_makes_them_wait_for() {
    leaves_last(|route| route.balance = Balance::Source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_one_is_let_in_once_more_for_what_came_to_wait_meanwhile() {
    let mut host = Host::start().await;
    if !keeps_what_waits(&mut host).await {
        return;
    }
    let port = free_port();
    let a = Replica::start(1).await;
    let web = one_seat(port, &a);
    host.serve(1, vec![web.clone()]).await;
    let requests = a_queue(&mut host, port, &a).await;
    host.edge
        .apply(&routes(2, vec![leaving(web)]))
        .await
        .unwrap();
    // As if it had been drained a moment before these came.
    let drain = format!("set server be_shop_web_{port}/slot1 state drain");
    assert_eq!(host.by_hand(&drain).await.trim(), "");
    host.edge.tick().await.unwrap();
    all_are_answered(requests, &a).await;
    is_over(&mut host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_served_until_the_successor_takes_over() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let mut web = one_seat(port, &a);
    host.serve(1, vec![web.clone()]).await;
    let requests = a_queue(&mut host, port, &a).await;
    // As an update does that stops first.
    web.servers[0].mode = Drain;
    host.edge
        .apply(&routes(2, vec![web.clone()]))
        .await
        .unwrap();
    let ticked = host.edge.tick().await.unwrap();
    assert!(ticked.pending > 0, "{ticked:?}");
    web.servers.push(b.server(Serve));
    host.serve(3, vec![web]).await;
    let seen = host.read().await.server(ReplicaId(1)).unwrap();
    assert_eq!((seen.admin, seen.queued), (ServerAdmin::Drain, 0));
    a.gate.add_permits(1);
    b.gate.add_permits(REQUESTS);
    assert_eq!(
        answered(requests).await,
        ["r1", "r2", "r2", "r2", "r2", "r2"]
    );
    is_over(&mut host).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_an_old_worker_is_served_by_those_that_it_knows() {
    let mut host = Host::start().await;
    let (port, other_port) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let mut web = one_seat(port, &a);
    host.serve(1, vec![web.clone()]).await;
    let requests = a_queue(&mut host, port, &a).await;
    let new = http("shop/api", other_port, vec![]);
    let both = vec![new.clone(), web.clone()];
    let applied = host.edge.apply(&routes(2, both)).await.unwrap();
    assert!(applied.reloaded, "{applied:?}");

    // Its successor is known to the new worker only.
    web.servers = vec![a.server(Drain), b.server(Serve)];
    host.serve(3, vec![new, web]).await;
    let seen = host.read().await.server(ReplicaId(1)).unwrap();
    assert_eq!(seen.admin, ServerAdmin::Drain);
    let waiting = usize::try_from(seen.queued).unwrap();
    assert_eq!(waiting, REQUESTS - 1, "{seen:?}");
    assert_eq!(get(port, "/", "x").await, Ok((200, "r2".to_owned())));

    all_are_answered(requests, &a).await;
    is_over(&mut host).await;
}

/// Replicas that answered, with their names in order.
async fn answered(requests: Vec<Request>) -> Vec<String> {
    let mut names = Vec::new();
    for request in requests {
        let (status, name) = request.await.unwrap().unwrap();
        assert_eq!(status, 200);
        names.push(name);
    }
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_waits_until_somebody_serves_what_waits() {
    let mut host = Host::start().await;
    if !keeps_what_waits(&mut host).await {
        return;
    }
    let (port, other_port) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let mut web = one_seat(port, &a);
    host.serve(1, vec![web.clone()]).await;
    let requests = a_queue(&mut host, port, &a).await;
    web.servers[0].mode = Drain;
    host.edge
        .apply(&routes(2, vec![web.clone()]))
        .await
        .unwrap();
    // Its drain's deadline passed while its successor is not there yet.
    let new = http("shop/api", other_port, vec![]);
    web.servers.clear();
    let both = vec![new.clone(), web.clone()];
    let applied = host.edge.apply(&routes(3, both)).await.unwrap();
    assert!(!applied.reloaded && !applied.converged, "{applied:?}");
    let said = applied.problems.join("; ");
    assert!(said.contains("5 requests wait in be_shop_web_"), "{said}");

    web.servers = vec![b.server(Serve)];
    b.gate.add_permits(REQUESTS);
    a.gate.add_permits(1);
    let mut reloaded = host.serve(4, vec![new, web]).await.reloaded;
    until("the reload", async || {
        reloaded |= host.edge.tick().await.unwrap().reloaded;
        reloaded |= host.config().contains("be_shop_api_");
        reloaded.then_some(()).ok_or_else(|| host.config())
    })
    .await;
    assert_eq!(
        answered(requests).await,
        ["r1", "r2", "r2", "r2", "r2", "r2"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_leaves_as_haproxy_is_reloaded_serves_what_waits_there() {
    let mut host = Host::start().await;
    let (port, other_port) = (free_port(), free_port());
    let a = Replica::start(1).await;
    let mut web = one_seat(port, &a);
    host.serve(1, vec![web.clone()]).await;
    let requests = a_queue(&mut host, port, &a).await;
    web.servers[0].mode = Drain;
    let new = http("shop/api", other_port, vec![]);
    let both = routes(2, vec![new, web]);
    let applied = host.edge.apply(&both).await.unwrap();
    assert!(applied.reloaded, "{applied:?}");
    let seen = host.read().await.server(ReplicaId(1)).unwrap();
    assert_ne!(seen.admin, ServerAdmin::Ready);
    let waiting = usize::try_from(seen.queued).unwrap();
    assert_eq!(waiting, REQUESTS - 1, "{seen:?}");
    all_are_answered(requests, &a).await;
    is_over(&mut host).await;
}

/// One replica leaves, and the routes hold it for what waits at some edge; something waits here, too.
async fn a_hold(host: &mut Host, port: u16, a: &Replica) -> (Backend, Vec<Request>) {
    let web = one_seat(port, a);
    host.serve(1, vec![web.clone()]).await;
    let requests = a_queue(host, port, a).await;
    let mut web = leaving(web);
    web.holds = true;
    let held = routes(2, vec![web.clone()]);
    host.edge.apply(&held).await.unwrap();
    (web, requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_in_a_hold_starts_with_those_that_are_held() {
    let mut host = Host::start().await;
    let (port, other_port) = (free_port(), free_port());
    let a = Replica::start(1).await;
    let (mut web, requests) = a_hold(&mut host, port, &a).await;
    let new = http("shop/api", other_port, vec![]);
    let both = vec![new.clone(), web.clone()];
    let applied = host.edge.apply(&routes(3, both)).await.unwrap();
    assert!(applied.reloaded, "{applied:?}");
    // Whoever comes now comes to the new worker.
    let name = "r1".to_owned();
    assert_eq!(get(port, "/", "x").await, Ok((200, name)));
    let seen = host.read().await.server(ReplicaId(1)).unwrap();
    assert_eq!(seen.admin, ServerAdmin::Ready);

    all_are_answered(requests, &a).await;
    web.holds = false;
    host.edge.apply(&routes(4, vec![new, web])).await.unwrap();
    is_over(&mut host).await;
    assert_eq!(get(port, "/", "x").await.unwrap().0, 503, "nobody is left");
    assert!(!host.config().contains("check\n"), "{}", host.config());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_haproxy_that_is_killed_in_a_hold_starts_with_those_that_are_held() {
    let mut host = Host::start().await;
    let port = free_port();
    let a = Replica::start(1).await;
    let (mut web, requests) = a_hold(&mut host, port, &a).await;
    host.crash_haproxy().await;
    for request in requests {
        assert!(request.await.unwrap().is_err(), "it is gone");
    }
    host.start_haproxy().await;
    // Before the driver says a word, and after.
    let name = || Ok((200, "r1".to_owned()));
    assert_eq!(get(port, "/", "x").await, name());
    host.edge.tick().await.unwrap();
    assert_eq!(get(port, "/", "x").await, name());

    web.holds = false;
    host.edge.apply(&routes(3, vec![web])).await.unwrap();
    is_over(&mut host).await;
    host.crash_haproxy().await;
    host.start_haproxy().await;
    assert_eq!(get(port, "/", "x").await.unwrap().0, 503, "it was drained");
}
