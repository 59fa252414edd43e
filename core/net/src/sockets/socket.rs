//! One connection: what is written, what is read, what the peer has acknowledged.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt};

use super::connect::PortOwner;
use super::{SocketEvent, SocketFailure};
use crate::sys;

/// Buffers that one connection may fill in one turn, so that a fast one does not starve the rest.
const TURN_READS: usize = 4;

/// Bytes that are read and thrown away before a connection is closed: with unread bytes left the
/// kernel would send a RST.
const RELEASE_READ_BYTES: usize = 1 << 20;

/// How far the handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Connected,
}

/// What a turn has left behind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing to do until the kernel says so.
    Done,
    /// More waits in the socket.
    More,
    /// The connection is over.
    Failed(SocketFailure),
}

/// A connection and what is known of it.
pub(super) struct Socket {
    descriptor: OwnedFd,
    pub(super) port: PortOwner,
    phase: Phase,
    /// What goes before the caller's bytes and is not written yet.
    preamble: Vec<u8>,
    /// Bytes taken from the caller and, as far as was looked, not acknowledged.
    unacknowledged: u64,
    /// What epoll has said since the last turn.
    ready: EventFlags,
    /// The last turn did not read everything.
    more: bool,
    /// The caller waits for room.
    wants_room: bool,
    /// The caller has finished; the FIN is sent when the preamble is through.
    is_finished: bool,
    fin_sent: bool,
    /// The peer has finished, and that was told.
    end_seen: bool,
    /// The peer has used urgent data, around which a read stops short.
    is_urgent: bool,
    /// What the kernel has said was wrong; it says so once.
    error: Option<Errno>,
    /// In the queue of connections that wait for a turn.
    pub(super) is_queued: bool,
    /// In the list of connections to look at for acknowledgements.
    pub(super) is_watched: bool,
}

impl Socket {
    pub(super) fn new(descriptor: OwnedFd, port: PortOwner, preamble: Vec<u8>) -> Self {
        Self {
            descriptor,
            port,
            phase: Phase::Connecting,
            preamble,
            unacknowledged: 0,
            ready: EventFlags::empty(),
            more: false,
            wants_room: false,
            is_finished: false,
            fin_sent: false,
            end_seen: false,
            is_urgent: false,
            error: None,
            is_queued: false,
            is_watched: false,
        }
    }

    /// Whether the kernel is known to owe an acknowledgement.
    pub(super) fn is_owed(&self) -> bool {
        self.unacknowledged > 0
    }

    /// Whether an error waits to be told that the kernel won't tell again.
    pub(super) fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// Notes what epoll says.
    pub(super) fn note(&mut self, flags: EventFlags) {
        self.ready |= flags;
    }

    /// Gives bytes to the kernel; how many it took.
    pub(super) fn send(&mut self, bytes: &[u8]) -> usize {
        debug_assert!(!self.is_finished, "bytes after the end");
        if bytes.is_empty() || self.is_finished {
            return 0;
        }
        let taken = if self.phase == Phase::Connected && self.preamble.is_empty() {
            self.write(bytes)
        } else {
            0
        };
        self.unacknowledged += taken as u64;
        self.wants_room |= taken < bytes.len();
        taken
    }

    /// Sends a FIN behind what was taken.
    pub(super) fn finish(&mut self) {
        self.is_finished = true;
        self.send_fin();
    }

    /// Ends the connection with a RST.
    pub(super) fn reset(self) {
        // A failure means that the connection is gone already.
        let _ = sockopt::set_socket_linger(&self.descriptor, Some(Duration::ZERO));
    }

    /// Closes the connection after reading what waits; how many bytes that were.
    pub(super) fn release(self, buffer: &mut [u8]) -> u64 {
        let mut discarded = 0;
        while !self.end_seen && discarded < RELEASE_READ_BYTES {
            match recv(&self.descriptor, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((count, _)) if count > 0 => discarded += count,
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => break,
            }
        }
        discarded as u64
    }

