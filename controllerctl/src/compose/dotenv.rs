//! Files of variables: `.env`, and what services name in `env_file`.

use super::interpolate::{Expansion, Variables, expansion};

/// Most variables of one file.
const PAIRS_MAX: usize = 4_096;

/// What is wrong with a file of variables. It quotes nothing: values may be secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct EnvFault {
    /// From 1.
    pub line: usize,
    /// What, and the way out.
    pub message: String,
}

/// Reads `NAME=value` lines: `export` allowed, quotes and comments as in a shell, in quotes over
/// several lines; values may name variables, those of `environment` and those set above. A name
/// alone takes its value from `environment`. Of a name that is set twice, the later value counts.
///
/// # Errors
/// The first line that is none of this.
pub fn parse(text: &str, environment: &Variables) -> Result<Vec<(String, String)>, EnvFault> {
    let mut known = environment.clone();
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut reader = Reader {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 1,
    };
    while let Some(name) = reader.name()? {
        let line = reader.line;
        let value = match reader.has_value() {
            true => Some(reader.value(&known)?),
            false => environment.get(name).map(str::to_owned),
        };
        let end = reader.rest_of_line();
        if !end.is_empty() && !end.starts_with('#') {
            let message = "there is text after the value; put all of it into quotes".into();
            return Err(EnvFault { line, message });
        }
        let Some(value) = value else { continue };
        if environment.get(name).is_none() {
            known.set(name, &value);
        }
        limit(&pairs, line)?;
        match pairs.iter_mut().find(|(other, _)| other == name) {
            Some(pair) => pair.1 = value,
            None => pairs.push((name.to_owned(), value)),
        }
    }
    Ok(pairs)
}

/// Reads `NAME=value` lines as they are: no quotes, no variables.
///
/// # Errors
/// The first line that is none.
pub fn parse_raw(text: &str, environment: &Variables) -> Result<Vec<(String, String)>, EnvFault> {
    let mut pairs = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        if start.is_empty() || start.starts_with('#') {
            continue;
        }
        let (name, value) = match start.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (start.trim_end(), environment.get(start.trim_end())),
        };
        named(name, index + 1)?;
        limit(&pairs, index + 1)?;
        pairs.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }
    Ok(pairs)
}

fn limit(pairs: &[(String, String)], line: usize) -> Result<(), EnvFault> {
    if pairs.len() < PAIRS_MAX {
        return Ok(());
    }
    let message = format!("more than {PAIRS_MAX} variables");
    Err(EnvFault { line, message })
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || "_.-[]".contains(c)
}

fn named(name: &str, line: usize) -> Result<(), EnvFault> {
    let message = match name.chars().find(|c| !is_name(*c)) {
        None if !name.is_empty() => return Ok(()),
        None => "the name before the = is missing; write NAME=value".into(),
        Some(c) => format!(
            "a name cannot hold {c:?}; write NAME=value, and a value of several lines in quotes"
        ),
    };
    Err(EnvFault { line, message })
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

impl<'t> Reader<'t> {
    fn fault<T>(&self, message: &str) -> Result<T, EnvFault> {
        let (line, message) = (self.line, message.to_owned());
        Err(EnvFault { line, message })
    }

    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn blanks(&mut self) {
        let rest = self.rest.trim_start_matches([' ', '\t', '\r']);
        self.take(self.rest.len() - rest.len());
    }

    /// The name at the start of the next line that has one.
    fn name(&mut self) -> Result<Option<&'t str>, EnvFault> {
        loop {
            let rest = self.rest.trim_start();
            self.take(self.rest.len() - rest.len());
            if !rest.starts_with('#') {
                break;
            }
            self.rest_of_line();
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        if let Some(rest) = self.rest.strip_prefix("export")
            && rest.starts_with([' ', '\t'])
        {
            self.take("export".len());
            self.blanks();
        }
        let end = |c: char| matches!(c, '=' | ':' | '\n');
        let bytes = self.rest.find(end).unwrap_or(self.rest.len());
        let name = self.rest[..bytes].trim_end();
        named(name, self.line)?;
        self.take(bytes);
        Ok(Some(name))
    }

    fn has_value(&mut self) -> bool {
        let is_value = self.rest.starts_with(['=', ':']);
        self.take(usize::from(is_value));
        is_value
    }

    fn value(&mut self, known: &Variables) -> Result<String, EnvFault> {
        // A comment needs a blank before it: `A=#fff` is a colour, `A= # none` is empty.
        let is_blank = self.rest.starts_with([' ', '\t']);
        self.blanks();
        if let Some(inside) = self.rest.strip_prefix('\'') {
            let Some(bytes) = closing_quote(inside, b'\'') else {
                return self.fault("the quote ' has no end");
            };
            self.take(bytes + 2);
            return Ok(inside[..bytes].replace("\\'", "'"));
        }
        let line = self.line;
        let value = if let Some(inside) = self.rest.strip_prefix('"') {
            let Some(bytes) = closing_quote(inside, b'"') else {
                return self.fault("the quote \" has no end");
            };
            self.take(bytes + 2);
            unescape(&inside[..bytes])
        } else {
            let bytes = self.rest.find('\n').unwrap_or(self.rest.len());
            let whole = &self.rest[..bytes];
            let comment = [" #", "\t#"].iter().filter_map(|c| whole.find(c)).min();
            let value = match is_blank && whole.starts_with('#') {
                true => "",
                false => &whole[..comment.unwrap_or(whole.len())],
            };
            self.take(value.len());
            value.trim_end().to_owned()
        };
        match expansion(&value, known) {
            Expansion::Text(text) => Ok(text),
            // A lone dollar is common in passwords: what is no variable stays as it is.
            Expansion::NoVariable => Ok(value),
            Expansion::Missing { name, message } => {
                let message = format!("variable {name} is required: {message}");
                Err(EnvFault { line, message })
            }
        }
    }

    /// What is left of the line, without blanks.
    fn rest_of_line(&mut self) -> &'t str {
        let bytes = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        self.take(bytes).trim()
    }
}

