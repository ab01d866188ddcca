//! The kernel's table of sockets, and who has them open.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Number of a socket, unlike all others of the host.
pub(super) type Inode = u64;

/// Most bytes of a table that are read: listeners come first and are few.
const TABLE_BYTES_MAX: u64 = 16 << 20;
/// The state of a socket that listens.
const LISTENS: &str = "0A";
/// Processes that are asked for a socket, and the descriptors of each.
const PROCESSES_MAX: usize = 65_536;
const DESCRIPTORS_MAX: usize = 1 << 20;
/// Characters of a program's name; the kernel keeps 15.
const NAME_CHARS_MAX: usize = 15;

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) inode: Inode,
}

impl Listener {
    /// Does it get connections that come for this address? One at the same does, and so does one at
    /// a certain address where the other is at all of them. The other family's does not: it may be
    /// kept to its own, and comes second if it is not.
    pub(super) fn takes_from(&self, address: IpAddr, port: u16) -> bool {
        let same_family = self.address.is_ipv4() == address.is_ipv4();
        let covered = self.address == address || address.is_unspecified();
        self.port == port && same_family && covered
    }
}

/// All sockets that listen in the network of `space` (`/proc/PID/net`); none: they cannot be read.
pub(super) fn listeners(space: &Path) -> Option<Vec<Listener>> {
    let mut all = Vec::new();
    for name in ["tcp", "tcp6"] {
        match File::open(space.join(name)) {
            Ok(file) => all.extend(read(BufReader::new(file.take(TABLE_BYTES_MAX)))?),
            // A kernel without it.
            Err(error) if name == "tcp6" && error.kind() == ErrorKind::NotFound => {}
            Err(_) => return None,
        }
    }
    Some(all)
}

/// The rows that listen. They come first: the others, one for each connection, are not read.
fn read(table: impl BufRead) -> Option<Vec<Listener>> {
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        match row(&line.ok()?)? {
            Some(listener) => found.push(listener),
            None => break,
        }
    }
    Some(found)
}

/// One row: a socket that listens, or nothing of interest. None where it is no such row.
fn row(line: &str) -> Option<Option<Listener>> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    let listener = Listener {
        address: self::address(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode,
    };
    Some((state == LISTENS).then_some(listener))
}

