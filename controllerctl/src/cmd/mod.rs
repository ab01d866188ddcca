//! The verbs, one module a family.

mod app;
mod approve;
mod aside;
mod asked;
mod autoscale;
mod backup;
mod builds;
mod certificates;
mod config;
mod context;
mod counts;
mod create;
mod doctor;
mod down;
mod exec;
mod explain;
mod fetched;
mod follow;
mod hidden;
mod image;
mod init;
mod inspect;
mod join;
mod last;
mod lists;
mod logs;
mod man;
mod moment;
mod node;
mod node_logs;
mod operator;
mod overtaken;
mod pick;
mod planned;
mod platform;
mod proxy;
mod push;
mod registry;
mod rollout;
mod scale;
mod secret;
mod settle;
mod simulate;
mod stats;
mod support;
mod token;
mod top;
mod volume;
mod wait;

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::CommandFactory;

use crate::cli::{Cli, Command, FileArgs, Global, SystemCommand};
use crate::client::{self, Client};
use crate::complete;
use crate::compose::Request;
use crate::compose::interpolate::Variables;
use crate::failure::{EXIT_CODES, Exit, Failure};
use crate::output::outcome::Version;
use crate::output::{Printer, note, print};
use crate::text::printable;

/// What every verb gets.
pub(crate) struct Run {
    pub(crate) global: Global,
    pub(crate) out: Printer,
}

impl Run {
    /// Connects. `pinned` is the context that a Compose file names; flags and variables win.
    pub(crate) async fn connect(&self, pinned: Option<&str>) -> Result<Client, Failure> {
        let context = self.global.context.as_deref().or(pinned);
        client::connect(context, self.global.server.as_deref()).await
    }

    /// Says beforehand that [`Self::confirm`] could not ask.
    pub(crate) fn can_confirm(&self) -> Result<(), Failure> {
        let is_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        match self.global.yes || is_terminal {
            true => Ok(()),
            false => Err(
                Failure::new("this needs a confirmation, and there is no terminal")
                    .exit(Exit::Usage)
                    .hint("add -y to confirm beforehand"),
            ),
        }
    }

    /// Asks before something is changed. Without a terminal there is nobody to ask.
    pub(crate) fn confirm(&self, question: &str, context: &str) -> Result<(), Failure> {
        if self.global.yes {
            return Ok(());
        }
        self.can_confirm()?;
        let mut err = std::io::stderr().lock();
        write!(
            err,
            "{} (context {}) [y/N] ",
            printable(question),
            printable(context)
        )?;
        err.flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(()),
            _ => Err(Failure::new("not confirmed; nothing was changed")),
        }
    }

    /// Prints once, or again after each change.
    pub(crate) async fn watch(
        &self,
        watch: bool,
        mut render: impl AsyncFnMut(&mut Client) -> Result<String, Failure>,
    ) -> Result<Exit, Failure> {
        if watch && self.out.prints_one_document() {
            return Err(
                Failure::new("-o json and -o yaml print one document, and -w prints many")
                    .exit(Exit::Usage)
                    .hint("-w -o jsonl prints one document a line"),
            );
        }
        let mut client = self.connect(None).await?;
        if !watch {
            print(&render(&mut client).await?)?;
            return Ok(Exit::Done);
        }
        let mut changes = client.changes();
        let mut shown = String::new();
        loop {
            let step = async {
                match render(&mut client).await {
                    Ok(text) if text != shown => {
                        self.repaint(&text)?;
                        shown = text;
                    }
                    Ok(_) => {}
                    Err(failure) => return changes.pause(failure).await,
                }
                changes.next().await
            };
            tokio::select! {
                done = step => done?,
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
            }
        }
    }

    fn repaint(&self, text: &str) -> Result<(), Failure> {
        use crate::cli::Format::{Table, Wide};
        if !(self.out.terminal && matches!(self.out.format, Table | Wide)) {
            return print(text);
        }
        // Home, each line cleared to its end, then the rest: no flicker.
        let lines = text.replace('\n', "\u{1b}[K\n");
        print(&format!("\u{1b}[H{lines}\u{1b}[J"))
    }
}

/// Variables for Compose files: the environment. What is no UTF-8 is left out.
pub(crate) fn environment() -> Variables {
    let pairs = std::env::vars_os();
    Variables::new(pairs.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))))
}

