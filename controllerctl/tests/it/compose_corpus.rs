//! Real files, with the official schema as the judge of what is valid.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use controllerctl::compose::interpolate::{Variables, interpolate};
use controllerctl::compose::node::{self, Node, Value as Yaml};
use controllerctl::compose::problem::{Level, Problem, Problems, UNKNOWN_KEY};
use controllerctl::compose::source::Source;
use controllerctl::compose::{ComposeError, Request, load, parse};
use serde_json::Value;

fn shared() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/compose")
}

pub(crate) fn files_below(directory: PathBuf) -> Vec<PathBuf> {
    let mut stack = vec![directory];
    let mut files = Vec::new();
    while let Some(directory) = stack.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// `${NAME:?message}` has no value here: any will do.
fn required(text: &str) -> Variables {
    let name = |rest: &str| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))?;
        let is_required = rest[end..].starts_with(":?") || rest[end..].starts_with('?');
        is_required.then(|| (rest[..end].to_owned(), "1".to_owned()))
    };
    Variables::new(text.split("${").skip(1).filter_map(name))
}

/// With the types that YAML has.
pub(crate) fn json(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::List(items) => items.iter().map(json).collect(),
        Yaml::Map(entries) => entries
            .iter()
            .map(|(key, node)| (key.name.clone(), json(node)))
            .collect(),
        Yaml::Scalar { text, plain } => {
            let typed = plain.then(|| serde_json::from_str(text).ok()).flatten();
            typed.unwrap_or_else(|| Value::String(text.clone()))
        }
    }
}

/// What the official schema has against a file; nothing: it is valid.
fn fault(schema: &jsonschema::Validator, text: &str, variables: &Variables) -> Option<String> {
    let source = Source::new("f", text);
    let mut tree = match node::parse(&source, 0) {
        Ok(tree) => tree,
        Err(problem) => return Some(problem.to_string()),
    };
    interpolate(&mut tree, "", variables, &mut Problems::default());
    let document = json(&tree);
    let error = schema.validate(&document).err()?;
    Some(format!("{}: {error}", error.instance_path()))
}

/// Each finding has a place in a file and says what to do, or why.
fn is_complete(problem: &Problem, sources: &[Source]) -> bool {
    let source = sources.get(problem.place.file);
    let is_there = source.is_some_and(|s| problem.place.offset <= s.text.len());
    is_there
        && !problem.message.is_empty()
        && (problem.help.is_some() || problem.message.len() > 12)
}

/// A message without what is particular to one file.
fn kind(problem: &Problem) -> String {
    let key = problem.path.rsplit('.').next().unwrap_or_default();
    let key = key.split('[').next().unwrap_or_default();
    let message: String = problem.message.chars().take(60).collect();
    match problem.code {
        "not_supported" => format!("{key}: {message}"),
        code => format!("{code} ({key})"),
    }
}

#[derive(Default)]
struct Tally {
    taken: usize,
    refused: usize,
    invalid: usize,
    reasons: BTreeMap<String, usize>,
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, path: &Path, fault: Option<&str>, variables: &Variables) {
        let request = Request {
            files: vec![path.to_owned()],
            ..Request::default()
        };
        let name = path.display();
        let (problems, sources) = match (load(&request, variables), fault) {
            (Ok(_), None) => {
                self.taken += 1;
                return;
            }
            (Ok(_), Some(fault)) => {
                self.wrong
                    .push(format!("{name} is taken, and invalid: {fault}"));
                return;
            }
            (Err(ComposeError::Problems { problems, sources }), _) => (problems, sources),
            (Err(other), _) => {
                self.wrong.push(format!("{name}: {other}"));
                return;
            }
        };
        let errors: Vec<&Problem> = problems
            .iter()
            .filter(|p| p.level == Level::Error)
            .collect();
        let complete = problems.iter().all(|p| is_complete(p, &sources));
        if errors.is_empty() || !complete {
            self.wrong.push(format!("{name}: {problems:?}"));
        }
        if fault.is_some() {
            self.invalid += 1;
            return;
        }
        self.refused += 1;
        for problem in errors {
            *self.reasons.entry(kind(problem)).or_default() += 1;
            let ours = problem.path.split('.').any(|part| part.starts_with("x-"));
            let not_ours = ["yaml", "tag", "too_large"].contains(&problem.code);
            if not_ours || (problem.code == UNKNOWN_KEY && !ours) {
                self.wrong.push(format!("{name} is valid: {problem}"));
            }
        }
    }
}

