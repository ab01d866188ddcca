//! Pages whose console blocks are run as a reader would: every `$ ` line in order, each in a shell of
//! its own.
//!
//! Lines below a command are what it must say, standard error included: `...` in a line stands for
//! anything, `...` alone for any lines. Without such lines it may say anything. A line that ends in
//! `⏎` is a question that is answered with Enter, `^C` alone is Ctrl-C: such a command gets a terminal,
//! and what it says beside these lines does not matter. What the commands of a block after
//! `<!-- figures -->` say last are the page's figures.

mod run;

pub use run::{PageError, examples, run};

/// A command of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its line in the page, from 1.
    pub line: usize,
    /// What the shell is given.
    pub command: String,
    /// What it must say; empty: anything.
    pub expected: Vec<String>,
    /// Its last line is one of the page's figures.
    pub has_figure: bool,
}

impl Step {
    /// Does it ask, or wait for Ctrl-C?
    #[must_use]
    pub fn needs_terminal(&self) -> bool {
        let mut lines = self.expected.iter();
        lines.any(|line| line.ends_with(ENTER) || line == CTRL_C)
    }
}

/// At the end of a question: Enter.
pub const ENTER: char = '⏎';
/// A line: Ctrl-C.
pub const CTRL_C: &str = "^C";
const ANYTHING: &str = "...";
const FIGURES: &str = "<!-- figures -->";

/// The commands of a page, in order.
#[must_use]
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut is_inside, mut has_figure, mut continues) = (false, false, false);
    for (number, line) in page.lines().enumerate() {
        if !is_inside {
            is_inside = line == "```console";
            if !is_inside && !line.is_empty() {
                has_figure = line == FIGURES;
            }
        } else if line == "```" {
            (is_inside, has_figure, continues) = (false, false, false);
        } else if continues && let Some(step) = steps.last_mut() {
            step.command.push('\n');
            step.command.push_str(line);
            continues = line.ends_with('\\');
        } else if let Some(command) = line.strip_prefix("$ ") {
            continues = command.ends_with('\\');
            steps.push(Step {
                line: number + 1,
                command: command.to_owned(),
                expected: Vec::new(),
                has_figure,
            });
        } else if let Some(step) = steps.last_mut()
            && !line.is_empty()
        {
            step.expected.push(line.to_owned());
        }
    }
    steps
}

/// Is this what was expected? Blank lines do not count.
#[must_use]
pub fn agrees(expected: &[String], said: &str) -> bool {
    let mut said = said.lines().filter(|line| !line.trim().is_empty());
    let mut skips = false;
    for line in expected {
        if line == ANYTHING {
            skips = true;
            continue;
        }
        let found = match skips {
            true => said.any(|said| line_agrees(line, said)),
            false => said.next().is_some_and(|said| line_agrees(line, said)),
        };
        if !found {
            return false;
        }
        skips = false;
    }
    skips || said.next().is_none()
}

fn line_agrees(expected: &str, said: &str) -> bool {
    let Some((head, rest)) = expected.split_once(ANYTHING) else {
        return expected.trim_end() == said.trim_end();
    };
    let Some(mut left) = said.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split(ANYTHING).collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = left.split_once(part) else {
            return false;
        };
        left = after;
    }
    left.trim_end().ends_with(tail.trim_end())
}

/// The longest piece of a line that is fixed.
#[must_use]
pub fn fixed(line: &str) -> &str {
    let pieces = line.trim_end_matches(ENTER).split(ANYTHING);
    pieces.max_by_key(|piece| piece.len()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expects(lines: &[&str], said: &str) -> bool {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        agrees(&lines, said)
    }

    #[test]
    fn commands_come_with_what_they_say_and_only_from_console_blocks() {
        let page = "a\n```console\n$ one \\\n  more\n$ two\n\nsaid\n```\n$ not this\n\n<!-- figures -->\n\n\
                    ```console\n$ three\n```\n```sh\n$ nor this\n```\n```console\n$ four\n```\n";
        let steps = steps(page);
        let commands: Vec<_> = steps.iter().map(|s| (s.line, s.command.as_str())).collect();
        let wanted = [
            (3, "one \\\n  more"),
            (5, "two"),
            (14, "three"),
            (20, "four"),
        ];
        assert_eq!(commands, wanted);
        assert_eq!(steps[1].expected, ["said"]);
        let figures: Vec<_> = steps.iter().map(|s| s.has_figure).collect();
        assert_eq!(figures, [false, false, true, false]);
    }

    #[test]
    fn dots_stand_for_anything_and_for_nothing_else() {
        assert!(expects(&["a ... b ... c"], "a 1 b 2 c\n"));
        assert!(!expects(&["a ... b ... c"], "a 1 c 2 b\n"));
        assert!(expects(&["a", "...", "b 1"], "a\nx\ny\n\nb 1\n"));
        assert!(expects(&["a", "..."], "a\n"));
        for (lines, said) in [
            (&["a"][..], "a b"),
            (&["a"], "a\nb"),
            (&["a", "b"], "a"),
            (&["...", "b"], "b\nc"),
            (&["...", "b"], "a"),
            (&["a...a"], "a"),
        ] {
            assert!(!expects(lines, said), "{lines:?} agrees with {said:?}");
        }
    }

    #[test]
    fn questions_and_ctrl_c_need_a_terminal() {
        let needs = |page| steps(page)[0].needs_terminal();
        assert!(needs("```console\n$ ask\nsure? ⏎\n```\n"));
        assert!(needs("```console\n$ watch\n^C\n```\n"));
        assert!(!needs("```console\n$ say\nsure?\n```\n"));
        assert_eq!(fixed("... asks for ...; Enter agrees ⏎"), "; Enter agrees ");
    }
}
