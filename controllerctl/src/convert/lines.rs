//! Lines of HAProxy's own in `EXTRA_…` variables: those of a short list that a key stands for. What
//! becomes of them is for somebody to look at; any other line is refused.

use super::vars::Var;
use super::{Work, plain, settings};
use crate::compose::node::Node;

/// Sections of the old file that had a variable each, and `EXTRA_FRONTEND_SETTINGS_80` for a port.
const SECTIONS: [&str; 5] = [
    "EXTRA_BIND_SETTINGS",
    "EXTRA_DEFAULT_SETTINGS",
    "EXTRA_FRONTEND_SETTINGS",
    "EXTRA_ROUTE_SETTINGS",
    "EXTRA_SETTINGS",
];

/// Is the variable made of such lines?
pub(super) fn is_known(name: &str) -> bool {
    let port = name
        .rsplit_once('_')
        .filter(|(_, last)| last.parse::<u16>().is_ok());
    SECTIONS.contains(&port.map_or(name, |(section, _)| section))
}

/// Says what becomes of each line.
pub(super) fn apply(var: &Var, x: &mut Node, work: &mut Work) {
    let before = work.changes.len();
    for line in split(var.text()) {
        let line = line.trim();
        // Each setting of a port begins with the port.
        let line = match line.split_once(':') {
            Some((port, rest)) if port.parse::<u16>().is_ok() => rest.trim(),
            _ => line,
        };
        if !line.is_empty() {
            one(
                &Var {
                    value: Some(line.to_owned()),
                    ..var.clone()
                },
                x,
                work,
            );
        }
    }
    work.look_since(before);
}

/// At commas, but not at `\,`.
fn split(text: &str) -> Vec<String> {
    let parts = text.replace("\\,", "\u{0}");
    parts
        .split(',')
        .map(|part| part.replace('\u{0}', ","))
        .collect()
}

fn one(var: &Var, x: &mut Node, work: &mut Work) {
    let words: Vec<&str> = var.text().split_whitespace().collect();
    let rest = |from: usize| Var {
        value: words.get(from..).map(|words| words.join(" ")),
        ..var.clone()
    };
    match words.as_slice() {
        ["balance", ..] => settings::balance(&rest(1), x, work),
        ["cookie", ..] => settings::cookie(&rest(1), x, work),
        ["timeout", _, _] => settings::timeout(&rest(1), x, work),
        ["option", "httpchk", ..] => settings::http_check(&rest(2), x, work),
        ["option", _] => settings::option(&rest(1), x, work),
        ["compression", "algo", "gzip" | "deflate"] => {
            work.gone(var.place, var.was(), "x-haproxy.compression is gzip");
        }
        ["compression", "type", ..] => settings::compression(&rest(2), x, work),
        ["accept-proxy"] => settings::set(var, "accept_proxy", plain(true, var.place), x, work),
        ["send-proxy"] => {
            settings::set(var, "proxy_protocol", Node::text("v1", var.place), x, work);
        }
        ["send-proxy-v2"] => {
            settings::set(var, "proxy_protocol", Node::text("v2", var.place), x, work);
        }
        ["redirect", "scheme", "https", .., "if", "!{", "ssl_fc", "}"] => {
            settings::set(var, "redirect_https", plain(true, var.place), x, work);
        }
        ["maxconn", _] => {
            let why = "edges have a limit of their own; x-haproxy.maxconn_per_replica is one of a replica";
            work.gone(var.place, var.was(), why);
        }
        ["name", _] | ["no", "log"] | ["log", ..] => {
            work.gone(var.place, var.was(), "the edges name and log their own way");
        }
        _ => header(var, x, work),
    }
}

/// Headers that the edges set anyway, or by a key.
fn header(var: &Var, x: &mut Node, work: &mut Work) {
    const FORWARDED: [&str; 3] = ["x-forwarded-proto", "x-forwarded-port", "x-forwarded-host"];
    let text = var.text().to_ascii_lowercase();
    let asked = text
        .strip_prefix("http-request set-header ")
        .or_else(|| text.strip_prefix("http-request add-header "))
        .or_else(|| text.strip_prefix("reqadd "));
    if asked.is_some_and(|rest| FORWARDED.iter().any(|name| rest.starts_with(name))) {
        return work.gone(
            var.place,
            var.was(),
            "the edges set it anew on each request",
        );
    }
    let answered = text
        .strip_prefix("http-response set-header ")
        .or_else(|| text.strip_prefix("http-response add-header "))
        .or_else(|| text.strip_prefix("rspadd "));
    let hsts = answered.and_then(|rest| rest.strip_prefix("strict-transport-security"));
    let age = hsts.and_then(|rest| {
        let (_, age) = rest.split_once("max-age=")?;
        let end = age.find(|c: char| !c.is_ascii_digit()).unwrap_or(age.len());
        age.get(..end).map(str::to_owned)
    });
    match age {
        Some(age) => {
            let value = Some(age);
            settings::hsts(
                &Var {
                    value,
                    ..var.clone()
                },
                x,
                work,
            );
        }
        None => {
            // What follows may be a password.
            let words: Vec<&str> = var.text().split_whitespace().take(2).collect();
            let why = format!("no key stands for the line {:?}", words.join(" "));
            work.refuse(var.place, &var.path(), &why, settings::RAW_HELP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_apart_by_commas_that_nothing_stands_before() {
        assert_eq!(split("a\\,b, c"), ["a,b", " c"]);
        assert_eq!(split(""), [""]);
    }

    #[test]
    fn variables_of_sections_and_ports_are_known() {
        for name in ["EXTRA_SETTINGS", "EXTRA_FRONTEND_SETTINGS_80"] {
            assert!(is_known(name), "{name}");
        }
        for name in [
            "EXTRA_SSL_CERTS",
            "EXTRA_GLOBAL_SETTINGS",
            "EXTRA_SETTINGS_x",
        ] {
            assert!(!is_known(name), "{name}");
        }
    }
}
