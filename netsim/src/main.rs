//! A controller and agents with their own network code, TLS and gRPC on a simulated network, in simulated time.
//!
//! A seed decides latencies, faults and changes; the same seed gives the same trace (docs/simulation.md). Clocks and
//! randomness of a process are taken over, so that each seed has a process of its own.

mod agent;
mod cli;
mod controller;
mod faults;
mod judge;
mod operator;
mod run;
mod seeds;
mod world;

fn main() -> std::process::ExitCode {
    cli::main()
}
