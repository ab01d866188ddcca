//! `doctor`: the usual faults, found in what the controller says of its cluster.

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use crate::output::inspected::World;
use crate::output::views::Status;
use crate::output::{Row, Shown, Tone};

/// A clock that is off by more than this makes logs and certificates hard to read.
const SKEW_MS_MAX: u64 = 2_000;
/// Above that an engine is about to be stopped for want of memory.
const MEMORY_PERCENT_MAX: u64 = 95;
/// Releases that are driven.
const HAPROXY_MIN: Release = Release(2, 4, 0);
/// Releases that everything is tested with.
const HAPROXY_TESTED: Release = Release(2, 6, 12);
/// Ends on refused connections with checks as they are set up here.
const HAPROXY_BAD: Release = Release(2, 7, 0);
const ENGINE_MIN: Release = Release(20, 10, 0);

/// Major, minor and patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Release(u32, u32, u32);

impl Release {
    /// `2.6.12-1+deb12u1`; none: that is no number.
    fn read(text: &str) -> Option<Self> {
        let digits = |part: &str| {
            let end = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part.get(..end)?.parse().ok()
        };
        let mut parts = text.trim_start_matches('v').split('.');
        let first = digits(parts.next()?)?;
        let second = parts.next().and_then(digits).unwrap_or(0);
        let third = parts.next().and_then(digits).unwrap_or(0);
        Some(Self(first, second, third))
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, and will hurt.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Node, service or the cluster.
    pub about: String,
    /// What was found.
    pub message: String,
    /// The way out.
    pub fix: Option<String>,
}

impl Row for Finding {
    fn titles(_: bool) -> Vec<&'static str> {
        vec!["LEVEL", "ABOUT", "FINDING", "FIX"]
    }

    fn cells(&self, _: bool, _: u64) -> Vec<Shown> {
        let (word, tone) = match self.level {
            Level::Ok => ("ok", Tone::Good),
            Level::Warn => ("warn", Tone::Busy),
            Level::Fail => ("fail", Tone::Bad),
        };
        vec![
            Shown::new(word, tone),
            Shown::from(&self.about),
            Shown::from(&self.message),
            self.fix.clone().unwrap_or_default().into(),
        ]
    }

    fn name(&self) -> String {
        self.about.clone()
    }
}

/// What is looked at.
#[derive(Debug)]
pub struct Patient<'w> {
    /// What the controller says.
    pub world: &'w World,
    /// This program's release.
    pub own_version: &'w str,
    /// The clock here, when the controller was asked and when it had answered.
    pub asked_ms: u64,
    /// See `asked_ms`.
    pub answered_ms: u64,
    /// Only these nodes; none: all.
    pub nodes: &'w [String],
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, about: &str, message: String, fix: Option<String>) {
        let about = about.to_owned();
        self.0.push(Finding {
            level,
            about,
            message,
            fix,
        });
    }

    fn ok(&mut self, about: &str, message: String) {
        self.add(Level::Ok, about, message, None);
    }

    fn warn(&mut self, about: &str, message: String, fix: &str) {
        self.add(Level::Warn, about, message, Some(fix.to_owned()));
    }

    fn fail(&mut self, about: &str, message: String, fix: &str) {
        self.add(Level::Fail, about, message, Some(fix.to_owned()));
    }
}

/// Everything that was looked at, the cluster first.
#[must_use]
pub fn diagnose(patient: &Patient<'_>) -> Vec<Finding> {
    let mut out = Findings(Vec::new());
    if patient.nodes.is_empty() {
        controller(patient, &mut out);
    }
    let status = Status::new("", &patient.world.status);
    for node in &patient.world.nodes {
        if !patient.nodes.is_empty() && !patient.nodes.contains(&node.id) {
            continue;
        }
        machine(patient, node, &mut out);
        if node.roles.iter().any(|role| role == "edge") {
            edge(&status, node, &mut out);
        }
    }
    if patient.nodes.is_empty() {
        ways_in(patient.world, &mut out);
        problems(&status, &mut out);
    }
    out.0
}

