//! The capture ring: packets read in memory shared with the kernel, without a system call or a
//! copy per packet.
//!
//! It is an `AF_PACKET` socket with a `TPACKET_V3` ring. The socket is of the kind (`SOCK_DGRAM`)
//! that shows packets from the network header on, so Ethernet, loopback, tunnels and `any` look
//! alike. The filter is attached before the socket is bound, so nothing else ever enters the ring.
//!
//! What does not pass: packets in two VLAN tags, and IPv6 packets longer than 64 KiB.

mod block;
mod config;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

pub use block::{Block, CapturedPacket, PacketKind, Packets};
pub use config::{
    BLOCK_BYTES_DEFAULT, RETIRE_TIMEOUT_MS_DEFAULT, RING_BYTES_DEFAULT, RingConfig, SNAPLEN_DEFAULT,
};

use crate::bpf::Instruction;
use crate::error::CAP_NET_RAW;
use crate::filter::reject_all;
use crate::shard::{NETWORK_HEADER, ShardMap};
use crate::{NetError, interfaces, sys};

/// A ring that the kernel fills with captured packets.
#[derive(Debug)]
pub struct CaptureRing {
    // Before the socket, so that it is unmapped first.
    memory: sys::PacketRing,
    socket: OwnedFd,
    next_index: usize,
    keep_outgoing: bool,
    statistics: CaptureStatistics,
}

/// How a ring has fared since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureStatistics {
    /// Packets that entered the ring.
    pub received: u64,
    /// Packets that passed the filter but found the ring full.
    pub dropped: u64,
    /// How often the ring became full.
    pub freezes: u64,
}

/// What became of the device of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChange {
    /// It is down, or was for a moment; capture goes on by itself when it is up.
    Down,
    /// It no longer exists; a device of the same name needs a new ring.
    Gone,
}

impl CaptureRing {
    /// Opens one ring and starts to capture.
    ///
    /// A device that is down is no error: it shows in [`Self::device_change`].
    ///
    /// # Errors
    /// [`NetError::MissingCapability`] without `CAP_NET_RAW`, [`NetError::NoSuchDevice`],
    /// [`NetError::InvalidConfig`], [`NetError::Io`] for other refusals of the kernel, such as too
    /// little memory.
    pub fn open(config: &RingConfig) -> Result<Self, NetError> {
        Self::open_with(config, &config.filter.kernel_program(config.snaplen))
    }

    /// Opens one ring for each shard of the map and starts to capture; the ring at each place gets
    /// the packets for which [`ShardMap::shard_of_packet`] is that place.
    ///
    /// # Errors
    /// As [`Self::open`]; [`NetError::DeviceDown`] where the kernel is too old (about 6.14) to
    /// share a device that is down.
    pub fn open_sharded(config: &RingConfig, map: &ShardMap) -> Result<Vec<Self>, NetError> {
        if map.shard_count() == 1 {
            return Ok(vec![Self::open(config)?]);
        }
        // The kernel takes the group's size for the number of shards, so until the group is
        // complete packets would go astray: no ring accepts any.
        let mut rings: Vec<Self> = Vec::new();
        for _ in 0..map.shard_count() {
            let ring = Self::open_with(config, &reject_all())?;
            ring.join_group(rings.first(), config)?;
            rings.push(ring);
        }
        let base = if config.include_outgoing {
            NETWORK_HEADER
        } else {
            0
        };
        sys::set_fanout_program(&rings[0].socket, &map.program(base)?)
            .map_err(|error| NetError::io("set the program that spreads packets", error))?;
        let program = config.filter.kernel_program(config.snaplen);
        for ring in &rings {
            ring.attach_filter(&program)?;
        }
        Ok(rings)
    }

