//! A HAProxy that may open fewer files than its file asks for.

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::host::{Host, Replica, Traffic, free_port, http};
use longshore_model::routes::ServerMode::Serve;

fn number(info: &str, name: &str) -> u32 {
    let line = info.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_does_not_fail_for_files_and_the_worker_takes_fewer_clients() {
    let mut host = Host::start().await;
    let (port, other) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let web = || http("shop/web", port, vec![a.server(Serve)]);
    host.serve(1, vec![web()]).await;
    assert!(host.read().await.problems.is_empty());
    let traffic = Traffic::start(port);

    let few = Rlimit {
        current: Some(600),
        maximum: Some(600),
    };
    let master = Pid::from_raw(i32::try_from(host.master_pid()).unwrap());
    prlimit(master, Resource::Nofile, few).unwrap();
    let api = http("shop/api", other, vec![b.server(Serve)]);
    let applied = host.serve(2, vec![web(), api]).await;
    assert!(applied.reloaded && applied.generation == 2, "{applied:?}");
    let info = host.by_hand("show info").await;
    let (needs, takes) = (number(&info, "Maxsock:"), number(&info, "Maxconn:"));
    assert_eq!(takes, 500 - (needs - 600).div_ceil(2), "{info}");
    let seen = host.read().await;
    let said = format!("may open 600 files and would need {needs} for 500 connections");
    assert!(seen.problems[0].contains(&said), "{:?}", seen.problems);
    traffic.stop_without_failure().await;
}