fn controller(patient: &Patient<'_>, out: &mut Findings) {
    let status = &patient.world.status;
    let about = "controller";
    let (theirs, ours) = (status.controller_version.as_str(), patient.own_version);
    if theirs == ours {
        out.ok(about, format!("answers, release {theirs}"));
    } else {
        let message = format!("its release is {theirs}, this program's is {ours}");
        out.warn(
            about,
            message,
            "use the controllerctl of the controller's release",
        );
    }
    // Its clock was read somewhere between the two looks at ours.
    let (low, high) = (patient.asked_ms, patient.answered_ms);
    let off_ms = low
        .saturating_sub(status.time_ms)
        .max(status.time_ms.saturating_sub(high));
    if off_ms <= SKEW_MS_MAX {
        out.ok(
            "clock",
            format!("the controller's and this machine's are within {SKEW_MS_MAX} ms"),
        );
    } else {
        let message = format!(
            "the controller's and this machine's differ by {:.1} s",
            off_ms as f64 / 1000.0
        );
        let fix = "set both by NTP: timedatectl set-ntp true; certificates depend on it";
        out.warn("clock", message, fix);
    }
    if patient.world.nodes.is_empty() {
        out.fail(
            "nodes",
            "there are none".into(),
            "controllerctl node join prints the line to run on a machine",
        );
    }
    let is_edge = |node: &pb::Node| node.roles.iter().any(|role| role == "edge");
    if !patient.world.nodes.iter().any(is_edge) {
        let fix = "controllerctl node join --role edge, on a machine with HAProxy";
        out.fail(
            "edges",
            "there are none: nobody outside reaches a service".into(),
            fix,
        );
    }
}

/// Has a worker that is connected not yet said what its engine is?
#[must_use]
pub fn awaits_report(node: &pb::Node) -> bool {
    let is_worker = node.roles.iter().any(|role| role == "worker");
    is_worker && node.state == "ready" && node.engine_version.is_empty()
}

/// Whether it is there, and what runs on it.
fn presence(node: &pb::Node, is_worker: bool, out: &mut Findings) {
    let about = node.id.as_str();
    if awaits_report(node) {
        let message = "ready, but its engine's first report has not come yet".to_owned();
        out.warn(
            about,
            message,
            "look again in a moment: controllerctl doctor",
        );
    } else if node.state == "ready" && !node.reason.is_empty() {
        let fix = "look at its power and its network, and at: controllerctl events";
        out.warn(about, format!("ready, but {}", node.reason), fix);
    } else if node.state == "ready" {
        let agent = known(&node.agent_version);
        let said = match is_worker {
            true => format!(
                "ready, engine {}, agent {agent}",
                known(&node.engine_version)
            ),
            // It drives none.
            false => format!("ready, agent {agent}"),
        };
        out.ok(about, said);
    } else {
        let why = match node.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        let fix = match node.state.as_str() {
            "engine_down" | "runtime_stuck" => {
                "on the node: systemctl status docker; journalctl -u docker -e"
            }
            _ => {
                "on the node: systemctl status longshore-node-agent; journalctl -u longshore-node-agent -e"
            }
        };
        out.fail(about, format!("{}{why}", node.state), fix);
    }
}

fn machine(patient: &Patient<'_>, node: &pb::Node, out: &mut Findings) {
    let about = node.id.as_str();
    let is_worker = node.roles.iter().any(|role| role == "worker");
    presence(node, is_worker, out);
    if is_worker && Release::read(&node.engine_version).is_some_and(|r| r < ENGINE_MIN) {
        let message = format!("engine {} is older than 20.10", node.engine_version);
        out.warn(about, message, "install a newer Docker Engine");
    }
    let controller = &patient.world.status.controller_version;
    if !node.agent_version.is_empty() && node.agent_version != *controller {
        let message = format!(
            "its agent is {}, the controller {controller}",
            node.agent_version
        );
        out.warn(
            about,
            message,
            "install the controller's release of node-agent there",
        );
    }
    let (used, all) = (node.memory_used_bytes, node.memory_bytes);
    if all > 0 && used.saturating_mul(100) / all >= MEMORY_PERCENT_MAX {
        let message = format!(
            "{} % of its memory is in use",
            used.saturating_mul(100) / all
        );
        let fix = format!(
            "controllerctl stats shows who uses it; controllerctl node drain {about} moves all away"
        );
        out.warn(about, message, &fix);
    }
    complaints(node, out);
    if let Some(drain) = node.drain.as_ref().filter(|drain| drain.late) {
        let message = format!(
            "its drain is late, {} left: {}",
            drain.left,
            drain.waits.join("; ")
        );
        out.warn(
            about,
            message,
            &format!("controllerctl node drain {about} --force"),
        );
    }
}

/// What its agent says that does not work, and what will hurt.
fn complaints(node: &pb::Node, out: &mut Findings) {
    let about = node.id.as_str();
    for problem in &node.problems {
        let fix = format!("controllerctl why {about}");
        out.warn(about, problem.clone(), &fix);
    }
    for advice in &node.advice {
        // `what it is: what to do about it`
        let (what, fix) = match advice.split_once(": ") {
            Some((what, fix)) => (what, Some(fix.to_owned())),
            None => (advice.as_str(), None),
        };
        out.add(Level::Warn, about, what.to_owned(), fix);
    }
}

