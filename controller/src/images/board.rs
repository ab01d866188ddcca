//! What nodes are to have before it is needed there, and how far they are with it.
//!
//! Nodes ask, and say with each question how it went with what they were told before. All of it is
//! in memory: after a restart nodes say it again, and what somebody asked for by hand is forgotten.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_model::{Desired, ImageRef, NodeId, Observed, Plan, ServiceKey, TimeMs};
use tokio::sync::watch;

use super::ahead::ahead;

/// How long one look at what nodes should have serves all of them.
const LOOK_MS: u64 = 5_000;
/// What somebody asked for by hand is kept on a node's list for so long.
const ORDER_MS: u64 = 3_600_000;
/// Orders of one node.
const ORDERS_MAX: usize = 16;

/// Why a node is to have an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AheadWhy {
    /// An operator asked for it.
    Asked {
        /// Who.
        by: String,
        /// When.
        at_ms: TimeMs,
    },
    /// The service may grow onto the node.
    ScaleOut {
        /// Which.
        service: ServiceKey,
        /// Replicas that it may yet place.
        replicas: u32,
    },
    /// All replicas that it may have are there, and warm standbys are missing.
    Standby {
        /// Which.
        service: ServiceKey,
        /// Standbys that it may yet place.
        replicas: u32,
    },
}

impl AheadWhy {
    /// asked, `scale_out`, standby
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Asked { .. } => "asked",
            Self::ScaleOut { .. } => "scale_out",
            Self::Standby { .. } => "standby",
        }
    }

    /// Who asked, or which service.
    #[must_use]
    pub fn by(&self) -> String {
        match self {
            Self::Asked { by, .. } => by.clone(),
            Self::ScaleOut { service, .. } | Self::Standby { service, .. } => service.to_string(),
        }
    }

    /// When it was asked for by hand; 0: it was not.
    #[must_use]
    pub const fn asked_ms(&self) -> TimeMs {
        match self {
            Self::Asked { at_ms, .. } => *at_ms,
            Self::ScaleOut { .. } | Self::Standby { .. } => 0,
        }
    }

    /// Replicas that may be placed.
    #[must_use]
    pub const fn replicas(&self) -> u32 {
        match self {
            Self::Asked { .. } => 0,
            Self::ScaleOut { replicas, .. } | Self::Standby { replicas, .. } => *replicas,
        }
    }
}

/// One image that a node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// Which.
    pub image: ImageRef,
    /// Why.
    pub why: AheadWhy,
}

/// How far a node is with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AheadState {
    /// The node has not said anything of it yet.
    #[default]
    Ordered,
    /// Others come first.
    Waiting,
    /// It comes.
    Fetching,
    /// The node has it.
    Here,
    /// It did not come; it is tried again.
    Failed,
}

impl fmt::Display for AheadState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ordered => "ordered",
            Self::Waiting => "waiting",
            Self::Fetching => "fetching",
            Self::Here => "here",
            Self::Failed => "failed",
        })
    }
}

/// What a node says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub image: ImageRef,
    /// The order that it speaks of; 0: none.
    pub asked_ms: TimeMs,
    /// How far it is.
    pub state: AheadState,
    /// Why it failed, or what it waits for.
    pub detail: String,
}

struct Order {
    image: ImageRef,
    by: String,
    at_ms: TimeMs,
}

#[derive(Default)]
struct State {
    looked_ms: TimeMs,
    of: BTreeMap<NodeId, Vec<Ahead>>,
    seen: BTreeMap<NodeId, Vec<Seen>>,
    orders: BTreeMap<NodeId, Vec<Order>>,
}

/// See the module.
#[derive(Default)]
pub struct Board {
    state: Mutex<State>,
    ordered: watch::Sender<()>,
}

