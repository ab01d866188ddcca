//! `healthcheck`: run by the engine inside the container.

use longshore_model::spec::ExecCheck;

use super::super::node::{Node, Value};
use super::super::problem::Problems;
use super::container;
use super::item::Item;

/// The engine's own defaults, as in Docker.
const INTERVAL_MS: u64 = 30_000;
const TIMEOUT_MS: u64 = 30_000;
const RETRIES: u32 = 3;

pub(super) fn read(item: Option<Item<'_>>, p: &mut Problems) -> Option<ExecCheck> {
    let item = item?;
    let mut fields = item.fields(p)?;
    let test = fields.take("test");
    let disabled = fields
        .take("disable")
        .and_then(|i| i.boolean(p))
        .unwrap_or(false);
    let mut time = |name, p: &mut Problems| {
        let item: Option<Item<'_>> = fields.take(name);
        item.and_then(|item| item.duration_ms(p))
    };
    let interval_ms = time("interval", p);
    let timeout_ms = time("timeout", p);
    let start_period_ms = time("start_period", p).unwrap_or(0);
    let start_interval_ms = fields
        .take("start_interval")
        .and_then(|item| item.span_ms(p));
    let retries = fields.take("retries").and_then(|i| i.number(p, 1, 1_000));
    fields.finish(p, &[]);
    // Without a test it is the image's own one, of which something else is changed.
    let own = test.filter(|test| !is_empty(test.node));
    let command = match &own {
        Some(test) => command(test, p)?,
        None => Vec::new(),
    };
    let or = |said: Option<u64>, default| match own {
        Some(_) => said.unwrap_or(default),
        None => said.unwrap_or(0),
    };
    let default = if own.is_some() { RETRIES } else { 0 };
    (!disabled).then_some(ExecCheck {
        command,
        interval_ms: or(interval_ms, INTERVAL_MS),
        timeout_ms: or(timeout_ms, TIMEOUT_MS),
        retries: retries.unwrap_or(default),
        start_period_ms,
        start_interval_ms,
    })
}

fn is_empty(test: &Node) -> bool {
    match &test.value {
        Value::List(items) => items.is_empty(),
        _ => test.as_text() == Some(""),
    }
}

fn command(test: &Item<'_>, p: &mut Problems) -> Option<Vec<String>> {
    let shell = |line: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()];
    if !test.is_list() {
        return test.word(p).map(|line| shell(&line));
    }
    let words = container::command(test, p)?;
    match words.split_first() {
        Some((first, [])) if first == "NONE" => None,
        Some((first, [line])) if first == "CMD-SHELL" => Some(shell(line)),
        Some((first, rest)) if first == "CMD" && !rest.is_empty() => Some(rest.to_vec()),
        _ => {
            let message = "must begin with CMD, CMD-SHELL or NONE";
            test.invalid_help(
                p,
                message,
                "for example [CMD-SHELL, \"curl -f localhost || exit 1\"]",
            );
            None
        }
    }
}
