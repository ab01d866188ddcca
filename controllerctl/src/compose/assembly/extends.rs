//! `extends`: a service that begins as another.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use super::super::interpolate::interpolate;
use super::super::node::{Node, Value};
use super::super::source::Place;
use super::super::{merge, paths, read};
use super::{Assembly, COPIES_MAX, DEPTH_MAX, Scope, count};

/// A service: the number of its file, and its name.
pub(super) type At = (usize, String);

/// What `extends` says.
struct Extends {
    service: String,
    file: Option<String>,
    place: Place,
    /// Where the file is named.
    file_place: Place,
    path: String,
}

impl Assembly {
    /// Puts every service of one file on top of what it extends.
    pub(super) fn extend(&mut self, tree: &mut Node, file: usize, scope: &Scope) {
        let Some(services) = tree.get("services") else {
            return;
        };
        let Value::Map(entries) = &services.value else {
            return;
        };
        let extending = entries.iter().filter(|(_, s)| s.get("extends").is_some());
        let names: Vec<String> = extending.map(|(key, _)| key.name.clone()).collect();
        let mut done = Vec::new();
        for name in names {
            let mut trail = vec![(file, name.clone())];
            self.is_broken = false;
            if let Some(node) = self.resolve(services, &name, scope, &mut trail) {
                if self.is_broken {
                    self.problems.lacks_base(&name);
                }
                done.push((name, node));
            }
        }
        if let Some(services) = tree.get_mut("services") {
            for (name, node) in done {
                if let Some(service) = services.get_mut(&name) {
                    *service = node;
                }
            }
        }
    }

    /// A service with all that it extends. `trail` ends with it.
    fn resolve(
        &mut self,
        services: &Node,
        name: &str,
        scope: &Scope,
        trail: &mut Vec<At>,
    ) -> Option<Node> {
        let own = services.get(name)?;
        let place = own.place;
        self.copies += count(own);
        let mut own = own.clone();
        let Some((_, extends)) = own.remove("extends") else {
            return Some(own);
        };
        let path = format!("services.{name}.extends");
        if self.copies > COPIES_MAX {
            let message = "the file becomes larger than any app should be";
            let help = "extend smaller services, or fewer of them";
            self.wrong(place, &path, message.into(), help);
            self.is_broken = true;
            return Some(own);
        }
        let Some(extends) = self.extends(&extends, path) else {
            self.is_broken = true;
            return Some(own);
        };
        let base = match &extends.file {
            None => self.base(services, &extends, scope, trail),
            Some(other) => self.elsewhere(other, &extends, scope, trail),
        };
        Some(match base {
            Some(base) => {
                let base = merge::settle(base);
                merge::merge_service(name, base, own, &mut self.problems)
            }
            None => {
                self.is_broken = true;
                own
            }
        })
    }

    fn wrong(&mut self, place: Place, path: &str, message: String, help: &str) {
        self.problems
            .error("extends", place, path, message)
            .help(help)
            .file();
    }

    /// None: it says nothing, or something is wrong with it, which is said.
    fn extends(&mut self, node: &Node, path: String) -> Option<Extends> {
        let (service, file) = match &node.value {
            Value::Map(_) => {
                self.known(node, &["service", "file"], &path);
                let text = |name| node.get(name).and_then(Node::as_text).map(str::to_owned);
                (text("service"), text("file"))
            }
            _ => (node.as_text().map(str::to_owned), None),
        };
        let of = |name: &str| node.get(name).map_or(node.place, |node| node.place);
        let (place, file_place) = (of("service"), of("file"));
        let Some(service) = service.filter(|name| !name.is_empty()) else {
            let help = "write for example: extends: { file: common.yaml, service: base }";
            self.wrong(place, &path, "names no service".into(), help);
            return None;
        };
        Some(Extends {
            service,
            file,
            place,
            file_place,
            path,
        })
    }

    /// The service that is extended, with all that it extends itself.
    fn base(
        &mut self,
        services: &Node,
        extends: &Extends,
        scope: &Scope,
        trail: &mut Vec<At>,
    ) -> Option<Node> {
        let file = trail.last().map_or(0, |(file, _)| *file);
        self.step(services, extends, file, scope, trail)
    }

    fn step(
        &mut self,
        services: &Node,
        extends: &Extends,
        file: usize,
        scope: &Scope,
        trail: &mut Vec<At>,
    ) -> Option<Node> {
        let name = &extends.service;
        if services.get(name).is_none() {
            let known = match &services.value {
                Value::Map(entries) => entries.iter().map(|(key, _)| key.name.as_str()).collect(),
                _ => Vec::new(),
            };
            let source = self.sources.get(file).map(|s| s.name.clone());
            let source = source.unwrap_or_default();
            let message = format!("there is no service `{name}` in {source}");
            let help = match read::keys::nearest(name, known) {
                Some(near) => super::super::problem::did_you_mean(near),
                None => "name another file with extends.file".into(),
            };
            self.wrong(extends.place, &extends.path, message, &help);
            return None;
        }
        let at = (file, name.clone());
        if let Some(start) = trail.iter().position(|other| *other == at) {
            // Each service in it comes here once.
            let members: BTreeSet<At> = trail[start..].iter().cloned().collect();
            if !self.circles.insert(members) {
                return None;
            }
            let circle = trail[start..].iter().chain([&at]);
            let circle: Vec<String> = circle.map(|at| self.named(at)).collect();
            let message = format!("services extend each other: {}", circle.join(" -> "));
            let help = "move what they share into a third one";
            self.wrong(extends.place, &extends.path, message, help);
            return None;
        }
        if trail.len() >= DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} services extend one after the other");
            let help = "shorten the chain";
            self.wrong(extends.place, &extends.path, message, help);
            return None;
        }
        trail.push(at);
        let base = self.resolve(services, name, scope, trail);
        trail.pop();
        base
    }

    fn named(&self, (file, name): &At) -> String {
        let source = self.sources.get(*file);
        let source = source.map_or("", |source| source.name.as_str());
        format!("{name} ({source})")
    }

    /// A service of another file; its relative names start from there.
    fn elsewhere(
        &mut self,
        other: &str,
        extends: &Extends,
        scope: &Scope,
        trail: &mut Vec<At>,
    ) -> Option<Node> {
        let other = Path::new(other.strip_prefix("./").unwrap_or(other));
        let path = scope.directory.join(other);
        let file = self.open(&path, extends.file_place, &extends.path)?;
        let tree = match self.bases.get(&(scope.id, file.index)) {
            Some(tree) => Rc::clone(tree),
            None => {
                let mut whole: Option<Node> = None;
                for mut tree in file.trees.iter().cloned() {
                    interpolate(&mut tree, "", &scope.variables, &mut self.problems);
                    whole = Some(match whole {
                        Some(base) => merge::merge(base, tree, &mut self.problems),
                        None => tree,
                    });
                }
                let tree = Rc::new(whole?);
                self.bases.insert((scope.id, file.index), Rc::clone(&tree));
                tree
            }
        };
        let below = other.parent().unwrap_or(Path::new(""));
        let there = Scope {
            directory: scope.directory.join(below),
            variables: scope.variables.clone(),
            id: scope.id,
        };
        let none = Node::new(Value::Null, extends.place);
        let services = tree.get("services").unwrap_or(&none);
        let mut base = self.step(services, extends, file.index, &there, trail)?;
        paths::rebase_service(&mut base, below);
        Some(base)
    }
}
