//! `build`, and what `up` builds and pushes before it applies.

use longshore_proto::images::v1 as pb;
use serde::Serialize;

use super::{Run, app, push};
use crate::cli::{BuildArgs, UpArgs};
use crate::client::Client;
use crate::compose::Loaded;
use crate::compose::build::Build;
use crate::engine::Engine;
use crate::failure::{Exit, Failure};
use crate::output::images::PlannedBuild;
use crate::output::{note, print};
use crate::progress::{Reporter, Stage};
use crate::text::printable;

/// Which services are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// All that have `build`.
    Always,
    /// Those whose image is missing, and those with `pull_policy: build`.
    Missing,
    /// None.
    Never,
}

impl UpArgs {
    pub(super) fn when(&self) -> When {
        match (self.build, self.no_build) {
            (true, _) => When::Always,
            (false, true) => When::Never,
            (false, false) => When::Missing,
        }
    }
}

/// What is done about one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Work {
    service: String,
    image: String,
    build: Build,
    /// None: the engine here has it, and it is only sent.
    builds: bool,
    why: &'static str,
}

/// What is to be done before the app can be applied; one entry for each image.
///
/// An image that the controller holds is taken as it is: whoever has an older one in the engine
/// here would go back to it by a mere `up`.
///
/// # Errors
/// The refusal of the controller, in words. An engine that is not there is none yet.
pub(super) async fn work(
    client: &mut Client,
    loaded: &Loaded,
    when: When,
) -> Result<Vec<Work>, Failure> {
    let mut all: Vec<Work> = Vec::new();
    for (service, build) in &loaded.builds {
        let Some(spec) = loaded.services.get(service) else {
            continue;
        };
        let image = spec.container.image.to_string();
        if all.iter().any(|work| work.image == image) {
            continue;
        }
        all.push(Work {
            service: service.to_string(),
            image,
            build: build.clone(),
            builds: true,
            why: match build.always {
                true => "pull_policy: build",
                false => "--build",
            },
        });
    }
    match when {
        When::Never => return Ok(Vec::new()),
        When::Always => return Ok(all),
        When::Missing if all.is_empty() => return Ok(all),
        When::Missing => {}
    }
    let names = all.iter().map(|work| work.image.clone()).collect();
    let request = pb::ResolveImagesRequest { names };
    let pins = client.resolve_images(request).await?.pins;
    all.retain(|work| work.build.always || !pins.iter().any(|pin| pin.name == work.image));
    let mut engine = None;
    for work in all.iter_mut().filter(|work| !work.build.always) {
        if engine.is_none() {
            engine = Engine::connect().await.ok();
        }
        let found = match &engine {
            Some(engine) => engine.image(&work.image).await.ok().flatten(),
            None => None,
        };
        (work.builds, work.why) = match found {
            Some(_) => (false, "the controller lacks it, and the engine here has it"),
            None => (true, "there is no such image yet"),
        };
    }
    Ok(all)
}

/// For the plan.
pub(super) fn planned(works: &[Work]) -> Vec<PlannedBuild> {
    let one = |work: &Work| PlannedBuild {
        service: work.service.clone(),
        image: work.image.clone(),
        action: if work.builds { "build" } else { "push" }.into(),
        context: work.build.context.display().to_string(),
        reason: work.why.into(),
    };
    works.iter().map(one).collect()
}

/// What a plan shows of them.
pub(super) fn text(works: &[Work]) -> String {
    let line = |work: &Work| {
        let (service, image, why) = (&work.service, &work.image, work.why);
        let context = work.build.context.display();
        let what = match work.builds {
            true => format!("{image} is built from {context} and sent"),
            false => format!("{image} is sent"),
        };
        printable(&format!("  * {service}  {what}: {why}")) + "\n"
    };
    works.iter().map(line).collect()
}

