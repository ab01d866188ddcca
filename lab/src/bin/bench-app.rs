//! The app of the hand-over bench (docs/bench-handover.md), image `longshore/bench`.

#[tokio::main(flavor = "current_thread")]
async fn main() {
    longshore_lab::bench_app::run(longshore_lab::bench_app::Settings::from_env()).await;
    // Connections that were out of time are cut with the process.
    std::process::exit(0);
}
