//! Numbers from a Prometheus server, for services whose autoscaling asks for them.
//!
//! # Guarantees
//! - Only the server that the operator configured is asked: files name queries, never where they
//!   go, and redirects are not followed.
//! - A query without a number is known with its reason: nothing here ever becomes a zero.
//! - Answers are bounded in size and time, connections in number, tries by back-off with jitter.
//!
//! # Assumptions
//! - A query gives one number: a scalar, or a vector with one sample.
//!
//! # Caveats
//! - An instant query may look back five minutes (Prometheus's own default): a series whose source
//!   died goes on with its last value for so long. `sum(rate(x[1m]))` does not.

mod answer;
mod client;
mod config;
mod schedule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use longshore_model::autoscale::Signal;
use longshore_model::{Desired, ServiceKey};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use self::client::Client;
pub use self::config::{PrometheusConfig, ServerUrl};
use self::schedule::Schedule;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::fleet::Fleet;

/// Different queries that are asked; more are left out and told so.
const QUERIES_MAX: usize = 1_000;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 4;
/// Between two looks whether a query is due.
const TICK: Duration = Duration::from_secs(1);
/// What a service is told while nobody configured a server.
const NOT_CONFIGURED: &str = "no [prometheus] url in controller.toml";

/// Queries that services want: each text once, with those that want it.
pub(crate) type Wanted = BTreeMap<String, BTreeSet<ServiceKey>>;

/// Asks until `stop`.
pub(crate) async fn run(cluster: Arc<Cluster>, stop: CancellationToken) {
    let mut poller = Poller::new(&cluster.config.prometheus);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let desired = cluster.desired();
        tokio::select! {
            () = stop.cancelled() => return,
            () = poller.round(&desired, &cluster.fleet, &cluster.clock) => {}
        }
    }
}

/// Asks what is due.
struct Poller {
    config: PrometheusConfig,
    schedule: Schedule,
    /// Reasons that were logged, by query: each once.
    said: BTreeMap<String, String>,
}

impl Poller {
    fn new(config: &PrometheusConfig) -> Self {
        let config = config.clone().bounded();
        Self {
            schedule: Schedule::new(Duration::from_millis(config.interval_ms)),
            config,
            said: BTreeMap::new(),
        }
    }

    /// Asks everything that is due once and tells the fleet. Ends within the interval and one
    /// timeout, whatever the server does.
    async fn round(&mut self, desired: &Desired, fleet: &Fleet, clock: &Clock) {
        let (wanted, refused) = self.wanted(desired);
        let is_wanted = |key: &ServiceKey, query: &str| {
            let listed = |map: &Wanted| map.get(query).is_some_and(|keys| keys.contains(key));
            listed(&wanted) || listed(&refused.queries)
        };
        fleet.keep_external(is_wanted);
        self.schedule.keep(|query| wanted.contains_key(query));
        self.said.retain(|query, _| wanted.contains_key(query));
        for (query, keys) in &refused.queries {
            let why = refused.why.get(query).map_or("", String::as_str);
            for key in keys {
                fleet.external_not_asked(key, query, why);
            }
        }
        let due = self.schedule.due(wanted.keys(), Instant::now());
        let Some(url) = self.config.url.clone().filter(|_| !due.is_empty()) else {
            return;
        };
        let answers = self.ask(&url, due).await;
        for asked in answers {
            let Asked { query, answer, .. } = &asked;
            self.schedule
                .asked(query, asked.well, Instant::now(), jitter());
            self.say(query, answer.as_ref().err());
            for key in wanted.get(query).into_iter().flatten() {
                match answer {
                    Err(why) if !asked.tried => fleet.external_not_asked(key, query, why),
                    _ => fleet.external(key, query, answer.clone(), clock.now_ms()),
                }
            }
        }
    }

    /// Asks over a few connections; each takes its share one after the other.
    async fn ask(&self, url: &ServerUrl, due: Vec<String>) -> Vec<Asked> {
        let deadline = Instant::now() + Duration::from_millis(self.config.interval_ms);
        let share = due.len().div_ceil(CONNECTIONS_MAX).max(1);
        let mut shares = Vec::with_capacity(CONNECTIONS_MAX);
        for queries in due.chunks(share) {
            shares.push(self.ask_share(url, queries, deadline));
        }
        let answers = join_all(shares).await;
        answers.into_iter().flatten().collect()
    }

