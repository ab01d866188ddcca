//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::backup::{Restore, restore};
use crate::config::Config;
use crate::init::{self, Init};
use crate::run;

const CONFIG: &str = "/etc/longshore/controller.toml";

/// Decides placement and scale, keeps agents and edges in step.
#[derive(Parser)]
#[command(name = "controller", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a new cluster: CA, store, server certificate, first operator.
    Init(InitArgs),
    /// Serves the cluster of a data directory.
    Run(RunArgs),
    /// Makes the cluster of a copy (controllerctl system backup) anew, while no controller runs.
    Restore(RestoreArgs),
}

#[derive(Args)]
struct InitArgs {
    /// Directory of the cluster's state and keys.
    #[arg(long, default_value = "/var/lib/longshore/controller")]
    data_dir: PathBuf,
    /// Name of the cluster.
    #[arg(long, default_value = "longshore")]
    cluster: String,
    /// Address and port to listen on.
    #[arg(long, default_value = "0.0.0.0:7443")]
    listen: String,
    /// Addresses and names that agents and operators use, best first.
    #[arg(long, required = true, value_delimiter = ',', value_parser = host)]
    advertise: Vec<String>,
    /// Where the first operator's credentials are written.
    #[arg(long, default_value = "longshore-context.toml")]
    context_out: PathBuf,
}

#[derive(Args)]
struct RunArgs {
    /// Directory of the cluster's state and keys.
    #[arg(long, default_value = "/var/lib/longshore/controller")]
    data_dir: PathBuf,
    /// Settings; without this flag the file may be missing.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct RestoreArgs {
    /// The copy.
    file: PathBuf,
    /// Directory of the cluster's state and keys.
    #[arg(long, default_value = "/var/lib/longshore/controller")]
    data_dir: PathBuf,
    /// Set the store that is there aside and put the copy in its place.
    #[arg(long)]
    replace: bool,
    /// File of the key that the store's secrets shall be sealed with, where controller.toml names one ([store] seal_key).
    #[arg(long, value_name = "FILE")]
    seal_key: Option<PathBuf>,
}

fn host(text: &str) -> Result<String, String> {
    match run::is_host(text) {
        true => Ok(text.to_owned()),
        false => Err("neither an IP address nor a host name".into()),
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Init(args) => init_command(args),
        Command::Run(args) => run_command(args),
        Command::Restore(args) => restore_command(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            eprintln!("error: {message}");
            ExitCode::from(code)
        }
    }
}

fn init_command(args: InitArgs) -> Result<(), (u8, String)> {
    let InitArgs {
        data_dir,
        cluster,
        listen,
        advertise,
        context_out,
    } = args;
    let wanted = Init {
        data_dir,
        cluster,
        listen,
        advertise,
        context_out,
    };
    let told = init::init(&wanted).map_err(|error| (1, crate::chain(&error)))?;
    print!("{told}");
    Ok(())
}

fn restore_command(args: RestoreArgs) -> Result<(), (u8, String)> {
    let RestoreArgs {
        file,
        data_dir,
        replace,
        seal_key,
    } = args;
    let wanted = Restore {
        data_dir,
        file,
        replace,
        seal_key,
    };
    let told = restore(&wanted).map_err(|error| (1, crate::chain(&error)))?;
    print!("{told}");
    Ok(())
}

fn run_command(args: RunArgs) -> Result<(), (u8, String)> {
    let asked = args.config.is_some();
    let path = args.config.unwrap_or_else(|| CONFIG.into());
    let config = Config::read(&path, asked).map_err(|error| (1, crate::chain(&error)))?;
    let filter = std::env::var("LONGSHORE_LOG").unwrap_or_else(|_| config.log.clone());
    let filter: Targets = filter
        .parse()
        .map_err(|error| (1, format!("log = {filter:?}: {error}")))?;
    // Colours are for people at a terminal, not for files.
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(ansi);
    tracing_subscriber::registry()
        .with(lines)
        .with(filter)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(16)
        .enable_all()
        .build()
        .map_err(|error| (1, format!("the runtime cannot be started: {error}")))?;
    runtime
        .block_on(run::run(args.data_dir, config))
        .map_err(|error| (error.exit_code(), crate::chain(&error)))
}
