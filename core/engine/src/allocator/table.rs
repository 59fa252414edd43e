//! The tuples of one IP version.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use tcpcopy_packet::Endpoint;

use super::AllocateError;
use crate::Ownership;

/// The first port that is handed out, unless a client itself uses a lower one.
pub(super) const FIRST_PORT: u16 = 1024;
/// How many ports are handed out on an address: all from [`FIRST_PORT`].
pub(super) const PORT_COUNT: u32 = 65_536 - FIRST_PORT as u32;
/// How far one rotation moves the ports; coprime to [`PORT_COUNT`], so that rotations differ, and
/// near its golden section, so that they lie far apart.
const ROTATION_STEP: u32 = 39_869;
/// From one port of the search to the next; coprime to [`PORT_COUNT`], so that the search covers
/// every port, and large, so that it leaves a run of used ports at once.
const PROBE_STEP: u32 = 48_697;
/// Used ports that a search meets before it turns to the bitmap. So many in a row mean that about
/// nine in ten are used.
const MOST_PROBES: u32 = 64;

/// What an allocation asks for.
pub(super) struct Request {
    /// The captured client.
    pub(super) client: Endpoint,
    /// The target's number.
    pub(super) target: u32,
    /// How often the ports are rotated by [`ROTATION_STEP`]; 0 keeps the client's.
    pub(super) rotation: u32,
}

/// The live tuples whose source is of address type `A`, and the addresses they may have.
#[derive(Debug)]
pub(super) struct Table<A> {
    live: HashSet<Source<A>, FixedState>,
    /// The addresses on which a search has once been long, until half their ports are free again.
    /// An address without any port of ours has no bitmap.
    crowded: HashMap<(A, u32), Option<Box<PortMap>>, FixedState>,
    pool: Vec<A>,
    /// Whether clients never keep their address: there is a pool, perhaps of the other version.
    is_pooled: bool,
    localhost_replacement: Option<A>,
    ownership: Ownership,
    hasher: FixedState,
}

/// The source of a live tuple, with the target's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Source<A> {
    address: A,
    port: u16,
    target: u32,
}

impl<A> Table<A>
where
    A: Copy + Eq + Hash + Into<IpAddr> + TryFromIp,
{
    pub(super) fn new(ownership: Ownership, seed: u64, is_pooled: bool) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self {
            live: HashSet::with_hasher(hasher.clone()),
            crowded: HashMap::with_hasher(hasher.clone()),
            pool: Vec::new(),
            is_pooled,
            localhost_replacement: None,
            ownership,
            hasher,
        }
    }

    pub(super) fn add_to_pool(&mut self, address: A) {
        self.pool.push(address);
    }

    pub(super) fn replace_localhost(&mut self, address: A) {
        self.localhost_replacement = Some(address);
    }

    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    #[cfg(test)]
    pub(super) fn crowded(&self) -> usize {
        self.crowded.len()
    }

    pub(super) fn allocate(&mut self, request: &Request) -> Result<Endpoint, AllocateError> {
        let (first, count) = self.addresses(request.client.address)?;
        let start = self.start_port(request);
        for step in 0..count {
            let address = match first {
                Choice::Only(address) => address,
                Choice::Pool(index) => self.pool[(index + step) % count],
            };
            if let Some(port) = self.take_port(address, request.target, start) {
                return Ok(Endpoint::new(address.into(), port));
            }
        }
        Err(AllocateError::NoTupleLeft)
    }

    pub(super) fn release(&mut self, address: A, port: u16, target: u32) -> bool {
        if !self.live.remove(&Source {
            address,
            port,
            target,
        }) {
            return false;
        }
        if let Some(Some(ports)) = self.crowded.get_mut(&(address, target)) {
            ports.release(port);
            if ports.is_roomy() {
                self.crowded.remove(&(address, target));
            }
        }
        true
    }

    /// The address to try first, and how many there are to try.
    fn addresses(&self, client: IpAddr) -> Result<(Choice<A>, usize), AllocateError> {
        if let (true, Some(address)) = (client.is_loopback(), self.localhost_replacement) {
            return Ok((Choice::Only(address), 1));
        }
        if !self.is_pooled {
            let own = A::try_from_ip(client).ok_or(AllocateError::AddressFamily)?;
            return Ok((Choice::Only(own), 1));
        }
        if self.pool.is_empty() {
            return Err(AllocateError::AddressFamily);
        }
        let count = self.pool.len();
        // The upper half of the product is the hash scaled to the pool.
        let index = (u128::from(self.hasher.hash_one(client)) * count as u128) >> 64;
        Ok((Choice::Pool(index as usize), count))
    }

    /// The port that the search begins at. A rotation maps different ports to different ports, so
    /// that the first choices of an address's clients don't collide.
    fn start_port(&self, request: &Request) -> u16 {
        if request.rotation == 0 {
            return request.client.port;
        }
        let place = match request.client.port.checked_sub(FIRST_PORT) {
            Some(place) => u32::from(place),
            None => (self.hasher.hash_one(request.client.port) >> 32) as u32 % PORT_COUNT,
        };
        let distance = u64::from(request.rotation) * u64::from(ROTATION_STEP);
        port_at((u64::from(place) + distance) % u64::from(PORT_COUNT))
    }

    /// Takes `start` on `address`, or else a free port.
    fn take_port(&mut self, address: A, target: u32, start: u16) -> Option<u16> {
        let port = if self.is_free(address, start, target) {
            start
        } else if let Some(ports) = self.crowded.get(&(address, target)) {
            ports.as_ref()?.first_free(start)?
        } else {
            match self.probe(address, target, start) {
                Some(port) => port,
                None => self.crowd(address, target)?.first_free(start)?,
            }
        };
        self.live.insert(Source {
            address,
            port,
            target,
        });
        if let Some(Some(ports)) = self.crowded.get_mut(&(address, target)) {
            ports.take(port);
        }
        Some(port)
    }

    /// A free port found by a bounded search; `None` does not mean that there is none.
    fn probe(&self, address: A, target: u32, start: u16) -> Option<u16> {
        let limit = MOST_PROBES * u32::from(self.ownership.shard_count);
        let place = u64::from(start.saturating_sub(FIRST_PORT));
        (1..=u64::from(limit.min(PORT_COUNT)))
            .map(|step| port_at((place + step * u64::from(PROBE_STEP)) % u64::from(PORT_COUNT)))
            .find(|&port| self.is_free(address, port, target))
    }

    /// Begins a bitmap for `address` from the live tuples.
    fn crowd(&mut self, address: A, target: u32) -> Option<&PortMap> {
        let mut ports = Box::new(PortMap::without_ports());
        for port in FIRST_PORT..=u16::MAX {
            if self.ownership.owns(Endpoint::new(address.into(), port)) {
                let is_live = self.live.contains(&Source {
                    address,
                    port,
                    target,
                });
                ports.add(port, is_live);
            }
        }
        let ports = (ports.owned > 0).then_some(ports);
        self.crowded
            .entry((address, target))
            .insert(ports)
            .into_mut()
            .as_deref()
    }

    fn is_free(&self, address: A, port: u16, target: u32) -> bool {
        self.ownership.owns(Endpoint::new(address.into(), port))
            && !self.live.contains(&Source {
                address,
                port,
                target,
            })
    }
}

