//! `proxy config --diff`: what an edge's HAProxy is loaded with, against what would be written now.

use std::time::Duration;

use serde::Serialize;
use similar::TextDiff;

use crate::cli::ProxyConfigArgs;
use crate::cmd::Run;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::text::printable;

/// The line by which the driver knows its own file: it differs with all else.
const SEAL: &str = "# as the driver wrote it: ";

/// After that the diff is no longer the smallest one.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
struct Shown {
    /// What was asked for; none: the only edge.
    node: Option<String>,
    /// Something waits for a reload, or is refused.
    differs: bool,
    /// As a unified diff; empty: nothing differs.
    diff: String,
}

pub(super) fn print(
    run: &Run,
    args: &ProxyConfigArgs,
    loaded: &str,
    wanted: &str,
) -> Result<Exit, Failure> {
    let diff = diff(loaded, wanted);
    let shown = Shown {
        node: args.node.clone(),
        differs: !diff.is_empty(),
        diff,
    };
    let lines = || {
        let lines = shown.diff.lines();
        lines.map(|line| printable(line) + "\n").collect()
    };
    output::print(&run.out.document(&shown, lines))?;
    if !shown.differs {
        output::note("HAProxy is loaded with what is wanted");
    }
    Ok(match shown.differs && args.detailed_exitcode {
        true => Exit::Changes,
        false => Exit::Done,
    })
}

fn diff(loaded: &str, wanted: &str) -> String {
    let without = |text: &str| -> String {
        let lines = text.lines().filter(|line| !line.starts_with(SEAL));
        lines.map(|line| format!("{line}\n")).collect()
    };
    let (loaded, wanted) = (without(loaded), without(wanted));
    let mut config = TextDiff::configure();
    let diff = config.timeout(PATIENCE).diff_lines(&loaded, &wanted);
    diff.unified_diff().header("loaded", "wanted").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_said_and_never_who_wrote_it() {
        let loaded = format!("global\n    maxconn 1\n{SEAL}00\n");
        assert_eq!(diff(&loaded, &loaded.replace("00", "11")), "");
        let wanted = loaded.replace("maxconn 1", "maxconn 2");
        let said =
            "--- loaded\n+++ wanted\n@@ -1,2 +1,2 @@\n global\n-    maxconn 1\n+    maxconn 2\n";
        assert_eq!(diff(&loaded, &wanted), said);
    }
}
