//! The command line.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use longshore_model::node::Roles;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::agent;
use crate::identity::IdentityDir;
use crate::join::{JoinOptions, join};
use crate::ledger::Ledger;
use crate::reconcile::Chain;
use crate::said::Said;

/// Runs a node of a Longshore cluster.
#[derive(Debug, Parser)]
#[command(name = "node-agent", version, about)]
pub struct Cli {
    /// Form of the log.
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enrol this node with a token from `controllerctl token create`.
    Join(JoinArgs),
    /// Run the agent until SIGTERM. Containers go on after it.
    Run(RunArgs),
    /// Say what this node is and what it was told last. Works without a controller.
    Status(DataArgs),
}

#[derive(Debug, clap::Args)]
struct DataArgs {
    /// Where identity and ledger are kept.
    #[arg(long, default_value = "/var/lib/longshore")]
    data_dir: PathBuf,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Settings of this host.
    #[arg(long, default_value = "/etc/longshore/node-agent.toml")]
    config: PathBuf,
}

#[derive(Debug, clap::Args)]
struct JoinArgs {
    /// Any controller, as `https://HOST:PORT`; several with commas between them.
    #[arg(long)]
    controller: String,
    /// The join token.
    #[arg(long, env = "LONGSHORE_JOIN_TOKEN", hide_env_values = true)]
    token: String,
    /// The node's name: a-z, 0-9 and '-'.
    #[arg(long)]
    name: String,
    /// Address under which edges reach this node.
    #[arg(long)]
    address: IpAddr,
    /// What the node does.
    #[arg(long = "role", value_enum, value_delimiter = ',', required = true)]
    roles: Vec<Role>,
    /// Label for placement, KEY=VALUE; may be repeated.
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    data: DataArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Worker,
    Edge,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    if key.is_empty() {
        return Err("the key is empty".into());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs the command line; 0 is success.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let said = Said::new();
    start_log(cli.log_format, said.clone());
    // One thread: the agent waits nearly all the time, and each more costs memory.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let result: Result<(), Box<dyn std::error::Error>> = runtime.block_on(async {
        match cli.command {
            Command::Join(args) => join_node(args).await,
            Command::Run(args) => Ok(agent::run(&args.data.data_dir, &args.config, said).await?),
            Command::Status(args) => status(&args),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&*error),
    }
}

fn fail(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("node-agent: {}", Chain(error));
    ExitCode::FAILURE
}

/// Libraries that say nothing of use to operators below a warning.
const QUIET: [&str; 4] = ["h2", "hyper", "tonic", "bollard"];

fn usual() -> Targets {
    let quiet = QUIET.map(|target| (target, LevelFilter::WARN));
    let usual = Targets::new().with_default(LevelFilter::INFO);
    usual.with_targets(quiet)
}

/// The part of the log that is kept for operators: the same whatever the journal gets.
pub(crate) fn kept<S>(said: Said) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    let lines = fmt::layer().with_writer(said).with_ansi(false);
    let lines = lines.without_time().with_level(false).with_target(false);
    lines.with_filter(usual())
}

fn start_log(format: LogFormat, said: Said) {
    let asked = std::env::var("LONGSHORE_LOG").ok();
    let asked = asked.and_then(|text| text.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(usual);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let log = registry().with(kept(said));
    match format {
        LogFormat::Text => {
            // Colours are for people at a terminal, not for files.
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let lines = lines.with_target(false).with_ansi(ansi);
            log.with(lines.with_filter(filter)).init();
        }
        LogFormat::Json => log.with(lines.json().with_filter(filter)).init(),
    }
}

async fn join_node(args: JoinArgs) -> Result<(), Box<dyn std::error::Error>> {
    let options = JoinOptions {
        controller: args.controller,
        token: args.token,
        name: args.name,
        address: args.address,
        roles: Roles {
            worker: args.roles.contains(&Role::Worker),
            edge: args.roles.contains(&Role::Edge),
        },
        labels: args.labels.into_iter().collect::<BTreeMap<_, _>>(),
        data_dir: args.data.data_dir,
    };
    let file = join(&options).await?;
    println!(
        "node {} joined cluster {}; start it with `node-agent run`",
        file.node, file.cluster
    );
    Ok(())
}

fn status(args: &DataArgs) -> Result<(), Box<dyn std::error::Error>> {
    let identity = IdentityDir::new(&args.data_dir).load()?;
    let file = &identity.file;
    println!("node        {} of cluster {}", file.node, file.cluster);
    println!("controller  {}", file.controller);
    println!("address     {}", file.address);
    if let Some((_, until)) = identity.validity() {
        println!(
            "certificate valid until {}",
            humantime::format_rfc3339_seconds(until)
        );
    }
    // A damaged ledger is only named here: setting it aside is the running agent's decision.
    let path = args.data_dir.join("ledger.json");
    let book = Ledger::peek(&path)?;
    println!(
        "fence       generation {}, term {}",
        book.fence.cluster_generation, book.fence.term
    );
    if let Some(assignment) = book.assignment {
        let count = assignment.replicas.len();
        println!(
            "assignment  generation {}, {count} replicas",
            assignment.generation
        );
    }
    if let Some(routes) = book.routes {
        println!(
            "routes      generation {}, {} backends",
            routes.generation,
            routes.backends.len()
        );
    }
    for (replica, reason) in book.failed {
        println!("failed      {replica}: {reason}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_roles_come_as_a_list() {
        Cli::command().debug_assert();
        let line = "node-agent join --controller https://10.0.0.1:7443 --token t --name w1 \
                    --address 10.0.0.2 --role worker,edge --label zone=a --data-dir /tmp/d";
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Join(args) = cli.command else {
            panic!("not a join")
        };
        assert_eq!(args.roles, [Role::Worker, Role::Edge]);
        assert_eq!(args.labels, [("zone".to_owned(), "a".to_owned())]);
    }
}
