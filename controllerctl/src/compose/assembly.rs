//! Files that name other files: `extends` and `include`, until one tree is left.

mod extends;
mod include;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::interpolate::{Variables, interpolate};
use super::node::{self, Node, Value};
use super::problem::Problems;
use super::source::{Place, Source};
use super::{files, merge, read};

/// Most files of one app, those named in others among them, each counted as often as it is read.
const READS_MAX: usize = 256;
/// Longest chain of files or services that name each other.
const DEPTH_MAX: usize = 16;
/// Most nodes that `extends` makes of those that are in the files.
const COPIES_MAX: usize = 4 * node::NODES_MAX;

/// Where the files of one `-f` list or one `include` stand, and what variables are there.
pub(super) struct Scope {
    /// Relative names start from it.
    pub(super) directory: PathBuf,
    pub(super) variables: Variables,
    /// Tells scopes apart.
    pub(super) id: usize,
}

/// A file that was read.
struct File {
    /// Its number among the sources.
    index: usize,
    /// Its documents; none: it is no YAML, which was said.
    trees: Vec<Node>,
}

/// What was read so far.
#[derive(Default)]
pub(super) struct Assembly {
    pub(super) sources: Vec<Source>,
    pub(super) problems: Problems,
    /// What a service extends could not be read.
    is_broken: bool,
    files: BTreeMap<PathBuf, Rc<File>>,
    /// Files that services are taken from, variables filled in, by scope.
    bases: BTreeMap<(usize, usize), Rc<Node>>,
    /// Services that extend each other, as was said.
    circles: BTreeSet<BTreeSet<extends::At>>,
    /// Contents of configs as they are written, by place.
    pub(super) contents: BTreeMap<Place, String>,
    reads: usize,
    copies: usize,
    scopes: usize,
}

impl Assembly {
    /// Nothing read so far.
    pub(super) fn new(ignores_unsupported: bool) -> Self {
        Self {
            problems: Problems::new(ignores_unsupported),
            ..Self::default()
        }
    }

    /// The tree of files that are in memory, one on top of the other. A file from disk has its
    /// path.
    pub(super) fn root(
        &mut self,
        sources: Vec<(Source, Option<PathBuf>)>,
        scope: &Scope,
    ) -> Option<Node> {
        let mut trail = Vec::new();
        let mut files = Vec::new();
        for (source, path) in sources {
            let file = self.parse(source);
            self.reads += 1;
            if let Some(path) = path.and_then(|path| path.canonicalize().ok()) {
                self.files.insert(path.clone(), Rc::clone(&file));
                trail.push(path);
            }
            files.push(file);
        }
        let tree = self.project(&files, scope, &trail);
        tree.map(merge::settle)
    }

    fn parse(&mut self, source: Source) -> Rc<File> {
        let index = self.sources.len();
        let (trees, problems) = node::read(&source, index);
        if trees.is_empty() {
            self.problems.lacks_file();
        }
        // Aliases refer to anchors of their own document.
        for tree in &trees {
            read::fragments::unused(tree, &mut self.problems);
        }
        problems.into_iter().for_each(|p| self.problems.push(p));
        self.sources.push(source);
        Rc::new(File { index, trees })
    }

    /// Merges files after what each names is in it. Documents of one file are as several files.
    fn project(&mut self, files: &[Rc<File>], scope: &Scope, trail: &[PathBuf]) -> Option<Node> {
        let mut tree: Option<Node> = None;
        let documents = files
            .iter()
            .flat_map(|file| file.trees.iter().map(move |tree| (file, tree)));
        for (file, document) in documents {
            let mut over = document.clone();
            self.keep_contents(&over);
            interpolate(&mut over, "", &scope.variables, &mut self.problems);
            self.extend(&mut over, file.index, scope);
            self.include(&mut over, scope, trail);
            tree = Some(match tree {
                Some(base) => merge::merge(base, over, &mut self.problems),
                None => over,
            });
        }
        tree
    }

    /// What is shown of them later has no variable filled in: it may be a password.
    fn keep_contents(&mut self, tree: &Node) {
        let Some(Value::Map(configs)) = tree.get("configs").map(|node| &node.value) else {
            return;
        };
        for content in configs.iter().filter_map(|(_, c)| c.get("content")) {
            if let Some(text) = content.as_text() {
                self.contents.insert(content.place, text.to_owned());
            }
        }
    }

    /// Reads a file that another names at `place`; once, however often it is named.
    fn open(&mut self, path: &Path, place: Place, key: &str) -> Option<Rc<File>> {
        let mut wrong = |message: String, help: &str| {
            self.problems
                .error("file", place, key, message)
                .help(help)
                .file();
        };
        self.reads += 1;
        if self.reads > READS_MAX {
            let message = format!("more than {READS_MAX} files are named");
            wrong(message, "put services that belong together into one file");
            return None;
        }
        let canonical = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if let Some(file) = self.files.get(&canonical) {
            return Some(Rc::clone(file));
        }
        let text = match files::read_text(path) {
            Ok(text) => text,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let message = format!("{error}: {}", cause.unwrap_or_default());
                let help = "names start from the directory of the file that says them";
                wrong(message, help);
                return None;
            }
        };
        let file = self.parse(Source::new(path.display().to_string(), &text));
        self.files.insert(canonical, Rc::clone(&file));
        Some(file)
    }

    /// Where something stands, for a message about something else.
    fn shown(&self, place: Place) -> String {
        let Some(source) = self.sources.get(place.file) else {
            return String::new();
        };
        let (line, _) = source.line_column(place.offset);
        format!("{}:{line}", source.name)
    }

    fn new_scope(&mut self, directory: PathBuf, variables: Variables) -> Scope {
        self.scopes += 1;
        let id = self.scopes;
        Scope {
            directory,
            variables,
            id,
        }
    }

    /// The keys of a mapping that may hold only these; says which it may not.
    fn known(&mut self, node: &Node, keys: &[&str], path: &str) {
        let Value::Map(entries) = &node.value else {
            return;
        };
        for (key, _) in entries {
            let name = key.name.as_str();
            if keys.contains(&name) || name.starts_with("x-") {
                continue;
            }
            let near = read::keys::nearest(name, keys.iter().copied());
            let help = near.map_or_else(
                || format!("only: {}", keys.join(", ")),
                super::problem::did_you_mean,
            );
            let message = format!("unknown key `{name}`");
            self.problems
                .error(super::problem::UNKNOWN_KEY, key.place, path, message)
                .help(help)
                .file();
        }
    }
}

/// How many nodes there are.
fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(count).sum::<usize>(),
        Value::Map(entries) => entries.iter().map(|(_, node)| count(node)).sum(),
        Value::Null | Value::Scalar { .. } => 0,
    }
}

/// One word or a list of them.
fn words(node: &Node) -> Vec<(&str, Place)> {
    let word = |node| {
        let text = Node::as_text(node)?;
        (!text.is_empty()).then_some((text, node.place))
    };
    match &node.value {
        Value::List(items) => items.iter().filter_map(word).collect(),
        _ => word(node).into_iter().collect(),
    }
}