fn known(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

fn edge(status: &Status, node: &pb::Node, out: &mut Findings) {
    let Some(edge) = status.edges.iter().find(|edge| edge.node == node.id) else {
        return;
    };
    let about = edge.node.as_str();
    let version = edge.haproxy_version.as_deref();
    match (&edge.problem, edge.connected && edge.in_step) {
        (None, true) => out.ok(
            about,
            format!("HAProxy {} in step", known(version.unwrap_or_default())),
        ),
        (Some(problem), _) => {
            let fix =
                format!("controllerctl why {about}; on it: journalctl -u longshore-haproxy -e");
            out.fail(about, format!("HAProxy: {problem}"), &fix);
        }
        (None, false) => out.warn(about, edge.state(), &format!("controllerctl why {about}")),
    }
    let Some(release) = version.and_then(Release::read) else {
        return;
    };
    let shown = version.unwrap_or_default();
    if release < HAPROXY_MIN {
        out.fail(
            about,
            format!("HAProxy {shown} is older than 2.4"),
            "install 2.6.12 or later",
        );
    } else if release == HAPROXY_BAD {
        out.fail(
            about,
            format!("HAProxy {shown} may end on refused connections"),
            "install 2.7.1 or later",
        );
    } else if release < HAPROXY_TESTED {
        let message = format!("HAProxy {shown} is older than what is tested, 2.6.12");
        out.warn(
            about,
            message,
            "install 2.6.12 or later (docs/haproxy-versions.md)",
        );
    }
}

/// Ports that should be open and are not.
fn ways_in(world: &World, out: &mut Findings) {
    for service in &world.services {
        if service.routes.is_empty() || service.wanted == 0 {
            continue;
        }
        if service.urls.is_empty() {
            let ports: Vec<String> = service
                .routes
                .iter()
                .map(|r| r.listen_port.to_string())
                .collect();
            let message = format!("nobody listens on its port {}", ports.join(", "));
            out.fail(&service.key, message, "controllerctl proxy status");
        } else if service.serving == 0 {
            let message = format!("no replica takes traffic, {} wanted", service.wanted);
            out.fail(
                &service.key,
                message,
                &format!("controllerctl why {}", service.key),
            );
        }
    }
}

/// What the controller itself complains of and nothing above has said.
fn problems(status: &Status, out: &mut Findings) {
    let bad = out.0.iter().filter(|f| f.level != Level::Ok);
    let said: Vec<String> = bad.map(|f| f.about.clone()).collect();
    for problem in &status.problems {
        let about = problem.about.as_deref().unwrap_or("cluster");
        if !said.iter().any(|said| said == about) {
            let fix = match about {
                "cluster" => "controllerctl status".to_owned(),
                about => format!("controllerctl why {about}"),
            };
            out.warn(about, problem.message.clone(), &fix);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_as_packages_write_them() {
        let all = [
            ("2.6.12-1+deb12u1", Release(2, 6, 12)),
            ("20.10.24+dfsg1", Release(20, 10, 24)),
            ("v3.0", Release(3, 0, 0)),
        ];
        for (text, wanted) in all {
            assert_eq!(Release::read(text), Some(wanted), "{text}");
        }
        assert_eq!(Release::read("unknown"), None);
    }

    #[test]
    fn an_engine_that_has_not_reported_is_not_called_fine() {
        let mut node = pb::Node {
            id: "node2".into(),
            state: "ready".into(),
            roles: vec!["worker".into()],
            ..pb::Node::default()
        };
        let said = |node: &pb::Node| {
            let world = World {
                status: pb::GetStatusResponse::default(),
                nodes: vec![node.clone()],
                services: Vec::new(),
                replicas: Vec::new(),
            };
            let nodes = [node.id.clone()];
            let found = diagnose(&Patient {
                world: &world,
                own_version: "",
                asked_ms: 0,
                answered_ms: 0,
                nodes: &nodes,
            });
            (found[0].level, found[0].message.clone())
        };
        let (level, message) = said(&node);
        assert_eq!(level, Level::Warn, "{message}");
        assert!(message.contains("first report"), "{message}");
        node.engine_version = "29.1.0".into();
        assert_eq!(said(&node).0, Level::Ok);
        // An edge drives no engine.
        (node.engine_version, node.roles) = (String::new(), vec!["edge".into()]);
        assert_eq!(said(&node).0, Level::Ok);
    }
}
