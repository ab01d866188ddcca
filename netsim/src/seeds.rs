//! Many seeds, two at a time, each in a process of its own.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Each so many seeds one runs twice: its two traces must be the same.
const TWICE_EVERY: u64 = 10;
const AT_ONCE: usize = 2;
/// Wrong seeds after which nothing more is learned.
const WRONG_MAX: usize = 5;

/// What the process of one seed printed.
fn run(seed: u64, mutant: Option<&str>) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["--seed", &seed.to_string()]);
    if let Some(mutant) = mutant {
        command.args(["--mutant", mutant]);
    }
    let ended = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match ended.status.success() {
        true => Ok(text(&ended.stdout)),
        false => Err(format!(
            "seed {seed}: {}\n{}",
            ended.status,
            text(&ended.stderr)
        )),
    }
}

fn checked(seed: u64, mutant: Option<&str>) -> Result<(), String> {
    let first = run(seed, mutant)?;
    if seed % TWICE_EVERY == 0 {
        let second = run(seed, mutant)?;
        if first != second {
            return Err(format!(
                "seed {seed} is not the same twice:\n  {first}\n  {second}"
            ));
        }
    }
    Ok(())
}

/// Runs `count` seeds from `from` on.
///
/// # Errors
/// What the first few wrong ones said.
pub fn all(from: u64, count: u64, mutant: Option<&str>) -> Result<String, String> {
    let next = AtomicU64::new(from);
    let wrong: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let full = wrong.lock().unwrap_or_else(PoisonError::into_inner).len();
                    if seed >= from + count || full >= WRONG_MAX {
                        return;
                    }
                    if let Err(why) = checked(seed, mutant) {
                        wrong
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(why);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap_or_else(PoisonError::into_inner);
    match wrong.is_empty() {
        true => Ok(format!(
            "netsim: {count} seeds from {from}, 0 wrong; each {TWICE_EVERY}th twice, the same trace"
        )),
        false => Err(wrong.join("\n")),
    }
}
