//! A second HAProxy on the same port: it starts happily, and gets a part of the requests.

use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::host::{Host, Replica, free_port, get, http, signal, slow_arrived, until};
use longshore_model::routes::ServerMode::Serve;

/// A HAProxy that nobody here drives.
struct Second {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Second {
    /// Answers 429 to everybody.
    fn start(port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("second.cfg");
        let text = format!(
            "defaults\n    mode http\n    timeout connect 1s\n    timeout client 5s\n    \
             timeout server 5s\nfrontend f\n    bind 127.0.0.1:{port}\n    \
             http-request return status 429 content-type text/plain string second\n"
        );
        std::fs::write(&file, text).unwrap();
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, _dir: dir }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Some requests land with the second one.
async fn is_shared(port: u16) -> bool {
    for _ in 0..200 {
        if get(port, "/", "x")
            .await
            .is_ok_and(|(status, _)| status == 429)
        {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_haproxy_on_a_port_is_named_until_it_is_gone_and_old_workers_are_not() {
    let mut host = Host::start().await;
    let (port, other) = (free_port(), free_port());
    let (a, b) = (Replica::start(1).await, Replica::start(2).await);
    let web = || http("shop/web", port, vec![a.server(Serve)]);
    host.serve(1, vec![web()]).await;
    // A worker that drains for long, and does not even answer.
    let old = host.read().await.pid;
    let slow = tokio::spawn(get(port, "/slow", "x"));
    slow_arrived(&[&a], 1).await;
    let api = || http("shop/api", other, vec![b.server(Serve)]);
    assert!(host.serve(2, vec![web(), api()]).await.reloaded);
    let second = Second::start(port);
    until("requests land with it", async || {
        is_shared(port)
            .await
            .then_some(())
            .ok_or_else(|| host.log())
    })
    .await;
    signal(old, Signal::STOP);
    let seen = until("it is found", async || {
        let seen = host.edge.read().await.map_err(|e| e.to_string())?;
        match seen.sharers.is_empty() {
            false => Ok(seen),
            true => Err(format!("{:?}", seen.problems)),
        }
    })
    .await;
    // As the system calls it: a HAProxy that a loader was told to start has the loader's name.
    let pid = second.child.id();
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    let by = format!("{} (pid {pid})", name.trim());
    assert_eq!(seen.sharers, [(by.clone(), [port].into())].into());
    assert!(
        seen.problems[0].starts_with(&format!("{by} listens on port {port}, too")),
        "{:?}",
        seen.problems
    );
    // A reload leaves it found, and find nobody else.
    signal(old, Signal::CONT);
    let more = http("shop/more", free_port(), vec![b.server(Serve)]);
    assert!(host.serve(3, vec![web(), api(), more]).await.reloaded);
    let seen = host.read().await;
    assert_eq!(seen.sharers.keys().collect::<Vec<_>>(), [&by]);
    a.gate.add_permits(10);
    let _ = slow.await.unwrap();
    drop(second);
    until("it is gone", async || {
        let seen = host.edge.read().await.map_err(|e| e.to_string())?;
        let is_well = seen.sharers.is_empty() && seen.problems.is_empty();
        is_well.then_some(()).ok_or_else(|| format!("{seen:?}"))
    })
    .await;
    assert!(!is_shared(port).await && host.is_running());
}
