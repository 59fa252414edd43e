//! The host's network devices and addresses, in this network namespace.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::net::if_::if_nameindex;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use crate::{NetError, sys};

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// The longest IP packet it carries, in bytes.
    pub mtu: u32,
}

/// All devices, those that are down and those without an address included.
///
/// # Errors
/// [`NetError::Io`] if the kernel does not answer.
pub fn interfaces() -> Result<Vec<Interface>, NetError> {
    let failed = |error| NetError::io("list the network devices", error);
    let names = if_nameindex().map_err(|errno| failed(errno.into()))?;
    let mut found = Vec::new();
    for entry in &names {
        let name = entry.name().to_string_lossy().into_owned();
        let mtu = match sys::device_mtu(query_socket()?, &name) {
            Ok(mtu) => mtu,
            // It went away since it was listed.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
            Err(error) => return Err(failed(error)),
        };
        found.push(Interface {
            name,
            index: entry.index(),
            mtu,
        });
    }
    Ok(found)
}

/// The kernel's number for a device.
///
/// # Errors
/// [`NetError::NoSuchDevice`], or [`NetError::Io`] if the kernel does not answer.
pub fn interface_index(device: &str) -> Result<u32, NetError> {
    netdevice::name_to_index(query_socket()?, device).map_err(|errno| match errno {
        rustix::io::Errno::NODEV => NetError::NoSuchDevice {
            device: device.to_owned(),
        },
        other => NetError::io("look up a network device", other),
    })
}

/// The addresses of the host's devices. Beside them, all of 127.0.0.0/8 is the host too.
///
/// # Errors
/// [`NetError::Io`] if the kernel does not answer.
pub fn local_addresses() -> Result<BTreeSet<IpAddr>, NetError> {
    let devices =
        nix::ifaddrs::getifaddrs().map_err(|errno| NetError::io("list the addresses", errno))?;
    Ok(devices
        .filter_map(|device| {
            let address = device.address?;
            let ipv4 = address
                .as_sockaddr_in()
                .map(|address| IpAddr::from(address.ip()));
            ipv4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
        })
        .collect())
}

/// The longest IP packet, in bytes, that the host's route to an address carries: the device's
/// MTU, or less where the route or path MTU discovery says so. Nothing is sent.
///
/// # Errors
/// [`NetError::Io`], above all if there is no route.
pub fn route_mtu(address: IpAddr) -> Result<u32, NetError> {
    /// Any port but 0 does.
    const DISCARD_PORT: u16 = 9;
    let failed = |error| NetError::io("look up the route", error);
    let (any, level, name): (IpAddr, _, _) = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), libc::IPPROTO_IP, libc::IP_MTU),
        IpAddr::V6(_) => (
            Ipv6Addr::UNSPECIFIED.into(),
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU,
        ),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).map_err(failed)?;
    socket
        .connect(SocketAddr::new(address, DISCARD_PORT))
        .map_err(failed)?;
    sys::option::<u32>(&socket, level, name).map_err(failed)
}

/// A socket to ask questions about devices through; it needs no privilege.
fn query_socket() -> Result<std::os::fd::OwnedFd, NetError> {
    socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|errno| NetError::io("open a socket", errno))
}
