//! `VIRTUAL_HOST`: `[scheme://]domain[:port][/path], …`

use super::Work;
use super::vars::Var;

/// What a service is asked for by.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hosts {
    /// None: all.
    pub(super) domains: Vec<String>,
    pub(super) path: Option<String>,
    /// Ports of the old balancer; none: those of the schemes are all the same to it.
    pub(super) fronts: Vec<u16>,
}

/// One entry.
struct Host<'t> {
    domain: &'t str,
    front: u16,
    path: &'t str,
}

pub(super) fn read(var: &Var, work: &mut Work) -> Option<Hosts> {
    let mut out = Hosts::default();
    let mut every_domain = false;
    let mut paths: Vec<Option<String>> = Vec::new();
    for text in var.text().split(',').map(str::trim) {
        if text.is_empty() {
            continue;
        }
        let Some(host) = entry(text) else {
            let why = format!("{text:?} is no [scheme://]domain[:port][/path]");
            work.refuse(var.place, &var.path(), &why, "mend it in the old file");
            return None;
        };
        if !out.fronts.contains(&host.front) {
            out.fronts.push(host.front);
        }
        match host.domain {
            "*" => every_domain = true,
            domain if domain.contains('*') || domain.contains('$') => {
                let why = format!("{domain:?}: domains are whole names");
                let help = "list the names, or * for all";
                work.refuse(var.place, &var.path(), &why, help);
                return None;
            }
            domain => out.domains.push(domain.to_ascii_lowercase()),
        }
        let path = path(host.path, var, work)?;
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    if every_domain {
        out.domains.clear();
    }
    if paths.len() > 1 {
        let why = "a service has one path for all of its domains";
        let help = "make two services of it, one for each path";
        work.refuse(var.place, &var.path(), why, help);
        return None;
    }
    out.path = paths.pop().flatten();
    Some(out)
}

fn entry(text: &str) -> Option<Host<'_>> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let front = match scheme {
        "http" | "ws" => 80,
        "https" | "wss" => 443,
        _ => return None,
    };
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (domain, front) = match host.split_once(':') {
        Some((domain, port)) => (domain, port.parse().ok()?),
        None => (host, front),
    };
    let domain = if domain.is_empty() { "*" } else { domain };
    Some(Host {
        domain,
        front,
        path,
    })
}

/// `/a/*` is what begins with `/a`; `/a` alone meant exactly that, and is taken for a beginning.
/// Outer none: it was refused.
fn path(text: &str, var: &Var, work: &mut Work) -> Option<Option<String>> {
    let beginning = text.strip_suffix('*').unwrap_or(text);
    let beginning = beginning.trim_end_matches('/');
    if beginning.contains('*') {
        let why = format!("{text:?}: a path is a beginning, without wildcards");
        let help = "write /beginning/*";
        work.refuse(var.place, &var.path(), &why, help);
        return None;
    }
    if !text.is_empty() && !text.ends_with('*') && text != "/" {
        let why = format!("{text} was this path alone; now what is below it belongs to it, too");
        let now = format!("x-haproxy.path: {beginning}");
        work.look(var.place, var.was(), Some(now), &why);
    }
    Some((!beginning.is_empty()).then(|| beginning.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_defaults_for_what_they_do_not_say() {
        let all = [
            ("a.example", ("a.example", 80, "")),
            ("https://a.example", ("a.example", 443, "")),
            ("a.example:8080/x/*", ("a.example", 8080, "/x/*")),
            ("*/api", ("*", 80, "/api")),
            (":8443", ("*", 8443, "")),
        ];
        for (text, wanted) in all {
            let host = entry(text).unwrap();
            assert_eq!((host.domain, host.front, host.path), wanted, "{text}");
        }
        assert!(entry("ftp://x").is_none() && entry("x:y").is_none());
    }
}
