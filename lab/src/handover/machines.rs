//! The lab's hosts, for other ways: Docker on the workers, a second HAProxy on the edge.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use super::classic::Machines;
use crate::{on, root};

const FOLDER: &str = "/run/bench-peer";

/// The lab.
pub(super) struct Lab;

impl Machines for Lab {
    fn port(&self) -> u16 {
        8091
    }

    fn stats_port(&self) -> u16 {
        8405
    }

    fn start(&mut self, worker: &str, name: &str, number: u16, ledger_to: &str) -> u16 {
        let port = 21_000 + number;
        let publish = format!("{port}:8000");
        let ledger_to = format!("LEDGER_TO={ledger_to}");
        let args = [
            "docker",
            "run",
            "-d",
            "--rm",
            "--name",
            name,
            "--hostname",
            name,
            "-p",
            &publish,
            "-e",
            &ledger_to,
            "-e",
            "GRACE_S=9",
            "--label",
            "bench=classic",
            "longshore/bench:1",
        ];
        on(worker, &args);
        port
    }

    fn stop(&mut self, replicas: &[(String, String)]) {
        thread::scope(|scope| {
            for (worker, name) in replicas {
                scope.spawn(move || on(worker, &["docker", "stop", "-t", "10", name]));
            }
        });
    }

    fn address(&self, worker: &str) -> String {
        let number: u8 = worker.trim_start_matches("worker").parse().unwrap_or(1);
        format!("{}.{}", crate::net(), 10 + number)
    }

    fn configure(&mut self, file: &str) {
        // By rename, and reloaded if it runs: what `systemctl reload haproxy` does.
        const SCRIPT: &str = r#"set -e
mkdir -p "$1"; cd "$1"; cat > new.cfg; haproxy -c -q -f new.cfg; mv new.cfg haproxy.cfg
if [ -s pid ] && kill -USR2 "$(cat pid)" 2>/dev/null; then exit 0; fi
exec haproxy -W -D -p pid -f haproxy.cfg"#;
        let mut child = Command::new(root().join("lab/hosts.sh"))
            .args(["exec", "edge", "sh", "-c", SCRIPT, "configure", FOLDER])
            .stdin(Stdio::piped())
            .spawn()
            .expect("hosts.sh can be run");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(file.as_bytes()).expect("the file is taken");
        drop(input);
        assert!(child.wait().expect("it ends").success(), "HAProxy: {file}");
    }

    fn end(&mut self) {
        let end = format!("kill -TERM $(cat {FOLDER}/pid); rm -rf {FOLDER}");
        on("edge", &["sh", "-c", &end]);
    }
}
