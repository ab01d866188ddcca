//! The engine's words, sorted by what the caller does about them.

use std::time::Duration;

use bollard::errors::Error;

use super::{ErrorKind, RuntimeError};

/// The engine refuses what is so already, and only its words say that.
pub(super) fn unless_said(
    result: Result<(), RuntimeError>,
    words: &str,
) -> Result<(), RuntimeError> {
    result.or_else(|error| {
        if error.detail.contains(words) {
            Ok(())
        } else {
            Err(error)
        }
    })
}

pub(super) fn stuck(attempted: String, deadline: Duration) -> RuntimeError {
    let detail = format!("the engine did not answer within {} s", deadline.as_secs());
    RuntimeError {
        kind: ErrorKind::Stuck,
        attempted,
        detail,
    }
}

pub(super) fn sort(attempted: String, error: &Error) -> RuntimeError {
    let (kind, detail) = match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => (sort_answer(*status_code, message), message.clone()),
        Error::DockerStreamError { error } => (ErrorKind::Refused, error.clone()),
        Error::SocketNotFoundError(socket) => {
            (ErrorKind::Down, format!("no container engine at {socket}"))
        }
        Error::RequestTimeoutError => (ErrorKind::Stuck, "the engine did not answer".to_owned()),
        Error::IOError { err } => (ErrorKind::Down, err.to_string()),
        Error::HyperResponseError { err } => (ErrorKind::Down, chain(err)),
        Error::HyperLegacyError { err } => (ErrorKind::Down, chain(err)),
        other => (ErrorKind::Refused, other.to_string()),
    };
    RuntimeError {
        kind,
        attempted,
        detail,
    }
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn sort_answer(status: u16, message: &str) -> ErrorKind {
    let taken = ["port is already allocated", "address already in use"];
    if taken.iter().any(|words| message.contains(words)) {
        return ErrorKind::PortTaken(port_in(message).unwrap_or(0));
    }
    match status {
        // A volume's name may hold any word.
        404 if message.contains("no such volume") => ErrorKind::NotFound,
        404 if message.contains("image") && !message.contains("No such container") => {
            ErrorKind::ImageAbsent
        }
        404 => ErrorKind::NotFound,
        409 if message.contains("is already in use by container") => ErrorKind::NameTaken,
        _ => ErrorKind::Refused,
    }
}

/// The port in `Bind for 0.0.0.0:8080 failed` or `listen tcp4 0.0.0.0:8080: bind: …`.
fn port_in(message: &str) -> Option<u16> {
    message.split(|c: char| c.is_whitespace()).find_map(|word| {
        let word = word.trim_end_matches(':');
        let (address, port) = word.rsplit_once(':')?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        address.parse::<std::net::IpAddr>().ok()?;
        port.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_are_sorted() {
        let table = [
            (
                500,
                "driver failed programming external connectivity on endpoint x (ab12): \
                 Bind for 0.0.0.0:30001 failed: port is already allocated",
                ErrorKind::PortTaken(30001),
            ),
            (
                500,
                "driver failed: Error starting userland proxy: listen tcp4 0.0.0.0:8080: bind: \
                 address already in use",
                ErrorKind::PortTaken(8080),
            ),
            (404, "No such image: hello:9", ErrorKind::ImageAbsent),
            (404, "No such container: abcdef", ErrorKind::NotFound),
            (404, "get my_images: no such volume", ErrorKind::NotFound),
            (
                409,
                "Conflict. The container name \"/x\" is already in use by container \"ab\".",
                ErrorKind::NameTaken,
            ),
            (500, "no space left on device", ErrorKind::Refused),
        ];
        for (status, message, kind) in table {
            assert_eq!(sort_answer(status, message), kind, "{message}");
        }
    }

    #[test]
    fn what_is_so_already_is_no_error() {
        let said = |detail: &str| {
            let detail = format!("Container ab12 {detail}");
            let (kind, attempted) = (ErrorKind::Refused, "pausing".into());
            Err(RuntimeError {
                kind,
                attempted,
                detail,
            })
        };
        assert!(unless_said(said("is already paused"), "is already paused").is_ok());
        assert!(unless_said(said("is not running"), "is already paused").is_err());
    }
}
