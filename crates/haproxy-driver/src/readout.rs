//! HAProxy's answers, read by column name. Every function here is total: any text gives a value,
//! lines that make no sense are left out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use csv::StringRecord;
use longshore_model::observe::{ServerAdmin, ServerAnswers};

use crate::name::parse_slot;
use crate::slots::SlotNumber;

/// Bits of `srv_admin_state` that mean maintenance (forced, inherited, resolution, hostname).
const ADMIN_MAINT: u32 = 0x01 | 0x02 | 0x20 | 0x40;
/// Bits of `srv_admin_state` that mean drain (forced, inherited).
const ADMIN_DRAIN: u32 = 0x08 | 0x10;
/// Bits of `srv_check_state`: it was made with a check, and its checks are enabled.
const CHECK_CONFIGURED: u32 = 0x02;
const CHECK_ENABLED: u32 = 0x04;
/// Servers that are no slots, of which the names are kept.
const STRANGERS_MAX: usize = 64;
/// `srv_op_state` of a server that takes requests: on its way to its full share, or there.
const OP_UP: [u32; 2] = [1, 2];

/// One server as the worker has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningServer {
    /// Where it points to.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
    /// Its administrative state.
    pub admin: ServerAdmin,
    /// HAProxy considers it up.
    pub up: bool,
    /// Count of the check: `rise + fall - 1` after a passed one.
    pub check_health: u32,
    /// Checks run once it is out of maint.
    pub check_enabled: bool,
    /// It was made with a check: one without cannot be given any later.
    pub check_configured: bool,
    /// Port that its check asks instead of its own; 0: its own.
    pub check_port: u16,
    /// Address that its check asks instead of its own.
    pub check_address: Option<IpAddr>,
    /// Requests that it takes at a time, 0 without a limit; none where it was not read.
    pub limit: Option<u32>,
    /// Its weight as it was last set; a slow start does not change it.
    pub weight: u32,
    /// Requests on it and waiting for it, where they were read.
    pub load: Option<Load>,
    /// What its slot has answered, where it was read.
    pub answers: ServerAnswers,
    /// The line as it was read, for the state file.
    pub line: String,
}

/// What a server has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Sessions on it.
    pub sessions: u32,
    /// Requests that wait for it.
    pub queued: u32,
}

impl Load {
    /// Nothing is left to finish.
    #[must_use]
    pub fn is_idle(self) -> bool {
        self.sessions == 0 && self.queued == 0
    }
}

/// Servers by backend and slot. Backends that are not ours are listed too, by any name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Running {
    /// Servers of each backend. Servers that are no slots are left out.
    pub backends: BTreeMap<String, BTreeMap<SlotNumber, RunningServer>>,
    /// Requests that wait for any server of a backend, where they were read.
    pub queues: BTreeMap<String, u32>,
    /// Servers that are no slots and out of maint, with their backends: somebody else made them.
    pub strangers: Vec<(String, String)>,
    /// Head of `show servers state`: version and names of the columns.
    pub header: String,
}

/// Columns of `show servers state` that are read, by their place.
struct StateColumns {
    backend: usize,
    server: usize,
    address: usize,
    port: usize,
    admin: usize,
    operation: usize,
    check_health: usize,
    check_state: usize,
    weight: usize,
    check_port: Option<usize>,
    check_address: Option<usize>,
}

impl StateColumns {
    /// None where one is missing: then no line makes sense.
    fn of(names: &str) -> Option<Self> {
        let place = |wanted: &str| names.split(' ').position(|name| name == wanted);
        Some(Self {
            backend: place("be_name")?,
            server: place("srv_name")?,
            address: place("srv_addr")?,
            port: place("srv_port")?,
            admin: place("srv_admin_state")?,
            operation: place("srv_op_state")?,
            check_health: place("srv_check_health")?,
            check_state: place("srv_check_state")?,
            weight: place("srv_uweight")?,
            check_port: place("srv_check_port"),
            check_address: place("srv_check_addr"),
        })
    }
}

/// Reads `show servers state`.
#[must_use]
pub fn servers_state(text: &str) -> Running {
    let mut running = Running::default();
    let mut columns: Option<StateColumns> = None;
    let (mut version, mut fields) = ("1", Vec::new());
    for line in text.lines() {
        let line = line.trim_end();
        if let Some(names) = line.strip_prefix("# ") {
            columns = StateColumns::of(names);
            running.header = format!("{version}\n{line}\n");
        } else if running.header.is_empty() {
            version = if line.is_empty() { version } else { line };
        } else if let Some(columns) = &columns {
            fields.clear();
            fields.extend(line.split(' '));
            let Some((backend, name, server)) = server_line(line, &fields, columns) else {
                continue;
            };
            if let Some(slot) = parse_slot(name) {
                // A name of its own only for a backend's first server.
                match running.backends.get_mut(backend) {
                    Some(pool) => _ = pool.insert(slot, server),
                    None => {
                        let pool = BTreeMap::from([(slot, server)]);
                        running.backends.insert(backend.to_owned(), pool);
                    }
                }
            } else if server.admin != ServerAdmin::Maint
                && is_plain(name)
                && running.strangers.len() < STRANGERS_MAX
            {
                let stranger = (backend.to_owned(), name.to_owned());
                running.strangers.push(stranger);
            }
        }
    }
    running
}

