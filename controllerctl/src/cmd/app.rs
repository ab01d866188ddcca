//! `up`, `plan`: apps.

use std::collections::BTreeSet;

use longshore_identity::site::digest;
use longshore_model::spec::{ContentDigest, PullPolicy};
use longshore_model::{SecretName, SecretText};
use longshore_proto::control::v1 as pb;
use longshore_wire::service_spec_to_pb;

use super::pick::Part;
use super::planned::plan_text;
use super::settle::{Goal, follow, settled};
use super::{Run, builds, counts, environment};
use crate::cli::{FileArgs, PlanArgs, Pull, UpArgs};
use crate::client::Client;
use crate::compose::problem::{BIND_CONFIG, Problem, draw};
use crate::compose::{ComposeError, LeftOut, Loaded, Request, load};
use crate::failure::{Exit, Failure};
use crate::output::outcome::Applied;
use crate::output::planned::Plan;
use crate::output::{note, print};
use crate::text::printable;

/// Reads the files; problems are drawn with their lines.
pub(super) fn read(run: &Run, files: &FileArgs) -> Result<Loaded, Failure> {
    read_but(run, &files.request(), |_| true)
}

/// The same for a plan, which has lines of its own for files that are sent.
fn read_to_plan(run: &Run, files: &FileArgs, part: &Part<'_>) -> Result<Loaded, Failure> {
    let request = Request {
        services: part.names(),
        ..files.request()
    };
    let mut loaded = read_but(run, &request, |problem| !is_sent(problem))?;
    part.pick(&mut loaded)?;
    Ok(loaded)
}

fn is_sent(problem: &Problem) -> bool {
    problem.code == BIND_CONFIG
}

fn read_but(
    run: &Run,
    request: &Request,
    is_drawn: impl Fn(&Problem) -> bool,
) -> Result<Loaded, Failure> {
    match load(request, &environment()) {
        Ok(loaded) => {
            let drawn = loaded.warnings.iter().filter(|p| is_drawn(p));
            let drawn: Vec<Problem> = drawn.cloned().collect();
            eprint_drawn(&draw(&drawn, &loaded.sources, run.out.colour_err));
            if !loaded.left_out.is_empty() {
                note(&left_out(&loaded.left_out));
            }
            Ok(loaded)
        }
        Err(error) => {
            if let ComposeError::Problems { problems, sources } = &error {
                eprint_drawn(&draw(problems, sources, run.out.colour_err));
            }
            Err(explain(error))
        }
    }
}

/// Services whose profiles nobody asked for.
pub(super) fn left_out(services: &[LeftOut]) -> String {
    let each = |out: &LeftOut| format!("{} ({})", out.service, out.profiles.join(", "));
    let services: Vec<String> = services.iter().map(each).collect();
    printable(&format!(
        "left out, by profile: {}; --profile NAME takes them in",
        services.join(", ")
    ))
}

pub(super) fn eprint_drawn(text: &str) {
    if !text.is_empty() {
        note(text.trim_end());
    }
}

pub(super) fn explain(error: ComposeError) -> Failure {
    let message = error.to_string();
    match error {
        ComposeError::NoFile => Failure::new(message)
            .exit(Exit::Usage)
            .hint("name one with -f, or write one: controllerctl init"),
        ComposeError::EnvFile { .. } => Failure::new(message).exit(Exit::Usage),
        ComposeError::Io { source, .. } => Failure::new(message).because(source),
        ComposeError::Problems { .. } => Failure::new(message).hint(
            "controllerctl config --check reports what is supported, --ignore-unsupported goes on \
             without the rest",
        ),
        ComposeError::TooMany(_) => Failure::new(message).exit(Exit::Usage),
    }
}

fn to_pb(loaded: &Loaded) -> pb::App {
    let services = loaded.services.iter();
    pb::App {
        name: loaded.app.to_string(),
        services: services
            .map(|(name, spec)| (name.to_string(), service_spec_to_pb(spec)))
            .collect(),
    }
}

