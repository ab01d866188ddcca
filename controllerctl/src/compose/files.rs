//! Which files are read, and with which variables.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::interpolate::Variables;
use super::node::INPUT_BYTES_MAX;
use super::source::Source;
use super::{ComposeError, Request, dotenv};

/// Most files of one app that are merged.
pub(super) const FILES_MAX: usize = 16;
/// Names that are tried when no file is given.
const DEFAULT_FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];
/// Names of the file that is put on top of one of them.
const OVERRIDE_FILES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
];

/// The files of a request, and what their variables stand for.
///
/// # Errors
/// None is there, too many are, or a file of variables cannot be read.
pub(super) fn choose(
    request: &Request,
    environment: &Variables,
) -> Result<(Vec<PathBuf>, Variables), ComposeError> {
    let mut variables = environment.clone();
    let given = env_files(request, environment);
    if given.len() > FILES_MAX {
        return Err(ComposeError::TooMany(given.len()));
    }
    add_env_files(&given, &mut variables)?;
    let dot_env = |directory: &Path, variables: &mut Variables| {
        let path = directory.join(".env");
        match given.is_empty() && path.is_file() {
            true => add_env_files(&[path], variables),
            false => Ok(()),
        }
    };
    dot_env(&request.directory, &mut variables)?;
    let files = named(request, &variables)?;
    if files.len() > FILES_MAX {
        return Err(ComposeError::TooMany(files.len()));
    }
    let first = files.first().ok_or(ComposeError::NoFile)?;
    // The project may be elsewhere.
    if first != Path::new("-") {
        dot_env(Source::directory(first), &mut variables)?;
    }
    Ok((files, variables))
}

/// `--env-file`, else `COMPOSE_ENV_FILES`.
fn env_files(request: &Request, environment: &Variables) -> Vec<PathBuf> {
    let here = |file: &Path| request.directory.join(file);
    if !request.env_files.is_empty() {
        return request.env_files.iter().map(|file| here(file)).collect();
    }
    let set = environment.get("COMPOSE_ENV_FILES").unwrap_or_default();
    let files = set.split(',').filter(|file| !file.is_empty());
    files.map(|file| here(Path::new(file))).collect()
}

/// Adds what files say below what is known. A later file wins over an earlier one.
pub(super) fn add_env_files(
    files: &[PathBuf],
    variables: &mut Variables,
) -> Result<(), ComposeError> {
    let mut pairs = Vec::new();
    for path in files {
        // What is set outside wins, then what the file before said.
        let mut known = variables.clone();
        known.add(pairs.iter().cloned());
        let text = read_text(path)?;
        let fault = |line, message| ComposeError::EnvFile {
            path: path.clone(),
            line,
            message,
        };
        if text.len() > INPUT_BYTES_MAX {
            return Err(fault(1, format!("more than {INPUT_BYTES_MAX} bytes")));
        }
        let read = dotenv::parse(&text, &known).map_err(|e| fault(e.line, e.message))?;
        pairs.splice(0..0, read);
    }
    variables.add(pairs);
    Ok(())
}

/// `-f`, else `COMPOSE_FILE`, else what is there under one of the usual names.
fn named(request: &Request, variables: &Variables) -> Result<Vec<PathBuf>, ComposeError> {
    let here = |name: &Path| match name == Path::new("-") {
        true => name.to_owned(),
        false => request.directory.join(name),
    };
    if !request.files.is_empty() {
        return Ok(request.files.iter().map(|file| here(file)).collect());
    }
    let set = |name: &str| variables.get(name).filter(|value| !value.is_empty());
    if let Some(files) = set("COMPOSE_FILE") {
        let separator = set("COMPOSE_PATH_SEPARATOR").unwrap_or(":");
        let files = files.split(separator).filter(|file| !file.is_empty());
        return Ok(files.map(|file| here(Path::new(file))).collect());
    }
    let first = |names: &[&str]| {
        let mut paths = names.iter().map(|name| here(Path::new(name)));
        paths.find(|path| path.is_file())
    };
    let base = first(&DEFAULT_FILES).ok_or(ComposeError::NoFile)?;
    Ok([base].into_iter().chain(first(&OVERRIDE_FILES)).collect())
}

/// Reads at most a little more than is allowed: the length is judged with the rest.
pub(super) fn read_text(path: &Path) -> Result<String, ComposeError> {
    let io = |source| ComposeError::Io {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let limit = INPUT_BYTES_MAX as u64 + 1;
    if path == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(io)?;
    } else {
        let file = std::fs::File::open(path).map_err(io)?;
        file.take(limit).read_to_end(&mut bytes).map_err(io)?;
    }
    String::from_utf8(bytes).map_err(|_| {
        io(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "it is not UTF-8",
        ))
    })
}
