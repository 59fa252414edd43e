//! Local ports towards one target, for the time when the kernel finds none by itself.
//!
//! The kernel chooses from `net.ipv4.ip_local_port_range` and leaves out ports whose last
//! connection is in TIME_WAIT. A port that is named explicitly may be outside that range, and may
//! replace a TIME_WAIT: the timestamps tell old segments from new ones (RFC 6191), which the
//! kernel checks. So ports outside of the range are a reserve that can be gone through again and
//! again. Ports inside are left to the kernel, since one that is named explicitly is hidden from
//! the kernel's choice for every program of the host until its TIME_WAIT is over.

use std::fs;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// How long the kernel is not asked again after it has found no port: it looks at each one.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// After this time, ports that were found in use are tried again.
const BUSY_PAUSE: Duration = Duration::from_secs(1);

/// A set of ports.
#[derive(Clone)]
pub(super) struct PortSet(Box<[u64; 1024]>);

impl PortSet {
    fn new() -> Self {
        Self(Box::new([0; 1024]))
    }

    /// The ports of `range` that the kernel does not hand out by itself and that the host has not
    /// reserved for a service (`ip_local_reserved_ports`); none if that can't be read.
    pub(super) fn beyond_the_kernels(range: RangeInclusive<u16>) -> Self {
        let mut ports = Self::new();
        let read = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
        let (Ok(kernels), Ok(reserved)) =
            (read("ip_local_port_range"), read("ip_local_reserved_ports"))
        else {
            return ports;
        };
        let mut ends = kernels.split_whitespace().map(str::parse::<u16>);
        let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next()) else {
            return ports;
        };
        for port in range.filter(|port| !(first..=last).contains(port)) {
            ports.insert(port);
        }
        for item in reserved.trim().split(',') {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse()) {
                (first..=last).for_each(|port| ports.remove(port));
            }
        }
        ports
    }

    fn insert(&mut self, port: u16) {
        self.0[usize::from(port / 64)] |= 1 << (port % 64);
    }

    fn remove(&mut self, port: u16) {
        self.0[usize::from(port / 64)] &= !(1 << (port % 64));
    }

    /// The lowest port not below `start`, else the lowest of all.
    fn next_from(&self, start: u16) -> Option<u16> {
        let first = usize::from(start / 64);
        let beyond = u64::MAX << (start % 64);
        let words = self.0.len();
        (0..=words).find_map(|step| {
            let index = (first + step) % words;
            let bits = match step {
                0 => self.0[index] & beyond,
                _ => self.0[index],
            };
            let port = index * 64 + bits.trailing_zeros() as usize;
            (bits != 0).then(|| u16::try_from(port).expect("1024 words of 64 ports"))
        })
    }
}

/// The ports of one source address towards one target.
pub(super) struct Ports {
    /// Ports of the reserve that no connection of ours has.
    free: PortSet,
    /// Ports of the reserve that have turned out to be in use.
    busy: PortSet,
    busy_since: Option<Instant>,
    /// Where the next search begins, so that the port given up last is the last to be used again.
    next: u16,
    /// Until when the kernel need not be asked.
    exhausted_until: Option<Instant>,
    /// The local address of the latest connection.
    address: Option<IpAddr>,
}

impl Ports {
    pub(super) fn new(reserve: &PortSet) -> Self {
        Self {
            free: reserve.clone(),
            busy: PortSet::new(),
            busy_since: None,
            next: 0,
            exhausted_until: None,
            address: None,
        }
    }

    /// Whether it makes sense to ask the kernel for a port.
    pub(super) fn kernel_may_have_one(&self, now: Option<Instant>) -> bool {
        self.exhausted_until
            .is_none_or(|until| now.is_none_or(|now| now >= until))
    }

    /// The kernel has found no port.
    pub(super) fn kernel_has_none(&mut self, now: Option<Instant>) {
        self.exhausted_until = now.map(|now| now + EXHAUSTED_PAUSE);
    }

    /// The local address that the connections have; `None` before the first.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// A connection has this address.
    pub(super) fn has_address(&mut self, address: IpAddr) {
        self.address = Some(address);
    }

    /// Takes a port out of the reserve. It comes back by `is_busy` or `give_back`.
    pub(super) fn take(&mut self, now: Option<Instant>) -> Option<u16> {
        let overdue = |since: Instant| now.is_some_and(|now| now >= since + BUSY_PAUSE);
        let mut port = self.free.next_from(self.next);
        if port.is_none() && self.busy_since.is_some_and(overdue) {
            self.free = std::mem::replace(&mut self.busy, PortSet::new());
            self.busy_since = None;
            port = self.free.next_from(self.next);
        }
        let port = port?;
        self.free.remove(port);
        self.next = port.wrapping_add(1);
        Some(port)
    }

    /// The kernel has refused the port of the reserve.
    pub(super) fn is_busy(&mut self, port: u16, now: Option<Instant>) {
        self.busy.insert(port);
        self.busy_since = self.busy_since.or(now);
    }

    /// The port of the reserve is not used, or no longer.
    pub(super) fn give_back(&mut self, port: u16) {
        self.free.insert(port);
    }

    /// A connection whose port was of the kernel's choice is over.
    pub(super) fn kernel_has_one_back(&mut self) {
        self.exhausted_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ports: &[u16]) -> PortSet {
        let mut set = PortSet::new();
        ports.iter().for_each(|port| set.insert(*port));
        set
    }

    #[test]
    fn a_search_goes_round() {
        let ports = set(&[0, 63, 64, 1000, 65535]);
        for (start, found) in [
            (0, 0),
            (1, 63),
            (64, 64),
            (65, 1000),
            (1001, 65535),
            (65535, 65535),
        ] {
            assert_eq!(ports.next_from(start), Some(found), "from {start}");
        }
        assert_eq!(set(&[5]).next_from(6), Some(5));
        assert_eq!(set(&[]).next_from(6), None);
    }

    #[test]
    fn the_port_given_back_last_is_used_last() {
        let mut ports = Ports::new(&set(&[10, 20, 30]));
        assert_eq!(ports.take(None), Some(10));
        assert_eq!(ports.take(None), Some(20));
        ports.give_back(10);
        let order: Vec<_> = std::iter::from_fn(|| ports.take(None)).collect();
        assert_eq!(order, [30, 10]);
    }

    #[test]
    fn ports_in_use_are_tried_again_later() {
        let start = Instant::now();
        let mut ports = Ports::new(&set(&[10]));
        assert_eq!(ports.take(Some(start)), Some(10));
        ports.is_busy(10, Some(start));
        assert_eq!(ports.take(Some(start)), None);
        assert_eq!(ports.take(Some(start + BUSY_PAUSE)), Some(10));
    }

    #[test]
    fn the_reserve_leaves_out_what_the_kernel_hands_out() {
        let ports = PortSet::beyond_the_kernels(1024..=65535);
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        let first: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
        assert_ne!(ports.next_from(first), Some(first));
        assert!(ports.next_from(0).is_none_or(|port| port >= 1024));
    }
}
