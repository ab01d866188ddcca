//! `deploy.placement`: where replicas may go and where they would rather be.
//!
//! The grammar of constraints is Swarm's (`moby/swarmkit`, `manager/constraint`): `KEY == VALUE` or
//! `KEY != VALUE`; keys and values are compared without regard to case, names of labels are not;
//! values are taken as they stand, `*` is no pattern. What Swarm would accept and never match (an
//! unknown key) is an error here.

use longshore_model::spec::{
    Constraint, ENGINE_LABELS, NodeAttribute, PlacementPolicy, PlacementSpec,
};

use super::super::problem::Problems;
use super::item::Item;

/// Most constraints, as the wire allows.
const CONSTRAINTS_MAX: usize = 64;
/// Most spread preferences, as the wire allows.
const PREFERENCES_MAX: usize = 8;
/// Longest value.
const VALUE_MAX: usize = 256;
/// Longest name of a label, as the controller takes it.
const LABEL_MAX: usize = longshore_model::spec::LABEL_BYTES_MAX;
const NODE_LABELS: &str = "node.labels.";
const ATTRIBUTES: &str = "node.id, node.hostname, node.role, node.platform.os, \
                          node.platform.arch, node.labels.NAME, engine.labels.NAME";

pub(super) fn read(item: &Item<'_>, p: &mut Problems) -> Option<PlacementSpec> {
    let mut fields = item.fields(p)?;
    let mut placement = PlacementSpec::default();
    if let Some(list) = fields.take("constraints") {
        constraints(&list, &mut placement, p);
    }
    if let Some(list) = fields.take("preferences") {
        preferences(&list, &mut placement, p);
    }
    if let Some(n) = fields
        .take("max_replicas_per_node")
        .and_then(|i| i.number(p, 0, 100_000))
    {
        placement.max_per_node = n;
    }
    let policies = [
        ("spread", PlacementPolicy::Spread),
        ("binpack", PlacementPolicy::Binpack),
    ];
    if let Some(policy) = fields.take("x-policy").and_then(|i| i.choice(p, &policies)) {
        placement.policy = policy;
    }
    if let Some(moves) = fields.take("x-rebalance").and_then(|i| i.boolean(p)) {
        placement.stay = !moves;
    }
    fields.finish(p, &[]);
    Some(placement)
}

fn constraints(list: &Item<'_>, placement: &mut PlacementSpec, p: &mut Problems) {
    for item in list.items(p) {
        let Some(text) = item.text(p) else { continue };
        match constraint(text) {
            Ok(constraint) => {
                if constraint.value.contains(['*', '?', '[', '^', '$', '|']) {
                    let message = "the value is taken as it stands, as in Swarm: it is no pattern";
                    p.warn("constraint", item.place(), &item.path, message)
                        .file();
                }
                placement.constraints.push(constraint);
            }
            Err(message) => {
                item.invalid_help(p, message, "for example: node.labels.disk == ssd");
            }
        }
    }
    let all = &placement.constraints;
    let pairs = all.iter().enumerate();
    let mut pairs = pairs.flat_map(|(n, a)| all[..n].iter().map(move |b| (b, a)));
    if let Some((a, b)) = pairs.find(|(a, b)| contradict(a, b)) {
        list.invalid(p, format!("no node can be both {a} and {b}"));
    }
    if placement.constraints.len() > CONSTRAINTS_MAX {
        list.invalid(p, format!("more than {CONSTRAINTS_MAX} constraints"));
    }
}

/// Can no node satisfy both? A node has several roles; of all else it has one value.
fn contradict(a: &Constraint, b: &Constraint) -> bool {
    let holds = a.holds([b.value.as_str()]);
    match (a.equal, b.equal) {
        _ if a.attribute != b.attribute => false,
        (true, true) => !holds && a.attribute != NodeAttribute::Role,
        (false, false) => false,
        (true, false) => holds,
        (false, true) => !holds,
    }
}

fn preferences(list: &Item<'_>, placement: &mut PlacementSpec, p: &mut Problems) {
    for item in list.items(p) {
        let Some(mut fields) = item.fields(p) else {
            continue;
        };
        if let Some(spread) = fields.take("spread")
            && let Some(text) = spread.text(p)
        {
            match spread_label(text) {
                Some(_) if text.len() > LABEL_MAX + ENGINE_LABELS.len() => {
                    spread.invalid(p, too_long(text));
                }
                Some(label) => placement.spread_labels.push(label),
                None => spread.invalid(
                    p,
                    format!("{text:?} must be node.labels.NAME or engine.labels.NAME"),
                ),
            }
        }
        fields.finish(p, &[]);
    }
    if placement.spread_labels.len() > PREFERENCES_MAX {
        list.invalid(p, format!("more than {PREFERENCES_MAX} preferences"));
    }
}

fn too_long(name: &str) -> String {
    format!(
        "the name has {} bytes; a label's has at most {LABEL_MAX}",
        name.len()
    )
}

fn spread_label(text: &str) -> Option<String> {
    let engine = label(text, ENGINE_LABELS).map(|name| format!("{ENGINE_LABELS}{name}"));
    engine.or_else(|| label(text, NODE_LABELS).map(str::to_owned))
}

/// The name behind a prefix whose case does not matter.
fn label<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (head, name) = text.split_at_checked(prefix.len())?;
    (head.eq_ignore_ascii_case(prefix) && !name.is_empty()).then_some(name)
}

