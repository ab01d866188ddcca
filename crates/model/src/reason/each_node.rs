//! Where a service with one replica on each node has them, and where not.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::NodeId;
use crate::refusal::{Refusal, RefusalCount};

/// Nodes that are named with their reasons in a line for people; more are counted.
const NAMED_MAX: usize = 3;

/// The count of a global service, and what it follows from. Nodes that are no workers are not
/// spoken of.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EachNode {
    /// Nodes that take it: so many replicas are wanted.
    pub nodes: u32,
    /// Workers that do not.
    #[serde(default)]
    pub others: u32,
    /// Why, the first of them in the order of their names.
    #[serde(default)]
    pub refusals: Vec<(NodeId, Refusal)>,
    /// All of them by kind, most frequent first, bounded by the planner.
    #[serde(default)]
    pub counts: Vec<RefusalCount>,
}

impl EachNode {
    /// Are the other nodes few enough to be named with their reasons in one line?
    #[must_use]
    pub fn names_all(&self) -> bool {
        let others = self.others as usize;
        others <= NAMED_MAX && others <= self.refusals.len()
    }
}

impl fmt::Display for EachNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.nodes == 1 { "" } else { "s" };
        write!(f, "one on each of {} node{s}", self.nodes)?;
        if self.names_all() {
            for (node, why) in &self.refusals {
                write!(f, "; {node} not: {why}")?;
            }
            return Ok(());
        }
        write!(f, "; of {} others", self.others)?;
        for (at, count) in self.counts.iter().enumerate() {
            let sign = if at == 0 { " " } else { ", " };
            write!(f, "{sign}{}", count.kind.of_nodes(count.nodes))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    fn each(refused: &[(&str, Refusal)]) -> EachNode {
        let refusals = refused.iter().cloned();
        let refusals = refusals.map(|(node, why)| (NodeId::new(node).unwrap(), why));
        EachNode {
            nodes: 3,
            others: u32::try_from(refused.len()).unwrap(),
            refusals: refusals.take(8).collect(),
            counts: RefusalCount::of(refused.iter().map(|(_, why)| why), 8),
        }
    }

    #[test]
    fn few_nodes_are_named_and_many_are_counted() {
        let ssd = || Refusal::Constraint {
            constraint: "node.labels.ssd == true".into(),
            found: "no node.labels.ssd".into(),
        };
        assert_eq!(each(&[]).to_string(), "one on each of 3 nodes");
        assert_eq!(
            each(&[("node4", Refusal::Draining), ("node5", ssd())]).to_string(),
            "one on each of 3 nodes; node4 not: draining; node5 not: constraint \
             node.labels.ssd == true does not hold (no node.labels.ssd)"
        );
        let many = ["a", "b", "c"].map(|node| (node, ssd()));
        let many = many.into_iter().chain([("d", Refusal::Cordoned)]);
        assert_eq!(
            each(&many.collect::<Vec<_>>()).to_string(),
            "one on each of 3 nodes; of 4 others 3 lack label ssd=true, 1 is cordoned"
        );
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let reason = Reason::EachNode(each(&[("node4", Refusal::Away)]));
        let json = serde_json::to_string(&reason).unwrap();
        assert!(json.contains(r#""reason":"each_node""#), "{json}");
        assert_eq!(serde_json::from_str::<Reason>(&json).unwrap(), reason);
    }
}
