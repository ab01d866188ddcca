//! Follows services until they are as wanted, or until it is clear that they will not be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use longshore_model::Reason;
use longshore_proto::control::v1 as pb;
use longshore_wire::struct_to_json;
use tokio_stream::StreamExt;

use super::{Run, certificates, overtaken};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::note;
use crate::progress::{Reporter, Stage};
use crate::text::printable;
use words::report_replicas;

mod jobs;
mod words;

/// "Cannot be placed", or another count than asked for, must hold so long before it is believed: a
/// plan may be on its way.
const DOUBT_HOLDS: Duration = Duration::from_secs(2);
/// Failed starts after which waiting is given up where no rollout comes to a verdict by itself.
const FAILURES_MAX: u32 = 2;
/// Last lines of a replica that failed.
const LAST_LINES: u32 = 10;
const LAST_LINES_PATIENCE: Duration = Duration::from_secs(3);

/// Tells whether a set of services is as wanted.
pub(super) type Done = Box<dyn Fn(&[pb::Service]) -> bool + Send + Sync>;

/// What is waited for.
pub(super) struct Goal {
    /// Which services, by key or name; empty: all of `app`.
    pub(super) services: Vec<String>,
    /// The app, where one is followed.
    pub(super) app: Option<String>,
    /// Least revision that counts.
    pub(super) revision: u64,
    /// When a set of services is as wanted.
    pub(super) done: Done,
    /// Counts that were asked for, by key or name.
    pub(super) counts: Vec<(String, u32)>,
    /// Certificates that were renewed, where those are followed, too.
    pub(super) certificates: Option<Vec<String>>,
    /// Stop early on failures and on what cannot be placed.
    pub(super) judge: bool,
    /// It was taken down: nothing of it shall be left.
    pub(super) leaves: bool,
    /// How to look again after Ctrl-C.
    pub(super) again: String,
}

impl Goal {
    /// What became of the certificates; none: they are on their way.
    fn certificates_done(&self, services: &[pb::Service]) -> Option<Result<Vec<String>, Failure>> {
        let Some(renewed) = &self.certificates else {
            return Some(Ok(Vec::new()));
        };
        if let Some(failure) = certificates::refusal(services) {
            return Some(Err(failure));
        }
        let waits = services.iter().any(certificates::on_their_way);
        (!waits).then(|| Ok(certificates::news(services, renewed)))
    }

    /// Do all that stay have the revision that counts? What only leaves holds up no verdict.
    fn is_current(&self, services: &[pb::Service]) -> bool {
        let mut staying = services.iter().filter(|service| stays(service));
        staying.all(|service| service.revision >= self.revision)
    }

    fn wants(&self, service: &pb::Service) -> bool {
        let named = self
            .services
            .iter()
            .any(|s| *s == service.key || *s == service.name);
        match &self.app {
            Some(app) => service.app == *app && (self.services.is_empty() || named),
            None => named,
        }
    }
}

/// Services that only leave have no revision.
fn stays(service: &pb::Service) -> bool {
    service.revision > 0
}

/// Replicas that do their work: in the routes, where there are routes.
pub(super) fn ready(service: &pb::Service) -> u32 {
    if service.routes.is_empty() {
        service.healthy
    } else {
        service.serving
    }
}

/// As wanted: all ready, none old or where it must not be, none on its way out.
pub(super) fn settled(service: &pb::Service) -> bool {
    // What a rollout left as it was (one on a node that takes nothing) goes on once it can.
    let done = service.rollout.as_ref().is_some_and(|r| r.state == "done");
    let outdated = if done { 0 } else { service.outdated };
    let others = outdated + service.misplaced + service.leaving;
    // One that an operator keeps out of the routes is as wanted.
    let counts = ready(service) + service.aside == service.wanted && others == 0;
    // A first rollout is done once it serves; a later one once it was monitored, and so is the first
    // one of what nobody asks how it is: it may end the moment after it was started.
    let watched = service.rollout.as_ref().is_none_or(|rollout| {
        let state = rollout.state.as_str();
        let going = matches!(state, "running" | "waiting" | "rolling_back" | "held");
        !going || (rollout.from_revision == 0 && !service.unasked)
    });
    counts && watched && jobs::is_over(service)
}