/// Swarm's grammar: `node.labels.disk == ssd`, `node.hostname != web1`.
fn constraint(text: &str) -> Result<Constraint, String> {
    // As Swarm: the first operator that occurs, `==` before `!=`, at its first place.
    let (equal, (left, value)) = match (text.split_once("=="), text.split_once("!=")) {
        (Some(parts), _) => (true, parts),
        (None, Some(parts)) => (false, parts),
        (None, None) => return Err(format!("{text:?} needs == or !=")),
    };
    let (key, value) = (left.trim(), value.trim().to_owned());
    let key_fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let starts = key
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !starts || key.len() < 2 || !key.bytes().all(key_fits) {
        return Err(format!("{key:?} in {text:?} is no name of an attribute"));
    }
    if key.len() > LABEL_MAX + ENGINE_LABELS.len() {
        return Err(too_long(key));
    }
    if value.is_empty() {
        return Err(format!("{text:?} compares with nothing"));
    }
    if value.len() > VALUE_MAX {
        let bytes = value.len();
        return Err(format!("the value has {bytes} bytes; at most {VALUE_MAX}"));
    }
    let value_fits = |c: char| {
        c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || ":-_.*()?+[]\\^$|/".contains(c)
    };
    if let Some(bad) = value.chars().find(|c| !value_fits(*c)) {
        return Err(format!("{bad:?} cannot stand in a value ({text:?})"));
    }
    let attribute = attribute(key)
        .ok_or_else(|| format!("{key:?} is no attribute of a node; these are: {ATTRIBUTES}"))?;
    let role = |word: &str| value.eq_ignore_ascii_case(word);
    if attribute == NodeAttribute::Role && !role("worker") && !role("edge") {
        return Err(format!("role {value:?}: nodes are worker or edge"));
    }
    Ok(Constraint {
        attribute,
        equal,
        value,
    })
}

fn attribute(key: &str) -> Option<NodeAttribute> {
    let word = key.to_ascii_lowercase();
    let plain = match word.as_str() {
        "node.id" => Some(NodeAttribute::Id),
        "node.hostname" => Some(NodeAttribute::Hostname),
        "node.role" => Some(NodeAttribute::Role),
        "node.platform.os" => Some(NodeAttribute::Os),
        "node.platform.arch" => Some(NodeAttribute::Arch),
        _ => None,
    };
    let of_node = || label(key, NODE_LABELS).map(|name| NodeAttribute::Label(name.to_owned()));
    let of_engine =
        || label(key, ENGINE_LABELS).map(|name| NodeAttribute::EngineLabel(name.to_owned()));
    plain.or_else(of_node).or_else(of_engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (NodeAttribute, bool, String) {
        let c = constraint(text).unwrap();
        (c.attribute, c.equal, c.value)
    }

    #[test]
    fn constraints_read_swarm_grammar() {
        let label = |name: &str| NodeAttribute::Label(name.into());
        let engine = |name: &str| NodeAttribute::EngineLabel(name.into());
        assert_eq!(
            read("node.labels.disk==ssd"),
            (label("disk"), true, "ssd".into())
        );
        assert_eq!(
            read("node.hostname != web1 "),
            (NodeAttribute::Hostname, false, "web1".into())
        );
        assert_eq!(
            read("Node.Labels.Disk == SSD"),
            (label("Disk"), true, "SSD".into())
        );
        assert_eq!(
            read("engine.labels.rack==r 7/b"),
            (engine("rack"), true, "r 7/b".into())
        );
        assert_eq!(
            read("node.role==Worker"),
            (NodeAttribute::Role, true, "Worker".into())
        );
        assert_eq!(read("node.platform.arch == x86_64").0, NodeAttribute::Arch);
    }

    #[test]
    fn constraints_that_no_node_can_satisfy_are_found() {
        let both = |a, b| contradict(&constraint(a).unwrap(), &constraint(b).unwrap());
        for (a, b) in [
            ("node.role == edge", "node.role != Edge"),
            ("node.role != edge", "node.role == edge"),
            ("node.labels.disk == ssd", "node.labels.disk == hdd"),
            (
                "node.platform.arch == amd64",
                "node.platform.arch != x86_64",
            ),
        ] {
            assert!(both(a, b), "{a}, {b}");
        }
        for (a, b) in [
            ("node.role == edge", "node.role == worker"),
            ("node.labels.disk == ssd", "node.labels.rack == hdd"),
            ("node.labels.disk == ssd", "node.labels.disk != hdd"),
            ("node.labels.disk == ssd", "engine.labels.disk == hdd"),
            (
                "node.platform.arch == amd64",
                "node.platform.arch == x86_64",
            ),
            ("node.labels.disk == ssd", "node.labels.disk == SSD"),
        ] {
            assert!(!both(a, b), "{a}, {b}");
        }
    }

    #[test]
    fn names_of_labels_have_a_limit() {
        let long = "a".repeat(10_000);
        let refused = constraint(&format!("node.labels.{long} == b")).unwrap_err();
        assert!(refused.contains("at most 255"), "{refused}");
        let refused = constraint(&format!("node.labels.a == {long}")).unwrap_err();
        assert!(refused.contains("10000 bytes"), "{refused}");
    }

    #[test]
    fn what_is_no_constraint_is_an_error() {
        for bad in [
            "",
            "node.labels.==x",
            "node.id=x",
            "node.id==",
            "node.id == a;b",
            "node.id == gr\u{fc}n",
            "node.ip == 10.0.0.1",
            "engine.labels.==b",
            "node.role==manager",
            "node.labels.a/b==c",
            "==b",
            "a==b!=c",
        ] {
            assert!(constraint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spread_labels_are_of_nodes_or_engines() {
        assert_eq!(spread_label("node.labels.zone").as_deref(), Some("zone"));
        let rack = spread_label("Engine.Labels.rack");
        assert_eq!(rack.as_deref(), Some("engine.labels.rack"));
        for bad in ["zone", "node.labels.", "node.hostname", "engine.labels."] {
            assert_eq!(spread_label(bad), None, "{bad}");
        }
    }
}
