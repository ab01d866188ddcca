//! The demo app as the CLI shows it.

use std::time::Duration;

use serde_json::Value;

use crate::{Said, ctl, ctl_json, ctl_ok, fault, hosts, on, until};

/// A replica as `controllerctl ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// `hello.3`
    pub name: String,
    /// `r17`
    pub id: String,
    /// Its node.
    pub node: String,
    /// `healthy`, …
    pub state: String,
    /// `serve`, `drain`, `out`
    pub traffic: String,
    /// The engine's id.
    pub container: String,
    /// Times that its agent restarted it.
    pub restarts: u64,
}

fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Replicas of service `hello`.
#[must_use]
pub fn replicas() -> Vec<Replica> {
    replicas_of("hello")
}

/// Replicas of a service.
#[must_use]
pub fn replicas_of(service: &str) -> Vec<Replica> {
    try_replicas_of(service).unwrap_or_else(|said| panic!("ps {service}: {said:?}"))
}

/// As [`replicas_of`], where the controller may be away.
///
/// # Errors
/// What controllerctl said.
pub fn try_replicas_of(service: &str) -> Result<Vec<Replica>, Said> {
    let said = ctl(&["ps", service, "-o", "json"]);
    let Ok(list) = serde_json::from_str::<Value>(&said.stdout) else {
        return Err(said);
    };
    let rows = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    let replicas = rows
        .iter()
        .map(|row| Replica {
            name: text(row, "name"),
            id: text(row, "id"),
            node: text(row, "node"),
            state: text(row, "state"),
            traffic: text(row, "traffic"),
            container: text(row, "container_id"),
            restarts: row["restarts"].as_u64().expect("a count of restarts"),
        })
        .collect();
    Ok(replicas)
}

/// Those that take traffic.
#[must_use]
pub fn serving() -> Vec<Replica> {
    replicas()
        .into_iter()
        .filter(|r| r.state == "healthy" && r.traffic == "serve")
        .collect()
}

/// Sets the count, with the autoscaler's hands off for ten minutes, and does not wait.
pub fn scale(count: usize) {
    let wanted = format!("hello={count}");
    ctl_ok(&["scale", &wanted, "--hold", "10m", "-d", "-y"]);
}

/// Sets the count as [`scale`] does and waits until exactly that many exist and serve.
pub fn scale_and_wait(count: usize) -> Duration {
    scale(count);
    wait_for(count)
}

/// Waits until exactly `count` replicas exist, and all serve.
pub fn wait_for(count: usize) -> Duration {
    let (_, took) = until(
        &format!("{count} replicas serve"),
        Duration::from_secs(90),
        || {
            let all = replicas();
            let good = all
                .iter()
                .filter(|r| r.state == "healthy" && r.traffic == "serve")
                .count();
            if good == count && all.len() == count {
                Ok(())
            } else {
                Err(all)
            }
        },
    );
    took
}

/// Waits until every host of the lab is a node that is ready.
pub fn wait_for_nodes() {
    let hosts = hosts().len();
    until("every node is ready", Duration::from_secs(60), || {
        let said = ctl(&["node", "ls", "-o", "json"]);
        let nodes: Value = serde_json::from_str(&said.stdout).unwrap_or(Value::Null);
        let list = nodes.as_array().cloned().unwrap_or_default();
        let ready = list.iter().filter(|node| node["state"] == "ready").count();
        if ready == hosts { Ok(()) } else { Err(said) }
    });
}

/// Lets a worker that was removed join again, as on its first day, and waits for all nodes.
///
/// # Panics
/// If it does not.
pub fn join_again(worker: &str) {
    let asked = [
        "token", "create", "--role", "worker", "--name", worker, "--ttl", "10m",
    ];
    let token = ctl_json(&asked);
    let token = token["token"].as_str().expect("a token");
    let join = "echo \"$1\" | /vagrant/lab/join.sh";
    on(worker, &["sh", "-c", join, "sh", token]);
    wait_for_nodes();
}

/// Brings the lab back to what `make lab` leaves: every program up, the app with two replicas.
pub fn restore() {
    for host in hosts() {
        // Harmless for a host that runs.
        fault(&["start", &host]);
    }
    wait_for_nodes();
    ctl_ok(&["up", "-f", "examples/hello/compose.yaml", "-y"]);
    scale_and_wait(2);
}
