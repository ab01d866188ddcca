//! What waits to be sent to one agent. Assignments, routes and names are whole, so only the newest of
//! each waits; stream messages wait in a bounded queue and are refused when it is full.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use longshore_model::{Assignment, Names, Routes};
use longshore_proto::agent::v1 as pb;
use tokio::sync::{mpsc, watch};

use crate::secrets::Secrets;

/// Stream messages that may wait for one agent.
const QUEUE_MAX: usize = 256;

/// The sender's side.
#[derive(Clone)]
pub struct Outbox {
    assignment: Arc<watch::Sender<Option<Arc<Assignment>>>>,
    routes: Arc<watch::Sender<Option<Arc<Routes>>>>,
    certificates: Arc<watch::Sender<Option<Arc<Secrets>>>>,
    names: Arc<watch::Sender<Option<Arc<Names>>>>,
    refused: Arc<Refused>,
    queue: mpsc::Sender<pb::session_response::Message>,
    /// Pieces of standard input that each stream may send before more are granted; 0: any number.
    pub(super) stdin_pieces: u32,
}

/// What the agent could not take (its disk was full) and must be sent again.
#[derive(Default)]
struct Refused {
    assignment: AtomicBool,
    routes: AtomicBool,
    names: AtomicBool,
}

/// What an agent may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// What its node runs.
    Assignment,
    /// What its edge serves.
    Routes,
    /// What its containers reach by name.
    Names,
}

/// The session's side.
pub struct OutboxReader {
    assignment: watch::Receiver<Option<Arc<Assignment>>>,
    routes: watch::Receiver<Option<Arc<Routes>>>,
    certificates: watch::Receiver<Option<Arc<Secrets>>>,
    names: watch::Receiver<Option<Arc<Names>>>,
    queue: mpsc::Receiver<pb::session_response::Message>,
}

/// One thing to send.
#[derive(Debug)]
pub enum Outgoing {
    /// The newest assignment.
    Assignment(Arc<Assignment>),
    /// All certificates.
    Certificates(Arc<Secrets>),
    /// What its containers reach by name.
    Names(Arc<Names>),
    /// The newest routes.
    Routes(Arc<Routes>),
    /// A message of a log or exec stream.
    Stream(pb::session_response::Message),
}

impl Outbox {
    /// Both sides.
    #[must_use]
    pub fn new() -> (Self, OutboxReader) {
        let (assignment, assignment_reader) = watch::channel(None);
        let (routes, routes_reader) = watch::channel(None);
        let (certificates, certificates_reader) = watch::channel(None);
        let (names, names_reader) = watch::channel(None);
        let (queue, queue_reader) = mpsc::channel(QUEUE_MAX);
        let writer = Self {
            assignment: Arc::new(assignment),
            routes: Arc::new(routes),
            certificates: Arc::new(certificates),
            names: Arc::new(names),
            refused: Arc::default(),
            queue,
            stdin_pieces: 0,
        };
        let reader = OutboxReader {
            assignment: assignment_reader,
            routes: routes_reader,
            certificates: certificates_reader,
            names: names_reader,
            queue: queue_reader,
        };
        (writer, reader)
    }

    /// Generation of the assignment handed over last; none if the agent could not take it.
    #[must_use]
    pub fn assignment_generation(&self) -> Option<u64> {
        if self.refused.assignment.load(Ordering::Relaxed) {
            return None;
        }
        self.assignment
            .borrow()
            .as_ref()
            .map(|assignment| assignment.generation)
    }

    /// Generation of the routes handed over last; none if the agent could not take them.
    #[must_use]
    pub fn routes_generation(&self) -> Option<u64> {
        if self.refused.routes.load(Ordering::Relaxed) {
            return None;
        }
        self.routes
            .borrow()
            .as_ref()
            .map(|routes| routes.generation)
    }

    /// Version of the certificates handed over last; 0: none were.
    #[must_use]
    pub fn certificates_version(&self) -> u64 {
        let last = self.certificates.borrow();
        last.as_ref().map_or(0, |secrets| secrets.version)
    }

    /// Replaces the certificates that wait. For edges only.
    pub fn certify(&self, secrets: Arc<Secrets>) {
        self.certificates.send_replace(Some(secrets));
    }

    /// Replaces the names that wait, if these are others than were handed over last.
    pub fn name(&self, names: &Arc<Names>) {
        if self.names_generation() != Some(names.generation) {
            self.refused.names.store(false, Ordering::Relaxed);
            self.names.send_replace(Some(Arc::clone(names)));
        }
    }

    /// Generation of the names handed over last; none if the agent could not take them.
    #[must_use]
    pub fn names_generation(&self) -> Option<u64> {
        if self.refused.names.load(Ordering::Relaxed) {
            return None;
        }
        self.names.borrow().as_ref().map(|names| names.generation)
    }

    /// Replaces the assignment that waits.
    pub fn assign(&self, assignment: Assignment) {
        self.refused.assignment.store(false, Ordering::Relaxed);
        self.assignment.send_replace(Some(Arc::new(assignment)));
    }

    /// Replaces the routes that wait.
    pub fn route(&self, routes: Arc<Routes>) {
        self.refused.routes.store(false, Ordering::Relaxed);
        self.routes.send_replace(Some(routes));
    }