/// Can the name be said in a command? HAProxy itself takes no others.
pub(crate) fn is_plain(name: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    name.len() <= 200 && name.bytes().all(is_letter)
}

fn server_line<'a>(
    line: &str,
    fields: &[&'a str],
    columns: &StateColumns,
) -> Option<(&'a str, &'a str, RunningServer)> {
    let field = |place: usize| fields.get(place).copied();
    let number = |place: usize| field(place)?.parse::<u32>().ok();
    let admin_state = number(columns.admin)?;
    let admin = if admin_state & ADMIN_MAINT != 0 {
        ServerAdmin::Maint
    } else if admin_state & ADMIN_DRAIN != 0 {
        ServerAdmin::Drain
    } else {
        ServerAdmin::Ready
    };
    let check_state = number(columns.check_state)?;
    let check_address = columns.check_address.and_then(field);
    let server = RunningServer {
        address: field(columns.address)?.parse().ok(),
        port: field(columns.port)?.parse().ok()?,
        admin,
        up: OP_UP.contains(&number(columns.operation)?),
        check_health: number(columns.check_health)?,
        check_enabled: check_state & CHECK_ENABLED != 0,
        check_configured: check_state & CHECK_CONFIGURED != 0,
        check_port: columns
            .check_port
            .and_then(|place| field(place)?.parse().ok())
            .unwrap_or(0),
        // One that is unspecified counts for none: there is no other way to take one back.
        check_address: check_address
            .and_then(|text| text.parse().ok())
            .filter(|address: &IpAddr| !address.is_unspecified()),
        limit: None,
        weight: number(columns.weight)?,
        load: None,
        answers: ServerAnswers::default(),
        line: line.to_owned(),
    };
    Some((field(columns.backend)?, field(columns.server)?, server))
}

/// One server's line for the state file: as it was read, but not in any maintenance.
#[must_use]
pub fn state_line_enabled(header: &str, line: &str) -> Option<String> {
    let names = header.lines().find_map(|l| l.strip_prefix("# "))?;
    let position = names
        .split(' ')
        .position(|name| name == "srv_admin_state")?;
    let mut fields: Vec<&str> = line.split(' ').collect();
    *fields.get_mut(position)? = "0";
    Some(fields.join(" "))
}

impl RunningServer {
    /// Does its check ask somebody else than itself?
    #[must_use]
    pub fn is_checked_elsewhere(&self) -> bool {
        let port = self.check_port;
        self.check_address.is_some() || (port != 0 && port != self.port)
    }
}

/// What `show stat` calls a backend's own line.
pub(crate) const BACKEND_LINE: &str = "BACKEND";

/// One line of `show stat`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StatLine {
    /// Backend, or frontend.
    pub proxy: String,
    /// Server, or `BACKEND`, or `FRONTEND`.
    pub server: String,
    /// Where a server points to, where HAProxy says it.
    pub address: String,
    /// Its state in HAProxy's words: `UP`, `DOWN 1/2`, `DRAIN`, `MAINT`, …
    pub status: String,
    /// Sessions and queue.
    pub load: Load,
    /// Sessions that it takes at a time, 0 without a limit; none where that is not said.
    pub limit: Option<u32>,
    /// Sessions per second over the last second.
    pub rate: u32,
    /// Sessions in all.
    pub sessions_total: u64,
    /// Requests in all; none for plain TCP.
    pub requests_total: Option<u64>,
    /// Answers of 500 and above; none for plain TCP.
    pub errors_total: Option<u64>,
    /// Connections that could not be made.
    pub connect_errors_total: u64,
    /// Connections that a server ended or broke before its answer was whole.
    pub response_errors_total: u64,
    /// Mean response time of about the last 512 requests.
    pub response_ms: u32,
}

/// Columns of `show stat` that are read, by their place; a release may lack some.
struct StatColumns {
    proxy: Option<usize>,
    server: Option<usize>,
    address: Option<usize>,
    status: Option<usize>,
    sessions: Option<usize>,
    queued: Option<usize>,
    limit: Option<usize>,
    rate: Option<usize>,
    sessions_total: Option<usize>,
    requests_total: Option<usize>,
    errors_total: Option<usize>,
    connect_errors_total: Option<usize>,
    response_errors_total: Option<usize>,
    response_ms: Option<usize>,
}

