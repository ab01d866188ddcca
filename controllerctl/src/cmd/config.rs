//! `init` and `config`: Compose files without a controller.

use std::io::Write;

use serde::Serialize;

use super::{Run, environment};
use crate::cli::{ConfigArgs, Format, InitArgs};
use crate::compose::problem::{Level, Problem, draw};
use crate::compose::source::Source;
use crate::compose::{ComposeError, load};
use crate::failure::{Exit, Failure};
use crate::output::{note, print};

const STARTER: &str = include_str!("starter.yaml");

pub(super) fn init(args: &InitArgs) -> Result<Exit, Failure> {
    let path = args.file.display();
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .open(&args.file)
        .map_err(|error| {
            let taken = error.kind() == std::io::ErrorKind::AlreadyExists;
            let failure = Failure::new(format!("cannot write {path}")).because(error);
            if taken {
                failure.hint("name another: controllerctl init FILE")
            } else {
                failure
            }
        })?;
    file.write_all(STARTER.as_bytes())?;
    note(&format!("wrote {path}; try: controllerctl plan -f {path}"));
    Ok(Exit::Done)
}

/// `config --check -o json`
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    problems: Vec<Finding>,
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
    let text = match run.out.format {
        Format::Json => crate::output::json(&loaded.tree),
        Format::Jsonl => crate::output::jsonl(&loaded.tree),
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
    let files = &args.files;
    let (problems, sources, services) = match load(&files.request(), &environment()) {
        Ok(loaded) => (loaded.warnings, loaded.sources, Some(loaded.services.len())),
        Err(ComposeError::Problems { problems, sources }) => (problems, sources, None),
        Err(other) => return Err(Failure::new(other.to_string()).exit(Exit::Usage)),
    };
    let findings = problems.iter().map(|p| finding(p, &sources)).collect();
    let report = Report {
        ok: services.is_some(),
        problems: findings,
    };
    print(&run.out.document(&report, || {
        let end = match services {
            Some(n) => format!("{n} services; everything in the file is supported\n"),
            None => "the file cannot be used as it is\n".into(),
        };
        draw(&problems, &sources, run.out.colour) + &end
    }))?;
    Ok(if report.ok { Exit::Done } else { Exit::Failed })
}
