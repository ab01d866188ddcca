//! What a policy would have done, as a document and for people.

use std::fmt::Write;

use longshore_proto::control::v1 as pb;
use serde::Serialize;

use super::views;
use crate::text::printable;

/// Time between two points of a recording.
const RESOLUTION_MS: u64 = 10_000;
/// Columns of the chart.
const COLUMNS: usize = 72;
/// Changes that a table shows.
const CHANGES_SHOWN: usize = 20;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `autoscale simulate`
#[derive(Debug, Serialize)]
pub struct Simulation {
    /// app/service
    pub service: String,
    /// First point.
    pub from: Option<String>,
    /// Last point.
    pub to: Option<String>,
    /// So much of that time is recorded.
    pub recorded_ms: u64,
    /// Signals of the policy of which nothing is recorded.
    pub unrecorded: Vec<String>,
    /// As it was.
    pub was: Summary,
    /// As it would have been.
    pub would: Summary,
    /// Changes of the count that would have been.
    pub changes: Vec<Change>,
    /// All points.
    pub points: Vec<Point>,
}

/// A course of counts.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// Mean over time.
    pub mean: f64,
    /// How often the count changed.
    pub changes: usize,
    /// Replicas times hours.
    pub replica_hours: f64,
    /// How long a signal was above its target.
    pub above_target_ms: u64,
}

/// A change of the count.
#[derive(Debug, Serialize)]
pub struct Change {
    /// When.
    pub time: Option<String>,
    /// Before.
    pub from: u32,
    /// After.
    pub to: u32,
    /// Why.
    pub cause: String,
}

/// One point.
#[derive(Debug, Serialize)]
pub struct Point {
    /// When.
    pub time: Option<String>,
    /// Replicas wanted.
    pub was: u32,
    /// Replicas that would have been.
    pub would: u32,
    /// Load by target of the signal that was furthest above its target; none: not measured.
    pub was_ratio: Option<f32>,
    /// The same as it would have been.
    pub would_ratio: Option<f32>,
}

fn summary(counts: &[u32], ratios: impl Iterator<Item = Option<f32>>) -> Summary {
    let sum: u64 = counts.iter().map(|count| u64::from(*count)).sum();
    let above = ratios.filter(|ratio| ratio.is_some_and(|ratio| ratio > 1.0));
    let above = u64::try_from(above.count()).unwrap_or(u64::MAX);
    // A day of points.
    #[allow(clippy::cast_precision_loss)]
    let (sum, points, ms) = (sum as f64, counts.len().max(1) as f64, RESOLUTION_MS as f64);
    Summary {
        min: counts.iter().copied().min().unwrap_or(0),
        max: counts.iter().copied().max().unwrap_or(0),
        mean: sum / points,
        changes: counts.windows(2).filter(|w| w[0] != w[1]).count(),
        replica_hours: sum * ms / 3_600_000.0,
        above_target_ms: above * RESOLUTION_MS,
    }
}

impl From<&pb::SimulateAutoscaleResponse> for Simulation {
    fn from(told: &pb::SimulateAutoscaleResponse) -> Self {
        let points = &told.points;
        let was: Vec<u32> = points.iter().map(|point| point.was).collect();
        let would: Vec<u32> = points.iter().map(|point| point.would).collect();
        let changes = points.windows(2).filter(|w| w[0].would != w[1].would);
        let count = u64::try_from(points.len()).unwrap_or(u64::MAX);
        let time = |point: Option<&pb::SimulatedPoint>| views::time(point?.at_ms);
        Self {
            service: told.service.clone(),
            from: time(points.first()),
            to: time(points.last()),
            recorded_ms: count.saturating_mul(RESOLUTION_MS),
            unrecorded: told.unrecorded.clone(),
            was: summary(&was, points.iter().map(|p| p.was_ratio)),
            would: summary(&would, points.iter().map(|p| p.would_ratio)),
            changes: changes
                .map(|w| Change {
                    time: views::time(w[1].at_ms),
                    from: w[0].would,
                    to: w[1].would,
                    cause: w[1].cause.clone(),
                })
                .collect(),
            points: points
                .iter()
                .map(|point| Point {
                    time: views::time(point.at_ms),
                    was: point.was,
                    would: point.would,
                    was_ratio: point.was_ratio,
                    would_ratio: point.would_ratio,
                })
                .collect(),
        }
    }
}

/// To the minute, in UTC.
fn minute(time: Option<&String>) -> String {
    let text = time.map_or("-", |time| time.get(..16).unwrap_or(time));
    text.replace('T', " ")
}

