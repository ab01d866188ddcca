//! The model's state, and what it is bounded by.

use std::collections::BTreeSet;
use std::fmt;

use crate::messages::Message;
use crate::node::{Kind, Node};
use crate::store::Store;

/// What is checked.
#[derive(Debug, Clone, Copy)]
pub struct System {
    /// How far it goes.
    pub bounds: Bounds,
    /// The part of the fence that is missing.
    pub weakness: Option<Weakness>,
}

/// How far the model goes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Leaderships of each store.
    pub terms_max: u64,
    /// Changes, over all stores.
    pub changes_max: u8,
    /// May a copy become a cluster beside the one it was taken from?
    pub restores: bool,
}

/// A part of the fence that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// Nodes obey whatever comes.
    NodesObeyAll,
    /// Nodes obey before their ledger is written.
    ObeyedBeforeWritten,
    /// The store takes a batch of whoever writes.
    WritesUnguarded,
    /// A restore leaves the cluster's generation as it is.
    RestoredAsTheSame,
}

impl Weakness {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::NodesObeyAll,
        Self::ObeyedBeforeWritten,
        Self::WritesUnguarded,
        Self::RestoredAsTheSame,
    ];
}

impl fmt::Display for Weakness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NodesObeyAll => "nodes obey whatever comes",
            Self::ObeyedBeforeWritten => "nodes obey before they write",
            Self::WritesUnguarded => "the store takes every batch",
            Self::RestoredAsTheSame => "a restore keeps the generation",
        })
    }
}

/// A law that did not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Breach {
    /// A node did something older than what it had done.
    WentBack,
    /// Two contents under one number of one leadership.
    TwoContents,
    /// A change that somebody was told is kept is gone, or there twice.
    AcknowledgedLost,
}

/// A controller: leads, or does not. That another one leads by now it learns from the store alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Controller {
    /// Which store it uses: 1 is the restored one.
    pub store: usize,
    /// What it believes.
    pub leads: Option<Lead>,
}

/// What a controller that believes to lead has in memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lead {
    /// Its leadership.
    pub term: u64,
    /// Its batches.
    pub count: u8,
    /// The history as it knows it.
    pub changes: Vec<u8>,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The cluster's, and the restored one's.
    pub stores: Vec<Store>,
    /// Two of them.
    pub controllers: [Controller; 2],
    /// A worker and an edge.
    pub nodes: [Node; 2],
    /// Whatever was sent, for ever: what is never delivered was lost, what is delivered again was
    /// doubled, and any order is possible.
    pub sent: BTreeSet<Message>,
    /// Changes begun so far.
    pub begun: u8,
    /// The first law that did not hold.
    pub breach: Option<Breach>,
}

impl State {
    pub(crate) fn new() -> Self {
        let controller = Controller {
            store: 0,
            leads: None,
        };
        Self {
            stores: vec![Store::new()],
            controllers: [controller.clone(), controller],
            nodes: [Node::new(Kind::Worker), Node::new(Kind::Edge)],
            sent: BTreeSet::new(),
            begun: 0,
            breach: None,
        }
    }
}