/// A service whose rollout of this revision failed and goes no further by itself, and in words
/// how it ended.
fn ended_badly(services: &[pb::Service], revision: u64) -> Option<(&pb::Service, String)> {
    if revision == 0 {
        return None;
    }
    services.iter().find_map(|service| {
        let rollout = service
            .rollout
            .as_ref()
            .filter(|r| r.revision >= revision)?;
        let how = match rollout.state.as_str() {
            "paused" => "is paused",
            "rolled_back" => "was rolled back",
            "held" => "is held",
            _ => return None,
        };
        let (key, number) = (&service.key, rollout.revision);
        let why = match rollout.held_by.as_str() {
            "" => rollout.why.clone(),
            by => format!("by {by}; controllerctl rollout resume {key}"),
        };
        Some((
            service,
            format!("{key}: the rollout of revision {number} {how}: {why}"),
        ))
    })
}

/// What is worth a word of rollouts of this revision that are through: failures that they went on
/// in spite of.
fn went_on(services: &[pb::Service], revision: u64) -> Vec<String> {
    let through = services.iter().filter_map(|service| {
        let rollout = service.rollout.as_ref()?;
        let through = rollout.state == "done" && rollout.revision == revision;
        (through && revision > 0 && !rollout.why.is_empty()).then(|| {
            format!(
                "{}: the rollout of revision {revision} is through in spite of failures: {}",
                service.key, rollout.why
            )
        })
    });
    through.collect()
}

/// How following ended.
enum End {
    /// As wanted, with what is worth a word.
    Done(Vec<String>),
    Detached,
    TimedOut,
}

/// Follows until the goal is reached.
///
/// # Errors
/// Exit 4 with the last lines of a failed replica, 5 with the reasons of each node, 6, 7.
pub(super) async fn follow(
    run: &Run,
    client: &mut Client,
    title: &str,
    goal: &Goal,
    timeout: Duration,
) -> Result<Exit, Failure> {
    let mut reporter = Reporter::new(run.out.progress, title);
    let looked = look(client, &mut reporter, title, goal);
    let end = tokio::select! {
        done = looked => done.map(End::Done),
        _ = tokio::signal::ctrl_c() => Ok(End::Detached),
        () = tokio::time::sleep(timeout) => Ok(End::TimedOut),
    };
    reporter.finish();
    match end {
        Ok(End::Done(words)) => {
            words.iter().for_each(|said| note(&printable(said)));
            Ok(Exit::Done)
        }
        Ok(End::Detached) => {
            note(&format!("detached; it goes on. Look again: {}", goal.again));
            Ok(Exit::Interrupted)
        }
        Ok(End::TimedOut) => {
            let waited = humantime::format_duration(timeout);
            Err(
                Failure::new(format!("{title}: not as wanted after {waited}; it goes on"))
                    .exit(Exit::TimedOut)
                    .details(still_waiting(client, goal).await)
                    .hint(goal.again.clone()),
            )
        }
        Err(failure) => Err(failure),
    }
}

