//! Values of options: what is taken, and what is said of the rest.

use std::time::Duration;

/// A length of time that is one.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("no time at all; give a length as 10m, or leave it away".into()),
        Ok(length) => Ok(length),
        Err(error) => Err(error.to_string()),
    }
}

/// `SERVICE=N`
pub(super) fn parse_count(text: &str) -> Result<(String, u32), String> {
    let (service, count) = text
        .split_once('=')
        .ok_or("write SERVICE=N, for example web=5")?;
    let count = count
        .parse()
        .map_err(|_| format!("{count:?} is no count"))?;
    Ok((service.to_owned(), count))
}
