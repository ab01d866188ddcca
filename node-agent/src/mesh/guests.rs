//! Who may connect to name addresses: containers of this host and the host itself. The addresses
//! are the host's own to its kernel, so a machine beside it that sends packets for them to it
//! would be served as well, without any certificate.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, io};

use futures_util::TryStreamExt;
use rtnetlink::new_connection;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use tokio::time::{Instant, sleep_until, timeout};

use super::range::Range;

/// Networks come with the engine and with other bridges: read again for a stranger, but not more
/// often than this. A stranger waits for it.
const READ_SPACING: Duration = Duration::from_secs(1);
/// Networks go as well, and others may get their addresses: so long what was read is taken.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// The kernel answers at once.
const KERNEL_DEADLINE: Duration = Duration::from_secs(2);
/// Most interfaces that are looked at.
const LINKS_MAX: usize = 65_536;

/// Which interfaces are cables into network namespaces.
#[derive(Debug)]
pub(super) enum Cables {
    /// Those that the kernel calls `veth`.
    Kernel,
    #[cfg(test)]
    Given(BTreeSet<String>),
}

/// The check of callers.
#[derive(Debug)]
pub(super) struct Guests {
    /// Always let in: the names' own range (the host calls itself from there), and those that
    /// the host's owner has named.
    always: Vec<Range>,
    /// `/`, but in tests.
    root: PathBuf,
    cables: Cables,
    seen: Mutex<Seen>,
    /// Held by who reads.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Seen {
    at: Option<Instant>,
    bridges: Vec<Range>,
}

impl Seen {
    fn knows(&self, caller: Ipv4Addr) -> bool {
        self.bridges.iter().any(|range| range.contains(caller))
    }
}

impl Guests {
    pub(super) fn new(always: Vec<Range>, root: &Path, cables: Cables) -> Self {
        Self {
            always,
            root: root.to_owned(),
            cables,
            seen: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May it connect, as far as that is known without a look at the host's networks?
    pub(super) fn knows(&self, caller: IpAddr) -> bool {
        let IpAddr::V4(caller) = caller else {
            return false;
        };
        if caller.is_loopback() || self.always.iter().any(|range| range.contains(caller)) {
            return true;
        }
        let seen = self.seen();
        seen.at.is_some_and(|at| at.elapsed() < GOOD_FOR) && seen.knows(caller)
    }

    /// May it connect?
    pub(super) async fn may(&self, caller: IpAddr) -> bool {
        let asked = Instant::now();
        let IpAddr::V4(address) = caller else {
            return false;
        };
        if self.knows(caller) {
            return true;
        }
        let _reader = self.reading.lock().await;
        let last = self.seen().at;
        if last.is_none_or(|last| last < asked) {
            if let Some(last) = last {
                sleep_until(last + READ_SPACING).await;
            }
            self.read().await;
        }
        self.seen().knows(address)
    }

    async fn read(&self) {
        let at = Instant::now();
        let bridges = self.bridges().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot see which networks of this host are containers'");
            Vec::new()
        });
        let at = Some(at);
        *self.seen() = Seen { at, bridges };
    }

    /// Networks of bridges that only containers are on.
    async fn bridges(&self) -> io::Result<Vec<Range>> {
        let table = fs::read_to_string(self.root.join("proc/net/route"))?;
        let cables = match &self.cables {
            Cables::Kernel => veths().await?,
            #[cfg(test)]
            Cables::Given(names) => names.clone(),
        };
        let inner = connected(&table).filter(|(name, _)| self.is_inner_bridge(name, &cables));
        Ok(inner.map(|(_, range)| range).collect())
    }

    /// Has it members, and are all of them cables to containers? Cards, bonds, VLANs, tunnels and
    /// taps lead elsewhere.
    fn is_inner_bridge(&self, interface: &str, cables: &BTreeSet<String>) -> bool {
        let bridge = self.root.join("sys/class/net").join(interface);
        let Ok(members) = fs::read_dir(bridge.join("brif")) else {
            return false;
        };
        let mut any = false;
        let all = members.flatten().all(|member| {
            any = true;
            let name = member.file_name();
            name.to_str().is_some_and(|name| cables.contains(name))
        });
        any && all
    }
}