    /// The next block of packets, if the kernel has handed one over; it goes back to the kernel
    /// when it is dropped. Wait on the descriptor ([`AsFd`]) for readability when there is none.
    pub fn next_block(&mut self) -> Option<Block<'_>> {
        let block_count = self.memory.block_count();
        let memory = self.memory.take(self.next_index)?;
        Some(Block {
            memory,
            next_index: &mut self.next_index,
            block_count,
            keep_outgoing: self.keep_outgoing,
        })
    }

    /// How many blocks the ring has: after so many calls of [`Self::next_block`] a reader has seen
    /// all that was there at the first.
    #[must_use]
    pub fn block_count(&self) -> usize {
        self.memory.block_count()
    }

    /// The kernel's counters, summed up since the ring was opened.
    ///
    /// # Errors
    /// [`NetError::Io`] if the kernel does not answer.
    pub fn statistics(&mut self) -> Result<CaptureStatistics, NetError> {
        // The kernel counts from its last answer on, and counts drops among the packets.
        let since: libc::tpacket_stats_v3 =
            sys::option(&self.socket, libc::SOL_PACKET, libc::PACKET_STATISTICS)
                .map_err(|error| NetError::io("read the capture statistics", error))?;
        self.statistics.received += u64::from(since.tp_packets.saturating_sub(since.tp_drops));
        self.statistics.dropped += u64::from(since.tp_drops);
        self.statistics.freezes += u64::from(since.tp_freeze_q_cnt);
        Ok(self.statistics)
    }

    /// What became of the device since the last call, if anything: to be asked when polling
    /// reports an error on the descriptor, which this call clears. The ring stays usable.
    ///
    /// # Errors
    /// [`NetError::Io`] for an error that is not about the device's state.
    pub fn device_change(&mut self) -> Result<Option<DeviceChange>, NetError> {
        let failed = |error: io::Error| NetError::io("capture packets", error);
        match sockopt::socket_error(&self.socket).map_err(|errno| failed(errno.into()))? {
            Ok(()) => Ok(None),
            Err(rustix::io::Errno::NETDOWN) => {
                let device = sys::bound_interface(&self.socket).map_err(failed)?;
                Ok(Some(
                    device.map_or(DeviceChange::Gone, |_| DeviceChange::Down),
                ))
            }
            Err(errno) => Err(failed(errno.into())),
        }
    }

    fn open_with(config: &RingConfig, filter: &[Instruction]) -> Result<Self, NetError> {
        let request = config.request()?;
        let index = match config.named_device() {
            Some(device) => interfaces::interface_index(device)?,
            None => 0,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // No protocol: the socket receives nothing until it is bound.
        let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)
            .map_err(|errno| NetError::of("open a capture socket", CAP_NET_RAW, errno))?;
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        set(
            &socket,
            libc::PACKET_VERSION,
            &version,
            "choose the capture ring's version",
        )?;
        set(
            &socket,
            libc::PACKET_RX_RING,
            &request,
            "allocate the capture ring",
        )?;
        let memory = sys::PacketRing::map(
            &socket,
            request.tp_block_size as usize,
            request.tp_block_nr as usize,
        )
        .map_err(|error| NetError::io("map the capture ring", error))?;
        if !config.include_outgoing {
            ignore_outgoing(&socket)?;
        }
        let ring = Self {
            memory,
            socket,
            next_index: 0,
            keep_outgoing: config.include_outgoing,
            statistics: CaptureStatistics::default(),
        };
        ring.attach_filter(filter)?;
        sys::bind(&ring.socket, index)
            .map_err(|error| NetError::io("bind the capture socket to its device", error))?;
        if config.promiscuous {
            let membership = libc::packet_mreq {
                mr_ifindex: index.cast_signed(),
                mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
                mr_alen: 0,
                mr_address: [0; 8],
            };
            let name = libc::PACKET_ADD_MEMBERSHIP;
            set(
                &ring.socket,
                name,
                &membership,
                "set the device to promiscuous mode",
            )?;
        }
        Ok(ring)
    }

    fn attach_filter(&self, program: &[Instruction]) -> Result<(), NetError> {
        sys::attach_filter(&self.socket, program).map_err(|error| match error.raw_os_error() {
            // Kernels before 6.7 allow 20 KiB by default.
            Some(libc::ENOMEM) => NetError::InvalidConfig(format!(
                "the capture filter of {} instructions exceeds the kernel's limit for one socket\n\nhint: `sysctl -w net.core.optmem_max=131072`, or name fewer origins",
                program.len()
            )),
            _ => NetError::io("attach the capture filter", error),
        })
    }

    /// Joins the group of the first ring, or founds one. The kernel numbers the members in the
    /// order in which they join, and renumbers them so when the device comes up again.
    fn join_group(&self, first: Option<&Self>, config: &RingConfig) -> Result<(), NetError> {
        let operation = "share the capture between shards";
        let mut kind = libc::PACKET_FANOUT_CBPF;
        if !config.include_outgoing {
            kind |= libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING;
        }
        let group = match first {
            // The kernel finds a number that no other process has.
            None => {
                kind |= libc::PACKET_FANOUT_FLAG_UNIQUEID;
                0
            }
            Some(first) => {
                sys::option::<u32>(&first.socket, libc::SOL_PACKET, libc::PACKET_FANOUT)
                    .map_err(|error| NetError::io(operation, error))?
                    & 0xffff
            }
        };
        let value = group | kind << 16;
        sys::set_option(&self.socket, libc::SOL_PACKET, libc::PACKET_FANOUT, &value).map_err(
            |error| match (error.raw_os_error(), config.named_device()) {
                (Some(libc::EINVAL), Some(device)) if self.is_down() => NetError::DeviceDown {
                    device: device.to_owned(),
                },
                _ => NetError::io(operation, error),
            },
        )
    }

    fn is_down(&self) -> bool {
        matches!(
            sockopt::socket_error(&self.socket),
            Ok(Err(rustix::io::Errno::NETDOWN))
        )
    }
}

impl AsFd for CaptureRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn set<T: sys::Bytes>(
    socket: &OwnedFd,
    name: libc::c_int,
    value: &T,
    operation: &'static str,
) -> Result<(), NetError> {
    sys::set_option(socket, libc::SOL_PACKET, name, value)
        .map_err(|error| NetError::io(operation, error))
}

/// Kernels before 4.20 do not know the option; there the packets enter the ring and are skipped.
fn ignore_outgoing(socket: &OwnedFd) -> Result<(), NetError> {
    let on: libc::c_int = 1;
    match sys::set_option(socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &on) {
        Err(error) if error.raw_os_error() != Some(libc::ENOPROTOOPT) => Err(NetError::io(
            "leave outgoing packets out of the capture",
            error,
        )),
        _ => Ok(()),
    }
}
