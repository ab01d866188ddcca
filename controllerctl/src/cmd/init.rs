//! `init`: a file to start from, or an older one as one of today.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::{Run, environment};
use crate::cli::InitArgs;
use crate::compose::node::INPUT_BYTES_MAX;
use crate::compose::problem::{Level, Problem, draw};
use crate::compose::source::Source;
use crate::compose::{self, Request};
use crate::convert::{self, Change, Converted};
use crate::failure::{Exit, Failure};
use crate::output::{note, print};
use crate::text::printable;

const STARTER: &str = include_str!("starter.yaml");
const DEFAULT_NAME: &str = "compose.yaml";

pub(super) fn init(run: &Run, args: &InitArgs) -> Result<Exit, Failure> {
    if let Some(from) = &args.from {
        return convert(run, args, from);
    }
    let file = args.file.clone().unwrap_or_else(|| DEFAULT_NAME.into());
    write_new(&file, STARTER)?;
    let path = file.display();
    note(&format!("wrote {path}; try: controllerctl plan -f {path}"));
    Ok(Exit::Done)
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let mut options = std::fs::OpenOptions::new();
    let options = options.write(true).create_new(true);
    let written = options.open(path);
    // Half of it would be what `up` takes next.
    let written = written.and_then(|mut file| {
        let whole = file.write_all(text.as_bytes());
        whole.inspect_err(|_| remove(path))
    });
    written.map_err(|error| {
        let taken = error.kind() == std::io::ErrorKind::AlreadyExists;
        let failure = Failure::new(format!("cannot write {}", path.display())).because(error);
        if taken {
            failure.hint("name another: controllerctl init FILE")
        } else {
            failure
        }
    })
}

/// What `init --from` did.
#[derive(Debug, Serialize)]
struct Report {
    from: String,
    file: String,
    changes: Vec<Row>,
}

/// One change.
#[derive(Debug, Serialize)]
struct Row {
    line: usize,
    column: usize,
    was: String,
    now: Option<String>,
    why: String,
    /// Somebody should see whether it is right.
    review: bool,
}

fn convert(run: &Run, args: &InitArgs, from: &Path) -> Result<Exit, Failure> {
    let directory = Source::directory(from);
    let file = args.file.clone();
    let file = file.unwrap_or_else(|| match directory == Path::new(".") {
        true => DEFAULT_NAME.into(),
        false => directory.join(DEFAULT_NAME),
    });
    beside(from, &file)?;
    let source = read(from)?;
    let converted = convert::convert(&source, directory, args.ignore_unsupported);
    let sources = std::slice::from_ref(&source);
    let Converted { tree, changes } =
        converted.map_err(|problems| refused(run, &problems, sources))?;
    let yaml = serde_saphyr::to_string(&tree)
        .map_err(|error| Failure::new("cannot render the file").because(error))?;
    let report = report(&source, &file, &changes);
    write_new(&file, &(head(from, &report) + &yaml))?;
    let checked = check(args, &file);
    let problems = match checked {
        Ok(problems) => problems,
        Err(failure) => {
            remove(&file);
            return Err(failure);
        }
    };
    // Its places are in the new file; people know the old one.
    let problems = problems.into_iter().map(|mut problem| {
        problem.place = convert::place_of(&tree, &problem.path);
        problem
    });
    let problems: Vec<Problem> = problems.collect();
    if problems.iter().any(|p| p.level == Level::Error) {
        remove(&file);
        return Err(refused(run, &problems, sources));
    }
    super::app::eprint_drawn(&draw(&problems, sources, run.out.colour_err));
    said(run, &report)?;
    Ok(Exit::Done)
}

/// Comments above the new file: where it is from, and what somebody should look at.
fn head(from: &Path, report: &Report) -> String {
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    let name = printable(&name);
    let mut head = format!("# Made from {name}, where its comments are.\n");
    let review = report.changes.iter().filter(|row| row.review);
    let lines: Vec<String> = review
        .map(|row| format!("#   line {}: {}", row.line, what(row)))
        .collect();
    if !lines.is_empty() {
        head.push_str("# To be looked at, then deleted here:\n");
        head.push_str(&lines.join("\n"));
        head.push('\n');
    }
    head
}

