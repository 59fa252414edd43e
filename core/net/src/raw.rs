//! Whole IP packets, sent in batches with whatever source address they carry.
//!
//! Sending never blocks and never fails as a whole: a packet that the kernel refuses is skipped
//! and counted by reason. The packets carry TCP, which repairs such a loss like any other.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with, sockopt};

use crate::error::{CAP_NET_ADMIN, CAP_NET_RAW};
use crate::{NetError, sys};

/// Packets that are sent with one system call; a batch that is full is sent by itself.
pub const BATCH_PACKETS: usize = sys::SEND_MAX;

/// Room reserved for each packet of a batch, in bytes; longer packets make the batch grow.
const PACKET_BYTES_USUAL: usize = 1536;

/// Default for the bytes that may wait in the kernel, with the kernel's own overhead.
pub const SEND_BUFFER_BYTES_DEFAULT: usize = 4 << 20;

/// How to open a [`RawSender`].
#[derive(Clone, Debug)]
pub struct RawConfig {
    /// Whether IPv4 packets will be sent.
    pub ipv4: bool,
    /// Whether IPv6 packets will be sent.
    pub ipv6: bool,
    /// Bytes that may wait in the kernel for each address family. Without `CAP_NET_ADMIN` the
    /// kernel cuts it down to `net.core.wmem_max`.
    pub send_buffer_bytes: usize,
    /// Sends through this device only, whatever the routes say.
    pub device: Option<String>,
    /// Marks the packets for the host's own rules and routes (`fwmark`).
    pub mark: Option<u32>,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            ipv4: true,
            ipv6: true,
            send_buffer_bytes: SEND_BUFFER_BYTES_DEFAULT,
            device: None,
            mark: None,
        }
    }
}

/// What became of all packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// Packets that the kernel took.
    pub packets: u64,
    /// Their bytes, IP headers included.
    pub bytes: u64,
    /// Packets that were not sent, by reason.
    pub errors: SendErrors,
}

/// Packets that were not sent, by the kernel's reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendErrors {
    /// A firewall rule of this host drops it (`EPERM`).
    pub eperm: u64,
    /// The device's queue is full (`ENOBUFS`).
    pub enobufs: u64,
    /// The packet is longer than the route's MTU (`EMSGSIZE`).
    pub emsgsize: u64,
    /// There is no route (`ENETUNREACH`).
    pub enetunreach: u64,
    /// The route says unreachable (`EHOSTUNREACH`).
    pub ehostunreach: u64,
    /// The send buffer is full (`EAGAIN`).
    pub eagain: u64,
    /// Any other reason, among them a device that is down.
    pub other: u64,
    /// Not a whole IP header, or of an address family that was not opened; never given to the
    /// kernel.
    pub unsendable: u64,
}

impl SendErrors {
    /// The sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self {
            eperm,
            enobufs,
            emsgsize,
            enetunreach,
            ehostunreach,
            eagain,
            other,
            unsendable,
        } = self;
        eperm + enobufs + emsgsize + enetunreach + ehostunreach + eagain + other + unsendable
    }

    fn count(&mut self, error: &io::Error, packets: u64) {
        let counter = match error.raw_os_error() {
            Some(libc::EPERM) => &mut self.eperm,
            Some(libc::ENOBUFS) => &mut self.enobufs,
            Some(libc::EMSGSIZE) => &mut self.emsgsize,
            Some(libc::ENETUNREACH) => &mut self.enetunreach,
            Some(libc::EHOSTUNREACH) => &mut self.ehostunreach,
            Some(libc::EAGAIN) => &mut self.eagain,
            _ => &mut self.other,
        };
        *counter += packets;
    }
}

/// What one flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendReport {
    /// Packets that the kernel took.
    pub sent: usize,
    /// Packets that were skipped; [`SendCounters::errors`] has the reasons.
    pub dropped: usize,
}

/// Sends whole IP packets; closes its sockets when dropped, without sending what waits.
pub struct RawSender {
    ipv4: Option<Batch>,
    ipv6: Option<Batch>,
    counters: SendCounters,
}

impl RawSender {
    /// Opens a raw socket for each address family asked for.
    ///
    /// # Errors
    /// [`NetError::MissingCapability`] without `CAP_NET_RAW` (or `CAP_NET_ADMIN` for a mark),
    /// [`NetError::NoSuchDevice`], [`NetError::Io`] for other refusals of the kernel.
    pub fn open(config: &RawConfig) -> Result<Self, NetError> {
        let open = |family| open_socket(family, config).map(Batch::new);
        Ok(Self {
            ipv4: config.ipv4.then(|| open(AddressFamily::INET)).transpose()?,
            ipv6: config
                .ipv6
                .then(|| open(AddressFamily::INET6))
                .transpose()?,
            counters: SendCounters::default(),
        })
    }

    /// Puts a copy of an IP packet into the batch; sends the batch if it is full.
    ///
    /// The destination is the packet's. In IPv4 the kernel sets total length and header checksum,
    /// and the identification if it is 0; all else, checksums included, is sent as it is.
    pub fn push(&mut self, packet: &[u8]) {
        let Some(destination) = destination_of(packet) else {
            self.counters.errors.unsendable += 1;
            return;
        };
        let batch = match destination {
            IpAddr::V4(_) => &mut self.ipv4,
            IpAddr::V6(_) => &mut self.ipv6,
        };
        let Some(batch) = batch else {
            self.counters.errors.unsendable += 1;
            return;
        };
        batch.push(packet, destination);
        if batch.entries.len() == BATCH_PACKETS {
            batch.flush(&mut self.counters);
        }
    }