    /// Does what epoll has said can be done, and tells what came of it.
    pub(super) fn turn(
        &mut self,
        buffer: &mut [u8],
        on_event: &mut dyn FnMut(SocketEvent<'_>),
    ) -> Turn {
        let ready = std::mem::replace(&mut self.ready, EventFlags::empty());
        self.is_urgent |= ready.contains(EventFlags::PRI);
        if ready.intersects(EventFlags::ERR | EventFlags::HUP) {
            self.take_error();
        }
        if self.phase == Phase::Connecting {
            match self.error {
                // Reset after the handshake, all before this turn.
                Some(Errno::CONNRESET | Errno::PIPE) => {}
                Some(errno) => return Turn::Failed(errno.into()),
                None if !ready.contains(EventFlags::OUT) => return Turn::Done,
                None => {}
            }
            self.phase = Phase::Connected;
            on_event(SocketEvent::Connected);
        }
        if ready.contains(EventFlags::OUT) {
            self.send_preamble();
        }
        self.look(on_event);
        let reads = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if self.more || self.error.is_some() || ready.intersects(reads | EventFlags::PRI) {
            self.read(ready, buffer, on_event);
        }
        if let (Some(errno), false) = (self.error, self.more) {
            self.look(on_event);
            return Turn::Failed(errno.into());
        }
        let has_room = ready.contains(EventFlags::OUT) && self.preamble.is_empty();
        if has_room && std::mem::take(&mut self.wants_room) {
            on_event(SocketEvent::Writable);
        }
        if self.more { Turn::More } else { Turn::Done }
    }

    /// Asks the kernel what the peer has not acknowledged, and tells when that has become less.
    pub(super) fn look(&mut self, on_event: &mut dyn FnMut(SocketEvent<'_>)) {
        if self.unacknowledged == 0 {
            return;
        }
        let Ok(queued) = sys::unacknowledged(&self.descriptor) else {
            return;
        };
        // The FIN counts one and is last, the preamble is first: neither is among the caller's
        // bytes.
        let bytes = queued.saturating_sub(self.fin_sent.into());
        if bytes < self.unacknowledged {
            self.unacknowledged = bytes;
            on_event(SocketEvent::Acknowledged {
                unacknowledged: bytes,
            });
        }
    }

    fn read(
        &mut self,
        ready: EventFlags,
        buffer: &mut [u8],
        on_event: &mut dyn FnMut(SocketEvent<'_>),
    ) {
        self.more = false;
        let mut is_drained = true;
        let mut reads = 0;
        while !self.end_seen {
            if reads == TURN_READS {
                self.more = true;
                return;
            }
            match recv(&self.descriptor, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    // After an error the kernel reports an end as well, which is not the peer's.
                    if self.error.is_none() {
                        self.end_seen = true;
                        on_event(SocketEvent::Finished);
                    }
                    return;
                }
                Ok((count, _)) => {
                    is_drained = count < buffer.len() && !self.is_urgent;
                    on_event(SocketEvent::Received {
                        bytes: &buffer[..count],
                        is_last: is_drained,
                    });
                    reads += 1;
                    let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
                    if is_drained && !ready.intersects(ends) {
                        return;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !is_drained {
                        on_event(SocketEvent::Received {
                            bytes: &[],
                            is_last: true,
                        });
                    }
                    return;
                }
                Err(errno) => {
                    self.error = self.error.or(Some(errno));
                    return;
                }
            }
        }
    }

    fn send_preamble(&mut self) {
        if !self.preamble.is_empty() {
            let preamble = std::mem::take(&mut self.preamble);
            let taken = self.write(&preamble);
            self.preamble = preamble;
            self.preamble.drain(..taken);
        }
        if self.is_finished {
            self.send_fin();
        }
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        if self.error.is_some() {
            return 0;
        }
        loop {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match send(&self.descriptor, bytes, flags) {
                Ok(taken) => return taken,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return 0,
                Err(errno) => {
                    self.error = Some(errno);
                    return 0;
                }
            }
        }
    }

    fn send_fin(&mut self) {
        if self.phase == Phase::Connected && self.preamble.is_empty() && !self.fin_sent {
            // A failure means that the connection is gone, which epoll tells.
            self.fin_sent = shutdown(&self.descriptor, Shutdown::Write).is_ok();
        }
    }

    fn take_error(&mut self) {
        if let Ok(Err(errno)) = sockopt::socket_error(&self.descriptor) {
            self.error = self.error.or(Some(errno));
        }
    }
}
