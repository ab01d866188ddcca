//! Who may connect to name addresses: containers of this host and the host itself. The addresses
//! are the host's own to its kernel, so a machine beside it that sends packets for them to it
//! would be served as well, without any certificate.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::range::Range;

/// Networks come with the engine and with other bridges: read again for a stranger, but not more
/// often than this.
const READ_SPACING: Duration = Duration::from_secs(1);

/// The check of callers.
#[derive(Debug)]
pub(super) struct Guests {
    /// Always let in: the names' own range (the host calls itself from there), and those that
    /// the host's owner has named.
    always: Vec<Range>,
    /// `/`, but in tests.
    root: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    bridges: Vec<Range>,
}

impl Guests {
    pub(super) fn new(always: Vec<Range>, root: &Path) -> Self {
        Self {
            always,
            root: root.to_owned(),
            seen: Mutex::default(),
        }
    }

    /// May it connect?
    pub(super) fn may(&self, caller: IpAddr) -> bool {
        let IpAddr::V4(caller) = caller else {
            return false;
        };
        if caller.is_loopback() || self.always.iter().any(|range| range.contains(caller)) {
            return true;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |seen: &Seen| seen.bridges.iter().any(|range| range.contains(caller));
        let fresh = seen.at.is_some_and(|at| at.elapsed() < READ_SPACING);
        if !known(&seen) && !fresh {
            seen.at = Some(Instant::now());
            seen.bridges = self.bridges();
        }
        known(&seen)
    }

    /// Networks of bridges that have no way out of their own: only containers are on them.
    fn bridges(&self) -> Vec<Range> {
        let table = fs::read_to_string(self.root.join("proc/net/route")).unwrap_or_default();
        let mut bridges = Vec::new();
        for (interface, range) in connected(&table) {
            if self.is_inner_bridge(interface) {
                bridges.push(range);
            }
        }
        bridges
    }

    fn is_inner_bridge(&self, interface: &str) -> bool {
        let class = self.root.join("sys/class/net");
        let Ok(members) = fs::read_dir(class.join(interface).join("brif")) else {
            return false;
        };
        // A card of the machine has a device behind it, a container's cable has none.
        let mut members = members.flatten();
        !members.any(|member| class.join(member.file_name()).join("device").exists())
    }
}

/// Networks that are reached without a gateway, with their interfaces, out of the kernel's table.
fn connected(table: &str) -> impl Iterator<Item = (&str, Range)> {
    table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        let interface = columns.next()?;
        let number = |text: Option<&str>| u32::from_str_radix(text?, 16).ok();
        let (to, gateway) = (number(columns.next())?, number(columns.next())?);
        let mask = number(columns.nth(4))?;
        // The kernel prints the bytes of the wire as one of its own numbers.
        let base = Ipv4Addr::from(to.to_ne_bytes());
        let bits = u8::try_from(mask.count_ones()).ok()?;
        (gateway == 0 && bits > 0).then(|| (interface, Range::around(base, bits)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
br0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t0000100A\t050011AC\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
";

    #[tokio::test(start_paused = true)]
    async fn containers_and_the_host_come_in_and_neighbours_do_not() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for dir in [
            "proc/net",
            "sys/class/net/eth0/device",
            "sys/class/net/docker0/brif/veth1",
            "sys/class/net/br0/brif/eth0",
        ] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        let names: Range = "10.213.0.0/16".parse().unwrap();
        let guests = Guests::new(vec![names], root.path());
        let may = |address: &str| guests.may(address.parse().unwrap());
        assert!(!may("172.17.0.5"), "no table yet");
        fs::write(at("proc/net/route"), TABLE).unwrap();
        assert!(!may("172.17.0.5"), "just read");
        tokio::time::advance(READ_SPACING).await;
        assert!(may("172.17.0.5"));
        for (address, comes_in) in [
            ("127.0.0.1", true),
            ("10.213.3.4", true),
            ("10.0.0.9", false),
            ("8.8.8.8", false),
            ("192.168.1.7", false),
            ("10.16.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(may(address), comes_in, "{address}");
        }
    }
}
