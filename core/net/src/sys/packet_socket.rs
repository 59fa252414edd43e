//! `AF_PACKET` sockets: address, filter and fanout program.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::{check, length_of};
use crate::bpf::Instruction;

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<Instruction>() == align_of::<libc::sock_filter>());

/// Binds to a device, or to all with index 0. From here on the socket receives packets of every
/// link-layer protocol, outgoing ones included.
pub(crate) fn bind(socket: impl AsFd, device_index: u32) -> io::Result<()> {
    let mut address = empty_address();
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL)
        .expect("an EtherType")
        .to_be();
    address.sll_ifindex = device_index.cast_signed();
    // SAFETY: `address` is a whole `sockaddr_ll` and lives across the call.
    check(unsafe {
        libc::bind(
            socket.as_fd().as_raw_fd(),
            (&raw const address).cast(),
            length_of::<libc::sockaddr_ll>(),
        )
    })?;
    Ok(())
}

/// The index of the device the socket is bound to, 0 for all devices; `None` once that device no
/// longer exists.
pub(crate) fn bound_interface(socket: impl AsFd) -> io::Result<Option<u32>> {
    let mut address = empty_address();
    let mut length = length_of::<libc::sockaddr_ll>();
    // SAFETY: `address` is valid for writes of `length` bytes.
    check(unsafe {
        libc::getsockname(
            socket.as_fd().as_raw_fd(),
            (&raw mut address).cast(),
            &raw mut length,
        )
    })?;
    Ok(u32::try_from(address.sll_ifindex).ok())
}

fn empty_address() -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("address families are small"),
        sll_protocol: 0,
        sll_ifindex: 0,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

/// Attaches or replaces the socket's filter.
pub(crate) fn attach_filter(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    set_program(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program)
}

/// Sets the program by which the socket's fanout group chooses the receiving socket.
pub(crate) fn set_fanout_program(socket: impl AsFd, program: &[Instruction]) -> io::Result<()> {
    set_program(socket, libc::SOL_PACKET, libc::PACKET_FANOUT_DATA, program)
}

fn set_program(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    program: &[Instruction],
) -> io::Result<()> {
    let len =
        u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // The field is a mutable pointer only because the C structure has no const.
    let program = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: both options read a `sock_fprog` and, behind it, `len` instructions, whose layout is
    // asserted above; the kernel copies and checks them before it returns.
    unsafe {
        super::options::set_raw(
            socket,
            level,
            name,
            (&raw const program).cast(),
            length_of::<libc::sock_fprog>(),
        )
    }
}
