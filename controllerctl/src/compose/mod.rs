//! Compose files to services.
//!
//! Read → tree with places → variables → merge → typed reading that collects every problem.
//! Fail closed: a key that is not understood is an error with its reason, never dropped.

mod assembly;
pub mod dotenv;
mod env_file;
mod files;
pub mod interpolate;
pub mod merge;
pub mod node;
mod paths;
pub mod problem;
mod profiles;
mod read;
pub mod source;
pub mod units;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use longshore_model::{AppName, SecretName, SecretText, ServiceName, ServiceSpec};

use assembly::{Assembly, Scope};
use interpolate::Variables;
use node::Node;
use problem::{Level, Problem};
pub use profiles::LeftOut;
use source::Source;

/// What is asked for on the command line.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Files, in the order in which they are merged; none: `COMPOSE_FILE`, or the usual names.
    pub files: Vec<PathBuf>,
    /// Name of the app; overrides every other source of it.
    pub project: Option<String>,
    /// Files of variables instead of `.env`.
    pub env_files: Vec<PathBuf>,
    /// Profiles whose services are wanted, together with those without one.
    pub profiles: Vec<String>,
    /// Where the command runs; empty for the process's own.
    pub directory: PathBuf,
}

/// Where and when files are read.
#[derive(Debug, Clone)]
pub struct Here {
    /// Relative names of other files start from it.
    pub directory: PathBuf,
    /// Certificates are judged by it.
    pub now: SystemTime,
}

/// An app as its files describe it.
#[derive(Debug)]
pub struct Loaded {
    /// Its name.
    pub app: AppName,
    /// Its services.
    pub services: BTreeMap<ServiceName, ServiceSpec>,
    /// Certificates that they name, with their keys.
    pub secrets: BTreeMap<SecretName, SecretText>,
    /// `x-context`: the cluster that it belongs to.
    pub context: Option<String>,
    /// The files, merged, variables filled in.
    pub tree: Node,
    /// Services whose profiles are not wanted.
    pub left_out: Vec<LeftOut>,
    /// What somebody should know; no errors among them.
    pub warnings: Vec<Problem>,
    /// The files, for excerpts.
    pub sources: Vec<Source>,
}

/// Why files could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// None was given and none of the usual names is here.
    #[error("there is no compose.yaml in this directory")]
    NoFile,
    /// More than are merged.
    #[error("{0} files; at most {limit} are merged", limit = files::FILES_MAX)]
    TooMany(usize),
    /// The file system said no.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A file of variables holds something else.
    #[error("{}:{line}: {message}", path.display())]
    EnvFile {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, and the way out.
        message: String,
    },
    /// The files are read, and something is wrong with them.
    #[error("{}", count(problems))]
    Problems {
        /// Errors, and warnings among them.
        problems: Vec<Problem>,
        /// The files, for excerpts.
        sources: Vec<Source>,
    },
}

fn count(problems: &[Problem]) -> String {
    match problems.iter().filter(|p| p.level == Level::Error).count() {
        1 => "1 problem in the Compose file; nothing was changed".into(),
        n => format!("{n} problems in the Compose file; nothing was changed"),
    }
}

/// Loads files from disk.
///
/// # Errors
/// [`ComposeError`]; with all problems of the files where they could be read.
pub fn load(request: &Request, environment: &Variables) -> Result<Loaded, ComposeError> {
    let (files, variables) = files::choose(request, environment)?;
    let mut sources = Vec::new();
    for path in &files {
        let text = files::read_text(path)?;
        let source = Source::new(path.display().to_string(), &text);
        sources.push((source, Some(path.clone())));
    }
    let directory = files
        .first()
        .map_or(Path::new("."), |f| Source::directory(f));
    let fallback = directory
        .canonicalize()
        .ok()
        .and_then(|d| {
            d.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        })
        .unwrap_or_default();
    let given = request
        .project
        .as_deref()
        .or_else(|| variables.get("COMPOSE_PROJECT_NAME"))
        .map(str::to_owned);
    let here = Here {
        directory: directory.to_owned(),
        now: SystemTime::now(),
    };
    let naming = (given.as_deref(), fallback.as_str());
    whole(
        sources,
        naming,
        (&here, &variables),
        &wanted(request, &variables),
    )
}