/// Certificates of the app; `with_contents`: for an apply, else their digests.
fn secrets_to_pb(loaded: &Loaded, with_contents: bool) -> Vec<pb::Secret> {
    let secret = |(name, text): (&SecretName, &SecretText)| pb::Secret {
        name: name.to_string(),
        digest: digest(text),
        pem: match with_contents {
            true => text.expose().to_owned(),
            false => String::new(),
        },
    };
    loaded.secrets.iter().map(secret).collect()
}

/// What is in the secrets and configs of the app.
fn files_to_pb(loaded: &Loaded) -> Vec<pb::FileContents> {
    let services = loaded.services.values();
    let files = services.flat_map(|spec| &spec.container.files);
    let named: BTreeSet<&ContentDigest> = files.map(|file| &file.digest).collect();
    let contents = loaded.contents.iter();
    let contents = contents.filter(|(digest, _)| named.contains(digest));
    contents
        .map(|(digest, contents)| pb::FileContents {
            digest: digest.to_string(),
            contents: contents.expose().to_vec(),
        })
        .collect()
}

async fn planned(client: &mut Client, loaded: &Loaded, part: &Part<'_>) -> Result<Plan, Failure> {
    let answer = client
        .plan_app(pb::PlanAppRequest {
            app: Some(to_pb(loaded)),
            secrets: secrets_to_pb(loaded, false),
            partial: part.is_partial(),
            recreate: part.recreate(loaded),
        })
        .await?;
    let mut plan = Plan::new(loaded.app.as_str(), &answer);
    let sent = loaded.warnings.iter().filter(|problem| is_sent(problem));
    plan.warnings.extend(sent.map(Problem::to_string));
    Ok(plan)
}

pub(super) async fn plan(run: &Run, args: &PlanArgs) -> Result<Exit, Failure> {
    let part = args.part();
    let mut loaded = read_to_plan(run, &args.files, &part)?;
    let mut client = run.connect(loaded.context.as_deref()).await?;
    let works = builds::work(&mut client, &loaded, builds::When::Missing).await?;
    let later = later(&mut client, &mut loaded, &args.scale).await?;
    let mut plan = planned(&mut client, &loaded, &part).await?;
    plan.add_counts(&later);
    plan.add_builds(builds::planned(&works));
    print(&run.out.document(&plan, || {
        let hint = match plan.changed {
            true => format!(
                "Apply with: controllerctl up --check-revision {}{}\n",
                plan.revision,
                part.words()
            ),
            false => "Nothing would change.\n".into(),
        };
        plan_text(&plan, &client.context)
            + &counts::text(&later)
            + &builds::text(&works)
            + &printable(hint.trim_end())
            + "\n"
    }))?;
    let changes = args.detailed_exitcode && plan.changed;
    Ok(if changes { Exit::Changes } else { Exit::Done })
}

/// Builds and sends what `up` needs, unless it only says what it would do.
///
/// That changes nothing that runs, and only then the plan is known. But nobody waits for a build to
/// be told that there is no terminal.
async fn images(
    run: &Run,
    client: &mut Client,
    loaded: &Loaded,
    args: &UpArgs,
) -> Result<Vec<builds::Work>, Failure> {
    let works = builds::work(client, loaded, args.when()).await?;
    if !(works.is_empty() || args.dry_run) {
        run.can_confirm()?;
        note(builds::text(&works).trim_end());
        builds::perform(run, client, &works).await?;
    }
    Ok(works)
}

/// `--pull`: what is built here is no registry's.
fn pull(loaded: &mut Loaded, asked: Option<Pull>) {
    let Some(asked) = asked else { return };
    for (name, spec) in &mut loaded.services {
        if !loaded.builds.contains_key(name) {
            spec.container.pull_policy = match asked {
                Pull::Always => PullPolicy::Always,
                Pull::Missing => PullPolicy::Missing,
                Pull::Never => PullPolicy::Never,
            };
        }
    }
}

/// Counts of `--scale` that are set once the app is applied.
async fn later(
    client: &mut Client,
    loaded: &mut Loaded,
    scale: &[(String, u32)],
) -> Result<counts::Later, Failure> {
    match scale.is_empty() {
        true => Ok(counts::Later::new()),
        false => counts::take(loaded, scale, &client.services().await?),
    }
}

