//! `schedules`: other bounds at certain times.

use longshore_model::autoscale::{AutoscaleFault, Schedule, ScheduleEnd, ScheduleError};

use super::super::super::problem::Problems;
use super::super::deploy::REPLICAS_MAX;
use super::super::item::Item;

pub(super) fn read<'a>(item: &Item<'a>, p: &mut Problems) -> Vec<(Schedule, Item<'a>)> {
    let items = item.items(p);
    let read = |item: &Item<'a>| Some((schedule(item, p)?, item.clone()));
    items.iter().filter_map(read).collect()
}

/// `{ name: office, cron: "0 7 * * MON-FRI", for: 12h, timezone: Europe/Brussels, min: 4 }`, or
/// with `end: "0 19 * * MON-FRI"` instead of `for`.
fn schedule(item: &Item<'_>, p: &mut Problems) -> Option<Schedule> {
    let mut fields = item.fields(p)?;
    let name = fields.take("name").and_then(|i| i.word(p));
    let start = fields.take("cron").and_then(|i| i.word(p));
    let after = fields.take("for");
    let until = fields.take("end");
    let time_zone = fields.take("timezone").and_then(|i| i.word(p));
    let min = fields.take("min");
    let min = min.and_then(|i| i.number(p, 0, REPLICAS_MAX));
    let max = fields.take("max");
    let max = max.and_then(|i| i.number(p, 1, REPLICAS_MAX));
    fields.finish(p, &[("start", "write cron")]);
    let end = match (&after, &until) {
        (Some(after), None) => after.duration_ms(p).map(ScheduleEnd::After),
        (None, Some(until)) => until.word(p).map(ScheduleEnd::At),
        _ => {
            let example = "for: 12h, or end: \"0 19 * * MON-FRI\"";
            item.lacks(p, &["for", "end"], "needs either for or end", example);
            None
        }
    };
    if item.node.get("cron").is_none() {
        let example = "for example cron: \"0 7 * * MON-FRI\"";
        item.lacks(p, &["cron"], "has no cron to say when it starts", example);
    }
    let start = start?;
    Some(Schedule {
        name: name.unwrap_or_else(|| start.clone()),
        start,
        end: end?,
        time_zone: time_zone.unwrap_or_else(|| "UTC".into()),
        min,
        max,
    })
}

/// The key of an entry that a fault is about.
pub(super) fn place<'a>(schedule: &Schedule, item: &Item<'a>, fault: &AutoscaleFault) -> Item<'a> {
    let key = match fault {
        AutoscaleFault::Schedule(
            ScheduleError::Cron { text, .. } | ScheduleError::Never { text },
        ) => match schedule.start.starts_with(text.as_str()) {
            true => "cron",
            false => "end",
        },
        AutoscaleFault::Schedule(ScheduleError::TimeZone { .. }) => "timezone",
        AutoscaleFault::Schedule(ScheduleError::Length { .. }) => "for",
        AutoscaleFault::Schedule(ScheduleError::Empty) => "end",
        AutoscaleFault::Crosswise { .. } | AutoscaleFault::NeverWakes => "min",
        AutoscaleFault::MaxZero | AutoscaleFault::TooManyReplicas { .. } => "max",
        _ => "name",
    };
    item.at(key)
}