/// It is our own, of a moment ago.
fn remove(file: &Path) {
    if let Err(error) = std::fs::remove_file(file) {
        note(&format!("{} is left, unfinished: {error}", file.display()));
    }
}

/// Relative names in it start from its directory, and are not changed.
fn beside(from: &Path, to: &Path) -> Result<(), Failure> {
    let real = |path: &Path| Source::directory(path).canonicalize().ok();
    if real(from) == real(to) {
        return Ok(());
    }
    let failure = Failure::new("the new file must be in the directory of the old one");
    Err(failure
        .exit(Exit::Usage)
        .details(vec!["relative names in it start from there".into()])
        .hint(format!(
            "write {}",
            Source::directory(from).join(DEFAULT_NAME).display()
        )))
}

fn read(path: &Path) -> Result<Source, Failure> {
    use std::io::Read;
    let failed = |error: std::io::Error| {
        Failure::new(format!("cannot read {}", path.display())).because(error)
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    // One byte more than is taken, so that the reader can say that it is too much.
    let limit = u64::try_from(INPUT_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    file.take(limit).read_to_string(&mut text).map_err(failed)?;
    Ok(Source::new(path.display().to_string(), &text))
}

/// What the reader of all Compose files says of the new one.
fn check(args: &InitArgs, file: &Path) -> Result<Vec<Problem>, Failure> {
    let request = Request {
        files: vec![file.to_owned()],
        ignore_unsupported: args.ignore_unsupported,
        ..Request::default()
    };
    let checked = compose::check(&request, &environment());
    let checked = checked.map_err(|error| super::app::explain(error).exit(Exit::Usage))?;
    Ok(checked.problems)
}

fn refused(run: &Run, problems: &[Problem], sources: &[Source]) -> Failure {
    super::app::eprint_drawn(&draw(problems, sources, run.out.colour_err));
    let errors = problems.iter().filter(|p| p.level == Level::Error).count();
    let what = match errors {
        1 => "1 thing is in the way".into(),
        n => format!("{n} things are in the way"),
    };
    Failure::new(format!("{what}; nothing was written")).hint(
        "change them in the old file as said above, then again; --ignore-unsupported leaves out what \
         is not supported",
    )
}

fn report(source: &Source, file: &Path, changes: &[Change]) -> Report {
    let row = |change: &Change| {
        let (line, column) = source.line_column(change.place.offset);
        Row {
            line,
            column,
            was: change.was.clone(),
            now: change.now.clone(),
            why: change.why.clone(),
            review: change.look,
        }
    };
    Report {
        from: source.name.clone(),
        file: file.display().to_string(),
        changes: changes.iter().map(row).collect(),
    }
}

fn said(run: &Run, report: &Report) -> Result<(), Failure> {
    let rows = report.changes.iter();
    let people = || rows.map(|row| line(report, row)).collect();
    print(&run.out.document(report, people))?;
    let review = report.changes.iter().filter(|row| row.review).count();
    if review > 0 {
        note(&format!(
            "see whether the {review} marked with ! are right; they are named in the new file, too"
        ));
    }
    let (path, from) = (&report.file, &report.from);
    note(&format!(
        "wrote {path}, {from} is as it was; try: controllerctl plan -f {path}"
    ));
    Ok(())
}

fn line(report: &Report, row: &Row) -> String {
    let mark = if row.review { "!" } else { " " };
    format!(
        "{mark} {}:{}  {}\n",
        printable(&report.from),
        row.line,
        what(row)
    )
}

/// In one line.
fn what(row: &Row) -> String {
    let now = match &row.now {
        Some(now) => format!("-> {now}"),
        None => "is gone".into(),
    };
    let text = format!("{} {now}: {}", row.was, row.why);
    printable(&text.replace(['\n', '\r'], " "))
}
