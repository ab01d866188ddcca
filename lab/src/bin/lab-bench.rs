//! Measures the lab: `lab-bench [scale|swarm|idle|cpu] [ROUNDS]`. Prints each round and medians.
//!
//! Longshore and Swarm run on the same three workers in the same call, one after the other, and
//! never at the same time. Figures of a shared machine are noisy: compare ratios, not seconds.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a tool for the lab: a panic is its answer

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use longshore_lab::{
    ctl_ok, get, on, restore, root, scale, scale_and_wait, serving, until, wait_for,
};

const WORKERS: [&str; 3] = ["worker1", "worker2", "worker3"];
const REPLICAS: usize = 30;
const LIMIT: Duration = Duration::from_secs(90);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rounds = args
        .get(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(5)
        .clamp(1, 20);
    match args.first().map(String::as_str) {
        None => {
            idle();
            out_and_in(rounds);
            swarm(rounds);
            cpu(rounds.min(3));
        }
        Some("idle") => idle(),
        Some("scale") => out_and_in(rounds),
        Some("swarm") => swarm(rounds),
        Some("cpu") => cpu(rounds),
        Some(other) => {
            eprintln!("lab-bench: {other}? One of: idle, scale, swarm, cpu");
            std::process::exit(2);
        }
    }
    restore();
}

fn median(name: &str, mut values: Vec<Duration>) {
    values.sort();
    let text: Vec<String> = values
        .iter()
        .map(|v| format!("{:.2}", v.as_secs_f64()))
        .collect();
    let middle = values.get(values.len() / 2).copied().unwrap_or_default();
    println!(
        "{name}: median {:.2} s of {}",
        middle.as_secs_f64(),
        text.join(" ")
    );
}

/// `scale` 1 → 30 until answers through HAProxy have named all of them, and back.
fn out_and_in(rounds: usize) {
    restore();
    let (mut first, mut all, mut back) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        scale_and_wait(1);
        let start = Instant::now();
        scale(REPLICAS);
        let mut hosts = BTreeSet::new();
        let mut second = None;
        until("all replicas answer through HAProxy", LIMIT, || {
            if let Ok(answer) = get("/host") {
                hosts.insert(answer.body);
            }
            if hosts.len() == 2 && second.is_none() {
                second = Some(start.elapsed());
            }
            // Round robin: one sweep of requests finds whoever is new.
            for _ in 0..hosts.len() {
                hosts.extend(get("/host").map(|answer| answer.body));
            }
            if hosts.len() == REPLICAS {
                Ok(())
            } else {
                Err(hosts.len())
            }
        });
        all.push(start.elapsed());
        first.extend(second);
        wait_for(REPLICAS);
        let start = Instant::now();
        scale_and_wait(1);
        back.push(start.elapsed());
    }
    median(
        "longshore 1 -> 30, first new one answers through HAProxy",
        first,
    );
    median("longshore 1 -> 30, all answer through HAProxy", all);
    median("longshore 30 -> 1, drained and gone", back);
}

/// The same with Docker Swarm on the same engines; replicas are asked directly on their ports.
fn swarm(rounds: usize) {
    scale_and_wait(1);
    ctl_ok(&["down", "hello", "-y"]);
    let mut all = vec![];
    longshore_lab::swarm::form(&WORKERS);
    let publish = "mode=host,target=8000";
    on(
        "worker1",
        &[
            "docker",
            "service",
            "create",
            "-q",
            "--detach=false",
            "--no-resolve-image",
            "--name",
            "bench",
            "--container-label",
            "bench=swarm",
            "--publish",
            publish,
            "longshore/hello:1",
        ],
    );
    for _ in 0..rounds {
        let start = Instant::now();
        let scale = format!("bench={REPLICAS}");
        on(
            "worker1",
            &["docker", "service", "scale", "--detach=true", &scale],
        );
        await_swarm(REPLICAS / WORKERS.len());
        all.push(start.elapsed());
        on(
            "worker1",
            &["docker", "service", "scale", "--detach=true", "bench=1"],
        );
        until("Swarm is back at one", LIMIT, || {
            let left: usize = WORKERS.iter().map(|worker| swarm_containers(worker)).sum();
            if left == 1 { Ok(()) } else { Err(left) }
        });
    }
    longshore_lab::swarm::dissolve(&WORKERS);
    median("swarm 1 -> 30, all answer on their own ports", all);
}

