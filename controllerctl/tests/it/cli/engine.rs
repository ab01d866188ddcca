//! An engine as small as images need: HTTP on a unix socket, one request a connection, with images
//! in both layouts of their archives.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use controllerctl::engine::archive::digest;

/// How an image is written into its archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Before engine 25.
    Classic,
    /// Since then.
    Oci,
    /// With the store of containerd, as registries gave it.
    OciGzip,
}

/// An image: archives of its layers.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) layout: Layout,
    /// Layers of the same for linux/arm64/v8, that the engine does not take by itself.
    pub(crate) arm: Vec<Vec<u8>>,
}

/// What it has and what it does wrong.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) images: BTreeMap<String, Image>,
    /// Method and path of each request but looks, without the version.
    pub(crate) calls: Vec<String>,
    /// Names of the files of the last build, and its query.
    pub(crate) built: (Vec<String>, String),
    /// What a build makes.
    pub(crate) makes: Option<Image>,
    /// What a build says before it fails.
    pub(crate) build_fails: Option<String>,
    /// Archives end in the middle.
    pub(crate) breaks_off: bool,
    /// Looks at images fail.
    pub(crate) no_looks: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Engine(Arc<Mutex<State>>);

/// The archive of a layer with one file, whose contents cannot be compressed.
pub(crate) fn layer(name: &str, bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    });
    let contents: Vec<u8> = noise.take(bytes).collect();
    archive(&[(name, &contents)])
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, contents) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(contents.len() as u64);
        archive.append_data(&mut header, name, *contents).unwrap();
    }
    archive.into_inner().unwrap()
}

impl Image {
    pub(crate) fn diff_ids(&self) -> Vec<String> {
        self.layers.iter().map(|layer| digest(layer)).collect()
    }

    pub(crate) fn config(&self) -> Vec<u8> {
        let ids = self.diff_ids();
        let config = serde_json::json!({ "architecture": "amd64", "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": ids } });
        config.to_string().into_bytes()
    }

    pub(crate) fn arm_config(&self) -> Option<Vec<u8>> {
        let ids: Vec<String> = self.arm.iter().map(|layer| digest(layer)).collect();
        let config = serde_json::json!({ "architecture": "arm64", "os": "linux", "variant": "v8",
            "rootfs": { "type": "layers", "diff_ids": ids } });
        (!ids.is_empty()).then(|| config.to_string().into_bytes())
    }

    fn archive(&self) -> Vec<u8> {
        let config = self.config();
        let hex = |bytes: &[u8]| digest(bytes).replace("sha256:", "");
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        let mut layers = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let name = match self.layout {
                Layout::Classic => {
                    // Their names say nothing, and are in no order.
                    let name = hex(format!("layer {index}").as_bytes());
                    files.push((format!("{name}/VERSION"), b"1.0".to_vec()));
                    files.push((format!("{name}/json"), b"{\"id\":1}".to_vec()));
                    files.push((format!("{name}/layer.tar"), layer.clone()));
                    layers.push(format!("{name}/layer.tar"));
                    continue;
                }
                Layout::Oci => hex(layer),
                Layout::OciGzip => {
                    let level = flate2::Compression::fast();
                    let mut out = flate2::write::GzEncoder::new(Vec::new(), level);
                    out.write_all(layer).unwrap();
                    let small = out.finish().unwrap();
                    let name = format!("blobs/sha256/{}", hex(&small));
                    files.push((name.clone(), small));
                    layers.push(name);
                    continue;
                }
            };
            let name = format!("blobs/sha256/{name}");
            files.push((name.clone(), layer.clone()));
            layers.push(name);
        }
        let of_config = match self.layout {
            Layout::Classic => format!("{}.json", hex(&config)),
            _ => format!("blobs/sha256/{}", hex(&config)),
        };
        files.push((of_config.clone(), config));
        for layer in &self.arm {
            files.push((format!("blobs/sha256/{}", hex(layer)), layer.clone()));
        }
        if let Some(config) = self.arm_config() {
            files.push((format!("blobs/sha256/{}", hex(&config)), config));
        }
        files.sort();
        let list = serde_json::json!([{ "Config": of_config, "RepoTags": [], "Layers": layers }]);
        files.push(("manifest.json".into(), list.to_string().into_bytes()));
        let files: Vec<_> = files
            .iter()
            .map(|(n, c)| (n.as_str(), c.as_slice()))
            .collect();
        archive(&files)
    }
}

