//! What the kernel tells of a process's sockets.

use std::fs;

/// States of TCP sockets.
const LISTEN: &str = "0A";
const TIME_WAIT: &str = "06";

/// One row of the kernel's table of TCP sockets.
#[derive(Debug, PartialEq, Eq)]
struct TcpSocket {
    port: u16,
    state: String,
    inode: String,
}

/// Tells whether a process holds a socket that listens on a TCP port.
pub(crate) fn listens(pid: u32, port: u16) -> bool {
    let sockets = tcp_sockets(pid);
    let mut listening = sockets
        .iter()
        .filter(|socket| socket.port == port && socket.state == LISTEN);
    let held = held(pid);
    listening.any(|socket| held.contains(&socket.inode))
}

/// Tells whether a server's process holds a connection, or the kernel has one for its port.
///
/// A connection that the client has broken off is none to the kernel, but the process may not have
/// dealt with what came before.
pub(crate) fn has_connections(pid: u32, port: u16) -> bool {
    let sockets = tcp_sockets(pid);
    let is_over = |socket: &TcpSocket| [LISTEN, TIME_WAIT].contains(&socket.state.as_str());
    if sockets.iter().any(|it| it.port == port && !is_over(it)) {
        return true;
    }
    let listening = sockets.iter().filter(|socket| socket.state == LISTEN);
    let mut others: Vec<_> = listening.map(|socket| socket.inode.clone()).collect();
    others.extend(unix_sockets(pid));
    held(pid).iter().any(|inode| !others.contains(inode))
}

/// The TCP sockets of the network that a process is in.
fn tcp_sockets(pid: u32) -> Vec<TcpSocket> {
    let tables = ["tcp", "tcp6"].map(|name| table(pid, name));
    let rows = tables.iter().flat_map(|text| text.lines());
    rows.filter_map(TcpSocket::parse).collect()
}

impl TcpSocket {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        let port = words.get(1)?.rsplit(':').next()?;
        Some(Self {
            port: u16::from_str_radix(port, 16).ok()?,
            state: (*words.get(3)?).to_owned(),
            inode: (*words.get(9)?).to_owned(),
        })
    }
}

/// The inodes of the Unix sockets of the network that a process is in.
fn unix_sockets(pid: u32) -> Vec<String> {
    let text = table(pid, "unix");
    let inode = |line: &str| line.split_whitespace().nth(6).map(str::to_owned);
    text.lines().filter_map(inode).collect()
}

fn table(pid: u32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default()
}

/// The inodes of all sockets that a process holds.
fn held(pid: u32) -> Vec<String> {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let links = files
        .flatten()
        .filter_map(|file| fs::read_link(file.path()).ok());
    let inode = |link: &str| {
        let inode = link.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(inode.to_owned())
    };
    links
        .filter_map(|link| inode(&link.to_string_lossy()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_kernel_is_read() {
        let row = "   0: 0200370A:0050 0101370A:C350 01 00000000:00000000 00:00000000 00000000  \
                   0        0 4711 1 000000005160f9a1 100 0 0 10 0";
        let expected = TcpSocket {
            port: 80,
            state: "01".to_owned(),
            inode: "4711".to_owned(),
        };
        assert_eq!(TcpSocket::parse(row), Some(expected));
        let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt \
                       uid  timeout inode";
        assert_eq!(TcpSocket::parse(heading), None);
    }
}
