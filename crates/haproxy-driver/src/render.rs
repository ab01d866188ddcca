//! The configuration file as text.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use longshore_model::route::{Balance, ProxyProtocol, RouteMode};

use crate::error::EdgeError;
use crate::intent::{BackendIntent, Check, Intent, certificates};
use crate::name::{BackendName, CertificateName, slot_name};
use crate::seal::is_line;
use crate::settings::{CheckSettings, Settings, StatsPage};
use crate::slots::{Holder, SlotMap};

/// Global section, defaults and statistics, with words to fill in.
const BASE: &str = include_str!("../../../haproxy/base.cfg");

/// Where a slot that nobody holds points to: a port on which nobody listens.
pub const PARKED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

const SERVER_LINE: &str = "    server slot";

/// `timeout client` of the base, which the longest silence of a replica may exceed.
const CLIENT_MS: u64 = 60_000;

/// A replica whose host has died refuses at once, so that it always has a free seat and the fewest
/// connections: it is handed what waits, request after request, until its checks have failed. So
/// connections count as well: three refused in a row leave it one failed check from down and ask for
/// the next after `fastinter`, three more before that one passes take it out
/// (docs/decisions/0043-refused-connections-count.md). One that is made clears the count.
const OBSERVED: &str = " observe layer4 error-limit 3 on-error sudden-death";

/// Who asked, and how: what a client says of it itself is replaced, but for the addresses, to
/// which the client's is added.
const FORWARDED: &str = "    option forwardfor
    http-request set-header X-Forwarded-Proto @PROTO@
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Port %[dst_port]
";

/// Checks that no setting can become syntax of the file.
///
/// # Errors
/// [`EdgeError::Setting`] names the setting.
pub fn check_settings(settings: &Settings) -> Result<(), EdgeError> {
    let bad = |field, rule: &str| {
        Err(EdgeError::Setting {
            field,
            rule: rule.to_owned(),
        })
    };
    let paths = [
        ("config_path", &settings.config_path),
        ("state_path", &settings.state_path),
        ("slots_path", &settings.slots_path),
        ("certificates_path", &settings.certificates_path),
        ("admin_socket", &settings.admin_socket),
        ("master_socket", &settings.master_socket),
    ];
    for (field, path) in paths
        .into_iter()
        .chain(settings.process.chroot.iter().map(|p| ("chroot", p)))
    {
        if !is_plain_path(path) {
            return bad(
                field,
                "must be an absolute path of letters, digits, '.', '_' and '-'",
            );
        }
    }
    let process = &settings.process;
    for (field, name) in [
        ("user", &process.user),
        ("group", &process.group),
        ("socket_group", &process.socket_group),
    ] {
        let ok = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        };
        if name.as_deref().is_some_and(|name| !ok(name)) {
            return bad(field, "must be a plain name");
        }
    }
    let check = &settings.check;
    if check.fall < 2 || check.rise < 1 || check.fall > 100 || check.rise > 100 {
        return bad("check", "rise must be 1 to 100 and fall 2 to 100");
    }
    let intervals = [
        check.inter_ms,
        check.fastinter_ms,
        check.downinter_ms,
        check.timeout_ms,
    ];
    if intervals.iter().any(|ms| !(10..=60_000).contains(ms)) {
        return bad("check", "intervals must be 10 to 60000 ms");
    }
    if settings.slots_initial == 0 || settings.slots_initial > settings.slots_max {
        return bad("slots_initial", "must be 1 to slots_max");
    }
    if settings.stats_port == 0 || settings.connections_max == 0 {
        return bad("stats_port, connections_max", "must not be 0");
    }
    let page = settings.stats_also.as_ref();
    if page.is_some_and(|p| [0, settings.stats_port].contains(&p.port)) {
        return bad("stats_also.port", "must be neither 0 nor stats_port");
    }
    Ok(())
}

fn is_plain_path(path: &Path) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-".contains(&b);
    path.is_absolute() && path.to_str().is_some_and(|text| text.bytes().all(plain))
}

