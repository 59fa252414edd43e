//! A listening socket for very many clients at once.

use std::io;
use std::net::{Ipv6Addr, TcpListener};

use nix::sys::socket::{Backlog, listen};

/// Listens for IPv4 and IPv6 on a port.
pub(crate) fn listen_on(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))?;
    // The standard library's backlog is too short: where it is full, the kernel answers SYNs with
    // cookies, and resets connections whose first data it had no place for.
    listen(&listener, Backlog::MAXCONN)?;
    Ok(listener)
}
