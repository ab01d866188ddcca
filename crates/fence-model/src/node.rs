//! A node: its ledger on disk, which is the agent's own code, and what it obeys.

use node_agent::ledger::{Accepted, Book, Refusal};

use crate::messages::Message;
use crate::state::Weakness;

/// What the agent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Gets assignments.
    Worker,
    /// Gets routes.
    Edge,
}

/// One agent. Its ledger is written whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// Which messages are for it.
    pub kind: Kind,
    /// What its ledger holds, in memory.
    pub book: Option<Message>,
    /// And on disk: the same, if it writes before it goes on.
    pub written: Option<Message>,
    /// What it does.
    pub runs: Option<Message>,
    /// The highest that it ever did.
    pub highest: Option<Message>,
}

impl Node {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            book: None,
            written: None,
            runs: None,
            highest: None,
        }
    }

    /// What the ledger says of a message.
    ///
    /// # Errors
    /// [`Refusal`]
    pub(crate) fn admit(&self, message: Message) -> Result<Accepted, Refusal> {
        let mut book = Book::default();
        if let Some(have) = self.book {
            book.fence = have.fence();
            match self.kind {
                Kind::Worker => book.assignment = Some(have.assignment()),
                Kind::Edge => book.routes = Some(have.routes()),
            }
        }
        match self.kind {
            Kind::Worker => book.take_assignment(message.fence(), message.assignment()),
            Kind::Edge => book.take_routes(message.fence(), message.routes()),
        }
    }

    /// Takes a message in, or refuses it.
    pub(crate) fn deliver(&mut self, message: Message, weakness: Option<Weakness>) {
        let is_open = weakness == Some(Weakness::NodesObeyAll);
        if !is_open && self.admit(message).is_err() {
            return;
        }
        self.book = Some(message);
        if weakness != Some(Weakness::ObeyedBeforeWritten) {
            self.written = self.book;
        }
    }

    /// Does what its ledger says; `false`: that is older than what it did before. With nothing in
    /// its ledger it touches nothing.
    pub(crate) fn obey(&mut self) -> bool {
        self.runs = self.book.or(self.runs);
        let is_newer = self.highest <= self.runs;
        self.highest = self.highest.max(self.runs);
        is_newer
    }

    /// Writes what it has in memory, if that was left for later.
    pub(crate) const fn write(&mut self) {
        self.written = self.book;
    }

    /// Dies, and goes by its ledger. Its containers, or its HAProxy, run on.
    pub(crate) const fn crash(&mut self) {
        self.book = self.written;
    }
}