/// Options of a server, spelled out: `add server` inherits nothing from `default-server`.
#[must_use]
pub fn server_options(backend: &BackendIntent, settings: &Settings) -> String {
    let CheckSettings {
        inter_ms,
        fastinter_ms,
        downinter_ms,
        rise,
        fall,
        timeout_ms: _,
    } = backend.check_settings(&settings.check);
    let mut text = format!(
        "inter {inter_ms}ms fastinter {fastinter_ms}ms downinter {downinter_ms}ms rise {rise} fall {fall}{OBSERVED}"
    );
    let route = &backend.route;
    if route.maxconn_per_replica > 0 {
        let _ = write!(text, " maxconn {}", route.maxconn_per_replica);
    }
    if route.slowstart_ms > 0 {
        let _ = write!(text, " slowstart {}ms", route.slowstart_ms);
    }
    // Its check says the same at its head: who expects it takes nothing else.
    text.push_str(match route.proxy_protocol {
        None => "",
        Some(ProxyProtocol::V1) => " send-proxy check-send-proxy",
        Some(ProxyProtocol::V2) => " send-proxy-v2 check-send-proxy",
    });
    if route.http2 {
        text.push_str(" proto h2");
    }
    text
}

/// The whole file. Equal input gives equal bytes.
#[must_use]
pub fn render(intent: &Intent, slots: &SlotMap, settings: &Settings) -> String {
    let mut out = base(settings);
    if let Some(page) = &settings.stats_also {
        stats_page(&mut out, page, settings);
    }
    for (port, backends) in intent.frontends() {
        frontend(&mut out, port, &backends, settings);
    }
    for backend in intent.backends.values() {
        render_backend(&mut out, backend, slots, settings);
    }
    out
}

/// All lines that only a reload can change: everything but the servers.
#[must_use]
pub fn structure(file: &str) -> String {
    file.lines()
        .filter(|line| !line.starts_with(SERVER_LINE) && !is_line(line))
        .fold(String::with_capacity(file.len()), |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        })
}

