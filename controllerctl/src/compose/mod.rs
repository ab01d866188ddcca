//! Compose files to services.
//!
//! Read → tree with places → variables → merge → typed reading that collects every problem.
//! Fail closed: a key that is not understood is an error with its reason, never dropped.

mod assembly;
pub mod build;
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
pub mod support;
pub mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use longshore_model::spec::ContentMap;
use longshore_model::{AppName, SecretName, SecretText, ServiceName, ServiceSpec};

use assembly::{Assembly, Scope};
use interpolate::Variables;
use node::{Node, Value};
use problem::{Level, NOT_SUPPORTED, Problem, Problems};
pub use profiles::LeftOut;
pub(crate) use read::keys::nearest;
use source::{Place, Source};

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
    /// Services that are wanted whatever their profiles are.
    pub services: Vec<String>,
    /// Leave out what is known and not supported, and say so.
    pub ignore_unsupported: bool,
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
    /// How images of services are built, of those that are.
    pub builds: BTreeMap<ServiceName, build::Build>,
    /// Certificates that they name, with their keys.
    pub secrets: BTreeMap<SecretName, SecretText>,
    /// Contents of the secrets and configs that containers are given.
    pub contents: ContentMap,
    /// `x-context`: the cluster that it belongs to.
    pub context: Option<String>,
    /// The files, merged, variables filled in. Read again it is the same: a dollar is two, and
    /// contents of configs are as they are written.
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

/// What is found in files, whether they are taken or not.
#[derive(Debug)]
pub struct Checked {
    /// The files, merged, variables filled in, if they could be read.
    pub tree: Option<Node>,
    /// Errors and warnings, by place.
    pub problems: Vec<Problem>,
    /// The files, for excerpts.
    pub sources: Vec<Source>,
    /// Services whose profiles are not wanted.
    pub left_out: Vec<LeftOut>,
    /// Contents of configs as they are written, by place.
    written: BTreeMap<Place, String>,
    /// The app, if nothing is wrong.
    app: Option<(AppName, read::Document)>,
}

impl Checked {
    /// How many services are in the app; none: it is refused.
    #[must_use]
    pub fn services(&self) -> Option<usize> {
        self.app.as_ref().map(|(_, app)| app.services.len())
    }

    /// What becomes of each key.
    #[must_use]
    pub fn support(&self) -> Vec<support::Row> {
        let tree = self.tree.as_ref();
        tree.map_or_else(Vec::new, |tree| support::table(tree, &self.problems))
    }

    fn loaded(self) -> Result<Loaded, ComposeError> {
        let (problems, sources) = (self.problems, self.sources);
        let (Some((app, document)), Some(mut tree)) = (self.app, self.tree) else {
            return Err(ComposeError::Problems { problems, sources });
        };
        let left_out = problems.iter().filter(|p| p.code == NOT_SUPPORTED);
        drop_keys(&mut tree, &left_out.map(|p| p.place).collect());
        escape(&mut tree, &self.written);
        Ok(Loaded {
            app,
            services: document.services,
            builds: document.builds,
            secrets: document.secrets,
            contents: document.contents,
            context: document.context,
            tree,
            left_out: self.left_out,
            warnings: problems,
            sources,
        })
    }
}

/// Lets the tree, written down, be read as what it is: no dollar begins a variable, but for those in
/// contents of configs, which stay as they are in the file.
fn escape(tree: &mut Node, contents: &BTreeMap<Place, String>) {
    let written = |node: &Node| contents.get(&node.place).cloned();
    let configs = tree.get_mut("configs").and_then(Node::entries_mut);
    let mut kept = Vec::new();
    for (key, config) in configs.into_iter().flatten() {
        if let Some(content) = config.get_mut("content")
            && let Some(text) = written(content)
        {
            kept.push((key.name.clone(), Node::text(text, content.place)));
        }
    }
    interpolate::escape(tree);
    for (name, node) in kept {
        let config = tree.get_mut("configs").and_then(|all| all.get_mut(&name));
        if let Some(content) = config.and_then(|config| config.get_mut("content")) {
            *content = node;
        }
    }
}

/// Takes out keys, and entries of lists, that nothing follows from.
fn drop_keys(node: &mut Node, keys: &BTreeSet<Place>) {
    if keys.is_empty() {
        return;
    }
    match &mut node.value {
        Value::Map(entries) => {
            entries.retain(|(key, _)| !keys.contains(&key.place));
            entries
                .iter_mut()
                .for_each(|(_, node)| drop_keys(node, keys));
        }
        Value::List(items) => {
            items.retain(|node| !keys.contains(&node.place));
            items.iter_mut().for_each(|node| drop_keys(node, keys));
        }
        Value::Null | Value::Scalar { .. } => {}
    }
}

