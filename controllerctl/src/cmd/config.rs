//! `config`: Compose files without a controller.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Run, environment};
use crate::cli::{ConfigArgs, Format};
use crate::compose;
use crate::compose::problem::{Level, Problem, draw};
use crate::compose::source::Source;
use crate::compose::support::{Row, Status};
use crate::failure::{Exit, Failure};
use crate::output::print;
use crate::text::printable;

/// Longer keys push their line to the right.
const KEY_WIDTH_MAX: usize = 48;

/// `config --check -o json`
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    keys: Vec<Support>,
    left_out: Vec<String>,
    problems: Vec<Finding>,
}

/// What becomes of one key.
#[derive(Debug, Serialize)]
struct Support {
    key: String,
    status: &'static str,
    reason: Option<String>,
}

fn support(row: Row) -> Support {
    Support {
        key: row.key,
        status: match row.status {
            Status::Supported => "supported",
            Status::Conditional => "conditional",
            Status::Dropped => "dropped",
            Status::Refused => "refused",
        },
        reason: row.reason,
    }
}

/// One line a key.
fn table(keys: &[Support]) -> String {
    let width = keys.iter().map(|row| row.key.len()).max().unwrap_or(0);
    let width = width.min(KEY_WIDTH_MAX);
    let line = |row: &Support| {
        let word = match row.status {
            "conditional" => "with a condition",
            word => word,
        };
        let reason = row.reason.as_deref().unwrap_or_default();
        let reason = reason.strip_prefix("not supported: ").unwrap_or(reason);
        let reason = reason
            .strip_prefix("left out, not supported: ")
            .unwrap_or(reason);
        let colon = if reason.is_empty() { "" } else { ": " };
        printable(&format!("{:width$}  {word}{colon}{reason}", row.key)) + "\n"
    };
    keys.iter().map(line).collect()
}

/// One finding.
#[derive(Debug, Serialize)]
struct Finding {
    level: &'static str,
    code: &'static str,
    path: String,
    message: String,
    help: Option<String>,
    file: String,
    line: usize,
    column: usize,
}

fn finding(problem: &Problem, sources: &[Source]) -> Finding {
    let source = sources.get(problem.place.file);
    let (line, column) = source.map_or((1, 1), |s| s.line_column(problem.place.offset));
    Finding {
        level: match problem.level {
            Level::Error => "error",
            Level::Warning => "warning",
        },
        code: problem.code,
        path: problem.path.clone(),
        message: problem.message.clone(),
        help: problem.help.clone(),
        file: source.map(|s| s.name.clone()).unwrap_or_default(),
        line,
        column,
    }
}

pub(super) fn config(run: &Run, args: &ConfigArgs) -> Result<Exit, Failure> {
    if args.check {
        return check(run, args);
    }
    let loaded = super::app::read(run, &args.files)?;
    if args.services || args.images {
        let services = loaded.services.iter();
        let names: BTreeSet<String> = match args.services {
            true => services.map(|(name, _)| name.to_string()).collect(),
            false => services
                .map(|(_, spec)| spec.container.image.to_string())
                .collect(),
        };
        let people = || names.iter().map(|name| printable(name) + "\n").collect();
        print(&run.out.document(&names, people))?;
        return Ok(Exit::Done);
    }
    let text = match run.out.format {
        Format::Json => crate::output::json(&loaded.tree),
        Format::Jsonl => crate::output::jsonl(&loaded.tree),
        Format::Template => run.out.templated(&loaded.tree),
        Format::Name => loaded
            .services
            .keys()
            .map(|name| format!("{name}\n"))
            .collect(),
        _ => serde_saphyr::to_string(&loaded.tree)
            .map_err(|e| Failure::new("cannot render the file").because(e))?,
    };
    print(&text)?;
    Ok(Exit::Done)
}

fn check(run: &Run, args: &ConfigArgs) -> Result<Exit, Failure> {
    let checked = compose::check(&args.files.request(), &environment());
    let checked = checked.map_err(|error| super::app::explain(error).exit(Exit::Usage))?;
    let (problems, sources) = (&checked.problems, &checked.sources);
    let out = checked.left_out.iter().map(|out| out.service.clone());
    let report = Report {
        ok: checked.services().is_some(),
        keys: checked.support().into_iter().map(support).collect(),
        left_out: out.collect(),
        problems: problems.iter().map(|p| finding(p, sources)).collect(),
    };
    print(&run.out.document(&report, || {
        let dropped = report.keys.iter().any(|row| row.status == "dropped");
        let end = match (checked.services(), dropped) {
            (Some(n), false) => format!("{n} services; everything in the file is supported\n"),
            (Some(n), true) => format!("{n} services; what is dropped above has no effect\n"),
            (None, _) => "the file cannot be used as it is\n".into(),
        };
        let out = match checked.left_out.as_slice() {
            [] => String::new(),
            out => super::app::left_out(out) + "\n",
        };
        draw(problems, sources, run.out.colour) + &table(&report.keys) + &out + &end
    }))?;
    Ok(if report.ok { Exit::Done } else { Exit::Failed })
}
