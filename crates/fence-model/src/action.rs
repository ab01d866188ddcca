//! What can happen next.

use crate::messages::Message;
use crate::state::{Breach, Lead, State, System};

/// One step. Controllers and nodes go by their place in the state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// A controller opens its store, raises the term, and leads.
    Open(usize),
    /// A controller dies, and is there again without leading.
    Die(usize),
    /// A leader writes a change; the answer comes, or is lost. A leader without an answer, or
    /// with a refusal, ends.
    Change {
        /// Who.
        controller: usize,
        /// Does the answer come?
        heard: bool,
    },
    /// A leader sends what it has.
    Send(usize),
    /// A message reaches a node.
    Deliver {
        /// Who.
        node: usize,
        /// What.
        message: Message,
    },
    /// A node does what its ledger says.
    Obey(usize),
    /// A node writes its ledger, if it did not do so before.
    Write(usize),
    /// A node dies and is there again.
    Crash(usize),
    /// A copy of the first store becomes a cluster of its own, with one of the two controllers. The
    /// other one goes on.
    Restore {
        /// Whose it is.
        controller: usize,
        /// Changes in the copy.
        kept: usize,
    },
}

/// All that can happen.
pub(crate) fn possible(system: &System, state: &State, actions: &mut Vec<Action>) {
    if state.breach.is_some() {
        return;
    }
    for (index, controller) in state.controllers.iter().enumerate() {
        let store = &state.stores[controller.store];
        if controller.leads.is_some() {
            actions.extend([Action::Die(index), Action::Send(index)]);
            if state.begun < system.bounds.changes_max {
                actions.extend([true, false].map(|heard| Action::Change {
                    controller: index,
                    heard,
                }));
            }
        } else if store.writer.0 < system.bounds.terms_max {
            actions.push(Action::Open(index));
        }
        if system.bounds.restores && state.stores.len() == 1 {
            actions.extend((0..=store.changes.len()).map(|kept| Action::Restore {
                controller: index,
                kept,
            }));
        }
    }
    for index in 0..state.nodes.len() {
        let messages = state.sent.iter();
        actions.extend(messages.map(|&message| Action::Deliver {
            node: index,
            message,
        }));
        actions.extend([
            Action::Obey(index),
            Action::Write(index),
            Action::Crash(index),
        ]);
    }
}

/// What a step leads to; nothing, if it changes nothing.
pub(crate) fn take(system: &System, last: &State, action: &Action) -> Option<State> {
    let mut next = last.clone();
    match *action {
        Action::Open(controller) => open(&mut next, controller),
        Action::Die(controller) => next.controllers[controller].leads = None,
        Action::Change { controller, heard } => change(system, &mut next, controller, heard)?,
        Action::Send(controller) => send(&mut next, controller)?,
        Action::Deliver { node, message } => {
            next.nodes[node].deliver(message, system.weakness);
        }
        Action::Obey(node) => {
            if !next.nodes[node].obey() {
                next.breach = Some(Breach::WentBack);
            }
        }
        Action::Write(node) => next.nodes[node].write(),
        Action::Crash(node) => next.nodes[node].crash(),
        Action::Restore { controller, kept } => {
            let store = next.stores[0].restored(kept, system.weakness);
            next.stores.push(store);
            next.controllers[controller].store = 1;
            next.controllers[controller].leads = None;
        }
    }
    (next != *last).then_some(next)
}

fn open(state: &mut State, controller: usize) {
    let controller = &mut state.controllers[controller];
    let store = &mut state.stores[controller.store];
    store.writer = (store.writer.0 + 1, 0);
    controller.leads = Some(Lead {
        term: store.writer.0,
        count: 0,
        changes: store.changes.clone(),
    });
}

fn change(system: &System, state: &mut State, controller: usize, heard: bool) -> Option<()> {
    let controller = &mut state.controllers[controller];
    let store = &mut state.stores[controller.store];
    let lead = controller.leads.as_mut()?;
    let id = state.begun;
    let mut changes = lead.changes.clone();
    changes.push(id);
    let expected = (lead.term, lead.count);
    if !store.write(expected, changes.clone(), system.weakness) {
        controller.leads = None;
        return Some(());
    }
    state.begun += 1;
    if heard {
        lead.count += 1;
        lead.changes = changes;
        store.acknowledged.push(id);
    } else {
        controller.leads = None;
    }
    state.breach = store.breach();
    Some(())
}

fn send(state: &mut State, controller: usize) -> Option<()> {
    let controller = &state.controllers[controller];
    let lead = controller.leads.as_ref()?;
    let message = Message {
        cluster_generation: state.stores[controller.store].cluster_generation,
        term: lead.term,
        version: lead.changes.len() as u64,
        content: *lead.changes.last()?,
    };
    let same_number = |sent: &&Message| {
        Message {
            content: message.content,
            ..**sent
        } == message
    };
    if state
        .sent
        .iter()
        .find(same_number)
        .is_some_and(|sent| *sent != message)
    {
        state.breach = Some(Breach::TwoContents);
    }
    state.sent.insert(message);
    Some(())
}
