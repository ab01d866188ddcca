//! Hands meddle with the files: what the next start or reload reads is what the driver wrote.

use crate::host::{Host, Replica, free_port, get_until, http, routes, signal, until};
use longshore_haproxy_driver::{Edge, EdgeError, Ticked};
use longshore_model::repair::RepairKind;
use longshore_model::routes::ServerMode::Serve;
use rustix::process::Signal;

fn is_said(what: &'static str) -> impl Fn(&Edge, &Ticked) -> bool {
    move |_, ticked| ticked.repaired.iter().any(|said| said.contains(what))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spoilt_configuration_file_is_placed_again() {
    let mut host = Host::start().await;
    let port = free_port();
    let a = Replica::start(1).await;
    host.serve(1, vec![http("shop/web", port, vec![a.server(Serve)])])
        .await;
    let good = host.config();
    let path = host.settings.config_path.clone();
    let spoilt = format!("{good}nonsense here\n");

    let pid = host.read().await.pid;
    std::fs::write(&path, &spoilt).unwrap();
    host.tick_until("placed again", is_said("haproxy.cfg was changed"))
        .await;
    assert_eq!(host.config(), good);
    host.settle().await;
    assert_eq!(host.read().await.pid, pid);

    host.crash_haproxy().await;
    let state = host.settings.state_path.clone();
    for remove in [false, true] {
        match remove {
            false => std::fs::write(&path, &spoilt).unwrap(),
            true => std::fs::remove_file(&path).unwrap(),
        }
        std::fs::remove_file(&state).unwrap();
        let error = host.edge.tick().await.unwrap_err();
        assert!(matches!(error, EdgeError::Down { .. }), "{error}");
        assert_eq!(host.config(), good);
        assert!(state.exists());
    }
    host.start_haproxy().await;
    get_until(port, "x", "r1").await;
    host.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_read_a_changed_file_is_reloaded_from_the_right_one() {
    let mut host = Host::start().await;
    let (port, other) = (free_port(), free_port());
    let a = Replica::start(1).await;
    host.serve(1, vec![http("shop/web", port, vec![a.server(Serve)])])
        .await;
    let good = host.config();
    let bind = |port: u16| format!(":{port}");
    assert!(good.contains(&bind(port)), "{good}");
    let changed = good.replace(&bind(port), &bind(other));
    std::fs::write(&host.settings.config_path, changed).unwrap();
    let pid = host.read().await.pid;
    signal(host.master_pid(), Signal::USR2);
    until("a new worker", async || match host.edge.read().await {
        Ok(seen) if seen.pid != pid => Ok(()),
        _ => Err(host.log()),
    })
    .await;
    get_until(other, "x", "r1").await;
    host.tick_until("reloaded", |_, ticked| ticked.reloaded)
        .await;
    assert_eq!(host.config(), good);
    get_until(port, "x", "r1").await;
    host.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_starts_anew_says_which_files_were_changed_meanwhile() {
    let mut host = Host::start().await;
    let port = free_port();
    let a = Replica::start(1).await;
    let list = || vec![http("shop/web", port, vec![a.server(Serve)])];
    host.serve(1, list()).await;
    let good = host.config();
    let path = host.settings.config_path.clone();
    let (unsealed, _) = good.trim_end().rsplit_once('\n').unwrap();
    let whole = format!("{unsealed}\n");
    let more = format!("{good}# by hand\n");
    let changed = good.replace(
        "timeout client",
        "timeout client-fin 7s\n    timeout client",
    );
    assert_ne!(changed, good);
    // One of an agent that knew no last line is nobody's fault, as one that is as it was.
    let nobodys = [Some(&good), Some(&whole)].map(|text| (text, 0));
    let somebodys = [Some(&more), Some(&changed), None].map(|text| (text, 1));
    for (text, said) in nobodys.into_iter().chain(somebodys) {
        match text {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        host.edge = Edge::open(host.settings.clone()).await.unwrap();
        host.serve(1, list()).await;
        assert_eq!(host.config(), good);
        let repairs = host.edge.repairs();
        let of_file = |r: &&(_, longshore_model::repair::Repair)| {
            r.1.kind == RepairKind::File && r.1.what.contains("while the agent was away")
        };
        let found = repairs.iter().filter(of_file).count();
        let as_it_was = |r: &(_, longshore_model::repair::Repair)| r.1.what.contains("as it was");
        assert!(!repairs.iter().any(as_it_was), "{repairs:?}");
        assert_eq!(
            (found, repairs.len()),
            (said, said),
            "{text:?}: {repairs:?}"
        );
        get_until(port, "x", "r1").await;
    }
    // HAProxy is down as well.
    host.crash_haproxy().await;
    std::fs::write(&path, &more).unwrap();
    host.edge = Edge::open(host.settings.clone()).await.unwrap();
    host.edge.apply(&routes(1, list())).await.unwrap_err();
    assert_eq!(host.config(), good);
    assert_eq!(host.edge.repairs().len(), 1, "{:?}", host.edge.repairs());
}
