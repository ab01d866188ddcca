//! The command tree.

mod apps;
mod context;
mod exec;
mod images;
mod looks;
mod node_logs;
mod operators;
mod rollout;
mod simulate;
mod stores;
mod values;
mod waits;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCandidates;

use crate::complete;
use values::{parse_count, parse_replica_filter, some_time};

pub use self::apps::{
    ConfigArgs, DownArgs, ExplainArgs, FileArgs, InitArgs, PlanArgs, Pull, UpArgs,
};
pub use self::context::CreateContextArgs;
pub use self::exec::{ExecArgs, RunArgs};
pub use self::images::{BuildArgs, ImageCommand, PruneArgs, PushArgs, RemoveImagesArgs};
pub use self::looks::{
    BackendsArgs, BackupArgs, BundleArgs, DoctorArgs, InspectArgs, ManArgs, ProxyCommand,
    ProxyConfigArgs, ProxyDrainArgs, ProxyReadyArgs, StatsArgs, SystemCommand, TopArgs,
};
pub use self::node_logs::NodeLogsArgs;
pub use self::operators::{
    JoinContextArgs, OperatorAddArgs, OperatorCommand, OperatorRole, OperatorRoleArgs,
    OperatorRotateArgs, OperatorsArgs,
};
pub use self::rollout::{RestartArgs, RolloutCommand, RolloutStatusArgs, ServiceArgs, UndoArgs};
pub use self::simulate::SimulateArgs;
pub use self::stores::{
    DiskArgs, RegistryCommand, RegistryLoginArgs, RegistryLogoutArgs, SecretCommand,
    SecretCreateArgs, SecretLsArgs, SecretsArgs, VolumeCommand, VolumeInspectArgs, VolumeLsArgs,
    VolumeRmArgs,
};
pub use self::values::ReplicaKey;
pub use self::waits::{WaitArgs, WaitState};

mod explain;

pub use explain::{
    ApproveArgs, AutoscaleCommand, AutoscaleService, BoundsArgs, EventsArgs, FilterKey,
    HistoryArgs, PauseArgs, WhyArgs,
};

/// How people talk to Longshore.
#[derive(Debug, Parser)]
#[command(
    name = "controllerctl",
    version,
    about = "Runs Compose apps on several Docker hosts, scales them, keeps HAProxy in step",
    disable_help_subcommand = true,
    propagate_version = false,
    after_help = "Exit codes: controllerctl help exit-codes"
)]
pub struct Cli {
    /// What all commands take.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What all commands take.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Context to use instead of the current one.
    #[arg(short, long, global = true, env = "CONTROLLERCTL_CONTEXT", add = ArgValueCandidates::new(complete::contexts))]
    pub context: Option<String>,
    /// Controller to talk to, with the context's credentials.
    #[arg(long, global = true, env = "CONTROLLERCTL_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// Form of the output.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORM"
    )]
    pub output: Format,
    /// A line for each document: '{{ name }} {{ node }}', with the fields of -o json.
    #[arg(long = "format", global = true, value_name = "TEMPLATE", conflicts_with_all = ["output", "quiet"])]
    pub template: Option<String>,
    /// Only names.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Colours.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,
    /// Form of the progress.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub progress: Progress,
    /// Do not ask.
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Say more on stderr.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For people with wide screens.
    Wide,
    /// One stable document.
    Json,
    /// One stable document a line.
    Jsonl,
    /// The same document as with json.
    Yaml,
    /// Only names.
    Name,
    /// As `--format` says.
    #[value(skip)]
    Template,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Form of the progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Progress {
    /// A tree on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// A tree that repaints.
    Tty,
    /// One line for each change of state.
    Plain,
    /// One JSON object for each change of state.
    Json,
    /// Nothing.
    Quiet,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented compose.yaml to start from, or convert an older file.
    Init(InitArgs),
    /// Apply Compose files and follow the rollout; Ctrl-C detaches.
    #[command(visible_alias = "deploy")]
    Up(UpArgs),
    /// Say what `up` would change.
    #[command(visible_alias = "diff")]
    Plan(PlanArgs),
    /// Build the images of services that have `build`, with the engine here.
    Build(BuildArgs),
    /// Images that the controller holds; nodes get them from it.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Send images of the engine here to the controller; as `image push`.
    Push(PushArgs),
    /// Take an app down, drained first.
    Down(DownArgs),
    /// Print the resolved Compose file, or check it.
    #[command(visible_alias = "render")]
    Config(ConfigArgs),
    /// Print the documentation of a key of Compose files.
    Explain(ExplainArgs),
    /// Cluster at a glance, problems first.
    Status(WatchArgs),
    /// List services.
    #[command(visible_alias = "services")]
    Ls(WatchArgs),
    /// List replicas.
    Ps(PsArgs),
    /// What replicas use: CPU, memory, sessions.
    Stats(StatsArgs),
    /// Nodes, services and replicas on one screen: what they use, again and again.
    Top(TopArgs),
    /// All that is known of apps, services, replicas and nodes, as YAML.
    Inspect(InspectArgs),
    /// Print logs of apps, services or replicas; all without a target.
    Logs(LogsArgs),
    /// Print what happened.
    Events(EventsArgs),
    /// Explain an app, a service, a replica or a node.
    Why(WhyArgs),
    /// Set the count of services.
    Scale(ScaleArgs),
    /// How services scale by load, and what people tell their autoscalers.
    #[command(subcommand)]
    Autoscale(AutoscaleCommand),
    /// Agree to the count that a service in approve mode asks for.
    Approve(ApproveArgs),
    /// How one revision follows another.
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Replace all replicas of services by new ones of the same spec.
    Restart(RestartArgs),
    /// Run a command in a replica.
    Exec(ExecArgs),
    /// Run a container like a service's replicas once, beside them; it is removed afterwards.
    Run(RunArgs),
    /// Wait until something holds.
    Wait(WaitArgs),
    /// Tokens for nodes that join.
    #[command(subcommand)]
    Token(TokenCommand),
    /// People and programs who may tell the cluster what.
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// Secrets apart from apps, and what apps have of secrets, configs and certificates.
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Credentials for registries that nodes pull images from.
    #[command(subcommand)]
    Registry(RegistryCommand),
    /// Named volumes of apps on nodes.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Nodes.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Edges and what is behind them.
    #[command(subcommand)]
    Proxy(ProxyCommand),
    /// Look for the usual faults, each with the way out.
    Doctor(DoctorArgs),
    /// The cluster as a whole.
    #[command(subcommand)]
    System(SystemCommand),
    /// Contexts: which cluster, as whom.
    #[command(subcommand)]
    Context(ContextCommand),
    /// Print the line that turns completion on in a shell.
    Completion(CompletionArgs),
    /// Write manual pages for packages.
    #[command(hide = true)]
    Man(ManArgs),
    /// Print the version.
    Version,
    /// Print help for a command or topic.
    Help(HelpArgs),
}