    async fn ask_share(
        &self,
        url: &ServerUrl,
        queries: &[String],
        deadline: Instant,
    ) -> Vec<Asked> {
        let mut client = Client::new(url, &self.config);
        let mut answers = Vec::with_capacity(queries.len());
        let mut unreachable: Option<String> = None;
        for query in queries {
            let (mut well, mut tried) = (false, true);
            let answer = if let Some(why) = &unreachable {
                Err(why.clone())
            } else if Instant::now() >= deadline {
                tried = false;
                Err("not asked: the queries before took too long".to_owned())
            } else {
                let until = Instant::now() + Duration::from_millis(self.config.timeout_ms);
                let asked = timeout_at(until, client.ask(query)).await;
                match asked {
                    Ok(Ok(value)) => {
                        well = true;
                        Ok(value)
                    }
                    Ok(Err(error)) => {
                        well = error.is_answered();
                        let why = crate::chain(&error);
                        unreachable = error.is_unreachable().then(|| why.clone());
                        client.hang_up();
                        Err(why)
                    }
                    Err(_) => {
                        client.hang_up();
                        Err(format!("no answer within {} ms", self.config.timeout_ms))
                    }
                }
            };
            answers.push(Asked {
                query: query.clone(),
                answer,
                well,
                tried,
            });
        }
        answers
    }

    /// Each reason is logged when it is new, and its end once.
    fn say(&mut self, query: &str, why: Option<&String>) {
        match why {
            Some(why) if self.said.get(query) != Some(why) => {
                tracing::warn!(query, why, "prometheus gives no number");
                self.said.insert(query.to_owned(), why.clone());
            }
            None if self.said.remove(query).is_some() => {
                tracing::info!(query, "prometheus gives a number again");
            }
            _ => {}
        }
    }

    /// What services want, and what of it is not asked and why.
    fn wanted(&self, desired: &Desired) -> (Wanted, Refused) {
        let (mut wanted, mut refused) = (Wanted::new(), Refused::default());
        for (key, query, url) in queries(desired) {
            let own = self.config.url.as_ref().map(ServerUrl::as_str);
            let why = match (own, url) {
                (None, _) => Some(NOT_CONFIGURED.to_owned()),
                (Some(own), Some(url)) if url.trim_end_matches('/') != own => Some(
                    "the file names another server than [prometheus] url in controller.toml, \
                     and only that one is asked"
                        .to_owned(),
                ),
                _ if wanted.len() >= QUERIES_MAX && !wanted.contains_key(query) => Some(format!(
                    "not asked: there are more than {QUERIES_MAX} different queries"
                )),
                _ => None,
            };
            let list = match why {
                Some(why) => {
                    refused.why.insert(query.to_owned(), why);
                    &mut refused.queries
                }
                None => &mut wanted,
            };
            list.entry(query.to_owned()).or_default().insert(key);
        }
        (wanted, refused)
    }
}

/// A number, or why there is none.
type Answer = Result<f64, String>;

/// What came of a query whose turn it was.
struct Asked {
    query: String,
    answer: Answer,
    /// The server did its part: only then it is asked again as often as ever.
    well: bool,
    /// It was asked, or its server was tried and cannot be reached.
    tried: bool,
}

#[derive(Default)]
struct Refused {
    queries: Wanted,
    why: BTreeMap<String, String>,
}

/// Queries of all services, with the server that the file names, if it does.
fn queries(desired: &Desired) -> impl Iterator<Item = (ServiceKey, &str, Option<&str>)> {
    let services = desired.apps.values().flat_map(|app| {
        let key = |name| ServiceKey::new(app.name.clone(), name);
        app.services
            .iter()
            .map(move |(name, spec)| (key(name.clone()), spec))
    });
    services.flat_map(|(key, spec)| {
        let policy = spec.autoscale.as_ref();
        let targets = policy
            .into_iter()
            .flat_map(|p| &p.metrics)
            .map(|m| &m.signal);
        let steps = policy.into_iter().flat_map(|p| &p.steps).map(|s| &s.signal);
        targets.chain(steps).filter_map(move |signal| match signal {
            Signal::Prometheus(external) => Some((
                key.clone(),
                external.query.as_str(),
                external.url.as_deref(),
            )),
            _ => None,
        })
    })
}

/// A share of a wait, evenly from 0 to 1. Without chance there is no jitter, which is no harm.
fn jitter() -> f64 {
    let mut bytes = [0; 4];
    let drawn = getrandom::fill(&mut bytes).is_ok();
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX) * f64::from(u8::from(drawn))
}