/// Loads files from disk.
///
/// # Errors
/// [`ComposeError`]; with all problems of the files where they could be read.
pub fn load(request: &Request, environment: &Variables) -> Result<Loaded, ComposeError> {
    check(request, environment)?.loaded()
}

/// Reads files from disk and says all about them.
///
/// # Errors
/// [`ComposeError`], but no [`ComposeError::Problems`].
pub fn check(request: &Request, environment: &Variables) -> Result<Checked, ComposeError> {
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
    let wants = Wants {
        profiles: wanted(request, &variables),
        services: request.services.clone(),
        ignore_unsupported: request.ignore_unsupported,
    };
    Ok(whole(sources, naming, (&here, &variables), &wants))
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
    let wants = Wants::default();
    whole(sources, (given, fallback), surroundings, &wants).loaded()
}

/// What is wanted of files, apart from what they say.
#[derive(Default)]
struct Wants {
    profiles: Vec<String>,
    services: Vec<String>,
    ignore_unsupported: bool,
}

fn whole(
    sources: Vec<(Source, Option<PathBuf>)>,
    naming: (Option<&str>, &str),
    (here, variables): (&Here, &Variables),
    wants: &Wants,
) -> Checked {
    let scope = Scope {
        directory: here.directory.clone(),
        variables: variables.clone(),
        id: 0,
    };
    let mut assembly = Assembly::new(wants.ignore_unsupported);
    let tree = assembly.root(sources, &scope);
    let (sources, mut problems) = (assembly.sources, assembly.problems);
    let written = assembly.contents;
    let Some(mut tree) = tree else {
        return Checked {
            tree: None,
            problems: problems.into_sorted(),
            sources,
            left_out: Vec::new(),
            written,
            app: None,
        };
    };
    // What nobody asked for must be of the right shape, and nothing more.
    let (left_out, out) = profiles::select(&mut tree, wants, &mut problems);
    env_file::read(&mut tree, &here.directory, variables, &mut problems);
    let (name, place) = name(&tree, naming);
    let app = AppName::new(name.as_str());
    let document = read::document((&tree, &out), &name, (here, variables), &mut problems);
    hidden(&tree, &name, (here, variables), &mut problems);
    if let Err(error) = &app {
        problems
            .error("name", place, "name", error.to_string())
            .help(format!("name: {}, or -p {0}", tame_name(&name)))
            .file();
    }
    let app = app.ok().filter(|_| problems.errors() == 0);
    Checked {
        tree: Some(tree),
        problems: problems.into_sorted(),
        sources,
        left_out,
        written,
        app: app.map(|app| (app, document)),
    }
}

/// Says what is wrong with values that another file has in another form: nobody else reads them.
fn hidden(tree: &Node, app: &str, from: (&Here, &Variables), p: &mut Problems) {
    let clashes = p.take_clashes();
    if clashes.is_empty() {
        return;
    }
    let mut tree = tree.clone();
    let mut below = Vec::new();
    for (path, base) in clashes {
        let mut keys = path.iter();
        let found = keys.try_fold(&mut tree, |node, key| node.get_mut(key));
        if let Some(node) = found {
            below.push((path.join("."), base.place.file));
            *node = base;
        }
    }
    let mut all = Problems::new(p.ignores_unsupported());
    read::document((&tree, &[]), app, from, &mut all);
    let is_below = |problem: &Problem| {
        below.iter().any(|(path, file)| {
            let rest = problem.path.strip_prefix(path.as_str());
            let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
            is_below && problem.place.file == *file
        })
    };
    let of_them = all.into_sorted().into_iter().filter(is_below);
    of_them.for_each(|problem| p.push(problem));
}

/// What the app is called, and where that is said.
fn name(tree: &Node, (given, fallback): (Option<&str>, &str)) -> (String, Place) {
    let named = tree.get("name");
    let place = named.map_or_else(Place::default, |node| node.place);
    let name = match (given, named.and_then(Node::as_text)) {
        (Some(name), _) | (None, Some(name)) => name.to_owned(),
        // Most of its letters would be lost: somebody else must say what it is called.
        (None, None) if !fallback.is_ascii() => fallback.to_owned(),
        (None, None) => tame_name(fallback),
    };
    (name, place)
}

/// The nearest name that is allowed.
#[must_use]
pub fn tame_name(name: &str) -> String {
    let lower = name.to_lowercase();
    let mapped: String = lower
        .chars()
        .map(|c| match c {
            '_' => c,
            c if c.is_ascii_alphanumeric() => c,
            _ => '-',
        })
        .take(longshore_model::id::NAME_BYTES_MAX)
        .collect();
    let trimmed = mapped.trim_start_matches(['-', '_']).trim_end_matches('-');
    if trimmed.is_empty() {
        "app".into()
    } else {
        trimmed.to_owned()
    }
}