impl FileArgs {
    /// What they ask for.
    fn request(&self) -> Request {
        Request {
            files: self.file.clone(),
            project: self.project.clone(),
            env_files: self.env_file.clone(),
            profiles: self.profile.clone(),
            services: Vec::new(),
            ignore_unsupported: self.ignore_unsupported,
            directory: std::path::PathBuf::new(),
        }
    }
}

/// Milliseconds of a duration from the command line.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Runs the command.
pub(crate) async fn run(cli: Cli) -> Result<Exit, Failure> {
    let out = Printer::new(&cli.global);
    out.check()?;
    let run = Run {
        global: cli.global,
        out,
    };
    match cli.command {
        Command::Init(args) => init::init(&run, &args),
        Command::Up(args) => app::up(&run, &args).await,
        Command::Plan(args) => app::plan(&run, &args).await,
        Command::Build(args) => builds::run(&run, &args).await,
        Command::Image(command) => image::image(&run, &command).await,
        Command::Push(args) => push::push(&run, &args).await,
        Command::Down(args) => down::down(&run, &args).await,
        Command::Config(args) => config::config(&run, &args),
        Command::Explain(args) => explain::explain(&run, &args),
        Command::Status(args) => lists::status(&run, args).await,
        Command::Ls(args) => lists::services(&run, args).await,
        Command::Ps(args) => lists::replicas(&run, &args).await,
        Command::Stats(args) => stats::stats(&run, &args).await,
        Command::Top(args) => top::top(&run, &args).await,
        Command::Inspect(args) => inspect::inspect(&run, &args).await,
        Command::Logs(args) => logs::logs(&run, &args).await,
        Command::Events(args) => logs::events(&run, &args).await,
        Command::Why(args) => lists::why(&run, &args).await,
        Command::Autoscale(command) => autoscale::autoscale(&run, &command).await,
        Command::Approve(args) => autoscale::approve(&run, &args).await,
        Command::Scale(args) => scale::scale(&run, &args).await,
        Command::Rollout(command) => rollout::rollout(&run, &command).await,
        Command::Restart(args) => rollout::restart(&run, &args).await,
        Command::Exec(args) => exec::exec(&run, args).await,
        Command::Run(args) => exec::run(&run, args).await,
        Command::Wait(args) => wait::wait(&run, &args).await,
        Command::Operator(command) => operator::operator(&run, &command).await,
        Command::Token(command) => token::token(&run, &command).await,
        Command::Secret(command) => secret::secret(&run, &command).await,
        Command::Registry(command) => registry::registry(&run, &command).await,
        Command::Volume(command) => volume::volume(&run, &command).await,
        Command::Node(command) => node::node(&run, &command).await,
        Command::Proxy(command) => proxy::proxy(&run, &command).await,
        Command::Doctor(args) => doctor::doctor(&run, &args).await,
        Command::System(SystemCommand::Info) => doctor::info(&run).await,
        Command::System(SystemCommand::Df(args)) => volume::df(&run, &args).await,
        Command::System(SystemCommand::Prune(args)) => image::prune_all(&run, &args).await,
        Command::System(SystemCommand::Backup(args)) => backup::backup(&run, &args).await,
        Command::System(SystemCommand::Backups) => backup::list(&run).await,
        Command::System(SystemCommand::SupportBundle(args)) => support::bundle(&run, &args).await,
        Command::Context(command) => context::context(&run, &command).await,
        Command::Completion(args) => {
            print(&complete::script(args.shell)?)?;
            Ok(Exit::Done)
        }
        Command::Man(args) => man::man(&args),
        Command::Version => {
            let version = env!("CARGO_PKG_VERSION");
            let people = || format!("controllerctl {version}\n");
            print(&run.out.document(&Version { version }, people))?;
            Ok(Exit::Done)
        }
        Command::Help(args) => help(&args.words),
    }
}

fn help(words: &[String]) -> Result<Exit, Failure> {
    if words.iter().map(String::as_str).eq(["exit-codes"]) {
        print(EXIT_CODES)?;
        return Ok(Exit::Done);
    }
    let mut command = Cli::command();
    command.build();
    for word in words {
        let Some(sub) = command.find_subcommand(word) else {
            return Err(Failure::new(format!("there is no command {word:?}"))
                .exit(Exit::Usage)
                .hint("controllerctl help"));
        };
        command = sub.clone();
    }
    print(&command.render_long_help().to_string())?;
    if words.is_empty() {
        note("Topics: controllerctl help exit-codes");
    }
    Ok(Exit::Done)
}
