//! A list that would empty what serves (reliability.md B5).

use crate::host::{Host, Replica, Traffic, free_port, get_until, http, key, routes, until};
use longshore_model::routes::Backend;
use longshore_model::routes::ServerMode::{Drain, Serve};

async fn serving(host: &mut Host, replicas: &[Replica], port: u16) {
    let servers = replicas.iter().map(|r| r.server(Serve)).collect();
    host.serve(1, vec![http("shop/web", port, servers)]).await;
    get_until(port, "x", "r1").await;
}

fn list(replicas: &[Replica], port: u16, count: usize) -> Vec<Backend> {
    let servers = replicas.iter().take(count).map(|r| r.server(Serve));
    vec![http("shop/web", port, servers.collect())]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_would_empty_a_service_is_not_obeyed() {
    let mut host = Host::start().await;
    let port = free_port();
    let mut replicas = Vec::new();
    for id in 1..=3 {
        replicas.push(Replica::start(id).await);
    }
    serving(&mut host, &replicas, port).await;
    let traffic = Traffic::start(port);
    for (generation, wanted) in [(2, Vec::new()), (3, list(&replicas, port, 1))] {
        let applied = host.edge.apply(&routes(generation, wanted)).await.unwrap();
        assert_eq!(
            (applied.generation, applied.converged),
            (1, false),
            "{applied:?}"
        );
        assert!(!applied.reloaded);
    }
    until("it is said", async || {
        host.edge.tick().await.map_err(|e| e.to_string())?;
        let seen = host.edge.read().await.map_err(|e| e.to_string())?;
        let why = seen.refused.get(&key("shop/web"));
        match why.filter(|why| why.contains("1 servers where 3 serve, and 2 of these")) {
            Some(_) => Ok(()),
            None => Err(format!("{:?}", host.edge.refused())),
        }
    })
    .await;
    let (answers, _) = traffic.stop_without_failure().await;
    assert_eq!(answers.len(), 3, "{answers:?}");

    // A fourth generation that drains is obeyed, and the one after it.
    let mut drained = list(&replicas, port, 3);
    for server in drained[0].servers.iter_mut().skip(1) {
        server.mode = Drain;
    }
    for (generation, wanted) in [(4, drained), (5, list(&replicas, port, 1))] {
        let applied = host.edge.apply(&routes(generation, wanted)).await.unwrap();
        assert_eq!(applied.generation, generation, "{applied:?}");
    }
    assert!(host.edge.refused().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_died_goes_as_soon_as_the_check_fails() {
    let mut host = Host::start().await;
    let port = free_port();
    let replicas = [Replica::start(1).await];
    serving(&mut host, &replicas, port).await;
    replicas[0].kill();
    let none = routes(2, list(&replicas, port, 0));
    host.edge.apply(&none).await.unwrap();
    until("the list is obeyed", async || {
        host.edge.tick().await.map_err(|e| e.to_string())?;
        let seen = host.edge.read().await.map_err(|e| e.to_string())?;
        match seen.routes_generation {
            2 => Ok(()),
            other => Err(format!("{other}: {:?}", host.edge.refused())),
        }
    })
    .await;
    assert!(
        host.edge.refused().is_empty(),
        "a death is no mistake of the list"
    );
}

/// The listener goes at once, and what has begun comes to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ways_in_that_were_closed_on_purpose_go() {
    let mut host = Host::start().await;
    let port = free_port();
    let replicas = [Replica::start(1).await, Replica::start(2).await];
    serving(&mut host, &replicas, port).await;
    let closed = longshore_model::routes::Routes {
        closed: vec![key("shop/web")],
        ..routes(2, Vec::new())
    };
    let applied = host.edge.apply(&closed).await.unwrap();
    assert_eq!(
        (applied.generation, applied.converged),
        (2, true),
        "{applied:?}"
    );
    assert!(host.edge.refused().is_empty());
    let open = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    assert!(open.is_err(), "nobody listens any more");
}
