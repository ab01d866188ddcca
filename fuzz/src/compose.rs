//! Compose files, and old ones that are converted: whatever is in them, they are taken or refused, and what is taken
//! and written down again is the same app.

#![no_main]

use std::path::Path;
use std::time::SystemTime;

use controllerctl::compose::interpolate::Variables;
use controllerctl::compose::source::Source;
use controllerctl::compose::{Here, Loaded, parse};
use controllerctl::convert::convert;
use libfuzzer_sys::fuzz_target;

/// Files that are named are not there.
const NOWHERE: &str = "/nonexistent";

fn read(text: &str) -> Option<Loaded> {
    let here = Here {
        directory: NOWHERE.into(),
        now: SystemTime::UNIX_EPOCH,
    };
    let variables = Variables::new([
        ("SET".into(), "value".into()),
        ("EMPTY".into(), String::new()),
    ]);
    let sources = vec![Source::new("compose.yaml", text)];
    parse(sources, None, "app", (&here, &variables)).ok()
}

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    for drops in [false, true] {
        let _ = convert(
            &Source::new("docker-compose.yml", text),
            Path::new(NOWHERE),
            drops,
        );
    }
    let Some(loaded) = read(text) else { return };
    let Ok(again) = serde_saphyr::to_string(&loaded.tree) else {
        panic!("what was taken cannot be written");
    };
    let Some(second) = read(&again) else {
        panic!("what was taken and written is refused:\n{again}");
    };
    assert_eq!(loaded.app, second.app, "{again}");
    assert_eq!(loaded.services, second.services, "{again}");
});