/// What the board is worked out from.
#[derive(Clone, Copy)]
pub struct Scene<'s> {
    /// What operators want.
    pub desired: &'s Desired,
    /// What was planned.
    pub plan: &'s Plan,
    /// What nodes say.
    pub observed: &'s Observed,
    /// Now.
    pub now_ms: TimeMs,
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        // A list that is half renewed is renewed at the next look.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a node is to have, most urgent first: what was asked for by hand, oldest first, then
    /// what services may need. Each image once.
    #[must_use]
    pub fn wanted(&self, node: &NodeId, scene: Scene<'_>) -> Vec<Ahead> {
        let mut state = self.state();
        let now_ms = scene.now_ms;
        if state.looked_ms == 0 || now_ms.saturating_sub(state.looked_ms) >= LOOK_MS {
            state.of = ahead(scene.desired, scene.plan, scene.observed);
            state.looked_ms = now_ms;
            let known = &scene.desired.nodes;
            state.seen.retain(|node, _| known.contains_key(node));
            state.orders.retain(|node, orders| {
                orders.retain(|order| now_ms.saturating_sub(order.at_ms) < ORDER_MS);
                known.contains_key(node) && !orders.is_empty()
            });
        }
        let asked = |order: &Order| Ahead {
            image: order.image.clone(),
            why: AheadWhy::Asked {
                by: order.by.clone(),
                at_ms: order.at_ms,
            },
        };
        let orders = state.orders.get(node).into_iter().flatten();
        let mut all: Vec<Ahead> = orders.map(asked).collect();
        for ahead in state.of.get(node).into_iter().flatten() {
            if all.iter().all(|other| other.image != ahead.image) {
                all.push(ahead.clone());
            }
        }
        all
    }

    /// Takes what a node says.
    pub fn told(&self, node: &NodeId, seen: Vec<Seen>) {
        self.state().seen.insert(node.clone(), seen);
    }

    /// How far a node is with each image that it is to have.
    #[must_use]
    pub fn progress(&self, node: &NodeId, scene: Scene<'_>) -> Vec<(Ahead, AheadState, String)> {
        let wanted = self.wanted(node, scene);
        let state = self.state();
        let seen = state.seen.get(node).map(Vec::as_slice).unwrap_or_default();
        let with = |ahead: Ahead| {
            // A failure of before is no answer to an order.
            let said = seen.iter().find(|seen| {
                let same = seen.asked_ms == ahead.why.asked_ms() || seen.state == AheadState::Here;
                seen.image == ahead.image && same
            });
            let (is, detail) =
                said.map_or_else(Default::default, |seen| (seen.state, seen.detail.clone()));
            (ahead, is, detail)
        };
        wanted.into_iter().map(with).collect()
    }

    /// Has nodes fetch an image now. Of more than 16 for one the oldest are forgotten.
    pub fn order(&self, nodes: &[NodeId], image: &ImageRef, by: &str, now_ms: TimeMs) {
        let mut state = self.state();
        for node in nodes {
            let orders = state.orders.entry(node.clone()).or_default();
            orders.retain(|order| order.image != *image);
            if orders.len() == ORDERS_MAX {
                orders.remove(0);
            }
            orders.push(Order {
                image: image.clone(),
                by: by.to_owned(),
                at_ms: now_ms,
            });
        }
        drop(state);
        self.ordered.send_replace(());
    }

    /// Changes with each order.
    #[must_use]
    pub fn orders(&self) -> watch::Receiver<()> {
        self.ordered.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ahead::tests::cluster;
    use super::*;

    fn image(name: &str) -> ImageRef {
        ImageRef {
            name: name.into(),
            digest: None,
        }
    }

    #[test]
    fn what_somebody_asked_for_comes_first_once_and_for_an_hour() {
        let (desired, observed) = cluster(5, 0);
        let plan = Plan::default();
        let scene = |now_ms| Scene {
            desired: &desired,
            plan: &plan,
            observed: &observed,
            now_ms,
        };
        let board = Board::default();
        let node: NodeId = "a".parse().unwrap();
        let names = |now_ms| -> Vec<String> {
            let wanted = board.wanted(&node, scene(now_ms)).into_iter();
            wanted
                .map(|ahead| format!("{} {}", ahead.image, ahead.why.kind()))
                .collect()
        };
        assert_eq!(names(10), ["hello:1 scale_out"]);
        let nodes = std::slice::from_ref(&node);
        board.order(nodes, &image("tool:1"), "ana", 20);
        board.order(nodes, &image("hello:1"), "ana", 30);
        assert_eq!(names(40), ["tool:1 asked", "hello:1 asked"]);
        assert_eq!(names(ORDER_MS + 6_000), ["hello:1 scale_out"]);
        for number in 0..=ORDERS_MAX {
            board.order(nodes, &image(&format!("tool:{number}")), "ana", ORDER_MS);
        }
        let names = names(ORDER_MS + 6_100);
        assert_eq!((names.len(), &*names[0]), (ORDERS_MAX + 1, "tool:1 asked"));
    }

    #[test]
    fn what_a_node_said_before_an_order_is_no_answer_to_it_unless_it_is_there() {
        let (desired, observed) = cluster(0, 0);
        let plan = Plan::default();
        let scene = Scene {
            desired: &desired,
            plan: &plan,
            observed: &observed,
            now_ms: 50,
        };
        let board = Board::default();
        let node: NodeId = "a".parse().unwrap();
        board.order(std::slice::from_ref(&node), &image("tool:1"), "ana", 40);
        let table = [
            (30, AheadState::Failed, AheadState::Ordered),
            (40, AheadState::Failed, AheadState::Failed),
            (30, AheadState::Here, AheadState::Here),
            (40, AheadState::Fetching, AheadState::Fetching),
        ];
        for (asked_ms, state, expected) in table {
            let detail = String::new();
            let image = image("tool:1");
            board.told(
                &node,
                vec![Seen {
                    image,
                    asked_ms,
                    state,
                    detail,
                }],
            );
            let (_, shown, _) = board.progress(&node, scene).remove(0);
            assert_eq!(shown, expected, "{asked_ms} {state}");
        }
    }
}