/// `-w`
#[derive(Debug, Clone, Copy, Args)]
pub struct WatchArgs {
    /// Repaint on each change. For programs: -o jsonl prints one document a change.
    #[arg(short, long)]
    pub watch: bool,
}

/// `ps`
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Apps, services or replicas (shop, web, web.3). Default: all.
    #[arg(add = ArgValueCandidates::new(complete::in_apps))]
    pub services: Vec<String>,
    /// Only replicas on this node.
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub node: Vec<String>,
    /// Only those with this state, node and so on; several of one key: any of them.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_replica_filter)]
    pub filter: Vec<(ReplicaKey, String)>,
    /// All of them, whatever their state: that is so without it, too.
    #[arg(short, long)]
    pub all: bool,
    /// Whole ids of containers (-o wide).
    #[arg(long)]
    pub no_trunc: bool,
    /// Repaint.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// `logs`
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Apps, services or replicas (shop, web, web.3). Default: all.
    #[arg(add = ArgValueCandidates::new(complete::in_apps))]
    pub targets: Vec<String>,
    /// Go on with new lines, replicas that join later included.
    #[arg(short, long)]
    pub follow: bool,
    /// Last so many lines of each replica, or all. Default: 100, with --until all.
    #[arg(short = 'n', long, value_name = "LINES")]
    pub tail: Option<Tail>,
    /// Since: 10m, 12:04:10 (UTC), a date, RFC 3339 or Unix time.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Until: written as with --since.
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    pub until: Option<String>,
    /// Only of replicas on this node.
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(complete::nodes))]
    pub node: Vec<String>,
    /// Only what they wrote to stderr.
    #[arg(long)]
    pub stderr_only: bool,
    /// Print the time of each line.
    #[arg(short, long)]
    pub timestamps: bool,
    /// Print times in UTC: that is so without it, too.
    #[arg(long)]
    pub utc: bool,
    /// Print lines without replica and node before them.
    #[arg(long)]
    pub no_prefix: bool,
    /// Print control characters as they are: they can take over a terminal.
    #[arg(long)]
    pub raw: bool,
}

/// How many lines of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// All that are kept.
    All,
    /// The last.
    Last(u32),
}

impl std::str::FromStr for Tail {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            _ => text
                .parse()
                .map(Self::Last)
                .map_err(|_| "a number or all".into()),
        }
    }
}

/// `scale`
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// Service and count.
    #[arg(required = true, value_name = "SERVICE=N", value_parser = parse_count, add = ArgValueCandidates::new(complete::counts))]
    pub counts: Vec<(String, u32)>,
    /// Keep the autoscaler's hands off for so long.
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub hold: Option<Duration>,
    /// Do not wait.
    #[arg(short, long)]
    pub detach: bool,
    /// Give up waiting after this time.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub wait_timeout: Duration,
}