async fn look(
    client: &mut Client,
    reporter: &mut Reporter,
    title: &str,
    goal: &Goal,
) -> Result<Vec<String>, Failure> {
    let mut changes = client.changes();
    let mut doubt_since: Option<Instant> = None;
    let mut shown = Shown::default();
    loop {
        match observe(client, goal).await {
            Ok(seen) => {
                let Seen {
                    services, replicas, ..
                } = &seen;
                let current = goal.is_current(services);
                let judged = current && goal.judge;
                let bad = judged.then(|| ended_badly(services, goal.revision));
                let bad = bad.flatten();
                // What ends it is said once, as the error.
                let ended = bad.as_ref().map(|(service, _)| service.key.as_str());
                report(reporter, title, &seen, &mut shown, ended);
                let job = judged.then(|| jobs::failed(services, goal.revision));
                if let Some((service, why)) = job.flatten() {
                    let more = format!("controllerctl restart {}", service.key);
                    return Err(failed(client, why, service, replicas, more).await);
                }
                if let Some((service, why)) = bad {
                    let more = format!("controllerctl rollout status {}", service.key);
                    return Err(failed(client, why, service, replicas, more).await);
                }
                if current && (goal.done)(services) && overtaken::by_later(goal, services).is_none()
                {
                    match goal.certificates_done(services) {
                        Some(Ok(news)) => {
                            let words = went_on(services, goal.revision);
                            return Ok(words.into_iter().chain(news).collect());
                        }
                        Some(Err(failure)) => return Err(failure),
                        None => {}
                    }
                }
                match verdict(client, goal, &seen, current).await {
                    None => doubt_since = None,
                    Some((failure, Sure(true))) => return Err(failure),
                    Some((failure, Sure(false))) => {
                        let since = *doubt_since.get_or_insert_with(Instant::now);
                        if since.elapsed() >= DOUBT_HOLDS {
                            return Err(failure);
                        }
                    }
                }
            }
            Err(failure) => changes.pause(failure).await?,
        }
        if doubt_since.is_some() {
            // Nothing may change any more: look again when the verdict is due.
            let due = tokio::time::timeout(DOUBT_HOLDS / 4, changes.next());
            due.await.unwrap_or(Ok(()))?;
        } else {
            changes.next().await?;
        }
    }
}

/// It is so already; else it must hold for a while before it is believed.
struct Sure(bool);

/// Why waiting does not help any more, if it does not.
async fn verdict(
    client: &mut Client,
    goal: &Goal,
    seen: &Seen,
    current: bool,
) -> Option<(Failure, Sure)> {
    if let Some(failure) = overtaken::overtaken(goal, &seen.services) {
        return Some((failure, Sure(false)));
    }
    if !(goal.judge && current) {
        return None;
    }
    if let Some(failure) = overruled(goal, &seen.services) {
        return Some((failure, Sure(false)));
    }
    let failure = judge(client, seen).await?;
    let sure = Sure(failure.exit != Exit::Unplaceable);
    Some((failure, sure))
}

/// What is so now.
struct Seen {
    services: Vec<pb::Service>,
    replicas: Vec<pb::Replica>,
    /// Of the whole cluster.
    problems: Vec<pb::Problem>,
}

impl Seen {
    /// What is wrong with the cluster, its nodes and edges, by what it is about: a change may wait
    /// for any of them.
    fn around(&self) -> BTreeMap<&str, &str> {
        let service = |about: &str| about.contains('/');
        let problems = self.problems.iter().filter(|p| !service(&p.about));
        let named = problems.map(|p| match p.about.as_str() {
            "" => ("cluster", p.message.as_str()),
            about => (about, p.message.as_str()),
        });
        named.collect()
    }
}

async fn observe(client: &mut Client, goal: &Goal) -> Result<Seen, Failure> {
    let mut services = client.services().await?;
    services.retain(|service| goal.wants(service));
    let problems = client.status(pb::GetStatusRequest {}).await?.problems;
    let keys: Vec<String> = services.iter().map(|s| s.key.clone()).collect();
    let seen = |services, replicas| Seen {
        services,
        replicas,
        problems,
    };
    if keys.is_empty() {
        // An empty list would mean all.
        return Ok(seen(services, Vec::new()));
    }
    let request = pb::ListReplicasRequest { services: keys };
    match client.replicas(request).await {
        Ok(answer) => Ok(seen(services, answer.replicas)),
        Err(failure) => {
            // A service that leaves may have gone between the two calls.
            let mut now = client.services().await?;
            now.retain(|service| goal.wants(service));
            match now.len() < services.len() {
                true => Ok(seen(now, Vec::new())),
                false => Err(failure),
            }
        }
    }
}

/// What was said of, to say when it is over.
#[derive(Default)]
struct Shown {
    replicas: BTreeMap<u64, String>,
    problems: BTreeSet<String>,
}

