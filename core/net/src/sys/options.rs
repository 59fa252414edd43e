//! Socket options as plain values.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};

use super::{check, length_of};

/// Values that are bytes to the kernel.
///
/// # Safety
/// Every bit pattern must be a valid value, and there must be no padding.
pub(crate) unsafe trait Bytes: Copy {}

// SAFETY: an integer has no invalid bits and no padding.
unsafe impl Bytes for c_int {}
// SAFETY: as above.
unsafe impl Bytes for u32 {}
// SAFETY: seven 32-bit integers.
unsafe impl Bytes for libc::tpacket_req3 {}
// SAFETY: three 32-bit integers.
unsafe impl Bytes for libc::tpacket_stats_v3 {}
// SAFETY: integers of 4, 2 and 2 bytes, then 8 bytes.
unsafe impl Bytes for libc::packet_mreq {}

/// Sets a socket option.
pub(crate) fn set_option<T: Bytes>(
    socket: impl AsFd,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    // SAFETY: `value` is valid for reads of its own size, and `Bytes` has no padding.
    unsafe {
        set_raw(
            socket,
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length_of::<T>(),
        )
    }
}

/// Sets a socket option that is a string.
pub(crate) fn set_option_bytes(
    socket: impl AsFd,
    level: c_int,
    name: c_int,
    value: &[u8],
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len())
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `value` is valid for reads of `length` bytes.
    unsafe { set_raw(socket, level, name, value.as_ptr().cast(), length) }
}

/// Sets a socket option from memory.
///
/// # Safety
/// `value` must be valid for reads of `length` bytes, and what it points to in turn must be what
/// the option asks for.
pub(super) unsafe fn set_raw(
    socket: impl AsFd,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: libc::socklen_t,
) -> io::Result<()> {
    // SAFETY: the caller vouches for the memory; the descriptor is open while it is borrowed.
    check(unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, value, length) })?;
    Ok(())
}

/// Reads a socket option; a value shorter than `T` is filled up with zeros.
pub(crate) fn option<T: Bytes>(socket: impl AsFd, level: c_int, name: c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = length_of::<T>();
    // SAFETY: `value` is valid for writes of `length` bytes.
    check(unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            value.as_mut_ptr().cast(),
            &raw mut length,
        )
    })?;
    // SAFETY: zeroed, and every bit pattern of a `Bytes` type is a valid value.
    Ok(unsafe { value.assume_init() })
}

/// The maximum transmission unit of a device, in bytes.
pub(crate) fn device_mtu(socket: impl AsFd, device: &str) -> io::Result<u32> {
    // SAFETY: `ifreq` is integers, pointers and unions of them, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    // SAFETY: `request` lives across the call, which reads its name and writes its MTU.
    check(unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            libc::SIOCGIFMTU,
            &raw mut request,
        )
    })?;
    // SAFETY: the call has written this field.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(mtu.cast_unsigned())
}
