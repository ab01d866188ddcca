//! The fence, checked exhaustively: two controllers that both believe to lead, two nodes, messages
//! that are lost, doubled, late and out of order, programs that die at every point, and a cluster
//! restored from a copy while its old controller still runs. docs/fencing.md tells it in words.
//!
//! # What is real
//! What a node does with a message: [`node_agent::ledger::Book`], the code that the agent runs.
//!
//! # What is modelled
//! The store is its writer row and its history; a batch is one step. Whoever opens the store leads:
//! the model has no lease, since a lease keeps nobody from believing that it still holds it.
//!
//! # Guarantees
//! [`System`] is finite: its [`Bounds`] say how many leaderships and changes there are. Each
//! [`Weakness`] takes one part of the fence away, and the checker must then find a breach.

mod action;
mod messages;
mod node;
mod state;
mod store;

pub mod cli;

use stateright::{Model, Property};

/// Name of the property that must always hold.
const LAW: &str = "nothing is broken";

pub use action::Action;
pub use node::Node;
pub use state::{Bounds, Breach, Controller, State, System, Weakness};
pub use store::Store;

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        action::possible(self, state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        action::take(self, last, &action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(LAW, |_, state: &State| state.breach.is_none()),
            // A model in which the fence never has to act proves nothing.
            Property::sometimes("a deposed leader sends to a node", |_, state: &State| {
                let refuses = |node: &Node| state.sent.iter().any(|m| node.admit(*m).is_err());
                state.nodes.iter().any(refuses)
            }),
            Property::sometimes("a deposed leader is about to write", |_, state: &State| {
                let is_deposed = |controller: &Controller| {
                    let term = state.stores[controller.store].writer.0;
                    controller
                        .leads
                        .as_ref()
                        .is_some_and(|lead| lead.term < term)
                };
                state.controllers.iter().any(is_deposed)
            }),
        ];
        if self.bounds.restores {
            let all_obey = |_: &Self, state: &State| {
                let obeys = |node: &Node| node.runs.is_some_and(|what| what.cluster_generation > 1);
                state.nodes.iter().all(obeys)
            };
            properties.push(Property::sometimes(
                "a restored cluster is obeyed",
                all_obey,
            ));
        }
        properties
    }
}
