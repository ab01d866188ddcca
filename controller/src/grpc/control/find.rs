//! From what people type to what is meant: `app`, `service`, `app/service`, `service.slot`, `r17`, a node.

use longshore_model::plan::Replica;
use longshore_model::{AppName, Desired, NodeId, Plan, ReplicaId, ServiceKey};
use tonic::Status;

use crate::grpc::quoted;

/// Names at least this alike are offered.
const ALIKE: f64 = 0.5;
/// At most so many names are offered.
const OFFERED_MAX: usize = 3;

/// What a word means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    /// All services of it.
    App(AppName),
    Service(ServiceKey),
    Replica(ReplicaId),
    Node(NodeId),
}

/// `, did you mean …?` or nothing.
pub(in crate::grpc) fn offer<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    let mut near: Vec<(f64, &str)> = names
        .map(|name| (strsim::normalized_damerau_levenshtein(word, name), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.dedup_by(|a, b| a.1 == b.1);
    let names: Vec<&str> = near
        .into_iter()
        .take(OFFERED_MAX)
        .map(|(_, name)| name)
        .collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", names.join(" or "))
    }
}

/// All services: wanted ones, and those whose replicas still leave.
pub(super) fn known(desired: &Desired, plan: &Plan) -> Vec<ServiceKey> {
    let mut keys: Vec<ServiceKey> = desired.services().map(|(key, ..)| key).collect();
    keys.extend(plan.services.keys().cloned());
    keys.sort();
    keys.dedup();
    keys
}

/// A service by `app/service`, or by its name if only one app has it.
///
/// # Errors
/// `NOT_FOUND` with near names, or `INVALID_ARGUMENT` with the apps that have it.
pub(super) fn service(desired: &Desired, plan: &Plan, word: &str) -> Result<ServiceKey, Status> {
    one_of(&known(desired, plan), word)
}

/// As [`service`], among `keys`.
///
/// # Errors
/// As [`service`].
pub(super) fn one_of(keys: &[ServiceKey], word: &str) -> Result<ServiceKey, Status> {
    let hits: Vec<&ServiceKey> = match word.parse::<ServiceKey>() {
        Ok(key) => keys.iter().filter(|known| **known == key).collect(),
        Err(_) => keys
            .iter()
            .filter(|known| known.service.as_str() == word)
            .collect(),
    };
    match hits.as_slice() {
        [key] => Ok((*key).clone()),
        [] => {
            let full: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let names = keys.iter().map(|key| key.service.as_str());
            let near = match word.contains('/') {
                true => offer(word, full.iter().map(String::as_str)),
                false => offer(word, names),
            };
            Err(Status::not_found(format!(
                "there is no service {}{near}",
                quoted(word)
            )))
        }
        many => {
            let names: Vec<String> = many.iter().map(ToString::to_string).collect();
            Err(Status::invalid_argument(format!(
                "{} is in more than one app; say which: {}",
                quoted(word),
                names.join(", ")
            )))
        }
    }
}

/// A node by its name.
///
/// # Errors
/// `NOT_FOUND` with near names.
pub(super) fn node(desired: &Desired, word: &str) -> Result<NodeId, Status> {
    let name = word.strip_prefix("node/").unwrap_or(word);
    let hit = desired.nodes.keys().find(|id| id.as_str() == name);
    hit.cloned().ok_or_else(|| {
        let near = offer(name, desired.nodes.keys().map(NodeId::as_str));
        Status::not_found(format!("there is no node {}{near}", quoted(name)))
    })
}

/// An app by its name.
///
/// # Errors
/// `NOT_FOUND` with near names.
pub(super) fn app(desired: &Desired, word: &str) -> Result<AppName, Status> {
    let hit = desired.apps.keys().find(|name| name.as_str() == word);
    hit.cloned().ok_or_else(|| {
        let near = offer(word, desired.apps.keys().map(AppName::as_str));
        Status::not_found(format!("there is no app {}{near}", quoted(word)))
    })
}

/// A replica by `r17` or `service.slot`; of several with that slot, the one that stays.
fn replica<'a>(desired: &Desired, plan: &'a Plan, word: &str) -> Result<&'a Replica, Status> {
    let missing = || Status::not_found(format!("there is no replica {} (any more)", quoted(word)));
    if let Ok(id) = word.parse::<ReplicaId>() {
        return plan.replica(id).map(|r| &**r).ok_or_else(missing);
    }
    let (name, slot) = word.rsplit_once('.').ok_or_else(missing)?;
    let key = service(desired, plan, name)?;
    let slot: u32 = slot.parse().map_err(|_| missing())?;
    let hits = plan.replicas_of(&key).filter(|r| r.slot == slot);
    hits.max_by_key(|r| (r.leaving.is_none(), r.id))
        .map(|replica| &**replica)
        .ok_or_else(missing)
}

/// Whatever a word means.
///
/// # Errors
/// `NOT_FOUND` with near names.
pub(super) fn target(desired: &Desired, plan: &Plan, word: &str) -> Result<Target, Status> {
    if word
        .parse::<ReplicaId>()
        .is_ok_and(|id| plan.replica(id).is_some())
        || word.contains('.')
    {
        return replica(desired, plan, word).map(|replica| Target::Replica(replica.id));
    }
    if word.starts_with("node/") {
        return node(desired, word).map(Target::Node);
    }
    match service(desired, plan, word) {
        Ok(key) => Ok(Target::Service(key)),
        Err(status) => node(desired, word).map(Target::Node).map_err(|_| status),
    }
}

/// As [`target`], where an app stands for all its services. A service is preferred only where its
/// app has no other one; `app/NAME`, `service/NAME` and `node/NAME` say what is meant.
///
/// # Errors
/// As [`target`], and `INVALID_ARGUMENT` with the choices where the name is another one's, too.
pub(super) fn with_apps(desired: &Desired, plan: &Plan, word: &str) -> Result<Target, Status> {
    let keys = known(desired, plan);
    let is_key = keys.iter().any(|key| key.to_string() == word);
    match word.split_once('/') {
        Some(("app", name)) if !is_key => {
            return of_app(&keys, name).ok_or_else(|| {
                let near = offer(name, keys.iter().map(|key| key.app.as_str()));
                Status::not_found(format!("there is no app {}{near}", quoted(name)))
            });
        }
        Some(("service", name)) if !is_key => return one_of(&keys, name).map(Target::Service),
        _ => {}
    }
    let Some(app) = of_app(&keys, word) else {
        return target(desired, plan, word);
    };
    let is_other = |key: &&ServiceKey| key.service.as_str() == word && key.app.as_str() != word;
    let others = keys.iter().filter(is_other);
    let mut choices: Vec<String> = others.map(|key| format!("service/{key}")).collect();
    let is_node = desired.nodes.keys().any(|id| id.as_str() == word);
    choices.extend(is_node.then(|| format!("node/{word}")));
    if choices.is_empty() {
        return Ok(app);
    }
    choices.insert(0, format!("app/{word}"));
    Err(Status::invalid_argument(format!(
        "{} is the name of several things; say which: {}",
        quoted(word),
        choices.join(", ")
    )))
}

/// The app of this name: its service if it has only one.
fn of_app(keys: &[ServiceKey], name: &str) -> Option<Target> {
    let mut of = keys.iter().filter(|key| key.app.as_str() == name);
    let first = of.next()?;
    Some(match of.next() {
        None => Target::Service(first.clone()),
        Some(_) => Target::App(first.app.clone()),
    })
}
