//! Ways in that edges cannot serve as wanted: of a service with several, one may be refused while
//! its replicas are reached by the others.

use std::collections::BTreeMap;

use crate::id::NodeId;

/// Edges that cannot serve a service as wanted, and why, each in its agent's words.
pub type RefusedBy = BTreeMap<NodeId, String>;

/// Edges named with one reason; of more, how many.
const EDGES_NAMED: usize = 4;

/// `not reachable as wanted through edge1, edge2: port 443: …`; none: all edges serve it as wanted.
#[must_use]
pub fn refused_in_words(refused_by: &RefusedBy) -> Option<String> {
    // Edges mostly say the same: once is enough.
    let mut edges_by_why: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (edge, why) in refused_by {
        edges_by_why.entry(why).or_default().push(edge.as_str());
    }
    let said = edges_by_why.into_iter().map(|(why, edges)| {
        let named: Vec<&str> = edges.iter().copied().take(EDGES_NAMED).collect();
        let named = named.join(", ");
        match edges.len().saturating_sub(EDGES_NAMED) {
            0 => format!("through {named}: {why}"),
            more => format!("through {named} and {more} more: {why}"),
        }
    });
    let said = said.collect::<Vec<_>>().join("; ");
    (!said.is_empty()).then(|| format!("not reachable as wanted {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_that_say_the_same_are_named_together_and_many_are_counted() {
        let words = |said: &[(&str, &str)]| {
            let edges = said.iter();
            let edges = edges.map(|(edge, why)| (edge.parse().unwrap(), (*why).to_owned()));
            refused_in_words(&edges.collect())
        };
        assert_eq!(words(&[]), None);
        let both = words(&[("edge1", "port 443: bad"), ("edge2", "port 443: bad")]);
        let said = "not reachable as wanted through edge1, edge2: port 443: bad";
        assert_eq!(both.unwrap(), said);
        let each = words(&[("edge1", "b"), ("edge2", "a")]);
        let said = "not reachable as wanted through edge2: a; through edge1: b";
        assert_eq!(each.unwrap(), said);
        let many = words(&[("a", "x"), ("b", "x"), ("c", "x"), ("d", "x"), ("e", "x")]);
        let said = "not reachable as wanted through a, b, c, d and 1 more: x";
        assert_eq!(many.unwrap(), said);
    }
}