    /// Sends what waits in the batches.
    pub fn flush(&mut self) -> SendReport {
        let mut report = SendReport::default();
        for batch in [&mut self.ipv4, &mut self.ipv6].into_iter().flatten() {
            let SendReport { sent, dropped } = batch.flush(&mut self.counters);
            report.sent += sent;
            report.dropped += dropped;
        }
        report
    }

    /// What became of all packets, those sent by a full batch included.
    #[must_use]
    pub fn counters(&self) -> SendCounters {
        self.counters
    }
}

impl std::fmt::Debug for RawSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawSender")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// Packets of one address family that wait to be sent.
struct Batch {
    socket: OwnedFd,
    /// The packets' bytes, end to end.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    start: usize,
    end: usize,
    destination: sys::Destination,
}

impl Batch {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            bytes: Vec::with_capacity(BATCH_PACKETS * PACKET_BYTES_USUAL),
            entries: Vec::with_capacity(BATCH_PACKETS),
        }
    }

    fn push(&mut self, packet: &[u8], destination: IpAddr) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        let end = self.bytes.len();
        self.entries.push(Entry {
            start,
            end,
            destination: destination.into(),
        });
    }

    fn flush(&mut self, counters: &mut SendCounters) -> SendReport {
        let mut report = SendReport::default();
        let mut rest = self.entries.as_slice();
        while !rest.is_empty() {
            let datagrams = rest.iter().map(|entry| sys::Outgoing {
                bytes: &self.bytes[entry.start..entry.end],
                destination: &entry.destination,
            });
            let done = match sys::send_many(&self.socket, datagrams) {
                Ok(sent) => {
                    counters.packets += sent as u64;
                    counters.bytes += rest[..sent]
                        .iter()
                        .map(|entry| (entry.end - entry.start) as u64)
                        .sum::<u64>();
                    report.sent += sent;
                    sent
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => {
                    // With the send buffer full, the others would be refused too.
                    let full = error.raw_os_error() == Some(libc::EAGAIN);
                    let dropped = if full { rest.len() } else { 1 };
                    counters.errors.count(&error, dropped as u64);
                    report.dropped += dropped;
                    dropped
                }
            };
            rest = &rest[done..];
        }
        self.entries.clear();
        self.bytes.clear();
        report
    }
}

/// The destination of a packet that begins with a whole IP header.
fn destination_of(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<20>()?;
            let address: [u8; 4] = *header.last_chunk()?;
            Some(Ipv4Addr::from(address).into())
        }
        6 => {
            let header = packet.first_chunk::<40>()?;
            let address: [u8; 16] = *header.last_chunk()?;
            Some(Ipv6Addr::from(address).into())
        }
        _ => None,
    }
}

fn open_socket(family: AddressFamily, config: &RawConfig) -> Result<OwnedFd, NetError> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::RAW, flags, Some(ipproto::RAW))
        .map_err(|errno| NetError::of("open a raw socket", CAP_NET_RAW, errno))?;
    let set = |level, name, operation| {
        sys::set_option(&socket, level, name, &1_i32)
            .map_err(|error| NetError::io(operation, error))
    };
    // Without RECVERR the kernel keeps silent about a device queue that is full (ENOBUFS). The
    // price is an error queue that nobody reads: the receive buffer that bounds it is made small.
    if family == AddressFamily::INET {
        set(
            libc::IPPROTO_IP,
            libc::IP_HDRINCL,
            "send packets with own headers",
        )?;
        set(libc::IPPROTO_IP, libc::IP_RECVERR, "ask for send errors")?;
    } else {
        set(
            libc::IPPROTO_IPV6,
            libc::IPV6_HDRINCL,
            "send packets with own headers",
        )?;
        set(
            libc::IPPROTO_IPV6,
            libc::IPV6_RECVERR,
            "ask for send errors",
        )?;
    }
    sockopt::set_socket_recv_buffer_size(&socket, 0)
        .map_err(|errno| NetError::io("size the receive buffer", errno))?;
    sockopt::set_socket_send_buffer_size_force(&socket, config.send_buffer_bytes)
        .or_else(|_| sockopt::set_socket_send_buffer_size(&socket, config.send_buffer_bytes))
        .map_err(|errno| NetError::io("size the send buffer", errno))?;
    if let Some(device) = &config.device {
        bind_device(&socket, device)?;
    }
    if let Some(mark) = config.mark {
        sys::set_option(&socket, libc::SOL_SOCKET, libc::SO_MARK, &mark)
            .map_err(|error| NetError::of("mark packets", CAP_NET_ADMIN, error))?;
    }
    Ok(socket)
}

fn bind_device(socket: &OwnedFd, device: &str) -> Result<(), NetError> {
    let name = device.as_bytes();
    sys::set_option_bytes(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, name).map_err(|error| {
        match error.raw_os_error() {
            Some(libc::ENODEV) => NetError::NoSuchDevice {
                device: device.to_owned(),
            },
            _ => NetError::of("bind a raw socket to its device", CAP_NET_RAW, error),
        }
    })
}
