//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::backup::{Restore, restore};
use crate::config::Config;
use crate::init::{self, DataDir, Init};
use crate::migrate::{To, migrate};
use crate::rescue::{Rescue, rescue};
use crate::run;
use crate::shared;

/// Longest wait for work that cannot be called off.
const SHUTDOWN: std::time::Duration = std::time::Duration::from_millis(500);

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
    /// Makes this machine a further controller of a cluster in etcd, out of a copy (controllerctl system backup).
    Join(JoinArgs),
    /// Lets an admin in, while no controller runs: when nobody has credentials any more.
    Admin(AdminArgs),
    /// Moves the cluster from the file here into an etcd that several controllers share, or back, while none runs.
    MigrateStore(MigrateArgs),
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
    /// Settings; with [store.etcd] in them the cluster is made there.
    #[arg(long)]
    config: Option<PathBuf>,
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

#[derive(Args)]
struct JoinArgs {
    /// The copy; -: standard input.
    file: PathBuf,
    /// Directory for this controller's keys.
    #[arg(long, default_value = "/var/lib/longshore/controller")]
    data_dir: PathBuf,
    /// File of the key that secrets are sealed with, where it is not in the copy.
    #[arg(long, value_name = "FILE")]
    seal_key: Option<PathBuf>,
}

#[derive(Args)]
struct AdminArgs {
    /// Their name; who is there by that name loses what they have.
    #[arg(long, default_value = "admin")]
    name: String,
    /// Where the credentials are written.
    #[arg(long, default_value = "longshore-context.toml")]
    context_out: PathBuf,
    /// Directory of the cluster's state and keys.
    #[arg(long, default_value = "/var/lib/longshore/controller")]
    data_dir: PathBuf,
    /// Settings; with [store.etcd] in them the cluster is there.
    #[arg(long)]
    config: Option<PathBuf>,
}

#[derive(Args)]
struct MigrateArgs {
    /// Where to.
    #[arg(long, value_enum)]
    to: To,
    /// Directory of the cluster's state and keys.
    #[arg(long, default_value = "/var/lib/longshore/controller")]
    data_dir: PathBuf,
    /// Settings, with [store.etcd] in them.
    #[arg(long)]
    config: Option<PathBuf>,
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
        Command::Join(args) => join_command(args),
        Command::Admin(args) => admin_command(args),
        Command::MigrateStore(args) => migrate_command(args),
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
        config,
    } = args;
    let config = read(config)?;
    let wanted = Init {
        data_dir,
        cluster,
        listen,
        advertise,
        context_out,
        etcd: config.store.etcd,
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

fn join_command(args: JoinArgs) -> Result<(), (u8, String)> {
    let dir = DataDir::new(&args.data_dir);
    let told = shared::join(&dir, &args.file, args.seal_key.as_deref());
    print!("{}", told.map_err(|error| (1, crate::chain(&error)))?);
    Ok(())
}

fn admin_command(args: AdminArgs) -> Result<(), (u8, String)> {
    let config = read(args.config)?;
    let wanted = Rescue {
        data_dir: args.data_dir,
        name: args.name,
        context_out: args.context_out,
        etcd: config.store.etcd,
        advertise: config.advertise,
    };
    print!(
        "{}",
        rescue(&wanted).map_err(|error| (1, crate::chain(&error)))?
    );
    Ok(())
}

fn migrate_command(args: MigrateArgs) -> Result<(), (u8, String)> {
    let store = read(args.config)?.store;
    let dir = DataDir::new(&args.data_dir);
    let told = migrate(&dir, store.etcd.as_ref(), store.seal_key, args.to);
    print!("{}", told.map_err(|error| (1, crate::chain(&error)))?);
    Ok(())
}

/// The settings; those of the usual place may be missing.
fn read(given: Option<PathBuf>) -> Result<Config, (u8, String)> {
    let asked = given.is_some();
    let path = given.unwrap_or_else(|| CONFIG.into());
    Config::read(&path, asked).map_err(|error| (1, crate::chain(&error)))
}

fn run_command(args: RunArgs) -> Result<(), (u8, String)> {
    let config = read(args.config)?;
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
    let ran = runtime.block_on(run::run(args.data_dir, config));
    // A call that waits for etcd holds nobody up.
    runtime.shutdown_timeout(SHUTDOWN);
    ran.map_err(|error| (error.exit_code(), crate::chain(&error)))
}
