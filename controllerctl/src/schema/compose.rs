//! Keys of the Compose Specification: what each does here, and what differs from Compose.

mod service;

use service::SERVICE;

/// A key of the specification.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word {
    /// Its name.
    pub(super) name: &'static str,
    /// What it does here.
    pub(super) doc: &'static str,
    /// Keys below it.
    pub(super) below: &'static [Word],
    /// Between it and them stands a name of one's own: `services.NAME`.
    pub(super) is_named: bool,
}

const fn word(name: &'static str, doc: &'static str) -> Word {
    over(name, doc, &[])
}

const fn over(name: &'static str, doc: &'static str, below: &'static [Word]) -> Word {
    let is_named = false;
    Word {
        name,
        doc,
        below,
        is_named,
    }
}

const fn named(name: &'static str, doc: &'static str, below: &'static [Word]) -> Word {
    let is_named = true;
    Word {
        name,
        doc,
        below,
        is_named,
    }
}

const FILE: Word = word(
    "file",
    "A file beside the Compose file; it is read when `up` runs.",
);
const VARIABLE: Word = word(
    "environment",
    "The variable that has it where the command runs.",
);
const LABELS: Word = word("labels", "Taken with a warning where nothing bears them.");

/// The top of a file.
pub(super) const TOP: &[Word] = &[
    word(
        "name",
        "The app. -p and COMPOSE_PROJECT_NAME come before it, the directory's name after it.",
    ),
    word("version", "Obsolete; ignored with a warning."),
    named(
        "services",
        "The services of the app: containers of one image each, as many as wanted, on any nodes.",
        SERVICE,
    ),
    over(
        "include",
        "Other Compose files, each with a directory and .env of its own; what they describe is there, too.",
        &[
            word("path", "The file, or several that are merged."),
            word(
                "project_directory",
                "Relative names start from it; else from the file's own directory.",
            ),
            word(
                "env_file",
                "Variables instead of the .env of that directory.",
            ),
        ],
    ),
    named(
        "networks",
        "Groups of services that know each other's names, over all nodes. There is no overlay network: they keep \
         nobody from an address.",
        &[
            word(
                "driver",
                "bridge and overlay are taken with a warning: nothing follows from them.",
            ),
            word(
                "driver_opts",
                "encrypted is taken: traffic between nodes always is.",
            ),
            word(
                "name",
                "Taken with a warning: no engine has a network of this name.",
            ),
            word(
                "attachable",
                "Taken with a warning: only services of the app are on it.",
            ),
            word(
                "internal",
                "true is refused: containers reach what their node reaches.",
            ),
            word(
                "external",
                "true is refused: services see those of their own app.",
            ),
            word(
                "enable_ipv4",
                "false is refused: names lead to IPv4 addresses.",
            ),
            word(
                "enable_ipv6",
                "true is refused: names lead to IPv4 addresses.",
            ),
            word(
                "ipam",
                "Refused where it asks for addresses: each node's engine gives them.",
            ),
            LABELS,
        ],
    ),
    named(
        "volumes",
        "Named volumes. Each is local to the node where its replica runs; the engine calls it APP_NAME.",
        &[
            word("name", "What the engine calls it, instead of APP_NAME."),
            word(
                "external",
                "It is there already: it is called by its own name, and nothing makes it.",
            ),
            word(
                "driver",
                "The volume driver of the nodes' engines; local by default.",
            ),
            word(
                "driver_opts",
                "Options of the driver; of local: type, device, o and size.",
            ),
            word("labels", "Labels of the volume where it is made."),
        ],
    ),
    named(
        "secrets",
        "Texts that services are given as files below /run/secrets, kept by the controller; at most 500 KiB each.",
        &[FILE, VARIABLE],
    ),
    named(
        "configs",
        "Texts that services are given as files, kept by the controller; at most 1 MiB each.",
        &[
            FILE,
            VARIABLE,
            word("content", "The text itself; variables in it are filled in."),
        ],
    ),
];

/// A key, and the way to it with `NAME` for names of one's own.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) word: &'static Word,
    pub(super) way: String,
    /// What it belongs to.
    pub(super) level: String,
}

/// Why there is none: the part that nobody knows, and what may stand there.
#[derive(Debug)]
pub(super) struct Unknown<'p> {
    pub(super) part: &'p str,
    pub(super) words: Vec<&'static str>,
    pub(super) level: String,
}

/// Looks a key up; names of one's own may be left away.
pub(super) fn find<'p>(parts: &[&'p str]) -> Result<Found, Unknown<'p>> {
    let (mut words, mut way) = (TOP, String::new());
    let mut found = None;
    let mut rest = parts;
    while let [part, after @ ..] = rest {
        let Some(word) = words.iter().find(|word| word.name == *part) else {
            let words = words.iter().map(|word| word.name).collect();
            let level = way;
            return Err(Unknown { part, words, level });
        };
        let level = way.clone();
        way = join(&way, word.name);
        (words, rest) = (word.below, after);
        if word.is_named && !after.is_empty() {
            way.push_str(".NAME");
            rest = &after[usize::from(begins_with_a_name(after, word.below))..];
        }
        found = Some((word, level));
    }
    let words = || TOP.iter().map(|word| word.name).collect();
    let (word, level) = found.ok_or_else(|| Unknown {
        part: "",
        words: words(),
        level: String::new(),
    })?;
    Ok(Found { word, way, level })
}

/// Is the first part a name of one's own? One that is a key, too, is meant as that unless another
/// key follows.
fn begins_with_a_name(parts: &[&str], words: &[Word]) -> bool {
    let word = |part: &str| words.iter().find(|word| word.name == part);
    match parts {
        [first] => {
            let near = crate::compose::nearest(first, words.iter().map(|word| word.name));
            let is_refused = crate::compose::support::of_service(first).is_some();
            word(first).is_none() && near.is_none() && !is_refused
        }
        [first, second, ..] => match word(first) {
            None => true,
            Some(key) => {
                let leads_on = key.is_named || key.below.iter().any(|word| word.name == *second);
                word(second).is_some() && !leads_on
            }
        },
        [] => false,
    }
}

fn join(way: &str, name: &str) -> String {
    match way.is_empty() {
        true => name.to_owned(),
        false => format!("{way}.{name}"),
    }
}

/// Levels of a service whose keys are sought elsewhere, from the top down.
const HOMES: [&[&str]; 6] = [
    &[],
    &["deploy"],
    &["deploy", "resources"],
    &["deploy", "resources", "limits"],
    &["deploy", "placement"],
    &["healthcheck"],
];

/// Keys of services that people write at another level, each with what it belongs to:
/// `("services.NAME.deploy", "replicas")`.
pub(super) fn homes() -> impl Iterator<Item = (String, &'static str)> {
    HOMES.iter().flat_map(|steps| {
        let mut words = SERVICE;
        let mut home = String::from("services.NAME");
        for step in *steps {
            home = join(&home, step);
            let below = words.iter().find(|word| word.name == *step);
            words = below.map_or(&[], |word| word.below);
        }
        words.iter().map(move |word| (home.clone(), word.name))
    })
}

/// The level of a mapping in a file: `services.web.deploy` is `services.NAME.deploy`.
pub(super) fn level(path: &str) -> String {
    let parts = path.split('.').enumerate();
    let parts = parts.map(|(at, part)| if at == 1 { "NAME" } else { part });
    parts.collect::<Vec<_>>().join(".")
}
