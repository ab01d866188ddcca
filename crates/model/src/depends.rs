//! `depends_on`: which services must be there before another one starts for the first time.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::ServiceName;
use crate::networks::Services;

/// Most services that one waits for.
pub const DEPENDS_MAX: usize = 64;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// One of its replicas runs.
    Started,
    /// One of its replicas is healthy.
    Healthy,
    /// It is a job, and has ended with 0. Not only a first start waits for this: each new template
    /// does.
    Completed,
}

impl Until {
    /// What a service waits for, in words.
    ///
    /// # Errors
    /// Those of the formatter.
    pub fn say(self, service: &ServiceName, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => write!(f, "its first start waits until {service} runs"),
            Self::Healthy => write!(f, "its first start waits until {service} is healthy"),
            Self::Completed => write!(f, "its new replicas wait until {service} has completed"),
        }
    }
}

/// What is wrong with what an app's services wait for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It waits for nobody.
    #[error("{at}: depends_on names {on}, which is not in the app")]
    OnNobody {
        /// The service that waits.
        at: ServiceName,
        /// Whom it names.
        on: ServiceName,
    },
    /// Each waits for the next one, and the last for the first.
    #[error("{at}: depends_on is a circle: {}", circle.join(" -> "))]
    Circle {
        /// The first of them.
        at: ServiceName,
        /// All of them in order, the first one at both ends.
        circle: Vec<String>,
    },
}

impl Fault {
    /// The service to change.
    #[must_use]
    pub fn at(&self) -> &ServiceName {
        match self {
            Self::OnNobody { at, .. } | Self::Circle { at, .. } => at,
        }
    }
}

/// What is wrong: every name that is nobody's, else the first circle.
#[must_use]
pub fn faults(services: &Services) -> Vec<Fault> {
    let waits = services
        .iter()
        .flat_map(|(at, spec)| spec.depends_on.keys().map(move |on| (at, on)));
    let nobody = waits.filter(|(_, on)| !services.contains_key(*on));
    let mut faults: Vec<Fault> = nobody
        .map(|(at, on)| Fault::OnNobody {
            at: at.clone(),
            on: on.clone(),
        })
        .collect();
    if faults.is_empty() {
        faults.extend(circle(services));
    }
    faults
}

fn circle(services: &Services) -> Option<Fault> {
    let mut left: BTreeSet<&ServiceName> = services.keys().collect();
    let next = |name: &ServiceName, left: &BTreeSet<&ServiceName>| {
        let on = services.get(name).map(|spec| spec.depends_on.keys());
        let mut on = on.into_iter().flatten();
        on.find(|on| left.contains(*on)).cloned()
    };
    // Who waits for nobody that is left can start.
    loop {
        let before = left.len();
        let free: Vec<&ServiceName> = left
            .iter()
            .copied()
            .filter(|name| next(name, &left).is_none())
            .collect();
        free.iter().for_each(|name| {
            left.remove(*name);
        });
        if left.len() == before {
            break;
        }
    }
    // Each of those that are left waits for another of them.
    let mut way: Vec<ServiceName> = vec![(*left.first()?).clone()];
    loop {
        let to = next(way.last()?, &left)?;
        if let Some(from) = way.iter().position(|name| *name == to) {
            let circle = way[from..].iter().chain([&to]);
            return Some(Fault::Circle {
                at: to.clone(),
                circle: circle.map(ToString::to_string).collect(),
            });
        }
        way.push(to);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ServiceSpec;

    /// `web: db cache`
    fn said(lines: &[&str]) -> Vec<String> {
        let service = |line: &&str| {
            let (name, on) = line.split_once(':').unwrap();
            let on = on.split_whitespace();
            let spec = ServiceSpec {
                depends_on: on.map(|on| (on.parse().unwrap(), Until::Healthy)).collect(),
                ..ServiceSpec::default()
            };
            (name.parse().unwrap(), Arc::new(spec))
        };
        let services: Services = lines.iter().map(service).collect();
        faults(&services).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_order_without_a_circle_is_right() {
        assert!(said(&["web: api cache", "api: db cache", "db:", "cache: db"]).is_empty());
        assert!(said(&[]).is_empty());
    }

    #[test]
    fn circles_are_named_from_end_to_end() {
        let around = "depends_on is a circle: api -> db -> web -> api";
        assert_eq!(
            said(&["api: db", "db: web", "web: api free", "free:"]),
            [format!("api: {around}")]
        );
        // One that leads into a circle is none of it.
        assert_eq!(
            said(&["a: b", "b: c", "c: b"]),
            ["b: depends_on is a circle: b -> c -> b"]
        );
        assert_eq!(said(&["a: a"]), ["a: depends_on is a circle: a -> a"]);
    }

    #[test]
    fn names_of_nobody_are_all_said() {
        assert_eq!(
            said(&["a: x y", "b: a"]),
            [
                "a: depends_on names x, which is not in the app",
                "a: depends_on names y, which is not in the app"
            ]
        );
    }
}
