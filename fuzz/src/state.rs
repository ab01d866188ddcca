//! What HAProxy says of itself: statistics, states of servers, workers.

#![no_main]

use libfuzzer_sys::fuzz_target;
use longshore_haproxy_driver::readout;
use longshore_haproxy_driver::versions::Version;

fuzz_target!(|input: &[u8]| {
    let Some((which, rest)) = input.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    match which % 6 {
        0 => drop(readout::servers_state(&text)),
        1 => drop(readout::stat(&text)),
        2 => drop(readout::info(&text)),
        3 => drop(readout::processes(&text)),
        4 => {
            let (header, line) = text.split_once('\n').unwrap_or((&text, ""));
            if let Some(enabled) = readout::state_line_enabled(header, line) {
                assert!(!enabled.contains('\n'));
            }
        }
        _ => {
            let _ = Version::parse(&text);
        }
    }
});
