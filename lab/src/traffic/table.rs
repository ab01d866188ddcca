//! The printed lines of a run.

use std::fmt::Write;

use super::verdict::{Counts, Tally};
use crate::kind::Kind;

/// `kind sent ok failed`, a line per kind and their sum, then failures by class, if there are any.
/// `apart`: what overlapped an unplanned event, instead of what did not.
#[must_use]
pub fn table(tally: &Tally, apart: bool) -> String {
    let mut text = format!("{:<15} {:>9} {:>9} {:>7}\n", "kind", "sent", "ok", "failed");
    let mut line = |name: &str, counts: Counts| {
        let Counts { sent, ok, failed } = counts;
        let _ = writeln!(text, "{name:<15} {sent:>9} {ok:>9} {failed:>7}");
    };
    let mut sum = Counts::default();
    for kind in Kind::ALL {
        let counts = tally.counts(kind, apart);
        sum += counts;
        line(kind.name(), counts);
    }
    line("all", sum);
    for ((kind, failure), count) in tally.classes(apart) {
        let _ = writeln!(text, "  {} {}: {count}", kind.name(), failure.name());
    }
    text
}