/// `ended`: a service of which the error says all that is to be said.
fn report(
    reporter: &mut Reporter,
    title: &str,
    seen: &Seen,
    shown: &mut Shown,
    ended: Option<&str>,
) {
    let (mut now, mut wanted) = (0, 0);
    for service in &seen.services {
        now += ready(service);
        wanted += service.wanted;
    }
    reporter.head(&format!("{title}  {now}/{wanted}"));
    report_replicas(reporter, &seen.replicas, &mut shown.replicas);
    let around = seen.around();
    for (about, message) in &around {
        reporter.say(about, None, Stage::Error, message);
        shown.problems.insert((*about).to_owned());
    }
    shown.problems.retain(|about| {
        let lasts = around.contains_key(about.as_str());
        if !lasts {
            reporter.say(about, None, Stage::Done, "no longer");
        }
        lasts
    });
    for service in &seen.services {
        let stage = if settled(service) {
            Stage::Done
        } else {
            Stage::Working
        };
        let mut text = format!("{}/{} serving", ready(service), service.wanted);
        if let Some(wait) = service.waits.first()
            && ended != Some(service.key.as_str())
        {
            text.push_str(&format!("; waits: {wait}"));
        }
        if let Some(waits) = certificates::waits(service) {
            text.push_str(&format!("; {waits}"));
        }
        reporter.say(&service.key, None, stage, &text);
    }
}

/// Does its rollout go on by itself: because its file says so, or to a verdict that is not yet
/// spoken?
fn goes_on(service: &pb::Service) -> bool {
    service.rollout.as_ref().is_some_and(|rollout| {
        matches!(
            rollout.state.as_str(),
            "running" | "waiting" | "rolling_back"
        ) && rollout.from_revision != 0
            && (rollout.failure_action == "continue" || rollout.failed <= rollout.tolerated)
    })
}

/// Is another count wanted by now than was asked for?
fn overruled(goal: &Goal, services: &[pb::Service]) -> Option<Failure> {
    goal.counts.iter().find_map(|(key, count)| {
        let service = services.iter().find(|s| s.key == *key || s.name == *key)?;
        let wanted = service.wanted;
        let signals = service.signals.iter();
        let asks = signals.filter(|signal| signal.recommendation.is_some_and(|n| n >= wanted));
        let asks = asks.map(|signal| format!("{} asks for it", signal.signal));
        let reasons = service.scale_reasons.iter().cloned();
        let why = asks.chain(reasons).collect::<Vec<_>>().join("; ");
        (wanted != *count).then(|| {
            Failure::new(format!(
                "{key}: {count} were asked for, by now {wanted} are wanted: {why}"
            ))
            .hint(format!(
                "controllerctl scale {key}={count} --hold 10m keeps a count"
            ))
        })
    })
}

/// Is it clear that waiting does not help?
async fn judge(client: &mut Client, seen: &Seen) -> Option<Failure> {
    let open = |service: &&pb::Service| stays(service) && !settled(service);
    for service in seen.services.iter().filter(open) {
        let about = |p: &&pb::Problem| p.about == service.key || p.about == service.name;
        for problem in seen.problems.iter().filter(about) {
            let more = format!("controllerctl why {}", service.key);
            let json = problem
                .reason
                .as_ref()
                .map(struct_to_json)
                .unwrap_or_default();
            let message = match serde_json::from_value::<Reason>(json) {
                Ok(ref reason @ Reason::Unplaceable { ref refusals, .. }) => {
                    let nodes = refusals.iter().map(|(node, why)| format!("{node}  {why}"));
                    let message = format!("{} cannot be placed: {reason}", service.key);
                    return Some(
                        Failure::new(message)
                            .exit(Exit::Unplaceable)
                            .details(nodes.collect())
                            .hint(more),
                    );
                }
                Ok(ref reason @ Reason::NotRouted { .. }) => {
                    let message = format!("{} is {reason}", service.key);
                    return Some(Failure::new(message).exit(Exit::Unplaceable).hint(more));
                }
                // A rollout that has something to go back to fails by it in time.
                Ok(ref reason @ Reason::NotReached { .. }) if !goes_on(service) => {
                    let message = format!("{}: {reason}", service.key);
                    return Some(Failure::new(message).exit(Exit::Unplaceable).hint(more));
                }
                Ok(Reason::Backoff { failures, last, .. })
                    if failures >= FAILURES_MAX && !goes_on(service) && service.job.is_none() =>
                {
                    let back = service.rollout.as_ref();
                    let back = back.filter(|rollout| rollout.state == "rolling_back");
                    let what = match back {
                        None => "new replicas".to_owned(),
                        Some(back) => format!(
                            "revision {} failed, and those of the way back",
                            back.revision
                        ),
                    };
                    format!(
                        "{}: {what} failed {failures} times in a row, and are tried on: {last}",
                        service.key
                    )
                }
                _ => continue,
            };
            return Some(failed(client, message, service, &seen.replicas, more).await);
        }
    }
    None
}

