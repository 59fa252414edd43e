//! One tunnel connection: the socket around the tunnel's state machine.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use intercept_lib::tunnel::{
    Backoff, ClientConfig, ClientEvent, DownReason, Hello, Registration, ReplyRecord, Security,
    TunnelClient, Unregistration,
};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with, sockopt};

/// Bytes read at once.
const READ_BYTES: usize = 128 << 10;
/// Reads in one go, so that one link can't keep the shard from its capture ring.
const READS_PER_SERVICE: usize = 4;

/// What a link has to tell.
#[derive(Debug)]
pub(super) enum LinkEvent<'a> {
    /// It is up.
    Up,
    /// It is not, or the attempt to connect has failed.
    Down {
        /// Why.
        reason: DownReason,
        /// Whether it had been up.
        was_up: bool,
    },
    /// The session is registered.
    Confirmed(u64),
    /// The session can't be registered.
    Conflict(u64),
    /// The target sent a segment.
    Reply(ReplyRecord<'a>),
    /// Intercept dropped so many replies.
    Overflow(u64),
}

#[derive(Debug)]
enum Socket {
    Closed,
    Connecting(TcpStream),
    Open { stream: TcpStream, is_blocked: bool },
}

/// One tunnel connection.
#[derive(Debug)]
pub(super) struct Link {
    client: TunnelClient,
    /// Tried in turn.
    addresses: Vec<SocketAddr>,
    attempts: usize,
    socket: Socket,
    buffer: Box<[u8]>,
}

impl Link {
    pub(super) fn new(
        addresses: Vec<SocketAddr>,
        hello: Hello,
        security: Security,
        now: Instant,
    ) -> Self {
        let config = ClientConfig {
            security,
            required: hello.features,
            hello,
            backoff: Backoff::default(),
        };
        Self {
            client: TunnelClient::new(config, now),
            addresses,
            attempts: 0,
            socket: Socket::Closed,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.socket {
            Socket::Closed => None,
            Socket::Connecting(stream) => Some((stream.as_fd(), PollFlags::OUT)),
            Socket::Open {
                stream,
                is_blocked: false,
            } => Some((stream.as_fd(), PollFlags::IN)),
            Socket::Open {
                stream,
                is_blocked: true,
            } => Some((stream.as_fd(), PollFlags::IN | PollFlags::OUT)),
        }
    }

    pub(super) fn next_timeout(&self) -> Instant {
        self.client.next_timeout()
    }

    pub(super) fn register(&mut self, registration: &Registration) -> bool {
        self.client.register(registration)
    }

    pub(super) fn unregister(&mut self, unregistration: &Unregistration) {
        self.client.unregister(unregistration);
    }

    pub(super) fn bye(&mut self) {
        self.client.bye();
    }

    pub(super) fn has_unsent(&mut self) -> bool {
        matches!(self.socket, Socket::Open { .. }) && !self.client.transmit().is_empty()
    }

    /// Does what the socket and the time allow.
    pub(super) fn service(&mut self, now: Instant, mut sink: impl FnMut(LinkEvent<'_>)) {
        if self.client.next_timeout() <= now {
            self.client.timeout(now);
        }
        self.finish_connecting(now);
        self.tell(now, &mut sink);
        for _ in 0..READS_PER_SERVICE {
            let whole_buffer = self.read(now);
            self.tell(now, &mut sink);
            if !whole_buffer {
                break;
            }
        }
        self.flush(now);
        self.tell(now, &mut sink);
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self, now: Instant) {
        let Socket::Open { stream, is_blocked } = &mut self.socket else {
            return;
        };
        loop {
            let bytes = self.client.transmit();
            if bytes.is_empty() {
                *is_blocked = false;
                return;
            }
            match stream.write(bytes) {
                Ok(count) => self.client.consume(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *is_blocked = true;
                    return;
                }
                Err(error) => {
                    return self.client.disconnected(now, Some(error.to_string()));
                }
            }
        }
    }

    /// Hands out the client's events and obeys those that are orders.
    fn tell(&mut self, now: Instant, sink: &mut impl FnMut(LinkEvent<'_>)) {
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Connect => self.connect(now),
                ClientEvent::Up { .. } => sink(LinkEvent::Up),
                ClientEvent::Confirmed(session) => sink(LinkEvent::Confirmed(session)),
                ClientEvent::Conflict(session) => sink(LinkEvent::Conflict(session)),
                ClientEvent::Reply(record) => sink(LinkEvent::Reply(record)),
                ClientEvent::Overflow(count) => sink(LinkEvent::Overflow(count)),
                // Only `tcpcopy doctor` asks, on links of its own.
                ClientEvent::Diagnosis(_) => {}
                ClientEvent::Down { reason, was_up, .. } => {
                    self.socket = Socket::Closed;
                    sink(LinkEvent::Down { reason, was_up });
                }
            }
        }
    }

    fn connect(&mut self, now: Instant) {
        let address = self.addresses[self.attempts % self.addresses.len()];
        self.attempts += 1;
        match start_to_connect(address) {
            Ok(stream) => self.socket = Socket::Connecting(stream),
            Err(errno) => {
                let error = io::Error::from(errno);
                self.client.disconnected(now, Some(error.to_string()));
            }
        }
    }

    fn finish_connecting(&mut self, now: Instant) {
        let Socket::Connecting(stream) = &self.socket else {
            return;
        };
        match sockopt::socket_error(stream).map_err(io::Error::from) {
            Ok(Ok(())) if stream.peer_addr().is_err() => {}
            Ok(Ok(())) => {
                if let Socket::Connecting(stream) =
                    std::mem::replace(&mut self.socket, Socket::Closed)
                {
                    self.socket = Socket::Open {
                        stream,
                        is_blocked: false,
                    };
                    self.client.connected(now);
                }
            }
            Ok(Err(errno)) => self.fail(now, errno.into()),
            Err(error) => self.fail(now, error),
        }
    }

    fn fail(&mut self, now: Instant, error: io::Error) {
        self.client.disconnected(now, Some(error.to_string()));
    }

    /// Reads once; the answer is whether there may be more.
    fn read(&mut self, now: Instant) -> bool {
        let Socket::Open { stream, .. } = &mut self.socket else {
            return false;
        };
        match stream.read(&mut self.buffer) {
            Ok(0) => {
                self.client.disconnected(now, None);
                false
            }
            Ok(count) => {
                self.client.receive(now, &self.buffer[..count]);
                count == self.buffer.len()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) => {
                self.fail(now, error);
                false
            }
        }
    }
}

fn start_to_connect(address: SocketAddr) -> Result<TcpStream, Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(errno),
    }
}
