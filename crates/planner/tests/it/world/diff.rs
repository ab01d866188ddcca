//! What differs between two values that should be equal.

use longshore_model::Plan;

/// The lines in which two plans differ, for people.
pub(super) fn differing(one: &Plan, other: &Plan) -> String {
    let (one, other) = (format!("{one:#?}"), format!("{other:#?}"));
    let (one, other): (Vec<&str>, Vec<&str>) = (one.lines().collect(), other.lines().collect());
    let same = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let rest = |lines: &[&str], sign: char| {
        let from = same.saturating_sub(12);
        let shown = lines.iter().skip(from).take(24);
        shown
            .map(|line| format!("{sign} {line}\n"))
            .collect::<String>()
    };
    let end = |lines: &[&str]| lines.len();
    format!(
        "first differing line {same} of {} and {}\n{}{}",
        end(&one),
        end(&other),
        rest(&one, '-'),
        rest(&other, '+')
    )
}
