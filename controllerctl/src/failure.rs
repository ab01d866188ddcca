//! Exit codes and the one form in which a command says why it failed.

use std::error::Error as StdError;
use std::fmt;

use longshore_identity::tls::{ConnectError, explain};
use tonic::{Code, Status};

use crate::text::printable;

/// Exit codes: a promise to scripts, told by `controllerctl help exit-codes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Wrong usage, or a question without a terminal.
    Usage,
    /// `plan --detailed-exitcode` found changes.
    Changes,
    /// The rollout failed, or an edge refuses a new certificate.
    Rollout,
    /// Accepted, but something cannot be placed, or not be reached through an edge.
    Unplaceable,
    /// Controller unreachable, or credentials refused.
    Unreachable,
    /// Timed out waiting.
    TimedOut,
    /// Somebody else applied the app or took it down meanwhile.
    Overtaken,
    /// `exec`: the command's own code.
    Command(u8),
    /// Interrupted by Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Changes => 3,
            Self::Rollout => 4,
            Self::Unplaceable => 5,
            Self::Unreachable => 6,
            Self::TimedOut => 7,
            Self::Overtaken => 8,
            Self::Command(code) => code,
            Self::Interrupted => 130,
        }
    }
}

/// What `help exit-codes` prints.
pub const EXIT_CODES: &str = "\
Exit codes of controllerctl:
    0  done
    1  failed
    2  wrong usage, or a confirmation is needed and there is no terminal (-y confirms)
    3  plan --detailed-exitcode: there are changes
    4  the rollout failed: paused or rolled back, or an edge refuses a new certificate; what served
       before goes on serving
    5  accepted, but something cannot be placed, or not be reached through an edge
    6  the controller cannot be reached, or it refuses the credentials
    7  timed out waiting
    8  overtaken: meanwhile somebody applied the app anew, or took it down
  125  exec, run: the command could not be run
    n  exec, run: the command's own code
  130  interrupted
";

/// Why a command failed, and the way out.
#[derive(Debug)]
pub struct Failure {
    /// Exit code.
    pub exit: Exit,
    /// What was attempted and failed, one line.
    pub message: String,
    /// Further lines: reasons, node by node.
    pub details: Vec<String>,
    /// The next command to try.
    pub hint: Option<String>,
    /// True if the same call may succeed a little later.
    pub transient: bool,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            exit: Exit::Failed,
            message: message.into(),
            details: Vec::new(),
            hint: None,
            transient: false,
            source: None,
        }
    }

    /// With another exit code.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Marked as one that may pass.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }

    /// With its cause, which is printed below it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With further lines.
    #[must_use]
    pub fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// From a refused or failed call. `attempt` says what was tried: `list nodes`.
    #[must_use]
    pub fn call(attempt: &str, status: Status) -> Self {
        let denied = "this context's role does not allow it: controllerctl context show";
        if status.code() == Code::PermissionDenied {
            let message = format!("cannot {attempt}: {}", status.message());
            return Self::new(message).exit(Exit::Unreachable).hint(denied);
        }
        if let Some(why) = explain(&status) {
            let hint = "controllerctl context show tells server and certificate";
            let message = format!("cannot {attempt}: {why}");
            return Self::new(message)
                .exit(Exit::Unreachable)
                .hint(hint)
                .transient();
        }
        // Not a word of the other end, but what became of the connection: it hung up. A refused
        // certificate looks like this if its alert was lost.
        if status.source().is_some() {
            let message = format!("cannot {attempt}: the connection broke");
            return Self::new(message)
                .exit(Exit::Unreachable)
                .hint("is the certificate still accepted? controllerctl context show")
                .transient();
        }
        let message = match status.message() {
            "" => format!("cannot {attempt}: {}", status.code().description()),
            text => format!("cannot {attempt}: {text}"),
        };
        match status.code() {
            Code::Unavailable => Self::new(message)
                .exit(Exit::Unreachable)
                .hint("is the controller running?")
                .transient(),
            Code::Unauthenticated => Self::new(message)
                .exit(Exit::Unreachable)
                .hint("controllerctl context show tells the certificate"),
            Code::DeadlineExceeded | Code::Cancelled => Self::new(message).exit(Exit::TimedOut),
            _ => Self::new(message),
        }
    }

    /// The lines for people.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let paint = |code: &str, word: &str| match colour {
            true => format!("\u{1b}[1;{code}m{word}\u{1b}[0m"),
            false => word.to_owned(),
        };
        let mut out = format!("{} {}\n", paint("31", "error:"), printable(&self.message));
        for line in &self.details {
            out.push_str(&format!("  {}\n", printable(line)));
        }
        let mut cause = self
            .source
            .as_deref()
            .map(|e| e as &(dyn StdError + 'static));
        while let Some(error) = cause {
            let text = printable(&error.to_string().replace('\n', " "));
            out.push_str(&format!("  {} {text}\n", paint("33", "caused by:")));
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            out.push_str(&format!("{} {}\n", paint("36", "hint:"), printable(hint)));
        }
        out
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let failure = Self::new(error.to_string()).exit(Exit::Unreachable);
        match error {
            ConnectError::Address(_) => failure.exit(Exit::Usage),
            // The text above already says what the chain below would.
            ConnectError::Transport { .. } => {
                failure.hint("controllerctl context show tells which controller that is")
            }
            ConnectError::Follower { .. } => failure
                .hint("one takes over within seconds, if etcd has its majority: try again")
                .transient(),
            ConnectError::Refused { .. } => failure
                .hint("ask an admin for a new context, then: controllerctl context import FILE"),
            ConnectError::Credentials(source) => failure
                .because(source)
                .hint("import the context again: controllerctl context import FILE"),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new("cannot write the output").because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_broke_is_tried_again_and_a_refusal_is_not() {
        let broke = Status::from_error(Box::new(std::io::Error::other("error reading a body")));
        let failure = Failure::call("watch", broke);
        assert!(failure.transient, "{failure}");
        assert_eq!(failure.message, "cannot watch: the connection broke");
        let refused = Failure::call("watch", Status::internal("no"));
        assert!(!refused.transient, "{refused}");
    }
}