fn swarm_containers(worker: &str) -> usize {
    on(
        worker,
        &["docker", "ps", "-q", "--filter", "label=bench=swarm"],
    )
    .lines()
    .count()
}

/// Returns once `count` replicas on each worker have answered. The loop runs on the worker and
/// asks the engine's socket, which costs far less than the docker command.
fn await_swarm(count: usize) {
    const PROBE: &str = r#"
. /etc/longshore/host; seen=""; n=0
while [ "$n" -lt "$1" ]; do
  for p in $(curl -s --unix-socket /var/run/docker.sock -G http://d/containers/json \
      --data-urlencode 'filters={"label":["bench=swarm"]}' | grep -o '"PublicPort":[0-9]*' | cut -d: -f2 | sort -u); do
    case " $seen " in *" $p "*) continue ;; esac
    curl -s -m 1 -o /dev/null "http://$IP:$p/healthz" && seen="$seen $p" && n=$((n + 1))
  done
  sleep 0.05
done"#;
    let count = count.to_string();
    let children: Vec<_> = WORKERS
        .iter()
        .map(|worker| {
            Command::new(root().join("lab/hosts.sh"))
                .args([
                    "exec", worker, "timeout", "90", "sh", "-c", PROBE, "probe", &count,
                ])
                .spawn()
                .expect("hosts.sh can be run")
        })
        .collect();
    for mut child in children {
        assert!(
            child.wait().expect("the probe ends").success(),
            "not all Swarm replicas answered"
        );
    }
}

/// Memory and CPU of the programs over half a minute without any change.
fn idle() {
    restore();
    let programs = [
        ("worker1", "node-agent"),
        ("edge", "node-agent"),
        ("edge", "controller"),
    ];
    let read = |host: &str, program: &str| -> (u64, u64) {
        let script = format!(
            "pid=$(pgrep -x -o {program}); awk '/^VmRSS/ {{ print $2 }}' /proc/$pid/status; \
             awk '{{ print $14 + $15 }}' /proc/$pid/stat"
        );
        let text = on(host, &["sh", "-c", &script]);
        let mut numbers = text
            .lines()
            .map(|line| line.trim().parse().expect("a number"));
        (
            numbers.next().expect("memory"),
            numbers.next().expect("time"),
        )
    };
    let before: Vec<_> = programs
        .iter()
        .map(|(host, program)| read(host, program).1)
        .collect();
    let window = Duration::from_secs(30);
    std::thread::sleep(window);
    for ((host, program), before) in programs.iter().zip(before) {
        let (rss_kib, ticks) = read(host, program);
        // Clock ticks are hundredths of a second on Linux, so this is per cent of a core.
        let share =
            f64::from(u32::try_from(ticks - before).unwrap_or(u32::MAX)) / window.as_secs_f64();
        println!(
            "idle {program} on {host}: RSS {:.1} MiB, {share:.2} % of a core",
            rss_kib as f64 / 1024.0
        );
    }
}

/// CPU load on all workers until the first new replica takes traffic. The policy's window is part
/// of it.
fn cpu(rounds: usize) {
    let mut took = vec![];
    for _ in 0..rounds {
        restore();
        // Replicas that just started count as capacity that is yet to show.
        until("the replicas are warmed up", LIMIT, || {
            let why = ctl_ok(&["why", "hello"]);
            if why.contains("warming up") {
                Err(why)
            } else {
                Ok(())
            }
        });
        ctl_ok(&["scale", "hello=2", "--hold", "1s", "-d", "-y"]);
        let mut stress = Command::new(root().join("lab/stress.sh"))
            .args(["cpu", "30"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("stress.sh can be run");
        let (_, time) = until("a third replica serves", LIMIT, || {
            let now = serving();
            if now.len() > 2 { Ok(()) } else { Err(now) }
        });
        took.push(time);
        stress.wait().expect("stress.sh ends");
    }
    median(
        "load starts -> first new replica serves (window 10 s)",
        took,
    );
}
