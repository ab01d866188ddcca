//! What is said of Compose files, as lines that tests compare.

use controllerctl::compose::problem::{Level, Problem};
use controllerctl::compose::{ComposeError, Request};

use crate::compose_env::{directory, load_with};

/// Errors and warnings of files that are not taken: `file:line:column: path: message; help` a line.
pub(crate) fn all(files: &[(&str, &str)], change: impl FnOnce(&mut Request)) -> String {
    lines(files, change, |_| true)
}

/// The errors among them.
pub(crate) fn errors(files: &[(&str, &str)], change: impl FnOnce(&mut Request)) -> String {
    lines(files, change, |problem| problem.level == Level::Error)
}

fn lines(
    files: &[(&str, &str)],
    change: impl FnOnce(&mut Request),
    is_wanted: impl Fn(&Problem) -> bool,
) -> String {
    let dir = directory(files);
    let (problems, sources) = match load_with(dir.path(), &[], change) {
        Err(ComposeError::Problems { problems, sources }) => (problems, sources),
        other => panic!("{other:?}"),
    };
    let each = |problem: &Problem| {
        let source = &sources[problem.place.file];
        let (line, column) = source.line_column(problem.place.offset);
        let help = problem.help.as_deref().unwrap_or_default();
        format!("{}:{line}:{column}: {problem}; {help}\n", source.name)
    };
    let wanted = problems.iter().filter(|problem| is_wanted(problem));
    let text: String = wanted.map(each).collect();
    text.replace(&format!("{}/", dir.path().display()), "")
}
