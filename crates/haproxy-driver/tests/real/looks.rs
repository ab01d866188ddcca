//! What is looked at, how often, and what a change of hundreds of servers leaves behind.

use std::net::{IpAddr, Ipv4Addr};

use crate::host::{
    Host, Replica, everywhere, free_port, get, get_until, http, routes, slow_arrived, until,
};
use longshore_model::ReplicaId;
use longshore_model::observe::ServerAdmin;
use longshore_model::routes::ServerMode::{Drain, Serve};
use longshore_model::routes::{Backend, Server, ServerMode};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_is_of_the_look_of_the_tick_before_it_and_once() {
    let mut host = Host::start().await;
    let a = Replica::start(1).await;
    let web = http("shop/web", free_port(), vec![a.server(Serve)]);
    host.serve(1, vec![web.clone()]).await;
    host.edge.tick().await.unwrap();
    let name = host.edge.slots().backends.keys().next().unwrap().clone();
    host.by_hand(&format!("set server {name}/slot1 state drain"))
        .await;
    let mut admins = Vec::new();
    for _ in 0..2 {
        let report = host.edge.report().await.unwrap();
        admins.push(report.server(ReplicaId(1)).unwrap().admin);
    }
    assert_eq!(admins, [ServerAdmin::Ready, ServerAdmin::Drain]);

    // A reading looks itself, and so does a report after a change.
    host.settle().await;
    host.by_hand(&format!("set server {name}/slot1 state drain"))
        .await;
    let read = host.read().await;
    assert_eq!(read.server(ReplicaId(1)).unwrap().admin, ServerAdmin::Drain);
    host.settle().await;
    let mut leaving = web;
    leaving.servers[0].mode = Drain;
    host.edge.apply(&routes(2, vec![leaving])).await.unwrap();
    let report = host.edge.report().await.unwrap();
    assert_eq!(report.routes_generation, 2);
    assert_eq!(
        report.server(ReplicaId(1)).unwrap().admin,
        ServerAdmin::Drain
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_told_also_of_a_server_that_a_hand_took_out() {
    let mut host = Host::start().await;
    let port = free_port();
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let web = http("shop/web", port, vec![a.server(Serve), b.server(Serve)]);
    host.serve(1, vec![web]).await;
    let slow: Vec<_> = (0..4)
        .map(|_| tokio::spawn(get(port, "/slow", "x")))
        .collect();
    slow_arrived(&[&a, &b], 4).await;
    let name = host.edge.slots().backends.keys().next().unwrap().clone();
    host.by_hand(&format!("set server {name}/slot1 state maint"))
        .await;
    let seen = host.read().await;
    let out = seen.server(ReplicaId(1)).unwrap();
    assert_eq!((out.admin, out.sessions), (ServerAdmin::Maint, 2));
    assert_eq!(seen.server(ReplicaId(2)).unwrap().sessions, 2);
    a.gate.add_permits(4);
    b.gate.add_permits(4);
    for request in slow {
        assert_eq!(request.await.unwrap().unwrap().0, 200);
    }
}

const MANY: u8 = 200;

/// Two hundred servers from a first replica on.
fn many(port: u16, replica_port: u16, first: u64, mode: ServerMode) -> Vec<Backend> {
    let servers = (0..MANY).map(|n| Server {
        replica: ReplicaId(first + u64::from(n)),
        address: IpAddr::V4(Ipv4Addr::new(127, 1, 0, n)),
        port: replica_port,
        mode,
        weight: None,
    });
    vec![http("shop/web", port, servers.collect())]
}

/// Lines of the file with a replica's address, and those of them that are enabled.
fn in_file(host: &Host, replica_port: u16) -> (usize, usize) {
    let file = host.config();
    let address = format!(":{replica_port} check");
    let lines: Vec<&str> = file.lines().filter(|l| l.contains(&address)).collect();
    let enabled = lines.iter().filter(|line| !line.ends_with(" disabled"));
    (lines.len(), enabled.count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_come_drain_and_go_and_the_file_follows() {
    let mut host = Host::start().await;
    let (port, replica_port) = (free_port(), everywhere().await);
    let all = usize::from(MANY);
    host.serve(1, vec![http("shop/web", port, vec![])]).await;
    let come = routes(2, many(port, replica_port, 1, Serve));
    let applied = host.edge.apply(&come).await.unwrap();
    assert!(
        !applied.reloaded && applied.generation == 2 && !applied.converged,
        "{applied:?}"
    );
    assert_eq!(in_file(&host, replica_port).0, all);
    host.settle().await;
    get_until(port, "x", "ok").await;
    until("the file has them enabled", async || {
        host.edge.tick().await.unwrap();
        match in_file(&host, replica_port) {
            (lines, enabled) if (lines, enabled) == (all, all) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let pool = |host: &Host| {
        let pools = host.edge.slots().backends.values();
        pools.map(std::collections::BTreeMap::len).sum()
    };
    let grown: usize = pool(&host);

    let drain = routes(3, many(port, replica_port, 1, Drain));
    let applied = host.edge.apply(&drain).await.unwrap();
    assert_eq!((applied.generation, applied.steps), (3, all));
    assert_eq!(in_file(&host, replica_port), (all, 0));
    let seen = host.edge.report().await.unwrap();
    let out = (1..=u64::from(MANY)).map(|id| seen.server(ReplicaId(id)).unwrap());
    for server in out {
        assert_eq!((server.admin, server.sessions), (ServerAdmin::Drain, 0));
    }

    let gone = host.serve(4, vec![http("shop/web", port, vec![])]).await;
    assert_eq!((gone.generation, gone.steps), (4, 2 * all));
    assert_eq!(in_file(&host, replica_port).0, 0);
    let again = many(port, replica_port, 1_000, Serve);
    let again = host.serve(5, again).await;
    assert!(!again.reloaded && again.generation == 5, "{again:?}");
    assert_eq!(pool(&host), grown, "slots that are free are used again");
    get_until(port, "x", "ok").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_come_ever_more_slowly_while_an_old_worker_has_connections() {
    let mut host = Host::with(|settings| settings.reload_spacing_ms = 500).await;
    let (port, a) = (free_port(), Replica::start(1).await);
    let mut list = vec![http("shop/web", port, vec![a.server(Serve)])];
    host.serve(1, list.clone()).await;
    // One is enough: those after it have nothing and end at once.
    let kept = tokio::spawn(get(port, "/slow", "x"));
    slow_arrived(&[&a], 1).await;
    for generation in 2..6 {
        // Another way in is another structure.
        let way = format!("shop/way{generation}");
        list.push(http(&way, free_port(), vec![a.server(Serve)]));
        host.edge
            .apply(&routes(generation, list.clone()))
            .await
            .unwrap();
        host.tick_until("the reload", |edge, ticked| {
            ticked.pending == 0 && edge.slots().loaded.len() == list.len()
        })
        .await;
    }
    list.push(http("shop/more", free_port(), vec![a.server(Serve)]));
    let applied = host.edge.apply(&routes(6, list.clone())).await.unwrap();
    assert!(!applied.reloaded, "{applied:?}");
    let said = applied.problems.join("; ");
    assert!(
        said.contains("2 s after the last one: an old worker with connections has seen 4"),
        "{said}"
    );

    a.gate.add_permits(1);
    assert_eq!(kept.await.unwrap(), Ok((200, "r1".to_owned())));
    // It is gone, and nothing holds it up any more.
    host.settle().await;
    assert_eq!(host.edge.slots().loaded.len(), list.len());
}
