//! The grammar of `-c`: addresses, `a.b.c.x` and networks.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most addresses of a pool. Each costs 17 bytes here and a port table in the engine once used.
pub const MOST_POOL_ADDRESSES: usize = 65536;

/// Why a `-c` list can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Neither an address, nor `a.b.c.x`, nor a network.
    #[error("'{0}' in -c is neither an address, nor a.b.c.x, nor a network")]
    NotAnAddress(String),
    /// A prefix longer than the address.
    #[error("'{item}' in -c: the prefix length is a number from 0 to {most}")]
    Prefix {
        /// The whole item.
        item: String,
        /// Bits of an address of its family.
        most: u8,
    },
    /// A network written with one of its hosts.
    #[error("'{item}' in -c has bits beyond its prefix: its network is {network}")]
    HostBits {
        /// The whole item.
        item: String,
        /// The network it lies in.
        network: String,
    },
    /// An address that no client has.
    #[error("{0} in -c can't be a client's address")]
    NotAClient(IpAddr),
    /// IPv4 beside IPv6.
    #[error("-c mixes IPv4 and IPv6")]
    MixedFamilies,
    /// Over [`MOST_POOL_ADDRESSES`].
    #[error("-c has more than {MOST_POOL_ADDRESSES} addresses")]
    TooMany,
}

impl PoolError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::MixedFamilies => "give one pool of the targets' family",
            Self::TooMany => "take a smaller network, for example 10.1.0.0/16",
            _ => "write for example 10.1.2.3,10.1.3.x,10.1.4.0/24",
        }
    }
}

/// Reads the items of `-c` into their addresses, each once, in the order given.
///
/// # Errors
/// [`PoolError`], which names the item.
pub fn parse_pool(items: &[String]) -> Result<Vec<IpAddr>, PoolError> {
    let mut pool = Vec::new();
    let mut seen = HashSet::new();
    for item in items {
        let (first, count) = parse_item(item)?;
        let left = MOST_POOL_ADDRESSES.saturating_sub(pool.len());
        if count > left as u128 {
            return Err(PoolError::TooMany);
        }
        for offset in 0..count {
            let address = nth_after(first, offset);
            if address.is_unspecified() || address.is_multicast() || is_broadcast(address) {
                return Err(PoolError::NotAClient(address));
            }
            if seen.insert(address) {
                pool.push(address);
            }
        }
    }
    let first_is_ipv4 = pool.first().is_some_and(IpAddr::is_ipv4);
    if pool
        .iter()
        .any(|address| address.is_ipv4() != first_is_ipv4)
    {
        return Err(PoolError::MixedFamilies);
    }
    Ok(pool)
}

/// The first address of an item, and how many consecutive ones it means.
fn parse_item(item: &str) -> Result<(IpAddr, u128), PoolError> {
    let not_an_address = || PoolError::NotAnAddress(item.to_owned());
    if let Some(three) = item.strip_suffix(".x") {
        let first: Ipv4Addr = format!("{three}.1").parse().map_err(|_| not_an_address())?;
        return Ok((first.into(), 254));
    }
    let Some((network, prefix)) = item.split_once('/') else {
        return Ok((item.parse().map_err(|_| not_an_address())?, 1));
    };
    let network: IpAddr = network.parse().map_err(|_| not_an_address())?;
    let bits: u8 = if network.is_ipv4() { 32 } else { 128 };
    let prefix: u8 = prefix
        .parse()
        .ok()
        .filter(|prefix| *prefix <= bits)
        .ok_or_else(|| PoolError::Prefix {
            item: item.to_owned(),
            most: bits,
        })?;
    hosts_of(item, network, bits, prefix)
}

