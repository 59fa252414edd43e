//! TCP connections of the kernel's own, as a client: tens of thousands behind one descriptor.
//!
//! The owner names each connection by a token, sends, and calls [`Sockets::service`] whenever the
//! descriptor ([`AsFd`]) is readable or [`Sockets::next_timeout`] has come. Nothing here waits.
//!
//! A connection ends in one of three ways: the owner calls [`Sockets::reset`] or
//! [`Sockets::release`], or [`SocketEvent::Failed`] is told. After that its token is unknown, and
//! calls that name it do nothing: an owner that has not heard of the failure yet is not at fault.

mod connect;
mod failure;
mod ports;
mod socket;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::io::Errno;

use crate::NetError;
use connect::Connector;
use socket::{Socket, Turn};

pub use failure::SocketFailure;

/// Most connections whose news one call of [`Sockets::service`] fetches from the kernel.
const EVENT_BATCH: usize = 256;

/// Bytes that are read with one system call.
const READ_BYTES: usize = 64 * 1024;

/// How long a connection that owes acknowledgements and is otherwise silent goes unlooked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Most connections looked at in one such interval; with more, each waits longer. A look is a
/// system call of a fraction of a microsecond.
const LOOK_BATCH: usize = 4096;

/// Default of [`SocketConfig::unsent_bytes_max`].
pub const UNSENT_BYTES_MAX_DEFAULT: u32 = 128 * 1024;

/// How connections are opened.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// Addresses of this host to bind to, in turn, as far as they are of the target's family;
    /// empty leaves the choice to the kernel.
    pub sources: Vec<IpAddr>,
    /// The hop limit of our packets; `None` for the system's.
    pub hop_limit: Option<u8>,
    /// Ports that may be used beyond `net.ipv4.ip_local_port_range`, once that has none left
    /// towards a target. Ports that the host has reserved, and those that somebody listens at, are
    /// left out. Unlike those of the kernel's range they need not wait for the end of a TIME_WAIT.
    pub ports: RangeInclusive<u16>,
    /// Most bytes that a connection may hold in the kernel and not have sent once
    /// (`TCP_NOTSENT_LOWAT`); it takes no more until half of them are sent. Bytes that are sent
    /// and not acknowledged come to that: at most what the target's receive window allows.
    pub unsent_bytes_max: u32,
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            hop_limit: None,
            ports: 1024..=u16::MAX,
            unsent_bytes_max: UNSENT_BYTES_MAX_DEFAULT,
        }
    }
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketEvent<'a> {
    /// The handshake is complete and the preamble is on its way.
    Connected,
    /// The kernel takes bytes again, after it took fewer than it was given.
    Writable,
    /// The target has sent these bytes.
    Received {
        /// The bytes, only lent. Empty only to say that nothing more waits after all.
        bytes: &'a [u8],
        /// Nothing more waits in the socket. Not told before [`SocketEvent::Finished`] or
        /// [`SocketEvent::Failed`], which say it too.
        is_last: bool,
    },
    /// Of all bytes taken so far, the last so many are not acknowledged by the target. Told only
    /// when it has become less than the owner can know from what was taken since.
    Acknowledged {
        /// The bytes that were taken and are not acknowledged.
        unacknowledged: u64,
    },
    /// The target has finished: nothing more will be received. It may still be sent to.
    Finished,
    /// The connection is gone, and its token with it. All that had been received was told before,
    /// and a last [`SocketEvent::Acknowledged`] if it has news. A connection that failed before
    /// [`SocketEvent::Connected`] has taken nothing.
    Failed(SocketFailure),
}

/// What has come and gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketCounters {
    /// Connections that were begun.
    pub connects: u64,
    /// Those among them whose local port was not of the kernel's choice, for want of one.
    pub own_ports: u64,
    /// Bytes of targets that nobody had read when their connection was released.
    pub discarded_bytes: u64,
}