async fn failed(
    client: &mut Client,
    message: String,
    service: &pb::Service,
    replicas: &[pb::Replica],
    more: String,
) -> Failure {
    let of_service = |r: &&pb::Replica| r.service == service.key && r.state != "healthy";
    let last = replicas
        .iter()
        .filter(of_service)
        .max_by_key(|r| r.revision);
    let mut details = match service.serving {
        0 => Vec::new(),
        _ => vec!["what served before goes on serving".to_owned()],
    };
    if let Some(replica) = last {
        let lines = tokio::time::timeout(LAST_LINES_PATIENCE, last_lines(client, &replica.name));
        let lines = lines.await.unwrap_or_default();
        if !lines.is_empty() {
            details.push(format!(
                "last lines of {} on {}:",
                replica.name, replica.node
            ));
            details.extend(lines.into_iter().map(|line| format!("| {line}")));
        }
    }
    Failure::new(message)
        .exit(Exit::Rollout)
        .details(details)
        .hint(more)
}

/// What a replica wrote last; nothing, if that cannot be had: the failure itself is the news.
async fn last_lines(client: &mut Client, name: &str) -> Vec<String> {
    let request = pb::LogsRequest {
        targets: vec![name.to_owned()],
        tail: Some(LAST_LINES),
        ..pb::LogsRequest::default()
    };
    let Ok(stream) = client.logs(request).await else {
        return Vec::new();
    };
    let lines = stream.filter_map(Result::ok).take(LAST_LINES as usize);
    lines
        .map(|message| message.line)
        .filter(|line| !line.is_empty())
        .collect()
        .await
}

async fn still_waiting(client: &mut Client, goal: &Goal) -> Vec<String> {
    let Ok(seen) = observe(client, goal).await else {
        return Vec::new();
    };
    let around = seen.around().into_iter();
    let around = around.map(|(about, message)| format!("{about}: {message}"));
    let followed = goal.certificates.is_some();
    let is_open = |s: &&pb::Service| !settled(s) || (followed && certificates::on_their_way(s));
    let open = seen.services.iter().filter(is_open);
    let open = open.map(|s| {
        let waits = s.waits.iter().cloned().chain(certificates::waits(s));
        let waits = waits.collect::<Vec<_>>().join("; ");
        let why = if waits.is_empty() {
            String::new()
        } else {
            format!(": {waits}")
        };
        format!("{}  {}/{} serving{why}", s.key, ready(s), s.wanted)
    });
    open.chain(around).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asks_how_it_is_is_done_once_it_was_watched() {
        let mut service = pb::Service {
            wanted: 1,
            healthy: 1,
            rollout: Some(pb::Rollout {
                state: "running".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert!(settled(&service), "something asked it");
        service.unasked = true;
        assert!(!settled(&service), "it may end in a moment");
        service.rollout = Some(pb::Rollout {
            state: "done".into(),
            ..Default::default()
        });
        assert!(settled(&service));
        service.outdated = 1;
        assert!(
            settled(&service),
            "its node takes nothing, and the rollout is done without it"
        );
        service.rollout = None;
        assert!(!settled(&service));
    }
}