#[test]
fn valid_files_give_services_or_reasons_and_invalid_ones_are_refused() {
    let (corpus, schema) = (shared().join("corpus"), shared().join("compose-spec.json"));
    if !(corpus.is_dir() && schema.is_file()) {
        eprintln!("skipped: no collection of real files beside the repository");
        return;
    }
    let schema = std::fs::read_to_string(schema).unwrap();
    let schema = jsonschema::draft7::new(&serde_json::from_str(&schema).unwrap()).unwrap();
    let mut tally = Tally::default();
    // More of them: directories with `:` between.
    let more = std::env::var_os("LONGSHORE_COMPOSE_FILES").unwrap_or_default();
    let more = std::env::split_paths(&more).filter(|d| d.is_dir());
    for path in more.chain([corpus]).flat_map(files_below) {
        let text = std::fs::read_to_string(&path).unwrap();
        let variables = required(&text);
        // Whoever says that a file is no YAML must be right: no schema is asked then.
        if let Err(problem) = node::parse(&Source::new("f", &text), 0) {
            tally.wrong.push(format!("{}: {problem}", path.display()));
        }
        let fault = fault(&schema, &text, &variables);
        tally.add(&path, fault.as_deref(), &variables);
    }
    eprintln!(
        "{} taken, {} refused with reasons, {} invalid and refused",
        tally.taken, tally.refused, tally.invalid
    );
    let mut reasons: Vec<_> = tally.reasons.iter().collect();
    reasons.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    for (reason, times) in reasons.iter().take(10) {
        eprintln!("{times:4} {reason}");
    }
    assert!(tally.wrong.is_empty(), "{}", tally.wrong.join("\n"));
    assert!(tally.taken + tally.refused > 0);
}

/// Every way to a key in the schema, names of one's own as `web`, items of lists as `0`.
fn ways(schema: &Value, at: &Value, way: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
    if let Some(name) = at["$ref"].as_str() {
        let name = name.trim_start_matches("#/definitions/");
        return ways(schema, &schema["definitions"][name], way, all);
    }
    if way.len() > 7 {
        return;
    }
    for alternatives in ["oneOf", "anyOf", "allOf"] {
        for one in at[alternatives].as_array().into_iter().flatten() {
            ways(schema, one, way, all);
        }
    }
    let mut step = |key: &str, below: &Value| {
        way.push(key.to_owned());
        if !all.contains(way) {
            all.push(way.clone());
        }
        ways(schema, below, way, all);
        way.pop();
    };
    for (key, below) in at["properties"].as_object().into_iter().flatten() {
        step(key, below);
    }
    for (pattern, below) in at["patternProperties"].as_object().into_iter().flatten() {
        if !pattern.starts_with("^x-") {
            step("web", below);
        }
    }
    if at["items"].is_object() {
        step("0", &at["items"]);
    }
}

/// A file with one value at the end of a way.
pub(crate) fn file_with(way: &[String], leaf: &str) -> String {
    let value = way
        .iter()
        .rev()
        .fold(leaf.to_owned(), |inside, key| match key.as_str() {
            "0" => format!("[{inside}]"),
            "web" => format!("{{web: {inside}}}"),
            key => format!("{{\"{key}\": {inside}}}"),
        });
    match way[0].as_str() {
        "services" if way.len() > 2 => {
            let rest = file_with_service(&value);
            format!("{rest}\n")
        }
        "services" => format!("{value}\n"),
        _ => {
            let inside = value.trim_start_matches('{');
            format!("{{services: {{web: {{image: a}}}}, {inside}\n")
        }
    }
}

fn file_with_service(value: &str) -> String {
    value.replacen("{web: {", "{web: {image: a, ", 1)
}

/// Every way to a key; none: there is no schema beside the repository.
pub(crate) fn ways_of_the_specification() -> Option<Vec<Vec<String>>> {
    let schema = std::fs::read_to_string(shared().join("compose-spec.json")).ok()?;
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let mut all = Vec::new();
    ways(&schema, &schema, &mut Vec::new(), &mut all);
    Some(all)
}

fn found(text: &str) -> (bool, Vec<Problem>) {
    let surroundings = (&crate::here(), &Variables::default());
    match parse(vec![Source::new("f", text)], Some("p"), "", surroundings) {
        Ok(loaded) => (true, loaded.warnings),
        Err(ComposeError::Problems { problems, .. }) => (false, problems),
        Err(other) => panic!("{other}"),
    }
}

/// Values, right at some keys and wrong at others.
const LEAVES: [&str; 13] = [
    "1",
    "[x, x]",
    "~",
    "{}",
    "{frob: 1}",
    "[]",
    "[1, 1]",
    "[[]]",
    "x",
    "-1",
    "true",
    "1.5",
    "\"\"",
];

#[test]
fn no_key_of_the_specification_is_unknown_and_no_wrong_value_is_taken() {
    let schema = shared().join("compose-spec.json");
    if !schema.is_file() {
        eprintln!("skipped: no schema beside the repository");
        return;
    }
    let schema = std::fs::read_to_string(schema).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let judge = jsonschema::draft7::new(&schema).unwrap();
    let mut all = Vec::new();
    ways(&schema, &schema, &mut Vec::new(), &mut all);
    let (mut unknown, mut lax) = (Vec::new(), Vec::new());
    for way in &all {
        for leaf in LEAVES {
            let text = file_with(way, leaf);
            let (is_taken, problems) = found(&text);
            let key = way.last().unwrap();
            let message = format!("unknown key `{key}`");
            if problems.iter().any(|p| p.message == message) {
                unknown.push(way.join("."));
            }
            if is_taken && let Some(fault) = fault(&judge, &text, &Variables::default()) {
                lax.push(format!("{} = {leaf}: {fault}", way.join(".")));
            }
        }
    }
    unknown.dedup();
    eprintln!(
        "{} ways, {} unknown, {} lax",
        all.len(),
        unknown.len(),
        lax.len()
    );
    assert!(
        unknown.is_empty() && lax.is_empty(),
        "{}\n\n{}",
        unknown.join("\n"),
        lax.join("\n")
    );
}