impl StatColumns {
    fn of(names: &StringRecord) -> Self {
        let place = |wanted: &str| names.iter().position(|name| name == wanted);
        Self {
            proxy: place("pxname"),
            server: place("svname"),
            address: place("addr"),
            status: place("status"),
            sessions: place("scur"),
            queued: place("qcur"),
            limit: place("slim"),
            rate: place("rate"),
            sessions_total: place("stot"),
            requests_total: place("req_tot"),
            errors_total: place("hrsp_5xx"),
            connect_errors_total: place("econ"),
            response_errors_total: place("eresp"),
            response_ms: place("rtime"),
        }
    }

    /// None where it names nobody.
    fn read(&self, record: &StringRecord) -> Option<StatLine> {
        let field = |place: Option<usize>| place.and_then(|i| record.get(i)).unwrap_or("");
        let number = |place| field(place).parse::<u64>().ok();
        let small = |place| number(place).map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX));
        let (proxy, server) = (field(self.proxy), field(self.server));
        let is_named = !proxy.is_empty() && !server.is_empty();
        is_named.then(|| StatLine {
            proxy: proxy.to_owned(),
            server: server.to_owned(),
            address: field(self.address).to_owned(),
            status: field(self.status).to_owned(),
            load: Load {
                sessions: small(self.sessions),
                queued: small(self.queued),
            },
            limit: self.limit.map(|_| small(self.limit)),
            rate: small(self.rate),
            sessions_total: number(self.sessions_total).unwrap_or(0),
            requests_total: number(self.requests_total),
            errors_total: number(self.errors_total),
            connect_errors_total: number(self.connect_errors_total).unwrap_or(0),
            response_errors_total: number(self.response_errors_total).unwrap_or(0),
            response_ms: small(self.response_ms),
        })
    }
}

/// Reads `show stat`.
#[must_use]
pub fn stat(text: &str) -> Vec<StatLine> {
    let Some(text) = text.trim_start().strip_prefix("# ") else {
        return Vec::new();
    };
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_reader(text.as_bytes());
    let Ok(columns) = reader.headers().map(StatColumns::of) else {
        return Vec::new();
    };
    let (mut lines, mut record) = (Vec::new(), StringRecord::new());
    while let Ok(true) = reader.read_record(&mut record) {
        lines.extend(columns.read(&record));
    }
    lines
}

/// What `show info` says of the worker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Info {
    /// Its pid; 0 where it was not said.
    pub pid: u32,
    /// It is on its way out.
    pub stopping: bool,
    /// Its version.
    pub version: String,
    /// Files that it may open; 0 where it was not said, as in the following.
    pub files_max: u32,
    /// Files that it may need: what it works out at its start.
    pub files_needed: u32,
    /// Connections that it takes.
    pub connections_max: u32,
    /// Connections that it was started for.
    pub connections_limit: u32,
    /// Connections, sessions and TLS sessions that it takes a second; 0 without a limit.
    pub rate_limits: [u32; 3],
    /// The master was asked, because the worker's own socket is gone.
    pub via_master: bool,
}

/// Reads `show info`.
#[must_use]
pub fn info(text: &str) -> Info {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    let number = |name: &str| field(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    Info {
        pid: number("Pid"),
        stopping: field("Stopping").is_some_and(|text| text != "0"),
        version: field("Version").unwrap_or("").to_owned(),
        files_max: number("Ulimit-n"),
        files_needed: number("Maxsock"),
        connections_max: number("Maxconn"),
        connections_limit: number("Hard_maxconn"),
        rate_limits: ["ConnRateLimit", "SessRateLimit", "SslRateLimit"].map(number),
        via_master: false,
    }
}

/// What the master says of its processes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Processes {
    /// The master; 0 where it was not said.
    pub master: u32,
    /// Workers of the present configuration.
    pub workers: Vec<u32>,
    /// Workers of earlier configurations that finish what they have.
    pub old_workers: Vec<u32>,
    /// Most reloads that one of these has lived through.
    pub oldest_reloads: u32,
    /// Reloads that failed since the last good one.
    pub failed_reloads: u32,
}

/// Reads `show proc`.
#[must_use]
pub fn processes(text: &str) -> Processes {
    let mut out = Processes::default();
    let mut section = "";
    for line in text.lines() {
        if let Some(title) = line.strip_prefix('#') {
            section = title.trim();
            continue;
        }
        let mut fields = line.split_whitespace();
        let (Some(pid), Some(kind)) = (fields.next().and_then(|f| f.parse().ok()), fields.next())
        else {
            continue;
        };
        match (kind, section) {
            ("master", _) => {
                out.master = pid;
                let failed = line.split_once("[failed:").map_or("", |(_, rest)| rest);
                let digits = failed.split(']').next().unwrap_or("").trim();
                out.failed_reloads = digits.parse().unwrap_or(0);
            }
            ("worker", "workers") => out.workers.push(pid),
            ("worker", "old workers") => {
                out.old_workers.push(pid);
                let reloads = fields.next().and_then(|f| f.parse().ok()).unwrap_or(0);
                out.oldest_reloads = out.oldest_reloads.max(reloads);
            }
            _ => {}
        }
    }
    out
}

#[cfg(test)]
#[path = "readout_tests.rs"]
mod tests;
