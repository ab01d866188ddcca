//! `healthcheck`: run by the engine inside the container.

use longshore_model::spec::ExecCheck;

use super::super::problem::Problems;
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
    let mut time = |name, default, p: &mut Problems| {
        let item: Option<Item<'_>> = fields.take(name);
        item.and_then(|item| item.duration_ms(p)).unwrap_or(default)
    };
    let interval_ms = time("interval", INTERVAL_MS, p);
    let timeout_ms = time("timeout", TIMEOUT_MS, p);
    let start_period_ms = time("start_period", 0, p);
    let start_interval_ms = fields
        .take("start_interval")
        .and_then(|item| item.span_ms(p));
    let retries = fields.take("retries").and_then(|i| i.number(p, 1, 1_000));
    fields.finish(p, &[]);
    let Some(test) = test else {
        if !disabled {
            item.invalid_help(
                p,
                "has no test",
                "add test: [CMD, curl, -f, http://localhost/]",
            );
        }
        return None;
    };
    let command = command(&test, p)?;
    let retries = retries.unwrap_or(RETRIES);
    (!disabled).then_some(ExecCheck {
        command,
        interval_ms,
        timeout_ms,
        retries,
        start_period_ms,
        start_interval_ms,
    })
}

fn command(test: &Item<'_>, p: &mut Problems) -> Option<Vec<String>> {
    let shell = |line: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), line.to_owned()];
    if !test.is_list() {
        return test.word(p).map(|line| shell(&line));
    }
    let words = test.command(p)?;
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
