//! Words that are not for everybody: typed without being shown, or given on stdin. Never an
//! argument, which every user of the machine can read.

use std::io::{IsTerminal, Read, Write};

use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::failure::{Exit, Failure};
use crate::text::printable;

/// Longest word that is typed.
const TYPED_CHARS_MAX: usize = 16 << 10;

/// Keeps a terminal from showing what is typed, until it is dropped.
struct Raw;

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nothing else to try.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// Is there somebody who can be asked?
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for one line, without showing it.
pub(super) fn ask(what: &str) -> Result<String, Failure> {
    let mut err = std::io::stderr().lock();
    write!(err, "{}: ", printable(what))?;
    err.flush()?;
    let typed = {
        crossterm::terminal::enable_raw_mode()?;
        let _raw = Raw;
        typed()
    };
    writeln!(err)?;
    typed
}

fn typed() -> Result<String, Failure> {
    let mut text = String::new();
    loop {
        let Event::Key(key) = event::read()? else {
            continue;
        };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Ok(text),
            KeyCode::Char('c' | 'd') if is_control => {
                return Err(
                    Failure::new("interrupted; nothing was changed").exit(Exit::Interrupted)
                );
            }
            KeyCode::Char('u') if is_control => text.clear(),
            KeyCode::Char(c) if !is_control && text.len() < TYPED_CHARS_MAX => text.push(c),
            KeyCode::Backspace => {
                text.pop();
            }
            _ => {}
        }
    }
}

/// At most `bytes_max` and one more, so that whoever judges the length sees that it is too long.
pub(super) fn read_all(from: impl Read, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(bytes_max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
