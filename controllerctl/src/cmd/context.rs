//! `context`: which cluster, as whom.

use longshore_identity::{Token, TokenKind};
use serde::Serialize;

use super::{Run, create, join};
use crate::cli::{ContextCommand, ContextName, ImportArgs};
use crate::context::{self, Context, Contexts};
use crate::failure::{Exit, Failure};
use crate::output::{Row, Shown, note, now_ms, print};
use crate::text::printable;

/// `context ls`, `context show`: never the key.
#[derive(Debug, Serialize)]
struct ContextView {
    name: String,
    current: bool,
    servers: Vec<String>,
}

impl Row for ContextView {
    fn titles(_: bool) -> Vec<&'static str> {
        vec!["CURRENT", "NAME", "SERVERS"]
    }
    fn cells(&self, _: bool, _: u64) -> Vec<Shown> {
        let mark = if self.current { "*" } else { "" };
        vec![
            mark.into(),
            Shown::from(&self.name),
            self.servers.join(" ").into(),
        ]
    }
    fn name(&self) -> String {
        self.name.clone()
    }
}

pub(super) async fn context(run: &Run, command: &ContextCommand) -> Result<Exit, Failure> {
    let path = context::path();
    let mut contexts = context::read_or_empty(&path)?;
    context::close_to_others(&path);
    match command {
        ContextCommand::Join(args) => return join::join(run, args).await,
        ContextCommand::Ls => {
            let rows: Vec<_> = contexts
                .context
                .keys()
                .map(|n| view(&contexts, n))
                .collect();
            print(&run.out.list(&rows, now_ms()))?;
        }
        ContextCommand::Use(ContextName { name }) => {
            context::pick(&contexts, Some(name))?;
            contexts.current = Some(name.clone());
            context::write(&path, &contexts)?;
            note(&format!("context {} is current", printable(name)));
        }
        ContextCommand::Create(args) => create::create(run, args, &mut contexts)?,
        ContextCommand::Import(args) => import(args, &mut contexts)?,
        ContextCommand::Export(option) => {
            let name = option.name.as_deref().or(run.global.context.as_deref());
            let (name, context) = context::pick(&contexts, name)?;
            let one = Contexts {
                current: None,
                context: [(name, context)].into(),
            };
            let text = toml::to_string(&one);
            print(&text.map_err(|e| Failure::new("cannot render the context").because(e))?)?;
        }
        ContextCommand::Rm(ContextName { name }) => {
            context::pick(&contexts, Some(name))?;
            contexts.context.remove(name);
            if contexts.current.as_ref() == Some(name) {
                contexts.current = None;
            }
            if contexts.context.is_empty() {
                context::remove(&path)?;
            } else {
                context::write(&path, &contexts)?;
            }
            note(&format!("context {} is removed", printable(name)));
        }
        ContextCommand::Show(option) => show(run, &contexts, option.name.as_deref())?,
    }
    Ok(Exit::Done)
}

fn view(contexts: &Contexts, name: &str) -> ContextView {
    let servers = contexts
        .context
        .get(name)
        .map(|c| c.servers.clone())
        .unwrap_or_default();
    let current = contexts.current.as_deref() == Some(name);
    ContextView {
        name: name.to_owned(),
        current,
        servers,
    }
}

fn import(args: &ImportArgs, contexts: &mut Contexts) -> Result<(), Failure> {
    let file = context::read(&args.file)?;
    if file.context.is_empty() {
        return Err(Failure::new(format!(
            "{} holds no context",
            args.file.display()
        )));
    }
    if args.name.is_some() && file.context.len() > 1 {
        return Err(
            Failure::new("the file holds several contexts; --name is for one").exit(Exit::Usage),
        );
    }
    let mut names = Vec::new();
    for (name, context) in file.context {
        let name = args.name.clone().unwrap_or(name);
        if contexts
            .context
            .get(&name)
            .is_some_and(|there| *there != context && !args.force)
        {
            return Err(
                Failure::new(format!("there is another context {name:?} already"))
                    .hint("choose another --name, or replace it: --force"),
            );
        }
        contexts.context.insert(name.clone(), context);
        names.push(name);
    }
    if contexts.current.is_none() {
        contexts.current = names.first().cloned();
    }
    context::write(&context::path(), contexts)?;
    for name in names {
        let current = contexts.current.as_ref() == Some(&name);
        let how = if current {
            "imported; it is current"
        } else {
            "imported"
        };
        note(&format!("context {}: {how}", printable(&name)));
    }
    Ok(())
}

/// `context show`
#[derive(Serialize)]
struct Full {
    #[serde(flatten)]
    context: ContextView,
    identity: Option<String>,
    not_before: Option<String>,
    not_after: Option<String>,
    problem: Option<String>,
}

fn of_certificate(context: &Context, full: &mut Full) {
    match crate::certificate::describe(&context.ca, &context.cert, &context.key) {
        Ok(certificate) => {
            full.identity = Some(certificate.identity);
            full.not_before = Some(certificate.not_before);
            full.not_after = Some(certificate.not_after);
        }
        Err(failure) => full.problem = Some(failure.message),
    }
}

fn show(run: &Run, contexts: &Contexts, name: Option<&str>) -> Result<(), Failure> {
    let (name, context) = context::pick(contexts, name.or(run.global.context.as_deref()))?;
    let mut full = Full {
        context: view(contexts, &name),
        identity: None,
        not_before: None,
        not_after: None,
        problem: None,
    };
    let token = match (&context.token, context.token_command.first()) {
        (Some(token), _) => {
            let read = Token::parse(TokenKind::Bearer, token);
            let id = read.map(|token| format!("token {}", token.id));
            Some(id.map_err(|why| Failure::new(why.to_string())))
        }
        (None, Some(program)) => Some(Ok(format!("a token that {program} prints"))),
        (None, None) => None,
    };
    match token {
        Some(Ok(identity)) => full.identity = Some(identity),
        Some(Err(failure)) => full.problem = Some(failure.message),
        None => of_certificate(&context, &mut full),
    }
    let text = run.out.document(&full, || {
        let servers = full.context.servers.join(" ");
        let mut lines = vec![
            format!("context      {name}"),
            format!("servers      {servers}"),
        ];
        let mut line = |title: &str, value: &Option<String>| {
            if let Some(value) = value {
                lines.push(format!("{title:<12} {value}"));
            }
        };
        line("identity", &full.identity);
        line("valid from", &full.not_before);
        line("valid until", &full.not_after);
        line("problem", &full.problem);
        lines.iter().map(|line| printable(line) + "\n").collect()
    });
    print(&text)
}
