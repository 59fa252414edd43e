//! Two questions to the kernel, over netlink: would it take a packet from there, and what does its
//! TCP have for a tuple. Its own answer is better than any reading of tables.

use std::io;
use std::net::IpAddr;

use intercept_lib::tunnel::{ReversePath, TargetState};
use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use tcpcopy_packet::FourTuple;

/// Bytes of a netlink message's header.
const HEADER_LEN: usize = 16;
/// Bytes of a netlink attribute before its value: length and kind.
const ATTRIBUTE_HEADER_LEN: u16 = 4;
/// Where the error stands in an error message.
const ERROR_AT: usize = HEADER_LEN;
/// Where the state stands in an answer about a socket, after its address family.
const STATE_AT: usize = HEADER_LEN + 1;
/// More than either answer has, in bytes.
const ANSWER_LEN: usize = 8192;

/// The netlink protocol of routes is number 0 (`NETLINK_ROUTE`).
const ROUTE: Option<Protocol> = None;
/// Asks about the state of sockets (`SOCK_DIAG_BY_FAMILY`).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// Any state.
const ALL_STATES: u32 = u32::MAX;
/// States as `idiag_state` has them.
const ESTABLISHED: u8 = 1;
const SYN_RECEIVED: u8 = 3;
const LISTENING: u8 = 10;

/// Whether the kernel takes packets from `source` to `target` on a device whose reverse-path filter
/// is on. It answers as it would decide, since it runs the same code. IPv6 has no such filter.
pub(crate) fn reverse_path(source: IpAddr, target: IpAddr, device: u32) -> ReversePath {
    let (IpAddr::V4(source), IpAddr::V4(target)) = (source, target) else {
        return ReversePath::Unknown;
    };
    let answer = ask_route(&[
        (libc::RTA_DST, &target.octets()),
        (libc::RTA_SRC, &source.octets()),
        (libc::RTA_IIF, &device.to_ne_bytes()),
    ]);
    match answer {
        Ok(None) => ReversePath::Accepts,
        // Kernels from about 6.13 on don't tell this refusal from others.
        Ok(Some(libc::EXDEV | libc::EINVAL)) => ReversePath::Refuses,
        Ok(Some(_)) | Err(_) => ReversePath::Unknown,
    }
}

/// Whether this host knows a way to an address; also if the kernel does not tell.
pub(super) fn has_route(address: IpAddr) -> bool {
    let answer = match address {
        IpAddr::V4(address) => ask_route(&[(libc::RTA_DST, &address.octets())]),
        IpAddr::V6(address) => ask_route(&[(libc::RTA_DST, &address.octets())]),
    };
    // Unreachable in one of three ways, prohibited, or a black hole.
    !matches!(
        answer,
        Ok(Some(
            libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL
        ))
    )
}

/// What the host's TCP has for a tuple of which it is the destination.
pub(super) fn tcp_state(tuple: &FourTuple) -> TargetState {
    let (local, remote) = (tuple.destination, tuple.source);
    let family = match local.address {
        IpAddr::V4(_) => libc::AF_INET,
        IpAddr::V6(_) => libc::AF_INET6,
    };
    let mut body = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
    body.extend(ALL_STATES.to_ne_bytes());
    body.extend(local.port.to_be_bytes());
    body.extend(remote.port.to_be_bytes());
    for address in [local.address, remote.address] {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes = address.octets(),
        }
        body.extend(bytes);
    }
    // On any device, whatever the socket's cookie.
    body.extend(0u32.to_ne_bytes());
    body.extend([0xff; 8]);
    let Ok(answer) = ask(Some(SOCK_DIAG), SOCK_DIAG_BY_FAMILY, &body) else {
        return TargetState::Unknown;
    };
    match (error_of(&answer), answer.get(STATE_AT)) {
        (Some(libc::ENOENT), _) => TargetState::Closed,
        (None, Some(&(ESTABLISHED | SYN_RECEIVED))) => TargetState::Connected,
        (None, Some(&LISTENING)) => TargetState::Listening,
        (Some(_), _) | (None, _) => TargetState::Unknown,
    }
}

/// Asks for the route that a packet with these properties takes; the destination comes first. The
/// answer is the error, if it takes none.
fn ask_route(attributes: &[(u16, &[u8])]) -> io::Result<Option<i32>> {
    let address_len = attributes.first().map_or(0, |(_, address)| address.len());
    let family = match address_len {
        4 => libc::AF_INET,
        _ => libc::AF_INET6,
    };
    let bits = (8 * address_len) as u8;
    let has_source = attributes.iter().any(|(kind, _)| *kind == libc::RTA_SRC);
    let source_bits = if has_source { bits } else { 0 };
    let mut body = vec![family as u8, bits, source_bits, 0, 0, 0, 0, 0];
    body.extend(0u32.to_ne_bytes());
    for (kind, value) in attributes {
        body.extend((ATTRIBUTE_HEADER_LEN + value.len() as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend_from_slice(value);
    }
    let answer = ask(ROUTE, libc::RTM_GETROUTE, &body)?;
    Ok(error_of(&answer))
}

/// Sends one request and returns the message that answers it.
fn ask(protocol: Option<Protocol>, kind: u16, body: &[u8]) -> io::Result<Vec<u8>> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    let mut message = Vec::with_capacity(HEADER_LEN + body.len());
    message.extend(((HEADER_LEN + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend_from_slice(body);
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER_LEN];
    // The kernel has answered by the time `send` returns.
    let (len, _) = recv(&socket, answer.as_mut_slice(), RecvFlags::DONTWAIT)?;
    answer.truncate(len);
    Ok(answer)
}

/// The error that an answer is, if it is one.
fn error_of(answer: &[u8]) -> Option<i32> {
    let kind = answer.get(4..6)?.try_into().map(u16::from_ne_bytes).ok()?;
    let error = answer.get(ERROR_AT..ERROR_AT + 4)?;
    let error = error.try_into().map(i32::from_ne_bytes).ok()?;
    (i32::from(kind) == libc::NLMSG_ERROR).then_some(-error)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

    use tcpcopy_packet::Endpoint;

    use super::*;

    #[test]
    fn tcp_tells_what_it_has_for_a_tuple() {
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), "::1".parse().unwrap()] {
            let listener = TcpListener::bind(SocketAddr::new(address, 0)).unwrap();
            let server = Endpoint::from(listener.local_addr().unwrap());
            let client = TcpStream::connect(SocketAddr::from(server)).unwrap();
            let tuple = FourTuple::new(client.local_addr().unwrap().into(), server);
            assert_eq!(tcp_state(&tuple), TargetState::Connected);
            let mut other = tuple;
            other.source.port ^= 1;
            assert_eq!(tcp_state(&other), TargetState::Listening);
            drop((client, listener));
            assert_eq!(tcp_state(&other), TargetState::Closed);
        }
    }
}
