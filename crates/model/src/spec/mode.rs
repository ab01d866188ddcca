//! What the count of a service's replicas goes by.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ServiceSpec;

/// `deploy.mode`, as Swarm has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceMode {
    /// A count: the file's, a person's, or one that follows the load.
    #[default]
    Replicated,
    /// One replica on each node that takes the service.
    Global,
}

impl ServiceMode {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for ServiceMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replicated => "replicated",
            Self::Global => "global",
        })
    }
}

/// What a file says of a count that its mode does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeFault {
    /// `deploy.replicas` or `scale`.
    Replicas,
    /// `x-autoscale`.
    Autoscale,
    /// `deploy.placement.max_replicas_per_node`.
    MaxPerNode,
}

impl ModeFault {
    /// What is wrong, with the key.
    #[must_use]
    pub fn message(self) -> String {
        let key = match self {
            Self::Replicas => "deploy.replicas",
            Self::Autoscale => "x-autoscale",
            Self::MaxPerNode => "deploy.placement.max_replicas_per_node",
        };
        format!("{key} has no meaning with deploy.mode: global: one replica on each node")
    }

    /// The way out.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Replicas => "drop it, or drop mode: global",
            Self::Autoscale => "drop it, or drop deploy.mode: global",
            Self::MaxPerNode => "drop it: no node has more than one",
        }
    }
}

impl fmt::Display for ModeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message(), self.help())
    }
}

impl ServiceSpec {
    /// Has it one replica on each node, and no count of its own?
    #[must_use]
    pub fn is_global(&self) -> bool {
        self.mode == ServiceMode::Global
    }

    /// What of it contradicts its mode, each once. A global service has `replicas: 0`: its count
    /// goes by the nodes.
    #[must_use]
    pub fn mode_faults(&self) -> Vec<ModeFault> {
        if !self.is_global() {
            return Vec::new();
        }
        let faults = [
            (self.replicas > 0, ModeFault::Replicas),
            (self.autoscale.is_some(), ModeFault::Autoscale),
            (self.placement.max_per_node > 0, ModeFault::MaxPerNode),
        ];
        let found = faults.into_iter().filter(|(there, _)| *there);
        found.map(|(_, fault)| fault).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AutoscaleSpec;
    use crate::autoscale::{AutoscaleMode, OnMissing};

    fn policy() -> AutoscaleSpec {
        AutoscaleSpec {
            min: 1,
            max: 2,
            metrics: Vec::new(),
            steps: Vec::new(),
            window_ms: 1_000,
            warmup_ms: 0,
            scale_up: AutoscaleSpec::default_up(),
            scale_down: AutoscaleSpec::default_down(),
            on_missing: OnMissing::default(),
            mode: AutoscaleMode::On,
            schedules: Vec::new(),
            warm: 0,
        }
    }

    #[test]
    fn only_a_count_that_goes_by_nodes_refuses_words_about_counts() {
        let mut spec = ServiceSpec {
            replicas: 3,
            autoscale: Some(policy()),
            ..ServiceSpec::default()
        };
        spec.placement.max_per_node = 1;
        assert_eq!(spec.mode_faults(), []);
        spec.mode = ServiceMode::Global;
        let all = [
            ModeFault::Replicas,
            ModeFault::Autoscale,
            ModeFault::MaxPerNode,
        ];
        assert_eq!(spec.mode_faults(), all);
        let global = ServiceSpec {
            mode: ServiceMode::Global,
            ..ServiceSpec::default()
        };
        assert_eq!(global.mode_faults(), []);
    }

    /// What was stored before there were modes has a count, and is written as before.
    #[test]
    fn a_spec_without_a_mode_is_replicated() {
        let spec = ServiceSpec {
            replicas: 3,
            ..ServiceSpec::default()
        };
        let json = serde_json::to_string(&spec).unwrap();
        assert!(!json.contains("mode"), "{json}");
        assert_eq!(serde_json::from_str::<ServiceSpec>(&json).unwrap(), spec);
        let global = ServiceSpec {
            mode: ServiceMode::Global,
            ..ServiceSpec::default()
        };
        let json = serde_json::to_string(&global).unwrap();
        assert!(json.contains(r#""mode":"global""#), "{json}");
        assert_eq!(serde_json::from_str::<ServiceSpec>(&json).unwrap(), global);
    }
}
