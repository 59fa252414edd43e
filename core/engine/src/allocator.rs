//! Source tuples for the sessions: never one twice while it lives.
//!
//! A session's source is the captured client's own endpoint where that is free, for a target that
//! sees what the origin saw. Otherwise the address stays (or comes from the pool of `-c`) and the
//! port is searched for in an order that covers every port once. Every tuple handed out is in one
//! hash table; ports of an address on which the search has become long are also in a bitmap, so
//! that the search stays short up to the last free port.

mod table;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use tcpcopy_packet::{Endpoint, FourTuple};

use self::table::{Request, Table};
use crate::Ownership;

/// Why no tuple could be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// Every port this engine owns on every usable address is in use towards that target.
    #[error("every source port towards the target is in use")]
    NoTupleLeft,
    /// No source address is of the target's IP version.
    #[error("no source address is of the target's IP version")]
    AddressFamily,
}

/// Hands out the source tuples of the sessions, see the [module](self).
#[derive(Debug)]
pub struct TupleAllocator {
    v4: Table<std::net::Ipv4Addr>,
    v6: Table<std::net::Ipv6Addr>,
    /// Targets seen so far; their places stand for them in the tables.
    targets: Vec<Endpoint>,
    port_shift: u16,
}

impl TupleAllocator {
    /// An allocator with nothing handed out.
    ///
    /// `pool` holds the addresses of `-c`; empty keeps the clients' own, except that
    /// `localhost_replacement` stands in for a loopback client's. `port_shift` is `-f`: allocators
    /// of different shifts start their search at different ports. Only endpoints of `ownership`
    /// are handed out. `seed` decides which client gets which address of the pool.
    #[must_use]
    pub fn new(
        pool: Vec<IpAddr>,
        localhost_replacement: Option<IpAddr>,
        port_shift: u16,
        ownership: Ownership,
        seed: u64,
    ) -> Self {
        let mut v4 = Table::new(ownership, seed, !pool.is_empty());
        let mut v6 = Table::new(ownership, seed, !pool.is_empty());
        for address in pool {
            match address {
                IpAddr::V4(address) => v4.add_to_pool(address),
                IpAddr::V6(address) => v6.add_to_pool(address),
            }
        }
        match localhost_replacement {
            Some(IpAddr::V4(address)) => v4.replace_localhost(address),
            Some(IpAddr::V6(address)) => v6.replace_localhost(address),
            None => {}
        }
        Self {
            v4,
            v6,
            targets: Vec::new(),
            port_shift,
        }
    }

    /// A tuple from a source that stands for `client` to `target`, for copy number `copy` of the
    /// connection (0 is the first). It lives until [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// When no address or no port is left; nothing has changed then.
    pub fn allocate(
        &mut self,
        client: Endpoint,
        target: Endpoint,
        copy: u16,
    ) -> Result<FourTuple, AllocateError> {
        let request = Request {
            client,
            target: self.target_number(target),
            rotation: u32::from(self.port_shift) + u32::from(copy) * COPY_STEP,
        };
        let source = match target.address {
            IpAddr::V4(_) => self.v4.allocate(&request)?,
            IpAddr::V6(_) => self.v6.allocate(&request)?,
        };
        Ok(FourTuple::new(source, target))
    }

    /// Makes `tuple` free again; says whether it was handed out.
    pub fn release(&mut self, tuple: FourTuple) -> bool {
        let Some(target) = self
            .targets
            .iter()
            .position(|target| *target == tuple.destination)
        else {
            return false;
        };
        let target = number(target);
        match tuple.source.address {
            IpAddr::V4(address) => self.v4.release(address, tuple.source.port, target),
            IpAddr::V6(address) => self.v6.release(address, tuple.source.port, target),
        }
    }

    /// How many tuples are handed out.
    #[must_use]
    pub fn live(&self) -> usize {
        self.v4.live() + self.v6.live()
    }

    fn target_number(&mut self, target: Endpoint) -> u32 {
        let known = self.targets.iter().position(|known| *known == target);
        number(known.unwrap_or_else(|| {
            self.targets.push(target);
            self.targets.len() - 1
        }))
    }
}

/// Rotations kept apart for the shifts of `-f`, so that a copy of one shift is no other shift's
/// first choice.
const COPY_STEP: u32 = 1024;

fn number(target: usize) -> u32 {
    u32::try_from(target).expect("there are as many targets as mappings")
}
