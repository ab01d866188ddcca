//! `wait`: until something holds.

mod point;

use super::settle::{Goal, follow, settled};
use super::{Run, certificates, inspect};
use crate::cli::{WaitArgs, WaitState};
use crate::failure::{Exit, Failure};
use crate::output::inspected::{Inspected, World};
use crate::output::outcome::Waited;
use crate::output::print;
use point::Point;

/// What a word means.
enum Target {
    App(String),
    /// By its key.
    Service(String),
    Point(Point),
    /// Nothing has this name (any more).
    Nothing,
}

impl Target {
    /// What it is, and what can be waited for of it.
    fn kind(&self) -> (&'static str, &'static [WaitState]) {
        use WaitState::{Deleted, Drained, Healthy, Running, Stable};
        match self {
            Self::App(_) => ("an app", &[Stable, Healthy, Running, Deleted]),
            Self::Service(_) => ("a service", &[Stable, Healthy, Running, Deleted]),
            Self::Point(Point::Replica { .. }) => {
                ("a replica", &[Running, Healthy, Drained, Deleted])
            }
            Self::Point(_) => ("a node", &[Running, Healthy, Drained, Deleted]),
            Self::Nothing => ("nothing", &[Deleted]),
        }
    }
}

pub(super) async fn wait(run: &Run, args: &WaitArgs) -> Result<Exit, Failure> {
    let mut client = run.connect(None).await?;
    let world = inspect::look(&mut client).await?;
    let target = resolve(&world, &args.target)?;
    let word = args.state.word();
    let (kind, possible) = target.kind();
    if !possible.contains(&args.state) {
        return Err(match target {
            Target::Nothing => unknown(&world, &args.target),
            _ => impossible(&args.target, kind, word, possible),
        });
    }
    let title = format!("Waiting for {} to be {word}", args.target);
    let again = format!("controllerctl wait {} --for {word}", args.target);
    let (app, names) = match &target {
        Target::App(app) => (Some(app.clone()), Vec::new()),
        Target::Service(key) => (None, vec![key.clone()]),
        Target::Point(_) | Target::Nothing => (None, Vec::new()),
    };
    let exit = match (target, args.state) {
        (Target::Nothing, _) => Exit::Done,
        (Target::Point(point), state) => {
            point::follow(run, &mut client, (&title, &again), &point, state, args).await?
        }
        (_, WaitState::Running) => {
            let point = Point::Services { app, keys: names };
            let state = args.state;
            point::follow(run, &mut client, (&title, &again), &point, state, args).await?
        }
        (_, state) => {
            let goal = goal(app, names, state, again);
            follow(run, &mut client, &title, &goal, args.timeout).await?
        }
    };
    let document = Waited {
        target: args.target.clone(),
        state: word,
        done: exit == Exit::Done,
    };
    print(&run.out.document(&document, String::new))?;
    Ok(exit)
}

/// Of an app or a service.
fn goal(app: Option<String>, services: Vec<String>, state: WaitState, again: String) -> Goal {
    Goal {
        services,
        app,
        revision: 0,
        done: Box::new(move |services| match state {
            WaitState::Deleted => services.is_empty(),
            WaitState::Healthy => {
                !services.is_empty() && services.iter().all(|s| s.healthy >= s.wanted)
            }
            _ => {
                let stable = |s: &_| settled(s) && !certificates::on_their_way(s);
                !services.is_empty() && services.iter().all(stable)
            }
        }),
        counts: Vec::new(),
        certificates: None,
        judge: false,
        leaves: false,
        again,
    }
}

fn resolve(world: &World, word: &str) -> Result<Target, Failure> {
    let found = world.find(word);
    let replicas = found.iter().filter_map(|found| match found {
        Inspected::Replica { replica } => Some(&**replica),
        _ => None,
    });
    let replicas: Vec<_> = replicas.collect();
    // A slot may hold two replicas during a replacement: that is one word for both.
    if let Some(first) = replicas.first()
        && replicas.len() == found.len()
        && replicas.iter().all(|r| r.service == first.service)
    {
        return Ok(Target::Point(Point::replica(&replicas, word)));
    }
    let is_in = |app: &str, other: &Inspected<'_>| match other {
        Inspected::Service { service, .. } => service.app == app,
        _ => false,
    };
    match &found[..] {
        [] => Ok(coming(world, word)),
        [Inspected::App { name, .. }, others @ ..] if others.iter().all(|o| is_in(name, o)) => {
            Ok(Target::App((*name).to_owned()))
        }
        [Inspected::Service { service, .. }] => Ok(match is_lone(world, &service.app, word) {
            true => Target::App(service.app.clone()),
            false => Target::Service(service.key.clone()),
        }),
        [Inspected::Node { node, .. }] => Ok(Target::Point(Point::Node(node.name.clone()))),
        _ => inspect::one(world, word).map(|_| Target::Nothing),
    }
}

/// The app of this name and its only service: the app has all there is to wait for.
fn is_lone(world: &World, app: &str, word: &str) -> bool {
    app == word && world.services.iter().filter(|s| s.app == app).count() == 1
}

/// A replica that is not there yet, of a service that is; else nothing.
fn coming(world: &World, word: &str) -> Target {
    let bare = word.strip_prefix("replica/").unwrap_or(word);
    let Some((service, slot)) = bare.rsplit_once('.') else {
        return Target::Nothing;
    };
    let named = |s: &&longshore_proto::control::v1::Service| s.name == service || s.key == service;
    let found: Vec<_> = world.services.iter().filter(named).collect();
    match (&found[..], slot.parse::<u32>()) {
        ([service], Ok(slot)) => Target::Point(Point::Replica {
            service: service.key.clone(),
            slot: Some(slot),
            ids: Vec::new(),
        }),
        _ => Target::Nothing,
    }
}

fn unknown(world: &World, word: &str) -> Failure {
    let message = format!("there is no app, service, replica or node {word:?}");
    let hint = match world.nearest(word) {
        Some(near) => format!("did you mean {near}?"),
        None => "controllerctl ls, ps and node ls have all names".to_owned(),
    };
    Failure::new(message).hint(hint)
}

fn impossible(target: &str, kind: &str, word: &str, possible: &[WaitState]) -> Failure {
    let words: Vec<&str> = possible.iter().map(|state| state.word()).collect();
    Failure::new(format!("{target} is {kind}: it is never {word:?}"))
        .exit(Exit::Usage)
        .hint(format!(
            "{kind} can be waited for with --for {}",
            words.join(", ")
        ))
}
