//! A program of somebody else on a host.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::root;

/// Runs until it is dropped: it ends with its input.
pub struct Stranger(Child);

impl Stranger {
    /// Starts `program` on a host and waits for its first line.
    ///
    /// # Panics
    /// If it ends before that.
    #[must_use]
    pub fn start(host: &str, program: &[&str]) -> Self {
        let mut command = Command::new(root().join("lab/hosts.sh"));
        command
            .args(["exec", host])
            .args(program)
            .current_dir(root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("a script of the lab can be run");
        let mut line = String::new();
        let said = child.stdout.take().expect("a pipe");
        let read = BufReader::new(said).read_line(&mut line);
        assert!(
            read.is_ok_and(|bytes| bytes > 0),
            "{host}: {program:?} ended at once"
        );
        Self(child)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
