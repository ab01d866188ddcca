//! What can go wrong between the driver and HAProxy.

use std::path::PathBuf;

/// Why an edge could not be read or changed. HAProxy goes on with what it runs in every case;
/// the caller tries again, with a backoff.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EdgeError {
    /// Nobody listens on a socket.
    #[error("HAProxy is not running: nobody answers on {}", socket.display())]
    Down {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It cannot start.
    #[error("HAProxy is not running and cannot start: {ports}")]
    Held {
        /// Ports and their services.
        ports: String,
    },
    /// A conversation did not end in time.
    #[error("HAProxy did not answer on {} within {deadline_ms} ms", socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// The deadline.
        deadline_ms: u64,
    },
    /// An answer that the driver cannot use.
    #[error("HAProxy's answer to `{command}` cannot be used: {why}")]
    Answer {
        /// The command.
        command: String,
        /// What is wrong with it.
        why: String,
    },
    /// The socket belongs to a worker that is on its way out.
    #[error("the worker (pid {pid}) behind the admin socket is stopping")]
    Stopping {
        /// Its pid.
        pid: u32,
    },
    /// A worker of an earlier configuration lives and does not say what it still has.
    #[error("the sessions of the old worker (pid {pid}) are not known: it does not answer")]
    OldWorker {
        /// Its pid.
        pid: u32,
    },
    /// A file could not be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The slot map could not be written as JSON.
    #[error("cannot write the slot map {}", path.display())]
    Slots {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// `haproxy` could not be run.
    #[error("cannot run `{} -c`: install haproxy, or set its path", binary.display())]
    Binary {
        /// The program.
        binary: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// `haproxy -c` refused the new file; the old one stays in place.
    #[error("haproxy refuses the new configuration; the old one stays: {output}")]
    Refused {
        /// Its words, shortened.
        output: String,
    },
    /// `haproxy -c` did not end.
    #[error("`haproxy -c` did not end within {deadline_ms} ms")]
    CheckSilent {
        /// The deadline.
        deadline_ms: u64,
    },
    /// The reload did not bring up a new worker; the old one goes on, the old file is back.
    #[error("the reload failed; the old worker goes on with the old file: {detail}")]
    Reload {
        /// What is known of the reason.
        detail: String,
    },
    /// HAProxy is older than the driver supports.
    #[error("HAProxy {version} is too old; 2.4 or newer is needed")]
    TooOld {
        /// Its version.
        version: String,
    },
    /// A setting breaks a rule.
    #[error("setting {field}: {rule}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// The rule.
        rule: String,
    },
    /// Commands were accepted, but reading back shows another state.
    #[error("HAProxy did not take the change: {detail}")]
    NotTaken {
        /// What is different.
        detail: String,
    },
}

impl EdgeError {
    /// In words, with its causes.
    pub(crate) fn chain(&self) -> String {
        let mut words = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            words.push_str(": ");
            words.push_str(&error.to_string());
            cause = error.source();
        }
        words
    }
}
