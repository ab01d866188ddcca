//! A range of IPv4 addresses, as `10.213.0.0/16`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use longshore_model::names::RANGE_BITS;
use serde::Deserialize;

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Range {
    base: Ipv4Addr,
    bits: u8,
}

/// A text that is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range of IPv4 addresses; it should look like 10.213.0.0/16")]
pub struct NoRange(String);

impl Range {
    /// The range of all addresses that share the first `bits` bits with `address`.
    #[must_use]
    pub fn around(address: Ipv4Addr, bits: u8) -> Self {
        let bits = bits.min(32);
        Self {
            base: Ipv4Addr::from_bits(address.to_bits() & mask(bits)),
            bits,
        }
    }

    /// Its first address.
    #[must_use]
    pub fn base(&self) -> Ipv4Addr {
        self.base
    }

    /// How many bits all its addresses share.
    #[must_use]
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// Is the address one of it?
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.bits) == self.base.to_bits()
    }

    /// The same place in this range as `address` has in the one that services are numbered in; none:
    /// this range ends before.
    #[must_use]
    pub fn place(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let offset = address.to_bits() & !mask(RANGE_BITS);
        let placed = Ipv4Addr::from_bits(self.base.to_bits() | offset);
        (offset & mask(self.bits) == 0).then_some(placed)
    }

    /// Do the two share an address?
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.base) || other.contains(self.base)
    }
}

fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(u32::from(32 - bits)).unwrap_or(0)
}

impl FromStr for Range {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        let none = || NoRange(text.to_owned());
        let (base, bits) = text.split_once('/').ok_or_else(none)?;
        let base: Ipv4Addr = base.parse().map_err(|_| none())?;
        let bits: u8 = bits.parse().map_err(|_| none())?;
        let range = Self::around(base, bits);
        // Bits behind the prefix are a slip of somebody's; /0 would swallow the host's traffic.
        if !(8..=32).contains(&bits) || range.base != base {
            return Err(none());
        }
        Ok(range)
    }
}

impl TryFrom<String> for Range {
    type Error = NoRange;

    fn try_from(text: String) -> Result<Self, NoRange> {
        text.parse()
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_its_place_in_every_range_that_is_large_enough() {
        let place = |range: &str, number: [u8; 2]| {
            let [high, low] = number;
            let range: Range = range.parse().unwrap();
            let placed = range.place(Ipv4Addr::new(10, 213, high, low));
            placed.map(|address| address.to_string())
        };
        let at = |address: &str| Some(address.to_owned());
        assert_eq!(place("10.213.0.0/16", [7, 9]), at("10.213.7.9"));
        assert_eq!(place("10.77.0.0/16", [7, 9]), at("10.77.7.9"));
        assert_eq!(place("127.0.0.0/8", [7, 9]), at("127.0.7.9"));
        assert_eq!(place("192.168.16.0/20", [7, 9]), at("192.168.23.9"));
        assert_eq!(place("192.168.16.0/20", [16, 0]), None);
    }

    #[test]
    fn ranges_read_back_and_know_their_addresses() {
        let range: Range = "10.213.0.0/16".parse().unwrap();
        assert_eq!(range.to_string(), "10.213.0.0/16");
        assert!(range.contains(Ipv4Addr::new(10, 213, 255, 255)));
        assert!(!range.contains(Ipv4Addr::new(10, 214, 0, 0)));
        for (other, shared) in [
            ("10.0.0.0/8", true),
            ("10.213.7.0/24", true),
            ("10.213.0.1/32", true),
            ("10.212.0.0/16", false),
            ("172.17.0.0/16", false),
        ] {
            let other: Range = other.parse().unwrap();
            assert_eq!(range.overlaps(&other), shared, "{other}");
            assert_eq!(other.overlaps(&range), shared, "{other}");
        }
        assert!(Range::around(Ipv4Addr::new(9, 9, 9, 9), 0).overlaps(&range));
        for bad in [
            "10.213.0.0",
            "10.213.0.1/16",
            "10.213.0.0/33",
            "0.0.0.0/0",
            "x/16",
        ] {
            assert_eq!(bad.parse::<Range>(), Err(NoRange(bad.to_owned())));
        }
    }
}
