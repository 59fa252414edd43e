//! Where the tunnel is listened on.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use crate::error::Error;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Addresses taken, not yet listened on.
#[derive(Debug)]
pub(crate) struct Bound(Vec<OwnedFd>);

impl Bound {
    /// Takes the addresses. With `optional`, those of an address family that the host doesn't
    /// have are left out, as long as one is left.
    ///
    /// # Errors
    /// [`Error::AddressInUse`] or [`Error::Io`].
    pub(crate) fn take(addresses: &[IpAddr], port: u16, optional: bool) -> Result<Self, Error> {
        let mut sockets = Vec::new();
        let mut refusal = None;
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            match open(address) {
                Ok(socket) => sockets.push(socket),
                Err(Errno::ADDRINUSE) => return Err(Error::AddressInUse { address }),
                Err(errno @ (Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT)) if optional => {
                    refusal = Some((address, errno));
                }
                Err(errno) => return Err(Error::io(format!("listen on {address}"), errno)),
            }
        }
        match refusal {
            Some((address, errno)) if sockets.is_empty() => {
                Err(Error::io(format!("listen on {address}"), errno))
            }
            _ => Ok(Self(sockets)),
        }
    }

    /// Starts to listen.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn listen(self) -> Result<Vec<TcpListener>, Error> {
        let listen = |socket: OwnedFd| {
            rustix::net::listen(&socket, BACKLOG)?;
            Ok(TcpListener::from(socket))
        };
        let listeners: Result<_, Errno> = self.0.into_iter().map(listen).collect();
        listeners.map_err(|errno| Error::io("listen for tcpcopy", errno))
    }
}

fn open(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}