fn length(ms: u64) -> String {
    let time = std::time::Duration::from_secs(ms / 1_000);
    humantime::format_duration(time).to_string()
}

impl Simulation {
    /// For people; with a chart on a terminal, with all changes on wide screens.
    #[must_use]
    pub fn text(&self, chart: bool, all: bool) -> String {
        let mut text = format!(
            "{}  {} to {} UTC, {} recorded\n\n",
            printable(&self.service),
            minute(self.from.as_ref()),
            minute(self.to.as_ref()),
            length(self.recorded_ms)
        );
        let titles = (
            "MIN",
            "MAX",
            "MEAN",
            "CHANGES",
            "REPLICA-HOURS",
            "ABOVE TARGET",
        );
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "           {:<5}{:<5}{:<8}{:<9}{:<15}{}",
            titles.0, titles.1, titles.2, titles.3, titles.4, titles.5
        );
        for (name, course) in [("as it was", &self.was), ("simulated", &self.would)] {
            let above = match course.above_target_ms {
                0 => "-".to_owned(),
                ms => format!("{} ({} %)", length(ms), ms * 100 / self.recorded_ms.max(1)),
            };
            let _ = writeln!(
                text,
                "{name}  {:<5}{:<5}{:<8.1}{:<9}{:<15.1}{above}",
                course.min, course.max, course.mean, course.changes, course.replica_hours
            );
        }
        if chart {
            text.push_str(&self.chart());
        }
        let first = match all {
            true => 0,
            false => self.changes.len().saturating_sub(CHANGES_SHOWN),
        };
        if !self.changes.is_empty() {
            text.push('\n');
        }
        if first > 0 {
            let _ = writeln!(text, "… {first} changes before; -o wide has all");
        }
        for change in &self.changes[first..] {
            let time = change.time.as_deref().unwrap_or("-");
            let cause = printable(&change.cause);
            let _ = writeln!(text, "{time}  {} -> {}  {cause}", change.from, change.to);
        }
        text
    }

    /// Both courses on one scale, the highest count of each column.
    fn chart(&self) -> String {
        let top = self.was.max.max(self.would.max).max(1);
        let wide = self.points.len().div_ceil(COLUMNS).max(1);
        let bar = |count: u32| {
            let step = u64::from(count) * (BARS.len() as u64 - 1) / u64::from(top);
            BARS[usize::try_from(step).unwrap_or(0).min(BARS.len() - 1)]
        };
        let line = |count: &dyn Fn(&Point) -> u32| -> String {
            let columns = self.points.chunks(wide);
            columns
                .map(|points| bar(points.iter().map(count).max().unwrap_or(0)))
                .collect()
        };
        format!(
            "\nas it was  {}\nsimulated  {}  (top: {top})\n",
            line(&|point| point.was),
            line(&|point| point.would)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> pb::SimulateAutoscaleResponse {
        let point = |number: u64, was, would, ratio| pb::SimulatedPoint {
            at_ms: 1_795_000_000_000 + number * RESOLUTION_MS,
            was,
            would,
            was_ratio: Some(ratio),
            would_ratio: None,
            cause: if number == 2 {
                "cpu".into()
            } else {
                String::new()
            },
        };
        pb::SimulateAutoscaleResponse {
            service: "shop/web".into(),
            points: vec![
                point(0, 2, 2, 0.5),
                point(1, 2, 2, 1.0),
                point(2, 2, 4, 1.5),
                point(3, 3, 4, 2.0),
            ],
            ..Default::default()
        }
    }

    #[test]
    fn courses_are_summed_up_over_time() {
        let simulation = Simulation::from(&told());
        let was = &simulation.was;
        assert_eq!((was.min, was.max, was.changes), (2, 3, 1));
        assert!((was.mean - 2.25).abs() < 1e-9 && (was.replica_hours - 0.025).abs() < 1e-9);
        assert_eq!(was.above_target_ms, 20_000);
        assert_eq!(
            (simulation.would.changes, simulation.would.above_target_ms),
            (1, 0)
        );
        let changes: Vec<_> = simulation.changes.iter().map(|c| (c.from, c.to)).collect();
        assert_eq!(changes, [(2, 4)]);
        let text = simulation.text(true, false);
        assert!(
            text.contains("as it was  ▄▄▄▆\nsimulated  ▄▄██  (top: 4)"),
            "{text}"
        );
        assert!(
            text.contains("20s (50 %)") && text.contains("2 -> 4  cpu"),
            "{text}"
        );
        assert!(!simulation.text(false, false).contains('█'));
        let none = Simulation::from(&pb::SimulateAutoscaleResponse::default());
        assert!(none.text(true, true).contains("top: 1"));
    }
}