/// Names of all `veth` interfaces of this host.
async fn veths() -> io::Result<BTreeSet<String>> {
    let (connection, handle, _messages) = new_connection()?;
    // The connection ends with its handle.
    tokio::spawn(connection);
    let read = async {
        let mut dump = Box::pin(handle.link().get().execute());
        let (mut names, mut left) = (BTreeSet::new(), LINKS_MAX);
        while let Some(link) = dump.try_next().await.map_err(io::Error::other)? {
            names.extend(veth(&link).map(str::to_owned));
            left -= 1;
            if left == 0 {
                break;
            }
        }
        Ok(names)
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer in time");
    timeout(KERNEL_DEADLINE, read)
        .await
        .unwrap_or_else(|_| Err(late()))
}

/// The name of an interface that is one.
fn veth(link: &LinkMessage) -> Option<&str> {
    let kind = |info: &LinkInfo| matches!(info, LinkInfo::Kind(InfoKind::Veth));
    let is_veth = link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => infos.iter().any(kind),
        _ => false,
    });
    link.attributes
        .iter()
        .filter(|_| is_veth)
        .find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.as_str()),
            _ => None,
        })
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
br1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
br2\t0003A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
br3\t0004A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
docker0\t0000100A\t050011AC\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0
";

    /// A host with these bridges' members; all cables are named as the engine does.
    fn host(members: &[&str]) -> (tempfile::TempDir, Guests) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/net")).unwrap();
        fs::write(root.path().join("proc/net/route"), TABLE).unwrap();
        for member in members {
            fs::create_dir_all(root.path().join("sys/class/net").join(member)).unwrap();
        }
        let cables = Cables::Given(["veth1", "veth2"].map(str::to_owned).into());
        let names: Range = "10.213.0.0/16".parse().unwrap();
        let guests = Guests::new(vec![names], root.path(), cables);
        (root, guests)
    }

    async fn may(guests: &Guests, address: &str) -> bool {
        guests.may(address.parse().unwrap()).await
    }

    #[tokio::test(start_paused = true)]
    async fn containers_and_the_host_come_in_and_neighbours_do_not() {
        let (_root, guests) = host(&[
            "eth0/device",
            "docker0/brif/veth1",
            // A card; a bond beside a container; a VLAN; nobody yet.
            "br0/brif/eth0",
            "br1/brif/bond0",
            "br1/brif/veth2",
            "br2/brif/eth0.100",
            "br3/brif",
        ]);
        for (address, comes_in) in [
            ("127.0.0.1", true),
            ("10.213.3.4", true),
            ("172.17.0.5", true),
            ("10.0.0.9", false),
            ("8.8.8.8", false),
            ("192.168.1.7", false),
            ("192.168.2.7", false),
            ("192.168.3.7", false),
            ("192.168.4.7", false),
            ("10.16.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(may(&guests, address).await, comes_in, "{address}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_right_after_a_look_waits_for_the_next() {
        let (root, guests) = host(&[]);
        let began = Instant::now();
        assert!(!may(&guests, "172.17.0.5").await, "no bridge yet");
        assert_eq!(began.elapsed(), Duration::ZERO);
        fs::create_dir_all(root.path().join("sys/class/net/docker0/brif/veth1")).unwrap();
        tokio::time::advance(Duration::from_millis(1)).await;
        let both = tokio::join!(may(&guests, "172.17.0.5"), may(&guests, "8.8.8.8"));
        assert_eq!(both, (true, false));
        assert_eq!(began.elapsed(), READ_SPACING, "one look for both");
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_is_gone_is_let_in_no_more() {
        let (root, guests) = host(&["docker0/brif/veth1"]);
        assert!(may(&guests, "172.17.0.5").await);
        fs::remove_dir_all(root.path().join("sys/class/net/docker0")).unwrap();
        tokio::time::advance(GOOD_FOR).await;
        assert!(!may(&guests, "172.17.0.5").await);
    }

    #[tokio::test]
    async fn the_kernel_is_asked_for_cables() {
        let cables = veths().await.unwrap();
        assert!(!cables.contains("lo"), "{cables:?}");
    }

    #[tokio::test]
    #[ignore = "needs a network namespace of its own: make route-test"]
    async fn the_kernel_says_which_interfaces_are_cables() {
        for words in ["add v1 type veth peer name v2", "add b1 type bridge"] {
            let mut ip = tokio::process::Command::new("ip");
            let made = ip.arg("link").args(words.split(' ')).status().await;
            assert!(made.unwrap().success(), "{words}");
        }
        let cables = veths().await.unwrap();
        assert_eq!(cables, ["v1", "v2"].map(str::to_owned).into());
    }
}