/// `--profile`, else `COMPOSE_PROFILES`.
fn wanted(request: &Request, variables: &Variables) -> Vec<String> {
    if !request.profiles.is_empty() {
        return request.profiles.clone();
    }
    let set = variables.get("COMPOSE_PROFILES").unwrap_or_default();
    let names = set.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// Reads files that are already in memory. `given` names the app above all else, `fallback` below
/// all else.
///
/// # Errors
/// [`ComposeError::Problems`] with everything that is wrong.
pub fn parse(
    sources: Vec<Source>,
    given: Option<&str>,
    fallback: &str,
    surroundings: (&Here, &Variables),
) -> Result<Loaded, ComposeError> {
    let sources = sources.into_iter().map(|source| (source, None)).collect();
    whole(sources, (given, fallback), surroundings, &[])
}

fn whole(
    sources: Vec<(Source, Option<PathBuf>)>,
    (given, fallback): (Option<&str>, &str),
    (here, variables): (&Here, &Variables),
    profiles: &[String],
) -> Result<Loaded, ComposeError> {
    let scope = Scope {
        directory: here.directory.clone(),
        variables: variables.clone(),
        id: 0,
    };
    let mut assembly = Assembly::default();
    let tree = assembly.root(sources, &scope);
    let tree = tree.filter(|_| !assembly.is_unreadable);
    let (sources, mut problems) = (assembly.sources, assembly.problems);
    let Some(mut tree) = tree else {
        return Err(ComposeError::Problems {
            problems: problems.into_sorted(),
            sources,
        });
    };
    // What nobody asked for is not looked at any further.
    let left_out = profiles::select(&mut tree, profiles, &mut problems);
    env_file::read(&mut tree, &here.directory, variables, &mut problems);
    let named = tree.get("name").and_then(|node| match &node.value {
        node::Value::Scalar { text, .. } => Some((text.clone(), node.place)),
        _ => None,
    });
    let place = named
        .as_ref()
        .map_or_else(source::Place::default, |(_, place)| *place);
    let name = match (given, &named) {
        (Some(given), _) => given.to_owned(),
        (None, Some((name, _))) => name.clone(),
        // Most of its letters would be lost: somebody else must say what it is called.
        (None, None) if !fallback.is_ascii() => fallback.to_owned(),
        (None, None) => tame_name(fallback),
    };
    let app = AppName::new(name.as_str());
    let document = read::document(&tree, &name, (here, variables), &mut problems);
    match app {
        Ok(app) if problems.errors() == 0 => Ok(Loaded {
            app,
            services: document.services,
            secrets: document.secrets,
            context: document.context,
            tree,
            left_out,
            warnings: problems.into_sorted(),
            sources,
        }),
        app => {
            if let Err(error) = app {
                problems
                    .error("name", place, "name", error.to_string())
                    .help(format!("name: {}, or -p {0}", tame_name(&name)))
                    .file();
            }
            Err(ComposeError::Problems {
                problems: problems.into_sorted(),
                sources,
            })
        }
    }
}

/// The nearest name that is allowed.
#[must_use]
pub fn tame_name(name: &str) -> String {
    let lower = name.to_lowercase();
    let mapped: String = lower
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(longshore_model::id::NAME_BYTES_MAX)
        .collect();
    let trimmed = mapped
        .trim_start_matches(|c: char| !c.is_ascii_lowercase())
        .trim_end_matches('-');
    if trimmed.is_empty() {
        "app".into()
    } else {
        trimmed.to_owned()
    }
}
