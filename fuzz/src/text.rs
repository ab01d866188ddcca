//! Lines of containers on a terminal: nothing in them moves, colours or reorders anything.

#![no_main]

use controllerctl::output::template::Template;
use controllerctl::text::{is_unsafe, printable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let shown = printable(&text);
    assert!(
        !shown.chars().any(|c| is_unsafe(c) && c != '\t'),
        "{shown:?}"
    );
    assert_eq!(printable(&shown), shown, "made safe twice");
    assert!(shown.len() <= text.len());
    let template = Template::new(&text);
    if template.check().is_ok() {
        let _ =
            template.render(&serde_json::json!({"name": "web", "count": 3, "nodes": ["a", "b"]}));
    }
});
