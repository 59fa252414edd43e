//! Many datagrams in one system call.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use super::length_of;

/// The most datagrams in one call.
pub(crate) const SEND_MAX: usize = 64;

/// An address as the kernel wants it.
#[derive(Clone, Copy)]
pub(crate) enum Destination {
    V4(libc::sockaddr_in),
    V6(libc::sockaddr_in6),
}

impl From<IpAddr> for Destination {
    fn from(address: IpAddr) -> Self {
        let family = |family| libc::sa_family_t::try_from(family).expect("families are small");
        match address {
            IpAddr::V4(address) => Self::V4(libc::sockaddr_in {
                sin_family: family(libc::AF_INET),
                sin_port: 0,
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.octets()),
                },
                sin_zero: [0; 8],
            }),
            IpAddr::V6(address) => Self::V6(libc::sockaddr_in6 {
                sin6_family: family(libc::AF_INET6),
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr {
                    s6_addr: address.octets(),
                },
                sin6_scope_id: 0,
            }),
        }
    }
}

/// One datagram with its destination.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) destination: &'a Destination,
}

/// Sends up to [`SEND_MAX`] datagrams without waiting. The answer is how many the kernel took, at
/// least one; an error is about the first datagram. No datagram at all is 0.
pub(crate) fn send_many<'a>(
    socket: impl AsFd,
    datagrams: impl Iterator<Item = Outgoing<'a>>,
) -> io::Result<usize> {
    let mut vectors = [libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }; SEND_MAX];
    // SAFETY: `mmsghdr` is integers and pointers, for which zeros are valid.
    let mut headers: [libc::mmsghdr; SEND_MAX] = unsafe { std::mem::zeroed() };
    let mut count = 0;
    for ((datagram, vector), header) in datagrams.zip(&mut vectors).zip(&mut headers) {
        // The kernel only reads; the fields are mutable pointers because the C structures, which
        // also serve to receive, have no const.
        vector.iov_base = datagram.bytes.as_ptr().cast_mut().cast();
        vector.iov_len = datagram.bytes.len();
        let (name, length) = match datagram.destination {
            Destination::V4(address) => (
                std::ptr::from_ref(address).cast(),
                length_of::<libc::sockaddr_in>(),
            ),
            Destination::V6(address) => (
                std::ptr::from_ref(address).cast::<libc::c_void>(),
                length_of::<libc::sockaddr_in6>(),
            ),
        };
        header.msg_hdr.msg_name = name.cast_mut();
        header.msg_hdr.msg_namelen = length;
        header.msg_hdr.msg_iov = vector;
        header.msg_hdr.msg_iovlen = 1;
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    // SAFETY: the first `count` headers point to addresses and vectors, those to bytes, that are
    // borrowed for `'a` and thus live across the call, and that the kernel only reads.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_fd().as_raw_fd(),
            headers.as_mut_ptr(),
            count,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
