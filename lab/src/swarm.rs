//! Docker Swarm on the lab's engines, for comparisons; the lab itself has no use for it.

use std::time::Duration;

use crate::{on, try_on, until};

/// Longest wait for an engine to reread its settings.
const LIMIT: Duration = Duration::from_secs(90);

/// Makes a swarm of the workers; the first one manages it.
///
/// # Panics
/// If an engine refuses.
pub fn form(workers: &[&str]) {
    live_restore(workers, false);
    let Some((manager, others)) = workers.split_first() else {
        return;
    };
    let address = address(manager);
    let init = ["docker", "swarm", "init", "--advertise-addr", &address];
    on(manager, &init);
    let ask = ["docker", "swarm", "join-token", "-q", "worker"];
    let token = on(manager, &ask);
    for worker in others {
        let manager = format!("{address}:2377");
        let join = ["docker", "swarm", "join", "--token", token.trim(), &manager];
        on(worker, &join);
    }
}

/// Takes it apart, with all that ran in it.
///
/// # Panics
/// If an engine does not reread its settings.
pub fn dissolve(workers: &[&str]) {
    // The manager last: with it gone, the others' networks cannot be taken down in order.
    for worker in workers.iter().rev() {
        try_on(worker, &["docker", "swarm", "leave", "--force"]);
        // What a swarm leaves behind.
        try_on(worker, &["docker", "network", "rm", "docker_gwbridge"]);
    }
    live_restore(workers, true);
}

fn address(host: &str) -> String {
    let ask = ". /etc/longshore/host && printf %s \"$IP\"";
    on(host, &["sh", "-c", ask])
}

/// `docker swarm init` refuses to run beside live-restore; the engine rereads it on SIGHUP.
fn live_restore(workers: &[&str], wanted: bool) {
    let edit = format!(
        "sed -i 's/\"live-restore\": {}/\"live-restore\": {wanted}/' /etc/docker/daemon.json && \
         kill -HUP $(cat /var/run/docker.pid)",
        !wanted
    );
    for worker in workers {
        on(worker, &["sh", "-c", &edit]);
        until("the engine has reread its settings", LIMIT, || {
            let said = try_on(worker, &["docker", "info", "-f", "{{.LiveRestoreEnabled}}"]);
            if said.stdout.trim() == wanted.to_string() {
                Ok(())
            } else {
                Err(said)
            }
        });
    }
}