impl Engine {
    /// Listens at `path`.
    pub(crate) fn start(path: &Path) -> Self {
        let engine = Self::default();
        let listener = UnixListener::bind(path).unwrap();
        let serving = engine.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let engine = serving.clone();
                std::thread::spawn(move || engine.answer(stream.unwrap()));
            }
        });
        engine
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn answer(&self, stream: UnixStream) {
        let mut input = BufReader::new(stream.try_clone().unwrap());
        let mut out = stream;
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        let Some((method, rest)) = line.split_once(' ') else {
            return;
        };
        let url = rest.split(' ').next().unwrap();
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        // Without the version.
        let path = match path.strip_prefix("/v") {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => {
                &rest[rest.find('/').unwrap()..]
            }
            _ => path,
        };
        let body = body(&mut input);
        let name = path.trim_start_matches("/images/");
        let mut state = self.state();
        if !path.ends_with("/json") && path != "/version" {
            state.calls.push(format!("{method} {path}"));
        }
        let (code, answer) = match (method, path.rsplit('/').next().unwrap()) {
            ("GET", "version") => (
                200,
                br#"{"ApiVersion":"1.41","MinAPIVersion":"1.12"}"#.to_vec(),
            ),
            ("GET", "json") if state.no_looks => {
                (500, br#"{"message":"the disk is gone"}"#.to_vec())
            }
            ("GET", "json") => look(&state, name.trim_end_matches("/json")),
            ("GET", "get") => {
                let image = &state.images[name.trim_end_matches("/get")];
                let mut archive = image.archive();
                let bytes = archive.len() / 2;
                if state.breaks_off {
                    archive.truncate(bytes);
                }
                (200, archive)
            }
            ("POST", "build") => build(&mut state, &body, query),
            _ => (404, br#"{"message":"page not found"}"#.to_vec()),
        };
        drop(state);
        let length = answer.len();
        let head = format!(
            "HTTP/1.1 {code} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n"
        );
        // Who went away hears nothing.
        let _ = out
            .write_all(head.as_bytes())
            .and_then(|()| out.write_all(&answer));
    }
}

fn look(state: &State, name: &str) -> (u16, Vec<u8>) {
    let Some(image) = state.images.get(name) else {
        return (404, br#"{"message":"No such image"}"#.to_vec());
    };
    // The store of containerd knows images by their manifests.
    let id = match image.layout {
        Layout::OciGzip => digest(b"manifest"),
        _ => digest(&image.config()),
    };
    let answer = serde_json::json!({ "Id": id, "Os": "linux", "Architecture": "amd64",
        "RootFS": { "Type": "layers", "Layers": image.diff_ids() } });
    (200, answer.to_string().into_bytes())
}

fn build(state: &mut State, body: &[u8], query: &str) -> (u16, Vec<u8>) {
    let mut archive = tar::Archive::new(body);
    let names = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        entry.path().unwrap().display().to_string()
    });
    state.built = (names.collect(), query.to_owned());
    if let Some(lines) = &state.build_fails {
        return (200, lines.clone().into_bytes());
    }
    let name = query.split('&').find_map(|pair| pair.strip_prefix("t="));
    let name = name.unwrap().replace("%3A", ":").replace("%2F", "/");
    let image = state.makes.clone().unwrap();
    state.images.insert(name, image);
    let said =
        "{\"stream\":\"Step 1/1 : FROM scratch\\n\"}\r\n{\"stream\":\"Successfully built\\n\"}\r\n";
    (200, said.into())
}

/// With a length, or in chunks.
fn body(input: &mut impl BufRead) -> Vec<u8> {
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        is_chunked |= line == "transfer-encoding: chunked";
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).unwrap();
    while is_chunked {
        let mut line = String::new();
        input.read_line(&mut line).unwrap();
        let bytes = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; bytes + 2];
        input.read_exact(&mut chunk).unwrap();
        body.extend_from_slice(&chunk[..bytes]);
        is_chunked = bytes > 0;
    }
    body
}
