//! What the reader takes, the API takes, and so does the engine as far as it can be known.

use controllerctl::compose::ComposeError;
use controllerctl::compose::interpolate::Variables;
use controllerctl::compose::problem::Level;
use controllerctl::compose::source::Source;
use controllerctl::compose::{Loaded, parse};
use longshore_wire::{service_spec_from_pb, service_spec_to_pb};
use proptest::prelude::*;

use crate::compose::{faults, web};
use crate::compose_corpus::{file_with, ways_of_the_specification};

fn read(text: &str) -> Result<Loaded, ComposeError> {
    let surroundings = (&crate::here(), &Variables::default());
    parse(vec![Source::new("f", text)], Some("p"), "", surroundings)
}

/// What the API has against a file that is taken.
fn against(text: &str) -> Option<String> {
    let loaded = read(text).ok()?;
    let services = loaded.services.iter();
    let mut said = services.filter_map(|(name, spec)| {
        let back = service_spec_from_pb(service_spec_to_pb(spec));
        match back {
            Ok(back) => (back != *spec).then(|| format!("{name} is another one there")),
            Err(error) => Some(format!("{name}: {error}")),
        }
    });
    said.next()
}

/// Values near limits.
fn leaves() -> Vec<String> {
    let list = |count: usize, word: &str| {
        let words: Vec<String> = (0..count).map(|n| format!("\"{word}{n}\"")).collect();
        format!("[{}]", words.join(", "))
    };
    let map = |count: usize, value: &str| {
        let pairs: Vec<String> = (0..count).map(|n| format!("K{n}: {value}")).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    let long = "a".repeat(5_000);
    let mut leaves = vec![
        long.clone(),
        format!("/{long}"),
        format!("[/{long}]"),
        "[{ source: /dev/a }]".to_owned(),
        "\"a b\"".to_owned(),
        "\"a\\0b\"".to_owned(),
        "[\"a\\0b\"]".to_owned(),
        "\"a\\nb\"".to_owned(),
        "{ \"A=B\": x }".to_owned(),
        "{ \"\": x }".to_owned(),
        "{ \"a\\0\": x }".to_owned(),
        "{ a: \"x\\0\" }".to_owned(),
        "25h".to_owned(),
        "24h".to_owned(),
        "18446744073709551615".to_owned(),
        "9223372036854775807".to_owned(),
        "-9223372036854775808".to_owned(),
        "4294967296".to_owned(),
        "0".to_owned(),
        "0.0001".to_owned(),
        "1e3".to_owned(),
        "8e".to_owned(),
        "100%".to_owned(),
        "/a".to_owned(),
        "a:b".to_owned(),
        "host".to_owned(),
    ];
    for count in [257] {
        for word in ["w", "/w", "80", "a=", "node.labels.a==", "10.0.0."] {
            leaves.push(list(count, word));
        }
        leaves.push(map(count, "1"));
        leaves.push(map(count, "{}"));
    }
    leaves
}

#[test]
fn what_is_taken_at_any_key_the_api_takes() {
    let Some(ways) = ways_of_the_specification() else {
        eprintln!("skipped: no schema beside the repository");
        return;
    };
    let leaves = leaves();
    let (mut wrong, mut taken) = (Vec::new(), 0);
    for way in ways.iter().filter(|way| way[0] == "services") {
        for leaf in &leaves {
            let text = file_with(way, leaf);
            if let Some(said) = against(&text) {
                let leaf: String = leaf.chars().take(40).collect();
                wrong.push(format!("{} = {leaf}: {said}", way.join(".")));
            } else {
                taken += 1;
            }
        }
    }
    assert!(
        wrong.is_empty() && taken > 1_000,
        "{taken}\n{}",
        wrong.join("\n")
    );
}

#[test]
fn names_of_images_are_those_that_engines_take() {
    let digest = "a".repeat(64);
    let refused = [
        "https://x/y:1",
        "a:b:c",
        "-rm",
        "A/B",
        "x:",
        "/x",
        "a@sha256:123",
        "a@sha256",
        "a//b",
        "a/../b",
        "a b",
        "Upper",
        "x:.tag",
        "a_-b",
        "host:port/x",
        &digest,
        &format!("x@md5:{digest}"),
        &format!("x:{}", "t".repeat(129)),
        &"x/".repeat(200),
    ];
    for image in refused {
        let text = format!("services:\n  web:\n    image: \"{image}\"\n");
        let Err(ComposeError::Problems { problems, .. }) = read(&text) else {
            panic!("{image} is taken");
        };
        let places: Vec<_> = problems
            .iter()
            .map(|p| (p.path.as_str(), p.level))
            .collect();
        assert_eq!(places, [("services.web.image", Level::Error)], "{image}");
        // And so does the API.
        let mut spec = web("");
        spec.container.image = image.to_owned();
        let refusal = service_spec_from_pb(service_spec_to_pb(&spec));
        let refusal = refusal.unwrap_err().to_string();
        assert!(refusal.starts_with("image: "), "{image}: {refusal}");
    }
    for image in [
        "nginx",
        "nginx:1.29-alpine_X",
        "Registry.example.com:5000/shop/web:1",
        "localhost/a",
        "A/b",
        "[::1]:5000/a",
        "a__b--c.d_e",
        &format!("nginx:1@sha256:{digest}"),
        &format!("nginx@sha512:{digest}{digest}"),
        "ghcr.io/a/b/c/d:latest",
    ] {
        let text = format!("services:\n  web:\n    image: \"{image}\"\n");
        assert!(read(&text).is_ok(), "{image}");
    }
}

#[test]
fn signals_and_names_of_variables_are_known_here() {
    for (lines, why) in [
        (
            "    stop_signal: SIGFOO\n",
            "stop_signal: \"SIGFOO\" is no signal",
        ),
        ("    stop_signal: \"0\"\n", "is no signal"),
        ("    stop_signal: SIGTREM\n", "is no signal"),
        (
            "    environment: { \"A=B\": x }\n",
            "environment.A=B: a name holds no =",
        ),
        ("    environment: { \"A\\0\": x }\n", "a NUL byte"),
        (
            "    devices: [\"/dev/a:/dev/b:xyz\"]\n",
            "devices[0]: \"xyz\"",
        ),
        ("    devices: [{ target: /dev/b }]\n", "has no source"),
        (
            "    devices: [{ source: /dev/a, target: \"/x:y\" }]\n",
            "holds a colon",
        ),
    ] {
        let said = faults(lines);
        assert!(said.contains(why), "{lines}: {said}");
    }
    for signal in [
        "SIGTERM",
        "term",
        "QUIT",
        "9",
        "SIGRTMIN+3",
        "RTMAX-14",
        "sigwinch",
    ] {
        let spec = web(&format!("    stop_signal: \"{signal}\"\n"));
        assert_eq!(spec.container.stop_signal.as_deref(), Some(signal));
    }
    let mut spec = web("");
    spec.container.stop_signal = Some("SIGFOO".into());
    assert!(service_spec_from_pb(service_spec_to_pb(&spec)).is_err());
}

#[test]
fn an_app_whose_name_makes_no_image_says_so() {
    let text = "name: a_\nservices: { web: { build: . } }\n";
    let surroundings = (&crate::here(), &Variables::default());
    let read = parse(vec![Source::new("f", text)], None, "", surroundings);
    let Err(ComposeError::Problems { problems, .. }) = read else {
        panic!("taken");
    };
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(said.iter().any(|s| s.contains("a_-web:latest")), "{said:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_word_is_taken_here_and_refused_there(
        key in prop::sample::select(vec![
            "image", "user", "working_dir", "hostname", "domainname", "stop_signal", "platform",
            "cpuset", "runtime", "ipc", "pid", "command", "entrypoint", "tmpfs", "stop_grace_period",
            "mem_limit", "memswap_limit", "cpus", "pids_limit", "shm_size", "oom_score_adj",
        ]),
        word in "[ -~]{0,12}|[a-z0-9:/@._+-]{0,24}|[0-9]{1,20}[a-z]{0,2}",
    ) {
        let quoted = serde_json::to_string(&word).unwrap();
        let text = format!("services:\n  web:\n    image: a\n    {key}: {quoted}\n").replace("    image: a\n    image", "    image");
        prop_assert_eq!(against(&text), None, "{}", text);
    }
}
