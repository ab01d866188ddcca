//! Tables for people: no promise, only clarity.

use longshore_model::report::measured;
use longshore_proto::control::v1 as pb;
use serde::{Serialize, Serializer};

use super::views;
use super::{Row, Shown, Tone, age, bytes};

macro_rules! as_view {
    ($($message:ty => $view:ident),*) => {$(
        /// The message in the promised form.
        impl Serialize for Of<'_, $message> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                views::$view::from(self.0).serialize(serializer)
            }
        }
    )*};
}

/// A message of the API as a row.
#[derive(Debug)]
pub struct Of<'a, T>(pub &'a T);

as_view!(pb::Node => Node, pb::Service => Service, pb::Replica => Replica);

fn percent(ratio: Option<f64>) -> String {
    ratio
        .filter(|r| r.is_finite())
        .map_or_else(|| "-".into(), |r| format!("{:.0}%", r * 100.0))
}

fn cores(milli: u64) -> String {
    format!("{}.{:02}", milli / 1000, milli % 1000 / 10)
}

/// Images that come before they are needed: how many are there, and what is wrong with others.
fn ahead(images: &[pb::NodeImage]) -> String {
    let here = images.iter().filter(|image| image.state == "here").count();
    let others = images.iter().filter(|image| image.state != "here");
    let others = others.map(|image| format!(", {} {}", image.image, image.state));
    match images.len() {
        0 => String::new(),
        all => format!("{here} of {all}{}", others.collect::<String>()),
    }
}

impl Row for Of<'_, pb::Node> {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec![
            "NAME", "STATUS", "ROLES", "REPLICAS", "CPU", "RESERVED", "MEMORY", "RESERVED", "SEEN",
        ];
        if wide {
            titles.extend(["ADDRESS", "LABELS", "ENGINE", "AGENT", "AHEAD", "NOTE"]);
        }
        titles
    }

    fn cells(&self, wide: bool, now_ms: u64) -> Vec<Shown> {
        let n = self.0;
        let active = n.availability == "active" || n.availability.is_empty();
        let status = if active {
            n.state.clone()
        } else if let Some(drain) = &n.drain {
            let late = if drain.late { ", late" } else { "" };
            match n.replicas {
                0 => format!("{} drained", n.state),
                left => format!("{} draining ({left} left{late})", n.state),
            }
        } else {
            format!("{} {}", n.state, n.availability)
        };
        let status = match n.problems.len() {
            0 => status,
            1 => format!("{status}, 1 problem"),
            many => format!("{status}, {many} problems"),
        };
        let tone = match n.state.as_str() {
            "ready" if active && n.problems.is_empty() => Tone::Good,
            "ready" | "unknown" => Tone::Busy,
            _ => Tone::Bad,
        };
        let used = format!(
            "{} of {}",
            bytes(n.memory_used_bytes),
            bytes(n.memory_bytes)
        );
        let mut labels: Vec<_> = n.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        labels.sort();
        let mut cells = vec![
            Shown::from(&n.id),
            Shown::new(status, tone),
            n.roles.join(",").into(),
            n.replicas.into(),
            percent(n.cpu_ratio).into(),
            format!("{} of {}", cores(n.cpu_reserved_milli), cores(n.cpu_milli)).into(),
            used.into(),
            bytes(n.memory_reserved_bytes).into(),
            age(n.last_seen_ms, now_ms).into(),
        ];
        if wide {
            let problems = n.problems.iter().map(String::as_str);
            let why: Vec<&str> = [n.note.as_str(), n.reason.as_str()]
                .into_iter()
                .chain(problems)
                .filter(|t| !t.is_empty())
                .collect();
            cells.extend([
                Shown::from(&n.address),
                labels.join(",").into(),
                Shown::from(&n.engine_version),
                Shown::from(&n.agent_version),
                ahead(&n.images_ahead).into(),
                why.join("; ").into(),
            ]);
        }
        cells
    }

    fn name(&self) -> String {
        self.0.id.clone()
    }
}