/// TCP connections of the kernel; all are closed when it is dropped.
pub struct Sockets {
    epoll: OwnedFd,
    connector: Connector,
    connections: HashMap<u64, Socket, foldhash::fast::RandomState>,
    /// Connections that wait for a turn, each at most once.
    queue: VecDeque<u64>,
    /// Connections that may owe acknowledgements, each at most once.
    watched: VecDeque<u64>,
    next_look: Option<Instant>,
    /// The time of the last service.
    now: Option<Instant>,
    buffer: Box<[u8]>,
    counters: SocketCounters,
}

impl Sockets {
    /// Opens what all connections share.
    ///
    /// # Errors
    /// [`NetError::NotOwnAddress`] for a source that is not this host's, [`NetError::Io`] for
    /// other refusals of the kernel.
    pub fn open(config: &SocketConfig) -> Result<Self, NetError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|errno| NetError::io("open an epoll descriptor", errno))?;
        Ok(Self {
            epoll,
            connector: Connector::new(config)?,
            connections: HashMap::default(),
            queue: VecDeque::new(),
            watched: VecDeque::new(),
            next_look: None,
            now: None,
            buffer: vec![0; READ_BYTES].into(),
            counters: SocketCounters::default(),
        })
    }

    /// Tells the time of the connections that are begun next, where [`Sockets::service`] may not have
    /// been called for a while.
    pub fn set_time(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// Begins a connection to `target`; its local endpoint. `preamble` is sent before all else
    /// and is neither counted as taken nor as unacknowledged.
    ///
    /// # Errors
    /// [`SocketFailure`]; the token stays free then, and no event follows.
    ///
    /// # Panics
    /// If the token is in use.
    pub fn connect(
        &mut self,
        token: u64,
        target: SocketAddr,
        preamble: Vec<u8>,
    ) -> Result<SocketAddr, SocketFailure> {
        let Entry::Vacant(entry) = self.connections.entry(token) else {
            panic!("a token names one connection");
        };
        let started = self.connector.connect(target, self.now)?;
        let flags = epoll::EventFlags::ET
            | epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::PRI;
        let data = epoll::EventData::new_u64(token);
        if let Err(errno) = epoll::add(&self.epoll, &started.descriptor, data, flags) {
            self.connector.give_back(started.port);
            return Err(errno.into());
        }
        let local = started.local;
        entry.insert(Socket::new(started.descriptor, started.port, preamble));
        self.counters.connects += 1;
        Ok(local)
    }

    /// Gives bytes to the kernel; how many it took. After fewer than were given, the rest is worth
    /// another try when [`SocketEvent::Writable`] is told. Before [`SocketEvent::Connected`] it
    /// takes none.
    #[must_use = "what was not taken must be sent again"]
    pub fn send(&mut self, token: u64, bytes: &[u8]) -> usize {
        let Some(socket) = self.connections.get_mut(&token) else {
            return 0;
        };
        let taken = socket.send(bytes);
        if socket.has_failed() {
            enqueue(&mut self.queue, token, socket);
        }
        if taken > 0 && !socket.is_watched {
            socket.is_watched = true;
            self.watched.push_back(token);
            let look = self.now.map(|now| now + LOOK_INTERVAL);
            self.next_look = self.next_look.or(look);
        }
        taken
    }

    /// Sends a FIN behind all that was taken. Nothing can be sent from here on; the target may
    /// still answer.
    pub fn finish(&mut self, token: u64) {
        if let Some(socket) = self.connections.get_mut(&token) {
            socket.finish();
        }
    }

    /// Ends the connection with a RST; what the target has not acknowledged may be lost.
    pub fn reset(&mut self, token: u64) {
        if let Some(socket) = self.remove(token) {
            socket.reset();
        }
    }

    /// Closes the connection and forgets it: a FIN is sent unless one was, and no RST as long as
    /// the target says nothing more. Bytes of the target that nobody has read are counted in
    /// [`SocketCounters::discarded_bytes`]. What is unacknowledged is still delivered by the
    /// kernel, but nobody hears of it.
    pub fn release(&mut self, token: u64) {
        if let Some(socket) = self.remove(token) {
            self.counters.discarded_bytes += socket.release(&mut self.buffer);
        }
    }

    /// Tells what has happened, to at most `limit` connections and in the order in which they
    /// became ready; true if more waits, which the descriptor need not show.
    ///
    /// # Errors
    /// What the kernel answers when asked for news; nothing but a mistake in here can cause it.
    pub fn service(
        &mut self,
        now: Instant,
        limit: usize,
        mut on_event: impl FnMut(u64, SocketEvent<'_>),
    ) -> io::Result<bool> {
        self.now = Some(now);
        let batch_was_full = self.queue.len() < limit && self.fetch_news()?;
        for _ in 0..limit {
            let Some(token) = self.queue.pop_front() else {
                break;
            };
            self.serve(token, &mut on_event);
        }
        if self.next_look.is_some_and(|due| due <= now) {
            self.look_at_watched(&mut on_event);
            self.next_look = (!self.watched.is_empty()).then(|| now + LOOK_INTERVAL);
        }
        Ok(batch_was_full || !self.queue.is_empty())
    }

    /// When [`Sockets::service`] has something to do although the descriptor shows nothing; a time
    /// that is past means now.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        match self.queue.is_empty() {
            true => self.next_look,
            false => self.now,
        }
    }

    /// How many connections there are, those on their way included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether there is no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// What has come and gone.
    #[must_use]
    pub fn counters(&self) -> SocketCounters {
        SocketCounters {
            own_ports: self.connector.own_ports,
            ..self.counters
        }
    }

    /// Puts the connections that the kernel has news of into the queue; whether there may be more.
    fn fetch_news(&mut self) -> io::Result<bool> {
        let at_once = Timespec::default();
        let mut buffer = [const { MaybeUninit::uninit() }; EVENT_BATCH];
        let events = match epoll::wait(&self.epoll, &mut buffer, Some(&at_once)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        };
        for event in events.iter() {
            let (token, flags) = (event.data.u64(), event.flags);
            if let Some(socket) = self.connections.get_mut(&token) {
                socket.note(flags);
                enqueue(&mut self.queue, token, socket);
            }
        }
        Ok(events.len() == EVENT_BATCH)
    }

    fn serve(&mut self, token: u64, on_event: &mut impl FnMut(u64, SocketEvent<'_>)) {
        let Some(socket) = self.connections.get_mut(&token) else {
            return;
        };
        socket.is_queued = false;
        match socket.turn(&mut self.buffer, &mut |event| on_event(token, event)) {
            Turn::Done => {}
            Turn::More => enqueue(&mut self.queue, token, socket),
            Turn::Failed(failure) => {
                self.remove(token);
                on_event(token, SocketEvent::Failed(failure));
            }
        }
    }

    fn look_at_watched(&mut self, on_event: &mut impl FnMut(u64, SocketEvent<'_>)) {
        for _ in 0..self.watched.len().min(LOOK_BATCH) {
            let Some(token) = self.watched.pop_front() else {
                break;
            };
            let Some(socket) = self.connections.get_mut(&token) else {
                continue;
            };
            socket.look(&mut |event| on_event(token, event));
            socket.is_watched = socket.is_owed();
            if socket.is_watched {
                self.watched.push_back(token);
            }
        }
    }

    fn remove(&mut self, token: u64) -> Option<Socket> {
        let socket = self.connections.remove(&token)?;
        self.connector.give_back(socket.port);
        Some(socket)
    }
}

impl AsFd for Sockets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets")
            .field("connections", &self.connections.len())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

fn enqueue(queue: &mut VecDeque<u64>, token: u64, socket: &mut Socket) {
    if !socket.is_queued {
        socket.is_queued = true;
        queue.push_back(token);
    }
}
