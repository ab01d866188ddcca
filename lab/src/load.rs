//! Bounded load on the app, beside whatever a test does.

use std::process::{Child, Command, Stdio};

use crate::traffic::Target;

/// A running `ab`.
pub struct Load(Child);

/// What `ab` counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadReport {
    /// Requests that got an answer.
    pub complete: u64,
    /// Requests without a proper answer.
    pub failed: u64,
    /// Answers other than 2xx.
    pub non_2xx: u64,
    /// All that it said.
    pub text: String,
}

impl Load {
    /// `requests` requests from `clients` clients, new connections each.
    ///
    /// # Panics
    /// If `ab` is not there.
    #[must_use]
    pub fn start(requests: u64, clients: u64, path: &str) -> Self {
        Self::start_at(&crate::app_address(), requests, clients, path)
    }

    /// The same at an address of the lab's, `host:port`.
    ///
    /// # Panics
    /// If the address is somebody else's, or `ab` is not there.
    #[must_use]
    pub fn start_at(address: &str, requests: u64, clients: u64, path: &str) -> Self {
        let target = Target::parse(address, &crate::net()).expect("one of the lab's hosts");
        let url = format!("http://{}{path}", target.address());
        let (requests, clients) = (requests.to_string(), clients.to_string());
        // -l: answers differ in length, they name their replica. -r: count, do not give up.
        let args = [
            "-q", "-l", "-r", "-n", &requests, "-c", &clients, "-s", "30", &url,
        ];
        let mut command = Command::new("ab");
        command
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Self(command.spawn().expect("ab is installed (apache2-utils)"))
    }

    /// Still running?
    ///
    /// # Panics
    /// If the process cannot be asked.
    pub fn runs(&mut self) -> bool {
        self.0.try_wait().expect("ab can be asked").is_none()
    }

    /// Waits for its end; it is bounded by its count and its own time-outs.
    ///
    /// # Panics
    /// If `ab` ended badly.
    #[must_use]
    pub fn finish(self) -> LoadReport {
        let output = self.0.wait_with_output().expect("ab ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = |label: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(label));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        };
        LoadReport {
            complete: count("Complete requests:").unwrap_or_else(|| panic!("ab said: {text}")),
            failed: count("Failed requests:").unwrap_or_else(|| panic!("ab said: {text}")),
            non_2xx: count("Non-2xx responses:").unwrap_or(0),
            text,
        }
    }
}

impl LoadReport {
    /// Every request was answered, and well.
    ///
    /// # Panics
    /// With all that `ab` said, otherwise.
    pub fn assert_no_failure(&self, requests: u64) {
        let counts = (self.complete, self.failed, self.non_2xx);
        assert_eq!(counts, (requests, 0, 0), "{}", self.text);
    }
}
