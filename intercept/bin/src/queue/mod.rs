//! NFQUEUE: packets out of the target's output path, one thread's worth.
//!
//! Written straight onto netlink rather than on a library, because both directions are batched:
//! one system call takes all packets that wait (the first is waited for), one gives all verdicts.

mod message;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use intercept_lib::table::Verdict;
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, netlink, socket_with, sockopt,
};

use crate::error::Error;
use message::{Config, PacketPlace, Received, Verdicts};

/// Packets taken with one system call.
const BATCH: usize = 64;
/// Bytes copied of each packet when no payload is wanted: the longest IP and TCP headers.
const COPY_HEADERS: u32 = 128;
/// Bytes copied of each packet when payload is wanted: the most the kernel gives.
const COPY_ALL: u32 = 0xffff - 4;
/// Room for what precedes a packet's bytes in its message.
const METADATA_LEN: usize = 384;
/// Bytes of packets that may wait between kernel and this process, kernel overhead included.
const RECEIVE_BUFFER: usize = 32 << 20;

/// How a queue is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueOptions {
    /// Packets that may wait in the kernel.
    pub(crate) max_length: u32,
    /// Accept packets that find the queue full, instead of dropping them.
    pub(crate) fail_open: bool,
}

/// One queue, bound by this process.
#[derive(Debug)]
pub(crate) struct Queue {
    number: u16,
    socket: OwnedFd,
    copy_range: u32,
    buffers: Buffers,
    places: Vec<(usize, PacketPlace)>,
    verdicts: Verdicts,
}

/// What [`Queue::receive`] came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// Packets, to be had from [`Queue::packets`].
    Packets,
    /// The kernel had no room for some packets and dropped them.
    Overrun,
}

impl Queue {
    /// Takes a queue.
    ///
    /// # Errors
    /// [`Error::QueueInUse`] when another process has it, [`Error::Io`] otherwise.
    pub(crate) fn open(number: u16, options: QueueOptions) -> Result<Self, Error> {
        let failed = |source| Error::io(format!("open queue {number}"), source);
        let flags = SocketFlags::CLOEXEC;
        let protocol = Some(netlink::NETFILTER);
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
            .map_err(|errno| failed(errno.into()))?;
        let mut queue = Self {
            number,
            socket,
            copy_range: COPY_HEADERS,
            buffers: Buffers::new(COPY_HEADERS),
            places: Vec::with_capacity(BATCH),
            verdicts: Verdicts::new(number),
        };
        queue
            .configure(Config::Bind)
            .map_err(|source| match source.raw_os_error() {
                // Capabilities were looked at before, so EPERM means that another process has it.
                Some(libc::EPERM | libc::EBUSY) => Error::QueueInUse(number),
                _ => failed(source),
            })?;
        let fail_open = if options.fail_open {
            libc::NFQA_CFG_F_FAIL_OPEN
        } else {
            0
        };
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN, which this process has.
        sockopt::set_socket_recv_buffer_size_force(&queue.socket, RECEIVE_BUFFER)
            .map_err(|errno| failed(errno.into()))?;
        for config in [
            Config::MaxLength(options.max_length),
            Config::Flags((libc::NFQA_CFG_F_GSO | fail_open) as u32),
            // The last, because it lets packets in; until then the kernel drops them.
            Config::CopyRange(COPY_HEADERS),
        ] {
            queue.configure(config).map_err(failed)?;
        }
        Ok(queue)
    }

    /// The queue's number.
    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    /// Has whole packets copied from now on, or only headers.
    pub(crate) fn copy_payload(&mut self, wanted: bool) -> io::Result<()> {
        let range = if wanted { COPY_ALL } else { COPY_HEADERS };
        if self.copy_range == range {
            return Ok(());
        }
        self.copy_range = range;
        // Packets copied under the old range may still wait, so the room never shrinks.
        if self.buffers.slot_len < slot_len(range) {
            self.buffers = Buffers::new(range);
        }
        self.send(&Config::CopyRange(range).encode(self.number))
    }