fn closing_quote(text: &str, quote: u8) -> Option<usize> {
    let mut escaped = false;
    let mut bytes = text.bytes();
    bytes.position(|byte| {
        let is_end = byte == quote && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    })
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('a') => out.push('\x07'),
            Some('b') => out.push('\x08'),
            Some('f') => out.push('\x0c'),
            Some('v') => out.push('\x0b'),
            // Two stand for one that begins no variable.
            Some('$') => out.push_str("$$"),
            Some(c @ ('"' | '\\')) => out.push(c),
            Some(c) => out.extend(['\\', c]),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn environment() -> Variables {
        Variables::new([("HOST".to_owned(), "here".to_owned())])
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        list.iter().map(owned).collect()
    }

    #[test]
    fn quotes_comments_and_names_set_above_are_read() {
        let text = "\u{feff}# c\r\nexport A=1\r\nB=\"x y\" # c\nC='$A'\nD=${A}2 # c\nE=p$\nF: yes\n\
                    G=\n H = a#b \nHOST\nNOBODY\nI=${HOST}\nA=3\n\nJ= # c\nK=\"a\\\"b\\n\\$A\\d\"\n\
                    L='one\ntwo'\nM=\"one\n${A}\"\n1a.b-c=x\nN=#fff\n\
                    O='it\\'s $A'\nP=\"\\v\\$A\"\nGRÖßE=1";
        let wanted = [
            ("A", "3"),
            ("B", "x y"),
            ("C", "$A"),
            ("D", "12"),
            ("E", "p$"),
            ("F", "yes"),
            ("G", ""),
            ("H", "a#b"),
            ("HOST", "here"),
            ("I", "here"),
            ("J", ""),
            ("K", "a\"b\n$A\\d"),
            ("L", "one\ntwo"),
            ("M", "one\n3"),
            ("1a.b-c", "x"),
            ("N", "#fff"),
            ("O", "it's $A"),
            ("P", "\x0b$A"),
            ("GRÖßE", "1"),
        ];
        assert_eq!(parse(text, &environment()), Ok(pairs(&wanted)));
    }

    #[test]
    fn the_environment_wins_where_a_value_names_a_variable() {
        let wanted = pairs(&[("HOST", "file"), ("A", "here")]);
        assert_eq!(parse("HOST=file\nA=$HOST\n", &environment()), Ok(wanted));
    }

    #[test]
    fn a_wrong_line_is_named_and_not_quoted() {
        let cases = [
            ("A=1\n\nhun ter2\n", 3, "cannot hold ' '"),
            ("=hunter2\n", 1, "is missing"),
            ("A='x\ny'\nB='hunter2\n", 3, "no end"),
            ("A=\"hunter2", 1, "no end"),
            ("A=\"x\" hunter2\n", 1, "after the value"),
            ("A=1\nB=${NONE:?say it}\n", 2, "NONE is required: say it"),
        ];
        for (text, line, said) in cases {
            let fault = parse(text, &Variables::default()).unwrap_err();
            assert_eq!(fault.line, line, "{text}");
            assert!(fault.message.contains(said), "{text}: {fault}");
            assert!(!fault.message.contains("hunter2"), "{text}: {fault}");
        }
        assert_eq!(
            parse_raw("A=1\nB C=2\n", &environment()).unwrap_err().line,
            2
        );
    }

    #[test]
    fn there_are_only_so_many_variables() {
        let text: String = (0..=PAIRS_MAX).map(|n| format!("A{n}=1\n")).collect();
        let last = PAIRS_MAX + 1;
        assert_eq!(parse(&text, &environment()).unwrap_err().line, last);
        assert_eq!(parse_raw(&text, &environment()).unwrap_err().line, last);
    }

    #[test]
    fn raw_values_stay_as_they_are() {
        let text = "# c\nA=\"x\" # $B \nHOST\nNOBODY\nB=\n";
        let wanted = [("A", "\"x\" # $B "), ("HOST", "here"), ("B", "")];
        assert_eq!(parse_raw(text, &environment()), Ok(pairs(&wanted)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([A=:'\"\\\\$#{} \n\té]|export ){0,40}") {
            let _ = parse(&text, &environment());
            let _ = parse_raw(&text, &environment());
        }
    }
}
