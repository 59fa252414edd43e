//! The system calls that have no safe wrapper elsewhere. Everything outside this module is safe
//! code, and nothing here can be misused by safe code.

mod options;
mod packet_ring;
mod packet_socket;
mod scheduling;
mod send;
mod tcp;

pub(crate) use options::{Bytes, option, set_option, set_option_bytes};
pub(crate) use packet_ring::{HandedOver, PacketRing};
pub(crate) use packet_socket::{attach_filter, bind, bound_interface, set_fanout_program};
pub(crate) use scheduling::set_slice;
pub(crate) use send::{Destination, Outgoing, SEND_MAX, send_many};
pub(crate) use tcp::unacknowledged;

pub(crate) use options::device_mtu;

use std::io;

/// The result of a system call that answers -1 on failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The length of a value as the kernel wants it.
fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("kernel structures are small")
}