/// Words of 32 bits as this machine has them in memory.
fn address(hex: &str) -> Option<IpAddr> {
    if !hex.is_ascii() {
        return None;
    }
    let word = |at: usize| {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (nth, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(8 * nth)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

/// Which of `sought` this process has open; none: it does not say. One that ended has nothing.
pub(super) fn held_by(proc: &Path, pid: u32, sought: &BTreeSet<Inode>) -> Option<BTreeSet<Inode>> {
    let mut held = BTreeSet::new();
    let descriptors = match fs::read_dir(proc.join(pid.to_string()).join("fd")) {
        Ok(descriptors) => descriptors,
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(held),
        Err(_) => return None,
    };
    for descriptor in descriptors.take(DESCRIPTORS_MAX) {
        if held.len() == sought.len() {
            break;
        }
        // One that was closed meanwhile is no socket that listens.
        let target = descriptor.ok().and_then(|d| fs::read_link(d.path()).ok());
        let inode = target.as_deref().and_then(|path| socket(path.to_str()?));
        held.extend(inode.filter(|inode| sought.contains(inode)));
    }
    Some(held)
}

/// The number in `socket:[NUMBER]`.
fn socket(target: &str) -> Option<Inode> {
    let number = target.strip_prefix("socket:[")?.strip_suffix(']')?;
    number.parse().ok()
}

/// The program that has this socket open, as far as it can be known: `haproxy (pid 4242)`.
pub(super) fn holder(proc: &Path, inode: Inode) -> String {
    let unknown = || "another program".to_owned();
    let Ok(processes) = fs::read_dir(proc) else {
        return unknown();
    };
    let sought = BTreeSet::from([inode]);
    let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let mut pids: Vec<u32> = processes
        .take(PROCESSES_MAX)
        .filter_map(|entry| name(entry.ok()?))
        .collect();
    pids.sort_unstable();
    let holds = |pid: &u32| held_by(proc, *pid, &sought).is_some_and(|held| !held.is_empty());
    let Some(pid) = pids.into_iter().find(holds) else {
        return unknown();
    };
    let name = fs::read_to_string(proc.join(pid.to_string()).join("comm"));
    match plain(&name.unwrap_or_default()) {
        name if name.is_empty() => format!("another program (pid {pid})"),
        name => format!("{name} (pid {pid})"),
    }
}

/// A program calls itself what it likes.
fn plain(name: &str) -> String {
    let named = name.trim().chars().take(NAME_CHARS_MAX);
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "._:-/".contains(c) {
            c
        } else {
            '_'
        }
    };
    named.map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when \
                        retrnsmt   uid  timeout inode\n";

    fn line(address: &str, state: &str, inode: u64) -> String {
        format!(
            "   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0\
             \x20       0 {inode} 1 0000000028e1f6a1 100 0 0 10 0\n"
        )
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn listeners_are_read_until_the_first_connection() {
        let six = "00000000000000000000000000000000:0050";
        let mapped = "0000000000000000FFFF00000100007F:0050";
        let text = [
            HEAD.to_owned(),
            line("0100007F:1F90", LISTENS, 7),
            line(six, LISTENS, 8),
            line(mapped, LISTENS, 9),
            line("0100007F:1F90", "01", 10),
            line("00000000:1F90", LISTENS, 11),
        ]
        .concat();
        let found = read(text.as_bytes()).unwrap();
        let seen: Vec<_> = found
            .iter()
            .map(|l| (l.address.to_string(), l.port, l.inode))
            .collect();
        let expected = [("127.0.0.1", 8080, 7), ("::", 80, 8), ("127.0.0.1", 80, 9)];
        assert_eq!(
            seen,
            expected.map(|(address, port, inode)| (address.to_owned(), port, inode))
        );
    }

    #[test]
    fn what_is_no_such_table_is_not_known() {
        assert_eq!(read("".as_bytes()), Some(vec![]));
        assert_eq!(read(HEAD.as_bytes()), Some(vec![]));
        for bad in [
            "x",
            "0: 0100007F 0 0A",
            "0: 0100007F:1F90 0 0A 0 0 0 0 0 x",
            "0: é00007F:1 0 0A 0 0 0 0 0 1",
        ] {
            assert_eq!(read(format!("{HEAD}{bad}\n").as_bytes()), None, "{bad}");
        }
        assert_eq!(listeners(Path::new("/nowhere")), None);
        assert_eq!(
            held_by(Path::new("/nowhere"), 1, &BTreeSet::new()),
            Some(BTreeSet::new())
        );
        assert_eq!(holder(Path::new("/nowhere"), 1), "another program");
    }

    #[test]
    fn a_listener_of_this_process_is_found_with_its_holder() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = listeners(Path::new("/proc/self/net")).unwrap();
        let found = found.into_iter().find(|l| l.port == port).unwrap();
        assert!(found.takes_from("0.0.0.0".parse().unwrap(), port));
        let proc = Path::new("/proc");
        let sought = BTreeSet::from([found.inode]);
        assert_eq!(
            held_by(proc, std::process::id(), &sought),
            Some(sought.clone())
        );
        let pid = format!("(pid {})", std::process::id());
        assert!(holder(proc, found.inode).ends_with(&pid));
    }

    #[test]
    fn a_name_is_no_command_of_a_terminal() {
        assert_eq!(plain("haproxy\n"), "haproxy");
        assert_eq!(plain("\x1b[31m; rm \u{202e} and more"), "__31m__rm___and");
    }
}
