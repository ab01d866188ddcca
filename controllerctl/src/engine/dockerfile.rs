//! As much of a Dockerfile as is needed here: on which line which step stands, and whether it says
//! what only BuildKit knows.

use std::collections::BTreeMap;

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

/// What in a Dockerfile the engine's own builder does not know, with its line, from 1. `args` are
/// given to the build.
#[must_use]
pub fn needs_buildkit(text: &str, args: &BTreeMap<String, String>) -> Option<(usize, String)> {
    let escape = escape(text);
    let mut instruction = String::new();
    let mut begins = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if instruction.is_empty() {
            begins = index + 1;
        }
        instruction.push_str(line.trim_end_matches(escape));
        instruction.push(' ');
        if line.ends_with(escape) {
            continue;
        }
        if let Some(what) = only_buildkit(&instruction, args) {
            return Some((begins, what));
        }
        instruction.clear();
    }
    None
}

/// Options that the builder without BuildKit refuses, by instruction.
const OPTIONS: &[(&str, &[&str])] = &[
    ("RUN", &["mount", "network", "security", "device"]),
    ("COPY", &["chmod", "link", "parents", "exclude"]),
    (
        "ADD",
        &[
            "chmod",
            "link",
            "exclude",
            "checksum",
            "keep-git-dir",
            "unpack",
        ],
    ),
];

/// Arguments that BuildKit sets by itself; empty without it.
const GIVEN: &[&str] = &[
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
];

fn only_buildkit(instruction: &str, args: &BTreeMap<String, String>) -> Option<String> {
    let (name, rest) = instruction.split_once(char::is_whitespace)?;
    let name = name.to_ascii_uppercase();
    if let Some((_, options)) = OPTIONS.iter().find(|(of, _)| *of == name) {
        let words = rest
            .split_whitespace()
            .map_while(|word| word.strip_prefix("--"));
        let mut names = words.map(|word| word.split('=').next().unwrap_or(word));
        if let Some(option) = names.find(|option| options.contains(option)) {
            return Some(format!("{name} --{option}"));
        }
        let mut words = rest.split_whitespace();
        return words.any(is_heredoc).then(|| format!("{name} <<"));
    }
    let is_given = |arg: &&&str| !args.contains_key(**arg);
    let mut given = GIVEN.iter().filter(is_given);
    let asks = |arg: &&&str| match &*name {
        "ARG" => rest.split_whitespace().any(|word| word == **arg),
        "FROM" => rest.contains(&format!("${arg}")) || rest.contains(&format!("${{{arg}")),
        _ => false,
    };
    given.find(asks).map(|arg| format!("{name} {arg}"))
}

/// `<<EOF`, `<<-EOF`, `<<"EOF"`, `2<<EOF`; no shift (`1<<3`) and no `<<<`.
fn is_heredoc(word: &str) -> bool {
    let word = word.trim_start_matches(|c: char| c.is_ascii_digit());
    let Some(rest) = word.strip_prefix("<<") else {
        return false;
    };
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    let rest = rest.trim_start_matches(['"', '\'']);
    rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
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
    fn what_only_buildkit_knows_is_found_with_its_line() {
        let table = [
            (
                "FROM a\nRUN --mount=type=cache,target=/c make\n",
                Some((2, "RUN --mount")),
            ),
            (
                "FROM a\nrun --network=none \\\n  # why\n  --mount=type=ssh x\n",
                Some((2, "RUN --network")),
            ),
            ("FROM a\n\nRUN <<EOF\nmake\nEOF\n", Some((3, "RUN <<"))),
            ("FROM a\nCOPY <<-\"END\" /x\n", Some((2, "COPY <<"))),
            (
                "FROM a\nCOPY --from=b --link /x /x\n",
                Some((2, "COPY --link")),
            ),
            (
                "FROM --platform=$BUILDPLATFORM a\n",
                Some((1, "FROM BUILDPLATFORM")),
            ),
            ("FROM a\nARG TARGETARCH\n", Some((2, "ARG TARGETARCH"))),
            ("FROM a\nARG TARGETOS\n", None),
            ("FROM a\nARG TARGETARCHIVE=x\n", None),
            (
                "# syntax=docker/dockerfile:1\nFROM a\n# RUN --mount=x\n",
                None,
            ),
            ("FROM a\nRUN echo --mount=x $((1<<3)) <<<word\n", None),
            ("FROM a\nCOPY --from=b --chown=1 /x /x\nENV A=<<B\n", None),
        ];
        let args = [("TARGETOS".to_owned(), "linux".to_owned())].into();
        for (text, expected) in table {
            let found = needs_buildkit(text, &args);
            let found = found.as_ref().map(|(line, what)| (*line, what.as_str()));
            assert_eq!(found, expected, "{text}");
        }
    }

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
