//! Values of options: what is taken, and what is said of the rest.

use std::time::Duration;

/// A length of time that is one.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("no time at all; give a length as 10m, or leave it away".into()),
        Ok(length) => Ok(length),
        Err(error) => Err(error.to_string()),
    }
}

/// `SERVICE=N`
pub(super) fn parse_count(text: &str) -> Result<(String, u32), String> {
    let (service, count) = text
        .split_once('=')
        .ok_or("write SERVICE=N, for example web=5")?;
    let count = count
        .parse()
        .map_err(|_| format!("{count:?} is no count"))?;
    Ok((service.to_owned(), count))
}

/// What replicas can be filtered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaKey {
    /// A service, `app/service` or `service`.
    Service,
    /// An app.
    App,
    /// A node.
    Node,
    /// A state: healthy, starting, failed.
    State,
    /// What it gets: serve, drain, out, down.
    Traffic,
    /// An image, to the letter.
    Image,
}

/// `state=healthy`
pub(super) fn parse_replica_filter(text: &str) -> Result<(ReplicaKey, String), String> {
    let known = "write service=, app=, node=, state=, traffic= or image=, for example state=failed";
    let (key, value) = text.split_once('=').ok_or(known)?;
    let key = match key {
        "service" => ReplicaKey::Service,
        "app" => ReplicaKey::App,
        "node" => ReplicaKey::Node,
        "state" | "status" => ReplicaKey::State,
        "traffic" => ReplicaKey::Traffic,
        "image" => ReplicaKey::Image,
        _ => return Err(format!("there is no filter {key:?}; {known}")),
    };
    if value.is_empty() {
        return Err(format!("{text:?} names nothing; {known}"));
    }
    Ok((key, value.to_owned()))
}