    /// Waits for packets and takes all there are, up to a batch.
    pub(crate) fn receive(&mut self) -> io::Result<Batch> {
        match self.take_batch() {
            // Answers also come for verdicts on packets that are no longer there, as after the
            // device they were to leave by has gone.
            Ok(_) => Ok(Batch::Packets),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(Batch::Overrun),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Batch::Packets),
            Err(error) => Err(error),
        }
    }

    /// Waits for messages and takes all there are, up to a batch; returns the first answer.
    fn take_batch(&mut self) -> io::Result<Option<i32>> {
        self.places.clear();
        self.verdicts.clear();
        let mut answer = None;
        let count = self.buffers.receive(&self.socket)?;
        for datagram in 0..count {
            let mut at = 0;
            while let Some((received, len)) = message::read(
                self.buffers
                    .datagram(datagram)
                    .get(at..)
                    .unwrap_or_default(),
            ) {
                match received {
                    Received::Packet(mut place) => {
                        place.bytes = at + place.bytes.start..at + place.bytes.end;
                        self.places.push((datagram, place));
                    }
                    Received::Answer(code) => {
                        answer.get_or_insert(code);
                    }
                    Received::Other => {}
                }
                at += len;
            }
        }
        Ok(answer)
    }

    /// The packets of the last batch, with their lengths on the wire.
    pub(crate) fn packets(&self) -> impl Iterator<Item = (&[u8], usize)> {
        self.places.iter().map(|(datagram, place)| {
            (
                &self.buffers.datagram(*datagram)[place.bytes.clone()],
                place.wire_len,
            )
        })
    }

    /// Gives the packets of the last batch their verdicts, in order.
    pub(crate) fn conclude(&mut self, verdicts: &[Verdict]) -> io::Result<()> {
        debug_assert_eq!(verdicts.len(), self.places.len());
        for ((_, place), verdict) in self.places.iter().zip(verdicts) {
            self.verdicts.push(place.id, *verdict);
        }
        match self.verdicts.messages() {
            [] => Ok(()),
            messages => send(&self.socket, messages),
        }
    }

    fn configure(&mut self, config: Config) -> io::Result<()> {
        self.send(&config.encode(self.number))?;
        loop {
            let answer = self.take_batch()?;
            // Rules that a killed run left bring packets before anybody judges them.
            self.conclude(&vec![Verdict::Drop; self.places.len()])?;
            match answer {
                Some(0) => return Ok(()),
                Some(code) => return Err(io::Error::from_raw_os_error(code)),
                None => {}
            }
        }
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        send(&self.socket, message)
    }
}

fn send(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    // A netlink socket that is not connected sends to the kernel.
    rustix::net::send(socket, message, SendFlags::empty())
        .map(drop)
        .map_err(io::Error::from)
}

/// Room for a message with so many bytes of a packet.
const fn slot_len(copy_range: u32) -> usize {
    copy_range as usize + METADATA_LEN
}

/// Room for a batch of messages.
#[derive(Debug)]
struct Buffers {
    slot_len: usize,
    storage: Vec<u8>,
    lengths: [usize; BATCH],
}

impl Buffers {
    fn new(range: u32) -> Self {
        let slot_len = slot_len(range);
        Self {
            slot_len,
            storage: vec![0; BATCH * slot_len],
            lengths: [0; BATCH],
        }
    }

    fn datagram(&self, index: usize) -> &[u8] {
        let start = index * self.slot_len;
        &self.storage[start..start + self.lengths[index]]
    }

    /// Waits for a datagram and takes all that are there.
    fn receive(&mut self, socket: &OwnedFd) -> io::Result<usize> {
        let mut slots: [libc::iovec; BATCH] = std::array::from_fn(|index| libc::iovec {
            iov_base: self.storage[index * self.slot_len..].as_mut_ptr().cast(),
            iov_len: self.slot_len,
        });
        let mut headers: [libc::mmsghdr; BATCH] = std::array::from_fn(|index| libc::mmsghdr {
            msg_hdr: libc::msghdr {
                msg_name: std::ptr::null_mut(),
                msg_namelen: 0,
                msg_iov: &raw mut slots[index],
                msg_iovlen: 1,
                msg_control: std::ptr::null_mut(),
                msg_controllen: 0,
                msg_flags: 0,
            },
            msg_len: 0,
        });
        // SAFETY: each header points to one slot, each slot to its own part of `storage`, and all
        // of them live and are not used otherwise until the call returns.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (length, header) in self.lengths.iter_mut().zip(&headers[..count]) {
            *length = header.msg_len as usize;
        }
        Ok(count)
    }
}