impl Row for Of<'_, pb::Service> {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec![
            "SERVICE",
            "APP",
            "REPLICAS",
            "TARGET",
            "AUTOSCALE",
            "IMAGE",
            "UPDATED",
        ];
        if wide {
            titles.extend(["REVISION", "OUTDATED", "LEAVING", "URLS"]);
        }
        titles
    }

    fn cells(&self, wide: bool, now_ms: u64) -> Vec<Shown> {
        let s = self.0;
        let tone = match s
            .serving
            .max(if s.routes.is_empty() { s.healthy } else { 0 })
        {
            n if n == s.wanted => Tone::Good,
            0 => Tone::Bad,
            _ => Tone::Busy,
        };
        let ready = if s.routes.is_empty() {
            s.healthy
        } else {
            s.serving
        };
        let targets: Vec<_> = s
            .signals
            .iter()
            .map(|g| {
                let short = |value| measured(&g.signal, value).replace(' ', "");
                let value = g.value.map_or_else(|| "-".into(), short);
                match g.against.starts_with("of target") || g.against.is_empty() {
                    true => format!("{} {value} of {}", g.signal, short(g.target)),
                    false => format!("{} {value} {}", g.signal, g.against),
                }
            })
            .collect();
        let autoscale = match s.autoscale.as_str() {
            "fixed" | "" => "off".to_owned(),
            "on" => format!("{}..{}", s.min, s.max),
            mode => format!("{}..{} {mode}", s.min, s.max),
        };
        let mut cells = vec![
            Shown::from(&s.name),
            Shown::from(&s.app),
            replicas_of(s, ready, tone),
            targets.join(", ").into(),
            autoscale.into(),
            Shown::from(&s.image),
            age(s.updated_ms, now_ms).into(),
        ];
        if wide {
            cells.extend([
                s.revision.into(),
                s.outdated.into(),
                s.leaving.into(),
                s.urls.join(" ").into(),
            ]);
        }
        cells
    }

    fn name(&self) -> String {
        self.0.key.clone()
    }
}

/// Of a job, also how it stands.
fn replicas_of(s: &pb::Service, ready: u32, tone: Tone) -> Shown {
    let count = format!("{ready}/{}", s.wanted);
    match s.job.as_ref().map(|job| job.state.as_str()) {
        Some("completed") => Shown::new(format!("{count} completed"), Tone::Good),
        Some("failed") => Shown::new(format!("{count} failed"), Tone::Bad),
        _ => Shown::new(count, tone),
    }
}

impl Row for Of<'_, pb::Replica> {
    fn titles(wide: bool) -> Vec<&'static str> {
        let mut titles = vec![
            "NAME", "NODE", "IMAGE", "STATE", "TRAFFIC", "CPU", "MEM", "AGE",
        ];
        if wide {
            titles.extend([
                "ID",
                "ADDRESS",
                "CHECKS",
                "SESSIONS",
                "RESTARTS",
                "CONTAINER",
            ]);
        }
        titles.push("REASON");
        titles
    }

    fn cells(&self, wide: bool, now_ms: u64) -> Vec<Shown> {
        let r = self.0;
        let state = match r.state.as_str() {
            "healthy" | "completed" => Tone::Good,
            "failed" | "unhealthy" => Tone::Bad,
            _ => Tone::Busy,
        };
        let traffic = match r.traffic.as_str() {
            "serve" => Tone::Good,
            "down" => Tone::Bad,
            "drain" => Tone::Busy,
            _ => Tone::Plain,
        };
        let cpu = r
            .cpu_milli
            .filter(|c| c.is_finite())
            .map_or_else(String::new, |c| format!("{c:.0}m"));
        let memory = if r.memory_bytes == 0 {
            String::new()
        } else {
            bytes(r.memory_bytes)
        };
        let mut cells = vec![
            Shown::from(&r.name),
            Shown::from(&r.node),
            Shown::from(&r.image),
            Shown::new(&r.state, state),
            Shown::new(&r.traffic, traffic),
            cpu.into(),
            memory.into(),
            age(r.started_ms.unwrap_or(r.created_ms), now_ms).into(),
        ];
        if wide {
            let mut checks: Vec<_> = r.checks.iter().map(|(k, v)| format!("{k}={v}")).collect();
            checks.sort();
            cells.extend([
                format!("r{}", r.id).into(),
                Shown::from(&r.address),
                checks.join(",").into(),
                r.sessions.into(),
                r.restarts.into(),
                Shown::from(&r.container_id),
            ]);
        }
        let why: Vec<&str> = [r.leaving.as_str(), r.reason.as_str()]
            .into_iter()
            .filter(|t| !t.is_empty())
            .collect();
        // What it leaves for is often what is wrong with it.
        let why = match why.as_slice() {
            [leaving, reason] if leaving.contains(reason) => &why[..1],
            _ => &why[..],
        };
        cells.push(why.join("; ").into());
        cells
    }

    fn name(&self) -> String {
        self.0.name.clone()
    }
}