/// Which addresses an allocation may try.
enum Choice<A> {
    /// This one.
    Only(A),
    /// Those of the pool, from this index round.
    Pool(usize),
}

/// An address type that holds one IP version.
pub(super) trait TryFromIp: Sized {
    /// The address, if it is of this version.
    fn try_from_ip(address: IpAddr) -> Option<Self>;
}

impl TryFromIp for std::net::Ipv4Addr {
    fn try_from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }
}

impl TryFromIp for std::net::Ipv6Addr {
    fn try_from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }
}

const WORD_BITS: usize = 64;
const WORD_COUNT: usize = PORT_COUNT as usize / WORD_BITS;

/// Which ports of an address, towards one target, are free for us.
#[derive(Debug)]
struct PortMap {
    /// A bit for each port from [`FIRST_PORT`]: set when it is ours and free.
    free: [u64; WORD_COUNT],
    free_count: u32,
    /// How many of the ports are ours.
    owned: u32,
}

impl PortMap {
    fn without_ports() -> Self {
        Self {
            free: [0; WORD_COUNT],
            free_count: 0,
            owned: 0,
        }
    }

    fn add(&mut self, port: u16, is_live: bool) {
        self.owned += 1;
        if !is_live {
            self.release(port);
        }
    }

    /// The first free port from `start` upwards, going round.
    fn first_free(&self, start: u16) -> Option<u16> {
        if self.free_count == 0 {
            return None;
        }
        let (word, bit) = place(start).unwrap_or((0, 0));
        let upper = self.free[word] & (u64::MAX << bit);
        let (word, bits) = if upper != 0 {
            (word, upper)
        } else {
            (1..=WORD_COUNT)
                .map(|step| (word + step) % WORD_COUNT)
                .map(|word| (word, self.free[word]))
                .find(|(_, bits)| *bits != 0)?
        };
        Some(port_at(
            (word * WORD_BITS) as u64 + u64::from(bits.trailing_zeros()),
        ))
    }

    fn take(&mut self, port: u16) {
        if let Some((word, bit)) = place(port) {
            self.free_count -= (self.free[word] >> bit & 1) as u32;
            self.free[word] &= !(1 << bit);
        }
    }

    fn release(&mut self, port: u16) {
        if let Some((word, bit)) = place(port) {
            self.free_count += (!self.free[word] >> bit & 1) as u32;
            self.free[word] |= 1 << bit;
        }
    }

    /// Whether a search without the bitmap would be short again.
    fn is_roomy(&self) -> bool {
        self.free_count >= self.owned / 2
    }
}

/// The word and bit of a port in a [`PortMap`]; lower ports than [`FIRST_PORT`] have none.
fn place(port: u16) -> Option<(usize, usize)> {
    let place = usize::from(port.checked_sub(FIRST_PORT)?);
    Some((place / WORD_BITS, place % WORD_BITS))
}

/// The port at `place`, counted from [`FIRST_PORT`]; less than [`PORT_COUNT`].
fn port_at(place: u64) -> u16 {
    FIRST_PORT + place as u16
}