    /// The agent keeps generation `have` instead of the newer one that it was sent, because it
    /// could not take that one: it is sent again with the next planning run. One that keeps a
    /// newer one, or the same with other content, is not asked twice.
    pub fn refused(&self, what: Command, have: u64) {
        #[cfg(feature = "mutants")]
        if longshore_model::mutant::is(longshore_model::Mutant::RefusedIsForgotten) {
            return;
        }
        let (sent, flag) = match what {
            Command::Routes => (self.routes_generation(), &self.refused.routes),
            Command::Assignment => (self.assignment_generation(), &self.refused.assignment),
            Command::Names => (self.names_generation(), &self.refused.names),
        };
        if sent.is_some_and(|sent| have < sent) {
            flag.store(true, Ordering::Relaxed);
        }
    }

    /// Queues a stream message. False: the agent does not keep up, or its session ended.
    #[must_use]
    pub fn stream(&self, message: pb::session_response::Message) -> bool {
        self.queue.try_send(message).is_ok()
    }

    /// Queues a stream message, waiting for room. False: the session ended.
    pub async fn stream_wait(&self, message: pb::session_response::Message) -> bool {
        self.queue.send(message).await.is_ok()
    }
}

impl OutboxReader {
    /// The next thing to send, without waiting; none if nothing waits or the session is over.
    pub fn waiting(&mut self) -> Option<Outgoing> {
        // Before an assignment whose containers are made with them.
        if self.names.has_changed().unwrap_or(false) {
            let newest = self.names.borrow_and_update().clone();
            return newest.map(Outgoing::Names);
        }
        if self.assignment.has_changed().unwrap_or(false) {
            let newest = self.assignment.borrow_and_update().clone();
            return newest.map(Outgoing::Assignment);
        }
        // Before routes that may name them.
        if self.certificates.has_changed().unwrap_or(false) {
            let newest = self.certificates.borrow_and_update().clone();
            return newest.map(Outgoing::Certificates);
        }
        if self.routes.has_changed().unwrap_or(false) {
            let newest = self.routes.borrow_and_update().clone();
            return newest.map(Outgoing::Routes);
        }
        self.queue.try_recv().ok().map(Outgoing::Stream)
    }

    /// The next thing to send; none once the session is over. Commands come before streams.
    pub async fn next(&mut self) -> Option<Outgoing> {
        tokio::select! {
            biased;
            changed = self.names.changed() => {
                changed.ok()?;
                self.names.borrow_and_update().clone().map(Outgoing::Names)
            }
            changed = self.assignment.changed() => {
                changed.ok()?;
                self.assignment.borrow_and_update().clone().map(Outgoing::Assignment)
            }
            changed = self.certificates.changed() => {
                changed.ok()?;
                self.certificates.borrow_and_update().clone().map(Outgoing::Certificates)
            }
            changed = self.routes.changed() => {
                changed.ok()?;
                self.routes.borrow_and_update().clone().map(Outgoing::Routes)
            }
            message = self.queue.recv() => message.map(Outgoing::Stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(generation: u64) -> Assignment {
        Assignment {
            generation,
            ..Assignment::default()
        }
    }

    #[tokio::test]
    async fn only_the_newest_assignment_waits() {
        let (outbox, mut reader) = Outbox::new();
        for generation in 1..=9 {
            outbox.assign(assignment(generation));
        }
        let Some(Outgoing::Assignment(next)) = reader.next().await else {
            panic!("no assignment")
        };
        assert_eq!(next.generation, 9);
        assert_eq!(outbox.assignment_generation(), Some(9));
    }

    #[test]
    fn what_could_not_be_taken_counts_as_never_sent() {
        let (outbox, _reader) = Outbox::new();
        outbox.assign(assignment(3));
        outbox.refused(Command::Assignment, 3);
        outbox.refused(Command::Routes, 0);
        outbox.refused(Command::Names, 0);
        assert_eq!(outbox.assignment_generation(), Some(3));
        outbox.refused(Command::Assignment, 2);
        assert_eq!(outbox.assignment_generation(), None);
        outbox.assign(assignment(3));
        assert_eq!(outbox.assignment_generation(), Some(3));
    }

    #[test]
    fn names_are_sent_once_for_each_generation_and_again_if_they_could_not_be_taken() {
        let (outbox, mut reader) = Outbox::new();
        let names = |generation| {
            Arc::new(Names {
                generation,
                ..Names::default()
            })
        };
        let mut sent = |names: &Arc<Names>| {
            outbox.name(names);
            matches!(reader.waiting(), Some(Outgoing::Names(next)) if next == *names)
        };
        assert!(sent(&names(3)));
        assert!(!sent(&names(3)));
        outbox.refused(Command::Names, 2);
        assert!(sent(&names(3)));
        assert!(sent(&names(4)));
    }

    #[test]
    fn what_waits_is_taken_once_and_in_the_same_order() {
        let (outbox, mut reader) = Outbox::new();
        assert!(reader.waiting().is_none());
        outbox.route(Arc::default());
        outbox.certify(Arc::default());
        outbox.assign(assignment(1));
        outbox.assign(assignment(2));
        outbox.name(&Arc::default());
        assert!(matches!(reader.waiting(), Some(Outgoing::Names(_))));
        assert!(matches!(reader.waiting(), Some(Outgoing::Assignment(a)) if a.generation == 2));
        assert!(matches!(reader.waiting(), Some(Outgoing::Certificates(_))));
        assert!(matches!(reader.waiting(), Some(Outgoing::Routes(_))));
        assert!(reader.waiting().is_none());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_commands_overtake_it() {
        let (outbox, mut reader) = Outbox::new();
        let message = || pb::session_response::Message::Ping(pb::Ping { nonce: 1 });
        let taken = (0..QUEUE_MAX * 2)
            .filter(|_| outbox.stream(message()))
            .count();
        assert_eq!(taken, QUEUE_MAX);
        outbox.assign(assignment(1));
        assert!(matches!(reader.next().await, Some(Outgoing::Assignment(_))));
    }
}