/// The host addresses of a network: all but the network's own and, in IPv4, the broadcast address;
/// the two smallest kinds of network have neither (RFC 3021, RFC 6164).
fn hosts_of(
    item: &str,
    network: IpAddr,
    bits: u8,
    prefix: u8,
) -> Result<(IpAddr, u128), PoolError> {
    let host_bits = u32::from(bits - prefix);
    let size = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
    let start = as_number(network);
    let inside = if host_bits == 128 {
        start
    } else {
        start % size
    };
    if inside != 0 {
        let network = format!("{}/{prefix}", with_number(network, start - inside));
        return Err(PoolError::HostBits {
            item: item.to_owned(),
            network,
        });
    }
    match (host_bits, network) {
        (0 | 1, _) => Ok((network, size)),
        (_, IpAddr::V4(_)) => Ok((nth_after(network, 1), size - 2)),
        (_, IpAddr::V6(_)) => Ok((nth_after(network, 1), size - 1)),
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

fn as_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address of `family`'s family with that number; IPv4 keeps the low 32 bits.
fn with_number(family: IpAddr, number: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => Ipv4Addr::from_bits((number & u128::from(u32::MAX)) as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

fn nth_after(first: IpAddr, offset: u128) -> IpAddr {
    with_number(first, as_number(first).wrapping_add(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> Result<Vec<IpAddr>, PoolError> {
        parse_pool(&list.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    fn check(list: &str, count: usize, first: &str, last: &str) {
        let pool = parse(list).unwrap_or_else(|error| panic!("{list}: {error}"));
        assert_eq!(pool.len(), count, "{list}");
        assert_eq!(
            pool.first().map(ToString::to_string).as_deref(),
            Some(first),
            "{list}"
        );
        assert_eq!(
            pool.last().map(ToString::to_string).as_deref(),
            Some(last),
            "{list}"
        );
    }

    fn refused(list: &str, message: &str) {
        assert_eq!(parse(list).expect_err(list).to_string(), message, "{list}");
    }

    #[test]
    fn accepted() {
        check("10.1.2.3", 1, "10.1.2.3", "10.1.2.3");
        check("10.1.2.3,10.1.2.9", 2, "10.1.2.3", "10.1.2.9");
        check("10.1.2.x", 254, "10.1.2.1", "10.1.2.254");
        check("10.1.2.0/24", 254, "10.1.2.1", "10.1.2.254");
        check("10.1.0.0/16", 65534, "10.1.0.1", "10.1.255.254");
        check("10.1.2.4/31", 2, "10.1.2.4", "10.1.2.5");
        check("10.1.2.4/32", 1, "10.1.2.4", "10.1.2.4");
        check("fd00::/112", 65535, "fd00::1", "fd00::ffff");
        check("fd00::8/127", 2, "fd00::8", "fd00::9");
        check("10.1.2.x,10.1.2.0/24", 254, "10.1.2.1", "10.1.2.254");
    }

    #[test]
    fn refused_with_what_is_wrong() {
        refused(
            "",
            "'' in -c is neither an address, nor a.b.c.x, nor a network",
        );
        refused(
            "10.1.x.x",
            "'10.1.x.x' in -c is neither an address, nor a.b.c.x, nor a network",
        );
        refused(
            "web",
            "'web' in -c is neither an address, nor a.b.c.x, nor a network",
        );
        refused(
            "10.1.2.0/33",
            "'10.1.2.0/33' in -c: the prefix length is a number from 0 to 32",
        );
        refused(
            "fd00::/x",
            "'fd00::/x' in -c: the prefix length is a number from 0 to 128",
        );
        refused(
            "10.1.2.7/24",
            "'10.1.2.7/24' in -c has bits beyond its prefix: its network is 10.1.2.0/24",
        );
        refused("0.0.0.0", "0.0.0.0 in -c can't be a client's address");
        refused("224.0.0.1", "224.0.0.1 in -c can't be a client's address");
        refused("10.1.2.3,fd00::1", "-c mixes IPv4 and IPv6");
        refused("10.0.0.0/8", "-c has more than 65536 addresses");
        refused("10.1.0.0/16,10.2.0.x", "-c has more than 65536 addresses");
        refused("::/0", "-c has more than 65536 addresses");
    }
}