/// `token`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token with which one node may join once.
    Create(TokenArgs),
    /// List tokens: open ones, used ones, and for a day those that expired.
    Ls,
    /// Take tokens back: nobody joins with them any more. Who joined stays.
    Revoke(RevokeArgs),
}

/// `token revoke`
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Tokens, by the id that `token ls` prints, or whole.
    #[arg(required = true, value_name = "ID", add = ArgValueCandidates::new(complete::tokens))]
    pub tokens: Vec<String>,
}

/// `token create`, `node join`
#[derive(Debug, Args)]
pub struct TokenArgs {
    /// What the node will do.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "worker")]
    pub role: Vec<Role>,
    /// Only a node of this name may use it.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Only machines of this address, or of this network (10.0.0.0/24), may use it.
    #[arg(long, value_name = "NETWORK")]
    pub from: Option<String>,
    /// How long it can be used; at most 24h.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub ttl: Duration,
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Runs containers.
    Worker,
    /// Runs HAProxy.
    Edge,
}

/// `node`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List nodes.
    Ls(WatchArgs),
    /// List the replicas of nodes.
    Ps(NodePsArgs),
    /// Print what a node's agent said last, its HAProxy driver included.
    Logs(NodeLogsArgs),
    /// Print the line to run on a machine that shall join.
    Join(TokenArgs),
    /// Give nodes no new replicas.
    Cordon(NodesArgs),
    /// Take nodes back, those that came and went too often as well.
    Uncordon(NodesArgs),
    /// Move everything away from nodes, replacements first.
    Drain(DrainArgs),
    /// Set (KEY=VALUE) and remove (KEY-) labels.
    Label(LabelArgs),
    /// Remove a node; its certificate is refused from then on.
    Rm(RmArgs),
}

/// `node ps`
#[derive(Debug, Args)]
pub struct NodePsArgs {
    /// Nodes.
    #[arg(required = true, add = ArgValueCandidates::new(complete::nodes))]
    pub nodes: Vec<String>,
    /// Repaint.
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// Some nodes.
#[derive(Debug, Args)]
pub struct NodesArgs {
    /// Nodes.
    #[arg(required = true, add = ArgValueCandidates::new(complete::nodes))]
    pub nodes: Vec<String>,
    /// Why, for the others.
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub message: String,
}

/// `node drain`
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Nodes.
    #[command(flatten)]
    pub nodes: NodesArgs,
    /// Until then all shall have moved; past it the drain says what it waits for. Default: the
    /// controller's setting (10m).
    #[arg(long, value_parser = some_time, value_name = "TIME")]
    pub deadline: Option<Duration>,
    /// Stop what is left at the deadline, even if fewer replicas serve than should.
    #[arg(long)]
    pub force: bool,
    /// Do not wait.
    #[arg(short, long)]
    pub detach: bool,
}

/// `node label`
#[derive(Debug, Args)]
pub struct LabelArgs {
    /// Node.
    #[arg(add = ArgValueCandidates::new(complete::nodes))]
    pub node: String,
    /// KEY=VALUE sets, KEY- removes.
    #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
    pub labels: Vec<String>,
}

/// `node rm`
#[derive(Debug, Args)]
pub struct RmArgs {
    /// Node.
    #[arg(add = ArgValueCandidates::new(complete::nodes))]
    pub node: String,
    /// Even if it has replicas.
    #[arg(long)]
    pub force: bool,
}

/// `context`
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List contexts.
    Ls,
    /// Make a context current.
    Use(ContextName),
    /// Make a context for --server URL (several: with commas) from a CA, a certificate and its
    /// key, in PEM, or from a token.
    Create(CreateContextArgs),
    /// Fetch an operator's certificate for an invite, and make a context of it.
    Join(JoinContextArgs),
    /// Add contexts from a file; the first that is added becomes current.
    Import(ImportArgs),
    /// Print a context as a file, key included.
    Export(ContextOption),
    /// Remove a context.
    Rm(ContextName),
    /// Show server and certificate of a context.
    Show(ContextOption),
}

/// A context.
#[derive(Debug, Args)]
pub struct ContextName {
    /// Its name.
    #[arg(add = ArgValueCandidates::new(complete::contexts))]
    pub name: String,
}

/// A context, or the current one.
#[derive(Debug, Args)]
pub struct ContextOption {
    /// Its name.
    #[arg(add = ArgValueCandidates::new(complete::contexts))]
    pub name: Option<String>,
}

/// `context import`
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// File with one or more contexts.
    pub file: PathBuf,
    /// Name to give to it, if the file has one context.
    #[arg(long)]
    pub name: Option<String>,
    /// Replace another context of that name.
    #[arg(long)]
    pub force: bool,
}

/// `completion`
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// Shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Shells with completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// `help`
#[derive(Debug, Args)]
pub struct HelpArgs {
    /// Command, or exit-codes.
    pub words: Vec<String>,
}
