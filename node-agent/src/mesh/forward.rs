//! A connection that was taken by name: find it a replica, then carry bytes both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use longshore_identity::tls::NodeStream;
use longshore_model::names::NamedReplica;
use longshore_model::{NodeId, ReplicaId, ServiceKey};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::doors::{Guest, Shut};
use super::{BUFFER_BYTES, Shared, peer, prepare, reset};
use crate::backoff::Backoff;

/// Between two rounds over all replicas, if the directory does not change before.
const ROUND_FIRST: Duration = Duration::from_millis(50);
const ROUND_CAP: Duration = Duration::from_millis(500);
/// So long a node that did not answer is asked after all others.
const SILENT: Duration = Duration::from_secs(5);
/// So long it is said that connections were refused.
const LATELY: Duration = Duration::from_secs(60);

/// Why a replica did not take a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error("it takes nothing new")]
    Closed,
    #[error("it is not there")]
    NotHere,
    #[error("its container refused")]
    Refused,
    #[error("no answer in time")]
    Late,
    #[error("its node is not reached: {0}")]
    Unreached(io::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Connections that this agent has taken by name.
#[derive(Debug, Default)]
pub(super) struct Outgoing(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    services: BTreeMap<ServiceKey, u32>,
    replicas: BTreeMap<ReplicaId, u32>,
    /// Counts choices: replicas that are equal otherwise take turns.
    turn: usize,
    /// Nodes that did not answer, and when: each replica there costs a caller the time of a try, and
    /// has the fewest connections.
    silent: BTreeMap<NodeId, Instant>,
    refused: u64,
    refused_at: Option<Instant>,
}

fn less<K: Ord>(counts: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// One connection that counts, until it is dropped.
struct Seat {
    outgoing: Arc<Outgoing>,
    service: ServiceKey,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.outgoing.lock();
        counts.total -= 1;
        less(&mut counts.services, &self.service);
    }
}

/// The choice of a replica, until it is dropped.
struct Choice {
    outgoing: Arc<Outgoing>,
    named: NamedReplica,
}

impl Drop for Choice {
    fn drop(&mut self) {
        less(&mut self.outgoing.lock().replicas, &self.named.replica);
    }
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// The same in words, if one was a short while ago.
    pub(super) fn refused_lately(&self) -> Option<String> {
        let counts = self.lock();
        let last = counts.refused_at?;
        (last.elapsed() < LATELY).then(|| {
            format!(
                "connections by name are reset, as there are too many at a time ({} since the agent \
                 began); let programs keep and share them, or spread their replicas over more nodes",
                counts.refused
            )
        })
    }

    #[cfg(test)]
    pub(super) fn taken(&self, service: &ServiceKey) -> u32 {
        self.lock().services.get(service).copied().unwrap_or(0)
    }

    fn seat(self: &Arc<Self>, service: &ServiceKey, max: (u32, u32)) -> Option<Seat> {
        let mut counts = self.lock();
        let taken = counts.services.get(service).copied().unwrap_or(0);
        if counts.total >= max.0 || taken >= max.1 {
            counts.refused += 1;
            counts.refused_at = Some(Instant::now());
            return None;
        }
        counts.total += 1;
        counts.services.insert(service.clone(), taken + 1);
        Some(Seat {
            outgoing: Arc::clone(self),
            service: service.clone(),
        })
    }

    /// What became of a try with another node's replica.
    fn tried(&self, node: &NodeId, answers: bool) {
        let mut counts = self.lock();
        counts.silent.retain(|_, at| at.elapsed() < SILENT);
        if answers {
            counts.silent.remove(node);
        } else {
            counts.silent.insert(node.clone(), Instant::now());
        }
    }

    /// Of those that were not tried, nodes that do not answer last: the one with the fewest connections of this agent's, one of
    /// this node before others, and each in turn.
    fn choose(
        self: &Arc<Self>,
        replicas: &[NamedReplica],
        node: &NodeId,
        tried: &BTreeSet<ReplicaId>,
    ) -> Option<Choice> {
        let mut counts = self.lock();
        let live = |named: &NamedReplica| counts.replicas.get(&named.replica).copied().unwrap_or(0);
        let silent = |named: &NamedReplica| {
            let at = counts.silent.get(&named.node);
            at.is_some_and(|at| at.elapsed() < SILENT)
        };
        let rank = |named: &&NamedReplica| (silent(named), live(named), named.node != *node);
        let can = |named: &&NamedReplica| named.node == *node || named.peer_port > 0;
        let free = || {
            let untried = replicas.iter().filter(|r| !tried.contains(&r.replica));
            untried.filter(can)
        };
        let best = free().map(|named| rank(&named)).min()?;
        let equal: Vec<&NamedReplica> = free().filter(|named| rank(named) == best).collect();
        let named = (*equal.get(counts.turn % equal.len())?).clone();
        counts.turn = counts.turn.wrapping_add(1);
        *counts.replicas.entry(named.replica).or_default() += 1;
        Some(Choice {
            outgoing: Arc::clone(self),
            named,
        })
    }
}

/// The way to a replica.
enum Way {
    Here(TcpStream, Guest),
    There(Box<NodeStream>),
}

/// Serves one connection until it ends.
pub(super) async fn take(shared: Arc<Shared>, service: ServiceKey, port: u16, client: TcpStream) {
    let limits = &shared.limits;
    let max = (limits.connections_max, limits.service_max);
    let Some(seat) = shared.outgoing.seat(&service, max) else {
        tracing::debug!(%service, port, "too many connections: one is refused");
        return reset(client);
    };
    let found = timeout(limits.patience, find(&shared, &service, port)).await;
    let Ok((way, choice)) = found else {
        tracing::debug!(%service, port, "no replica took a connection");
        return reset(client);
    };
    if let Err(error) = prepare(&client) {
        tracing::debug!(%error, "a caller has left already");
    }
    match way {
        Way::Here(mut replica, guest) => {
            if !carry(client, &mut replica, guest.cut.cancelled()).await {
                reset(replica);
            }
        }
        Way::There(peer) => {
            let NodeStream {
                mut stream, serial, ..
            } = *peer;
            // Dropped without TLS's own end, the connection ends there as a broken one.
            carry(
                client,
                &mut stream,
                shared.tls.trust().until_revoked(&serial),
            )
            .await;
        }
    }
    drop((choice, seat));
}

/// Carries bytes both ways until both ends have ended, one is broken, or `cut`. False: it did not
/// end in order, and the client was told so.
pub(super) async fn carry(
    mut client: TcpStream,
    replica: &mut (impl AsyncRead + AsyncWrite + Unpin),
    cut: impl Future<Output = ()>,
) -> bool {
    let copy = copy_bidirectional_with_sizes(&mut client, replica, BUFFER_BYTES, BUFFER_BYTES);
    let in_order = tokio::select! {
        ended = copy => ended.is_ok(),
        () = cut => false,
    };
    if !in_order {
        reset(client);
    }
    in_order
}

/// Tries each replica once, and then again, until one takes it. The caller sets the bound.
async fn find(shared: &Arc<Shared>, service: &ServiceKey, port: u16) -> (Way, Choice) {
    let mut names = shared.names.clone();
    let mut backoff = Backoff::new(ROUND_FIRST, ROUND_CAP);
    loop {
        let mut tried = BTreeSet::new();
        loop {
            // What the directory says now: a replica may have come meanwhile.
            let directory = Arc::clone(&names.borrow_and_update());
            let replicas = directory.services.get(service);
            let replicas = replicas.map_or(&[][..], |named| &named.replicas);
            let Some(choice) = shared.outgoing.choose(replicas, &shared.node, &tried) else {
                break;
            };
            let attempt = attempt(shared, &choice.named, port);
            let tried_one = timeout(shared.limits.attempt, attempt).await;
            let tried_one = tried_one.unwrap_or(Err(NotTaken::Late));
            if choice.named.node != shared.node {
                let silent = matches!(tried_one, Err(NotTaken::Late | NotTaken::Unreached(_)));
                shared.outgoing.tried(&choice.named.node, !silent);
            }
            match tried_one {
                Ok(way) => return (way, choice),
                Err(error) => said(&choice.named, &error),
            }
            tried.insert(choice.named.replica);
        }
        let wait = backoff.next_wait().max(ROUND_FIRST / 5);
        tokio::select! {
            () = sleep(wait) => {}
            Ok(()) = names.changed() => {}
        }
    }
}

fn said(named: &NamedReplica, why: &NotTaken) {
    let (replica, node) = (named.replica, &named.node);
    tracing::debug!(%replica, %node, %why, "a replica did not take a connection");
}

async fn attempt(shared: &Arc<Shared>, named: &NamedReplica, port: u16) -> Result<Way, NotTaken> {
    if named.node != shared.node {
        let stream = peer::dial(&shared.tls, named, port).await?;
        return Ok(Way::There(Box::new(stream)));
    }
    let guest = shared
        .doors
        .enter(named.replica)
        .map_err(|shut| match shut {
            Shut::Closed => NotTaken::Closed,
            Shut::NotHere => NotTaken::NotHere,
        })?;
    let replica = TcpStream::connect((guest.address, port)).await?;
    prepare(&replica)?;
    Ok(Way::Here(replica, guest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(id: u64, node: &str) -> NamedReplica {
        NamedReplica {
            replica: ReplicaId(id),
            node: NodeId::new(node).unwrap(),
            address: "127.0.0.1".parse().unwrap(),
            peer_port: 7447,
        }
    }

    #[test]
    fn one_whose_node_takes_nobody_is_for_its_own_node() {
        let outgoing = Arc::new(Outgoing::default());
        let alone = NamedReplica {
            peer_port: 0,
            ..named(1, "a")
        };
        let choose = |node: &str| {
            let node = NodeId::new(node).unwrap();
            outgoing.choose(std::slice::from_ref(&alone), &node, &BTreeSet::new())
        };
        assert!(choose("b").is_none());
        assert!(choose("a").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_are_said_for_a_while() {
        let outgoing = Arc::new(Outgoing::default());
        let service: ServiceKey = "demo/redis".parse().unwrap();
        assert_eq!(outgoing.refused_lately(), None);
        assert!(outgoing.seat(&service, (1, 0)).is_none());
        let said = outgoing.refused_lately().unwrap();
        assert!(said.contains("1 since"), "{said}");
        tokio::time::advance(LATELY).await;
        assert_eq!(outgoing.refused_lately(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_did_not_answer_is_asked_last_for_a_while() {
        let outgoing = Arc::new(Outgoing::default());
        let node = NodeId::new("c").unwrap();
        let replicas = [named(1, "b"), named(2, "a"), named(3, "b")];
        let choose = |tried: &[u64]| {
            let tried = tried.iter().map(|id| ReplicaId(*id)).collect();
            let choice = outgoing.choose(&replicas, &node, &tried).unwrap();
            (choice.named.replica.0, choice)
        };
        let b = NodeId::new("b").unwrap();
        outgoing.tried(&b, false);
        let kept: Vec<_> = (0..4).map(|_| choose(&[])).collect();
        assert!(kept.iter().all(|(id, _)| *id == 2), "busy as it is");
        assert_ne!(choose(&[2]).0, 2, "better than nobody");
        outgoing.tried(&b, true);
        assert_ne!(choose(&[]).0, 2);
        outgoing.tried(&b, false);
        tokio::time::advance(SILENT).await;
        assert_ne!(choose(&[]).0, 2);
    }

    #[test]
    fn the_least_busy_first_then_those_here_then_in_turn() {
        let outgoing = Arc::new(Outgoing::default());
        let node = NodeId::new("a").unwrap();
        let replicas = [named(1, "b"), named(2, "a"), named(3, "b")];
        let choose = |tried: &[u64]| {
            let tried = tried.iter().map(|id| ReplicaId(*id)).collect();
            outgoing.choose(&replicas, &node, &tried)
        };
        let id = |choice: &Option<Choice>| choice.as_ref().map(|choice| choice.named.replica.0);
        let here = choose(&[]);
        assert_eq!(id(&here), Some(2));
        let (there, other) = (choose(&[]), choose(&[]));
        let mut both = [id(&there), id(&other)];
        both.sort_unstable();
        assert_eq!(
            both,
            [Some(1), Some(3)],
            "one each before a second one here"
        );
        assert!(choose(&[2]).is_some());
        assert!(choose(&[1, 2, 3]).is_none());
        drop((here, there, other));
        let seen: BTreeSet<_> = (0..4).map(|_| id(&choose(&[2]))).collect();
        assert_eq!(seen.len(), 2, "equals take turns");
    }
}
