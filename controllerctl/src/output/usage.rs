//! Rows of `stats`, `proxy status` and `proxy backends`.

use std::collections::BTreeMap;

use longshore_proto::control::v1 as pb;
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::aside::Aside;
use super::views::Edge;
use super::{Row, Shown, Tone, bytes};

/// What a replica uses.
#[derive(Debug)]
pub struct Usage<'a>(pub &'a pb::Replica);

impl Usage<'_> {
    fn cpu_milli(&self) -> Option<f64> {
        self.0.cpu_milli.filter(|milli| milli.is_finite())
    }
}

impl Serialize for Usage<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let r = self.0;
        let mut out = serializer.serialize_struct("Usage", 8)?;
        out.serialize_field("name", &r.name)?;
        out.serialize_field("service", &r.service)?;
        out.serialize_field("node", &r.node)?;
        out.serialize_field("state", &r.state)?;
        out.serialize_field("traffic", &r.traffic)?;
        out.serialize_field("cpu_milli", &self.cpu_milli())?;
        out.serialize_field("memory_bytes", &r.memory_bytes)?;
        out.serialize_field("sessions", &r.sessions)?;
        out.end()
    }
}

impl Row for Usage<'_> {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec!["NAME", "NODE", "CPU", "MEM", "SESSIONS", "TRAFFIC"];
        if wide {
            titles.extend(["STATE", "RESTARTS"]);
        }
        titles
    }

    fn cells(&self, wide: bool, _: u64) -> Vec<Shown> {
        let r = self.0;
        let cpu = self
            .cpu_milli()
            .map_or_else(String::new, |c| format!("{c:.0}m"));
        let memory = match r.memory_bytes {
            0 => String::new(),
            count => bytes(count),
        };
        let mut cells = vec![
            Shown::from(&r.name),
            Shown::from(&r.node),
            cpu.into(),
            memory.into(),
            r.sessions.into(),
            Shown::new(&r.traffic, traffic_tone(&r.traffic)),
        ];
        if wide {
            cells.extend([Shown::from(&r.state), r.restarts.into()]);
        }
        cells
    }

    fn name(&self) -> String {
        self.0.name.clone()
    }
}

fn traffic_tone(traffic: &str) -> Tone {
    match traffic {
        "serve" => Tone::Good,
        "down" => Tone::Bad,
        "drain" => Tone::Busy,
        _ => Tone::Plain,
    }
}

impl Edge {
    /// How it is, in a few words.
    #[must_use]
    pub fn state(&self) -> String {
        match (&self.problem, self.connected, self.in_step) {
            (Some(problem), ..) => problem.clone(),
            (None, false, _) => "not connected".into(),
            (None, true, true) => "in step".into(),
            (None, true, false) => format!(
                "behind: routes {} of {}",
                self.routes_generation, self.routes_generation_wanted
            ),
        }
    }
}

impl Row for &Edge {
    fn titles(_: bool) -> Vec<&'static str> {
        vec!["EDGE", "HAPROXY", "ROUTES", "STATE"]
    }

    fn cells(&self, _: bool, _: u64) -> Vec<Shown> {
        let tone = match (&self.problem, self.connected && self.in_step) {
            (None, true) => Tone::Good,
            (None, false) => Tone::Busy,
            (Some(_), _) => Tone::Bad,
        };
        vec![
            Shown::from(&self.node),
            self.haproxy_version.clone().unwrap_or_default().into(),
            self.routes_generation.into(),
            Shown::new(self.state(), tone),
        ]
    }

    fn name(&self) -> String {
        self.node.clone()
    }
}

/// A replica behind one way in.
#[derive(Debug, Serialize)]
pub struct Backend {
    /// app/service
    pub service: String,
    /// Port of the edges.
    pub listen_port: u32,
    /// http, tcp
    pub mode: &'static str,
    /// Host names; none: all.
    pub domains: Vec<String>,
    /// Beginning of the paths; none: all.
    pub path: Option<String>,
    /// service.slot
    pub replica: String,
    /// Where edges reach it.
    pub address: Option<String>,
    /// out, serve, drain; down: it should serve, but no edge reaches it
    pub traffic: String,
    /// Each edge's own check.
    pub checks: BTreeMap<String, String>,
    /// Sessions on all edges, by all ways in.
    pub sessions: u32,
    /// An operator keeps it out of the routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aside: Option<Aside>,
}

impl Row for Backend {
    fn titles(_: bool) -> Vec<&'static str> {
        vec![
            "SERVICE", "PORT", "HOSTS", "REPLICA", "ADDRESS", "TRAFFIC", "CHECKS", "SESSIONS",
            "KEPT OUT",
        ]
    }

    fn cells(&self, _: bool, _: u64) -> Vec<Shown> {
        let hosts = match self.domains.is_empty() {
            true => "*".to_owned(),
            false => self.domains.join(","),
        };
        let path = self.path.as_deref().unwrap_or_default();
        let hosts = match self.mode {
            "tcp" => "tcp".to_owned(),
            _ => format!("{hosts}{path}"),
        };
        let checks: Vec<String> = self
            .checks
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let kept_out = self.aside.as_ref().map(ToString::to_string);
        let tone = match self.checks.values().any(|check| check == "down") {
            true => Tone::Bad,
            false => Tone::Plain,
        };
        vec![
            Shown::from(&self.service),
            self.listen_port.into(),
            hosts.into(),
            Shown::from(&self.replica),
            self.address.clone().unwrap_or_default().into(),
            Shown::new(&self.traffic, traffic_tone(&self.traffic)),
            Shown::new(checks.join(","), tone),
            self.sessions.into(),
            kept_out.unwrap_or_default().into(),
        ]
    }

    fn name(&self) -> String {
        self.replica.clone()
    }
}