/// The file with the servers of now in the sections of the intent's backends, and all else as it
/// is: what a HAProxy that does not take a new structure must start with. A section that the intent
/// does not know stays as it is.
#[must_use]
pub fn with_servers(file: &str, intent: &Intent, slots: &SlotMap) -> String {
    let mut out = String::with_capacity(file.len());
    let mut current: Option<&BackendIntent> = None;
    for line in file.lines() {
        if line.is_empty() {
            // Sections are apart by an empty line, and servers come last in theirs.
            if let Some(backend) = current.take() {
                render_servers(&mut out, backend, slots);
            }
        } else if let Some(name) = line.strip_prefix("backend ") {
            let name = BackendName::parse(name).map(|(key, port)| BackendName::of(&key, port));
            current = name.and_then(|name| intent.backends.get(&name));
        } else if current.is_some() && line.starts_with(SERVER_LINE) {
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    if let Some(backend) = current {
        render_servers(&mut out, backend, slots);
    }
    out
}

/// Ports that the frontends of a rendered file listen on.
#[must_use]
pub fn listen_ports(file: &str) -> Vec<u16> {
    file.lines()
        .filter_map(|line| line.strip_prefix("frontend fe_")?.parse().ok())
        .collect()
}

fn base(settings: &Settings) -> String {
    let process = &settings.process;
    let mut lines = Vec::new();
    if let Some(user) = &process.user {
        lines.push(format!("    user {user}"));
    }
    if let Some(group) = &process.group {
        lines.push(format!("    group {group}"));
    }
    if let Some(chroot) = &process.chroot {
        lines.push(format!("    chroot {}", chroot.display()));
    }
    let mut owner = String::new();
    if let Some(user) = &process.user {
        let _ = write!(owner, " user {user}");
    }
    if let Some(group) = process.socket_group.as_ref().or(process.group.as_ref()) {
        let _ = write!(owner, " group {group}");
    }
    let mut out = BASE.to_owned();
    if lines.is_empty() {
        out = out.replace("@PROCESS@\n", "");
    }
    let words = [
        ("@PROCESS@", lines.join("\n")),
        ("@CONNECTIONS_MAX@", settings.connections_max.to_string()),
        (
            "@ADMIN_SOCKET@",
            settings.admin_socket.display().to_string(),
        ),
        ("@SOCKET_OWNER@", owner),
        ("@STATE_FILE@", settings.state_path.display().to_string()),
        (
            "@HARD_STOP_AFTER@",
            format!("{}ms", settings.hard_stop_after_ms),
        ),
        (
            "@CHECK_TIMEOUT@",
            format!("{}ms", settings.check.timeout_ms),
        ),
        (
            "@STATS_BIND@",
            SocketAddr::new(settings.stats_address, settings.stats_port).to_string(),
        ),
    ];
    for (word, value) in words {
        out = out.replace(word, &value);
    }
    out
}

/// The page of the base once more. What does not begin with its URI is nothing.
fn stats_page(out: &mut String, page: &StatsPage, settings: &Settings) {
    let bind = SocketAddr::new(settings.stats_address, page.port);
    let uri = page.uri.as_str();
    let _ = write!(
        out,
        "\nfrontend longshore_stats_also
    bind {bind}
    mode http
    http-request return status 404 content-type text/plain string \"only {uri}\" unless {{ pathq -m beg {uri} }}
    stats enable
    stats uri {uri}
    stats refresh 5s
    stats show-legends
"
    );
}

fn frontend(out: &mut String, port: u16, backends: &[&BackendIntent], settings: &Settings) {
    let mode = backends.first().map_or(RouteMode::Http, |b| b.mode);
    let bind = SocketAddr::new(settings.bind_address, port);
    let proxied = backends.iter().any(|b| b.route.accept_proxy);
    let accept = if proxied { " accept-proxy" } else { "" };
    let tls = tls_words(port, backends, settings);
    let _ = write!(
        out,
        "\nfrontend fe_{port}\n    bind {bind}{accept}{tls}\n    mode {}\n",
        mode_word(mode)
    );
    // A client may be silent for as long as its replica may: plain TCP has no other word for it.
    let server_ms = backends.iter().map(|b| b.route.timeouts.server_ms).max();
    if let Some(ms) = server_ms.filter(|ms| *ms > CLIENT_MS || (mode == RouteMode::Tcp && *ms > 0))
    {
        let _ = writeln!(out, "    timeout client {ms}ms");
    }
    if mode == RouteMode::Http {
        let proto = if tls.is_empty() { "http" } else { "https" };
        out.push_str(&FORWARDED.replace("@PROTO@", proto));
        http_rules(out, backends);
    }
    let default = backends
        .iter()
        .find(|b| b.domains.is_empty() && b.path.is_none());
    let default = default.map_or("longshore_no_service", |b| b.name.as_str());
    let _ = writeln!(out, "    default_backend {default}");
}

/// How a port ends TLS; empty where it does not. The certificate for clients that name no host is
/// part of the structure, since HAProxy lets nobody take that one away at run time; all are in a
/// list, which is brought in step through the socket.
fn tls_words(port: u16, backends: &[&BackendIntent], settings: &Settings) -> String {
    let certificates = certificates(backends.iter().copied());
    let Some(first) = certificates.first() else {
        return String::new();
    };
    format!(
        " ssl crt {} crt-list {} alpn h2,http/1.1",
        certificate_path(settings, first).display(),
        list_path(settings, port).display()
    )
}

/// File of a certificate.
#[must_use]
pub fn certificate_path(settings: &Settings, name: &CertificateName) -> PathBuf {
    let file = format!("{}.pem", name.as_str());
    settings.certificates_path.join(file)
}

/// File with the list of a port's certificates.
#[must_use]
pub fn list_path(settings: &Settings, port: u16) -> PathBuf {
    settings.certificates_path.join(format!("fe_{port}.list"))
}

/// Who gets which request. The first line that holds wins, so the more exact ones come first:
/// those of a host name before those of all, longer paths before shorter ones.
fn http_rules(out: &mut String, backends: &[&BackendIntent]) {
    let mut by_exactness: Vec<&BackendIntent> = backends.to_vec();
    by_exactness.sort_by_key(|b| {
        let path_bytes = b.path.as_ref().map_or(0, |path| path.as_str().len());
        (b.domains.is_empty(), Reverse(path_bytes))
    });
    for backend in by_exactness {
        // A line per name: a line of HAProxy's file has 64 words at most.
        let hosts = backend.domains.iter().map(|domain| {
            format!(
                " {{ req.hdr(host),field(1,:),lower -m str {} }}",
                domain.as_str()
            )
        });
        let mut hosts: Vec<String> = hosts.collect();
        if hosts.is_empty() {
            hosts.push(String::new());
        }
        let paths = match &backend.path {
            None if backend.domains.is_empty() => Vec::new(),
            None => vec![String::new()],
            Some(path) => vec![
                format!(" {{ path -m str {} }}", path.as_str()),
                format!(" {{ path -m beg {}/ }}", path.as_str()),
            ],
        };
        for host in &hosts {
            for path in &paths {
                let _ = writeln!(out, "    use_backend {} if{host}{path}", backend.name);
            }
        }
    }
}

fn render_backend(out: &mut String, backend: &BackendIntent, slots: &SlotMap, settings: &Settings) {
    let _ = write!(
        out,
        "\nbackend {}\n    mode {}\n",
        backend.name,
        mode_word(backend.mode)
    );
    balance(out, backend);
    if let Some(cookie) = &backend.sticky_cookie {
        // Worked out from the server's address and the key: the same on every edge, and without a
        // name that `add server` would refuse.
        let _ = write!(
            out,
            "    cookie {} insert indirect nocache httponly{} dynamic\n    dynamic-cookie-key {}\n",
            cookie.as_str(),
            if backend.tls.is_empty() {
                ""
            } else {
                " secure"
            },
            backend.name
        );
    }
    if let to @ 1.. = backend.route.redirect_port {
        let port = if to == 443 {
            String::new()
        } else {
            format!(":{to}")
        };
        let _ = writeln!(
            out,
            "    http-request redirect code 308 location https://%[req.hdr(host),host_only]{port}%[pathq]"
        );
    }
    answers(out, backend);
    let times = &backend.route.timeouts;
    for (what, ms) in [
        ("connect", times.connect_ms),
        ("server", times.server_ms),
        ("queue", times.queue_ms),
        ("tunnel", times.tunnel_ms),
        ("check", backend.route.check.timeout_ms.into()),
    ] {
        if ms > 0 {
            let _ = writeln!(out, "    timeout {what} {ms}ms");
        }
    }
    if let Check::Http { path, host } = &backend.check {
        let version = if backend.route.http2 {
            "HTTP/2"
        } else {
            "HTTP/1.1"
        };
        let _ = write!(
            out,
            "    option httpchk\n    http-check send meth GET uri {} ver {version} hdr Host {}\n    \
             http-check expect status 200-399\n",
            path.as_str(),
            host.as_str()
        );
    }
    let options = server_options(backend, settings);
    let _ = writeln!(out, "    default-server {options}");
    render_servers(out, backend, slots);
}

/// What is done to answers on their way out.
fn answers(out: &mut String, backend: &BackendIntent) {
    if !backend.compression.is_empty() {
        out.push_str("    compression algo gzip\n    compression type");
        for media in &backend.compression {
            let _ = write!(out, " {}", media.as_str());
        }
        out.push('\n');
    }
    // Over plain HTTP it must not be said (RFC 6797, 7.2).
    if let Some(age_s) = backend.route.hsts_max_age_s
        && !backend.tls.is_empty()
    {
        let _ = writeln!(
            out,
            "    http-response set-header Strict-Transport-Security max-age={age_s}"
        );
    }
}

fn balance(out: &mut String, backend: &BackendIntent) {
    // Without the second line a hash is static and HAProxy takes no servers at run time.
    let consistent = "    hash-type consistent\n";
    let _ = match (backend.route.balance, &backend.hash_header) {
        (Balance::Roundrobin, _) => writeln!(out, "    balance roundrobin"),
        (Balance::Leastconn, _) => writeln!(out, "    balance leastconn"),
        (Balance::Random, _) => writeln!(out, "    balance random(2)"),
        (Balance::Source, _) => write!(out, "    balance source\n{consistent}"),
        (Balance::Hash, None) => write!(out, "    balance uri\n{consistent}"),
        (Balance::Hash, Some(header)) => {
            write!(out, "    balance hdr({})\n{consistent}", header.as_str())
        }
    };
}

fn render_servers(out: &mut String, backend: &BackendIntent, slots: &SlotMap) {
    let Some(slots) = slots.backends.get(backend.name.as_str()) else {
        return;
    };
    for (&slot, holder) in slots {
        let server = match holder {
            Holder::Replica { id, .. } => backend.servers.get(id),
            Holder::Leaving | Holder::Free => None,
        };
        let address = server.map_or(PARKED, |s| SocketAddr::new(s.address, s.port));
        // Only a server that has proven itself and that takes new requests may start by itself:
        // the file is what a HAProxy restarted without its agent serves.
        let proven = matches!(holder, Holder::Replica { proven: true, .. });
        let enabled = proven && server.is_some_and(|server| backend.lets_in(server));
        let disabled = if enabled { "" } else { " disabled" };
        let weight = server.and_then(|server| backend.weight(server));
        let weight = weight.map_or(String::new(), |weight| format!(" weight {weight}"));
        let _ = writeln!(
            out,
            "    server {} {address} check{weight}{disabled}",
            slot_name(slot)
        );
    }
}

fn mode_word(mode: RouteMode) -> &'static str {
    match mode {
        RouteMode::Http => "http",
        RouteMode::Tcp => "tcp",
    }
}