pub(super) async fn up(run: &Run, args: &UpArgs) -> Result<Exit, Failure> {
    let part = args.part();
    let mut loaded = read_to_plan(run, &args.files, &part)?;
    let mut client = run.connect(loaded.context.as_deref()).await?;
    pull(&mut loaded, args.pull);
    let works = images(run, &mut client, &loaded, args).await?;
    let later = later(&mut client, &mut loaded, &args.scale).await?;
    let mut plan = planned(&mut client, &loaded, &part).await?;
    plan.add_counts(&later);
    let mut text = plan_text(&plan, &client.context) + &counts::text(&later);
    if args.dry_run {
        plan.add_builds(builds::planned(&works));
        text += &builds::text(&works);
        print(&run.out.document(&plan, || text))?;
        return Ok(Exit::Done);
    }
    note(text.trim_end());
    if plan.changed {
        run.confirm("Apply this?", &client.context)?;
    }
    let request = pb::ApplyAppRequest {
        app: Some(to_pb(&loaded)),
        secrets: secrets_to_pb(&loaded, true),
        files: files_to_pb(&loaded),
        // What was shown is what is applied, even if nobody asked for the check.
        check_revision: Some(args.check_revision.unwrap_or(plan.revision)),
        partial: part.is_partial(),
        recreate: part.recreate(&loaded),
    };
    let applied = client.apply_app(request).await.map_err(|failure| {
        let moved = failure.message.contains("revision");
        if moved {
            failure.hint("somebody else applied meanwhile; look: controllerctl plan")
        } else {
            failure
        }
    })?;
    let renewed = applied.secrets.iter().filter(|s| s.action == "renew");
    let renewed: Vec<String> = renewed.map(|secret| secret.name.clone()).collect();
    for name in &renewed {
        note(&printable(&format!(
            "certificate {name}: a new one is sent to the edges"
        )));
    }
    counts::set(&mut client, &later).await?;
    let app = loaded.app.to_string();
    if args.detach {
        note(&format!(
            "{app}: revision {} applied. Look: controllerctl ls",
            applied.revision
        ));
        return said(run, app, applied.revision, Exit::Done, None);
    }
    let title = format!("Deploying {app} rev {}", applied.revision);
    let goal = goal(&loaded, &part, applied.revision, renewed);
    let exit = follow(run, &mut client, &title, &goal, args.wait_timeout).await?;
    let urls = match exit {
        Exit::Done => Some(say_urls(&mut client, &app).await?),
        _ => None,
    };
    said(run, app, applied.revision, exit, urls)
}

/// All that was applied serves.
fn goal(loaded: &Loaded, part: &Part<'_>, revision: u64, renewed: Vec<String>) -> Goal {
    let names = loaded.services.keys().map(ToString::to_string);
    let wanted = names.len();
    Goal {
        services: match part.is_partial() {
            true => names.collect(),
            false => Vec::new(),
        },
        app: Some(loaded.app.to_string()),
        revision,
        done: Box::new(move |services| services.len() == wanted && services.iter().all(settled)),
        counts: Vec::new(),
        certificates: Some(renewed),
        judge: true,
        leaves: false,
        again: format!("controllerctl wait {} --for stable", loaded.app),
    }
}

/// The document of an `up`; `urls` are those of an app that was followed to its end.
fn said(
    run: &Run,
    app: String,
    revision: u64,
    exit: Exit,
    urls: Option<Vec<String>>,
) -> Result<Exit, Failure> {
    let document = Applied {
        app,
        revision,
        done: urls.is_some(),
        urls: urls.unwrap_or_default(),
    };
    print(&run.out.document(&document, String::new))?;
    Ok(exit)
}

async fn say_urls(client: &mut Client, app: &str) -> Result<Vec<String>, Failure> {
    let mut urls = Vec::new();
    for service in client
        .services()
        .await?
        .into_iter()
        .filter(|s| s.app == app)
    {
        if !service.urls.is_empty() {
            note(&printable(&format!(
                "{}: {}",
                service.name,
                service.urls.join(" ")
            )));
        }
        urls.extend(service.urls);
    }
    Ok(urls)
}
