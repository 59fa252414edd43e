//! Numbers and tuples as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tcpcopy_packet::{Endpoint, FourTuple};

/// The family byte of a tuple over IPv4.
const FAMILY_V4: u8 = 4;
/// The family byte of a tuple over IPv6.
const FAMILY_V6: u8 = 6;

/// Bytes that ended early or say something impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed bytes")]
pub(crate) struct Malformed;

/// Takes values off the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = tail;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn tuple(&mut self) -> Result<FourTuple, Malformed> {
        let family = self.u8()?;
        let source = self.endpoint(family)?;
        let destination = self.endpoint(family)?;
        Ok(FourTuple::new(source, destination))
    }

    pub(crate) fn address(&mut self) -> Result<IpAddr, Malformed> {
        let family = self.u8()?;
        self.address_of(family)
    }

    fn endpoint(&mut self, family: u8) -> Result<Endpoint, Malformed> {
        let address = self.address_of(family)?;
        Ok(Endpoint::new(address, self.u16()?))
    }

    fn address_of(&mut self, family: u8) -> Result<IpAddr, Malformed> {
        match family {
            FAMILY_V4 => Ok(IpAddr::V4(Ipv4Addr::from(self.array::<4>()?))),
            FAMILY_V6 => Ok(IpAddr::V6(Ipv6Addr::from(self.array::<16>()?))),
            _ => Err(Malformed),
        }
    }
}

/// Appends an address.
pub(crate) fn put_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            out.push(FAMILY_V4);
            out.extend(address.octets());
        }
        IpAddr::V6(address) => {
            out.push(FAMILY_V6);
            out.extend(address.octets());
        }
    }
}

/// Appends a tuple. Both addresses have one family in any packet; a mixed tuple is written as
/// IPv6 with the IPv4 address mapped.
pub(crate) fn put_tuple(out: &mut Vec<u8>, tuple: &FourTuple) {
    let ends = [tuple.source, tuple.destination];
    if ends.iter().all(|end| end.address.is_ipv4()) {
        out.push(FAMILY_V4);
    } else {
        out.push(FAMILY_V6);
    }
    let family = out[out.len() - 1];
    for end in ends {
        match end.address {
            IpAddr::V4(address) if family == FAMILY_V4 => out.extend(address.octets()),
            IpAddr::V4(address) => out.extend(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => out.extend(address.octets()),
        }
        out.extend(end.port.to_be_bytes());
    }
}