/// Builds and sends.
///
/// # Errors
/// The first that fails; nothing is applied by then.
pub(super) async fn perform(run: &Run, client: &mut Client, works: &[Work]) -> Result<(), Failure> {
    if works.is_empty() {
        return Ok(());
    }
    let engine = Engine::connect().await?;
    let mut reporter = Reporter::new(run.out.progress, "Building and pushing");
    for work in works {
        if work.builds {
            build(&engine, work, &mut reporter).await?;
        }
        let pushed = push::one(client, &engine, (work.image.as_str(), None), &mut reporter).await?;
        push::said(&pushed);
    }
    reporter.finish();
    Ok(())
}

async fn build(engine: &Engine, work: &Work, reporter: &mut Reporter) -> Result<(), Failure> {
    let id = format!("build {}", work.service);
    reporter.say(&id, None, Stage::Working, "Building");
    let say = |line: &str| reporter.say(&id, None, Stage::Working, line);
    let done = engine.build(&work.image, &work.build, say).await;
    match &done {
        Ok(()) => reporter.say(&id, None, Stage::Done, &format!("Built {}", work.image)),
        Err(failure) => {
            reporter.say(&id, None, Stage::Error, &failure.message);
            reporter.finish();
        }
    }
    done
}

/// `build`
#[derive(Debug, Serialize)]
struct Built {
    service: String,
    image: String,
    /// What nodes are told to run, if it was sent.
    digest: Option<String>,
}

impl crate::output::Row for Built {
    fn titles(_: bool) -> Vec<&'static str> {
        vec!["SERVICE", "IMAGE", "DIGEST"]
    }

    fn cells(&self, wide: bool, _: u64) -> Vec<crate::output::Shown> {
        let digest = self.digest.as_deref().unwrap_or_default();
        vec![
            crate::output::Shown::from(&self.service),
            crate::output::Shown::from(&self.image),
            crate::output::images::short(digest, wide).into(),
        ]
    }

    fn name(&self) -> String {
        self.image.clone()
    }
}

pub(super) async fn run(run: &Run, args: &BuildArgs) -> Result<Exit, Failure> {
    let loaded = app::read(run, &args.files)?;
    let works = chosen(&loaded, args)?;
    if works.is_empty() {
        note("no service has `build`");
    }
    let mut client = match args.push && !works.is_empty() {
        true => Some(run.connect(loaded.context.as_deref()).await?),
        false => None,
    };
    let mut done = Vec::new();
    if !works.is_empty() {
        let engine = Engine::connect().await?;
        let mut reporter = Reporter::new(run.out.progress, "Building");
        for work in works {
            build(&engine, &work, &mut reporter).await?;
            let digest = match &mut client {
                Some(client) => {
                    let pushed =
                        push::one(client, &engine, (work.image.as_str(), None), &mut reporter)
                            .await?;
                    Some(pushed.digest)
                }
                None => None,
            };
            let (service, image) = (work.service, work.image);
            done.push(Built {
                service,
                image,
                digest,
            });
        }
        reporter.finish();
    }
    print(&run.out.list(&done, 0))?;
    Ok(Exit::Done)
}

fn chosen(loaded: &Loaded, args: &BuildArgs) -> Result<Vec<Work>, Failure> {
    let names: Vec<&str> = loaded
        .builds
        .keys()
        .map(longshore_model::ServiceName::as_str)
        .collect();
    for name in &args.services {
        if !names.contains(&name.as_str()) {
            let message = format!("there is no service {name:?} with `build`");
            let hint = format!("those that have it: {}", names.join(", "));
            return Err(Failure::new(message).exit(Exit::Usage).hint(hint));
        }
    }
    let is_asked = |name: &str| args.services.is_empty() || args.services.iter().any(|s| s == name);
    let builds = loaded.builds.iter();
    let builds = builds.filter(|(name, _)| is_asked(name.as_str()));
    let work = |(name, build): (&longshore_model::ServiceName, &Build)| {
        let mut build = build.clone();
        build.no_cache |= args.no_cache;
        build.pull |= args.pull;
        Some(Work {
            service: name.to_string(),
            image: loaded.services.get(name)?.container.image.to_string(),
            build,
            builds: true,
            why: "asked for",
        })
    };
    Ok(builds.filter_map(work).collect())
}
