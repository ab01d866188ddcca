//! As much of a Dockerfile as a message about it needs: on which line which step stands.

/// The line, from 1, on which the step with this number, from 1, begins. None: there are not so
/// many.
#[must_use]
pub fn line_of_step(text: &str, step: usize) -> Option<usize> {
    let mut steps = 0;
    let mut goes_on = false;
    let escape = escape(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !goes_on {
            steps += 1;
            if steps == step {
                return Some(index + 1);
            }
        }
        goes_on = line.ends_with(escape);
    }
    None
}

/// `# escape=` on the first lines says what lets an instruction go on.
fn escape(text: &str) -> char {
    let directives = text.lines().map_while(|line| line.trim().strip_prefix('#'));
    let mut pairs = directives.filter_map(|line| line.split_once('='));
    let found = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("escape"));
    let value = found.and_then(|(_, value)| value.trim().chars().next());
    value.unwrap_or('\\')
}

/// `Step 3/7 : RUN make` is 3, and what it does.
#[must_use]
pub fn step(line: &str) -> Option<(usize, &str)> {
    let (number, rest) = line.strip_prefix("Step ")?.split_once('/')?;
    let (_, what) = rest.split_once(" : ")?;
    Some((number.parse().ok()?, what.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_found_on_their_lines() {
        let text =
            "# syntax=x\nARG A\n\nFROM a\n# why\nRUN one \\\n  # between\n  && two\nCOPY . /\n";
        let lines: Vec<_> = (1..6).map(|step| line_of_step(text, step)).collect();
        assert_eq!(lines, [Some(2), Some(4), Some(6), Some(9), None]);
        assert_eq!(
            line_of_step("# escape=`\nFROM a\nRUN b `\n c\nRUN d\n", 3),
            Some(5)
        );
        assert_eq!(step("Step 3/7 : RUN make\n"), Some((3, "RUN make")));
        assert_eq!(step(" ---> 1234"), None);
    }
}
